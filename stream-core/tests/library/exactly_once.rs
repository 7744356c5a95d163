//! D3: table writes, emits and offsets are one transaction: a crash, an abort or a replay doubles nothing.

use std::time::Duration;

use stream_core::log::LogError;
use stream_core::log::embedded::Network;
use stream_core::prelude::*;
use stream_core::testing::{Tester, TesterError};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Counts by key and emits each new count.
fn counting() -> Result<std::sync::Arc<GroupGraph>, BuildError> {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("counts", Int64);
    g.input("words", Text, move |ctx, _| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.emit(out, ctx.key(), n)?;
        ctx.set(n)
    });
    g.build()
}

fn exactly_once(processor: Processor) -> Processor {
    processor.guarantee(Guarantee::ExactlyOnce)
}

/// Every count from 1 to n was emitted once, and the table has n.
fn check(tester: &Tester, key: &str, n: i64) -> Outcome {
    let mut emitted: Vec<i64> = tester
        .output("counts", Int64)
        .read_pairs()?
        .into_iter()
        .filter(|(k, _)| k == key)
        .filter_map(|(_, v)| v)
        .collect();
    emitted.sort_unstable();
    assert_eq!(emitted, (1..=n).collect::<Vec<_>>(), "outputs of {key}");
    assert_eq!(tester.table("count", Int64).get(key)?, Some(n), "the table's value of {key}");
    Ok(())
}

#[test]
fn a_crash_between_commits_doubles_nothing() -> Outcome {
    let tester = Tester::with_partitions(3);
    tester.add_with(counting()?, |p| exactly_once(p).commit_interval(Duration::from_millis(100)))?;
    let words = tester.input("words", Text);
    for round in 0..10 {
        for key in ["a", "b", "c", "d"] {
            words.push(key, "x".to_owned())?;
        }
        // Some rounds crash with work handed over and not committed, some with everything done.
        tester.run_for(Duration::from_millis(round * 17));
        tester.crash("count")?;
        tester.restart("count")?;
    }
    tester.drain()?;
    for key in ["a", "b", "c", "d"] {
        check(&tester, key, 10)?;
    }
    Ok(())
}

#[test]
fn an_aborted_transaction_is_done_again_whole() -> Outcome {
    let tester = Tester::with_partitions(2);
    tester.add_with(counting()?, exactly_once)?;
    let words = tester.input("words", Text);
    for error in [
        LogError::Abortable { what: "commit".into(), reason: "on purpose".into() },
        LogError::NotMember { what: "commit".into(), group: "count".into(), reason: "on purpose".into() },
    ] {
        for key in ["a", "b", "a"] {
            words.push(key, "x".to_owned())?;
        }
        tester.log().faults().fail_commit(error);
        tester.drain()?;
    }
    check(&tester, "a", 4)?;
    check(&tester, "b", 2)
}

/// Nobody is at fault, so it starts again by itself, whatever follows other failures.
#[test]
fn a_commit_whose_outcome_nobody_knows_is_looked_up_by_a_new_start() -> Outcome {
    for took_effect in [true, false] {
        let tester = Tester::with_partitions(2);
        tester.add_with(counting()?, exactly_once)?;
        let words = tester.input("words", Text);
        words.push("a", "x".to_owned())?;
        tester.drain()?;
        for error in [
            LogError::Fatal { what: "commit".into(), reason: "on purpose".into() },
            LogError::Fenced { what: "commit".into(), reason: "on purpose".into() },
        ] {
            words.push("a", "x".to_owned())?;
            let faults = tester.log().faults();
            if took_effect {
                faults.fail_commit_after(error);
            } else {
                faults.fail_commit(error);
            }
            tester.drain()?;
        }
        check(&tester, "a", 3)?;
    }
    Ok(())
}

#[test]
fn transactions_that_end_again_and_again_are_a_failure() -> Outcome {
    let tester = Tester::with_partitions(1);
    tester.add_with(counting()?, exactly_once)?;
    for _ in 0..6 {
        tester.log().faults().fail_commit(LogError::Fatal { what: "commit".into(), reason: "on purpose".into() });
    }
    tester.input("words", Text).push("a", "x".to_owned())?;
    tester.wait_until("it gives up", || tester.failure("count").is_some())?;
    assert!(
        matches!(tester.failure("count"), Some(ProcessorError::Transaction { .. })),
        "{:?}",
        tester.failure("count")
    );
    tester.restart("count")?;
    tester.drain()?;
    check(&tester, "a", 1)
}

/// A state directory that was copied to a second machine: each of the two would fence the other for ever.
#[test]
fn a_second_fencing_within_a_minute_ends_the_run_and_names_the_id_and_where_it_comes_from() -> Outcome {
    let fence = |tester: &Tester| {
        tester.log().faults().fail_commit(LogError::Fenced { what: "commit".into(), reason: "on purpose".into() });
    };
    let tester = Tester::with_partitions(1);
    tester.add_with(counting()?, exactly_once)?;
    for text in ["1", "2"] {
        // Two of them, but far apart.
        fence(&tester);
        tester.input("words", Text).push("a", text.to_owned())?;
        tester.drain()?;
        tester.run_for(Duration::from_secs(61));
    }
    fence(&tester);
    fence(&tester);
    tester.input("words", Text).push("a", "3".to_owned())?;
    tester.wait_until("it gives up", || tester.failure("count").is_some())?;
    let failure = tester.failure("count");
    let Some(ProcessorError::SameId { id, from, .. }) = &failure else { panic!("{failure:?}") };
    assert!(id.starts_with("count-") && from.contains("stores"), "{failure:?}");
    let text = failure.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(text.contains(id) && text.contains("~instance-id"), "{text}");
    Ok(())
}

#[test]
fn a_record_that_fails_to_arrive_aborts_its_transaction() -> Outcome {
    let tester = Tester::new();
    tester.add_with(counting()?, exactly_once)?;
    let fault = tester
        .log()
        .faults()
        .on(|r| r.topic == "counts")
        .times(1)
        .fail(LogError::Retriable { what: "write".into(), reason: "on purpose".into() });
    let words = tester.input("words", Text);
    for _ in 0..5 {
        words.push("a", "x".to_owned())?;
    }
    tester.drain()?;
    assert_eq!(fault.hits(), 1);
    check(&tester, "a", 5)
}

#[test]
fn a_failing_record_commits_what_came_before_it() -> Outcome {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("counts", Int64);
    g.input("words", Text, move |ctx, word| {
        if word == "bad" {
            return Err(CallbackError::msg("a bad word"));
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.emit(out, ctx.key(), n)?;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add_with(g.build()?, exactly_once)?;
    let words = tester.input("words", Text);
    words.push("a", "x".to_owned())?;
    words.push("a", "bad".to_owned())?;
    words.push("a", "x".to_owned())?;
    let error = tester.drain().expect_err("the record's policy is to fail");
    assert!(matches!(error, TesterError::Processor(ProcessorError::Record { offset: 1, .. })), "{error}");
    check(&tester, "a", 1)
}

/// A backlog on twelve partitions, over a link that takes 40 s for it: four times as long as a transaction may.
#[test]
fn a_slow_link_gets_small_transactions() -> Outcome {
    const RECORDS: usize = 1_000;
    let mut g = Group::define("copy");
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    let tester = Tester::with_partitions(12);
    tester.add_with(g.build()?, exactly_once)?;
    tester.stop("copy")?;
    let text = "x".repeat(2_000);
    for n in 0..RECORDS {
        tester.input("in", Text).push(format!("k{n}").as_str(), text.clone())?;
    }
    let mut slow = Network::default();
    slow.bytes_per_second = Some(50_000);
    tester.log().faults().set_network(slow);
    let now = || tester.block_on(async { tokio::time::Instant::now() });
    let began = now();
    tester.restart("copy")?;
    tester.drain()?;
    let took = now() - began;
    assert!((40..80).contains(&took.as_secs()), "half of what the link carries at least: {took:?}");
    let mut keys: Vec<_> = tester.output("out", Text).read_pairs()?.into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    let mut expected: Vec<_> = (0..RECORDS).map(|n| format!("k{n}")).collect();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    Ok(())
}
