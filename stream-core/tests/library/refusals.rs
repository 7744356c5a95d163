//! D8, D12: who is blamed when the log refuses a batch, and what ends the run.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::context::Emit;
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input, table_topic};
use stream_core::log::{Log, LogError, TopicConfig, TopicSpec};
use stream_core::processor::{Guarantee, ProcessorError, State};
use stream_core::testing::Tester;

use crate::support::{Done, ms};

const HOUR: i64 = 3_600_000;
const BOTH: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];

fn make(tester: &Tester, topic: &str, config: TopicConfig) -> Done {
    Ok(tester.block_on(tester.log().create_topics(vec![TopicSpec::new(topic).partitions(1).config(config)]))?)
}

fn narrow(bytes: i64) -> TopicConfig {
    TopicConfig::new().max_message_bytes(bytes)
}

/// Counts its keys, and emits a text of the length that the value says to a topic whose limit the group does not know.
fn sized(times: usize) -> Arc<GroupGraph> {
    let mut g = Group::define("work").table(Int64);
    let out = g.output("unused", Text);
    let narrow: Arc<str> = "narrow".into();
    let input = Input::topic("in").on_error(ErrorPolicy::dead_letter("dead"));
    g.input(input, Text, move |ctx, size: String| {
        let text = "x".repeat(size.parse().unwrap());
        let n = ctx.value()?.unwrap_or(0);
        for _ in 0..times {
            ctx.emit_to_topic(out, &narrow, ctx.key(), &text)?;
        }
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

/// How often each key is there; at-least-once delivery may repeat one.
fn counts(
    tester: &Tester,
    topic: &str,
    guarantee: Guarantee,
) -> Result<BTreeMap<String, usize>, stream_core::testing::TesterError> {
    let mut counts = BTreeMap::new();
    for (key, _) in tester.output(topic, Text).read_pairs()? {
        let n = counts.entry(key).or_default();
        *n = if guarantee == Guarantee::ExactlyOnce { *n + 1 } else { 1 };
    }
    Ok(counts)
}

fn once(numbers: impl Iterator<Item = usize>) -> BTreeMap<String, usize> {
    numbers.map(|n| (format!("k{n}"), 1)).collect()
}

/// A backlog of `n` records on four partitions; those in `odd` have another value.
fn backlog(
    graph: Arc<GroupGraph>,
    guarantee: Guarantee,
    out: TopicConfig,
    n: usize,
    value: &str,
    odd: (&[usize], &str),
) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::with_partitions(4);
    make(&tester, "narrow", out)?;
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    tester.stop("work")?;
    let input = tester.input("in", Text);
    for i in 0..n {
        let value = if odd.0.contains(&i) { odd.1 } else { value };
        input.push(format!("k{i}").as_str(), value.to_owned())?;
    }
    tester.restart("work")?;
    Ok(tester)
}

#[test]
fn a_record_above_the_limit_is_blamed_and_no_other_of_four_partitions() -> Done {
    for guarantee in BOTH {
        let tester = backlog(sized(1), guarantee, narrow(2_000), 400, "100", (&[123, 321], "3000"))?;
        tester.drain()?;
        assert_eq!(counts(&tester, "dead", guarantee)?, once([123, 321].into_iter()), "{guarantee:?}");
        let others = once((0..400).filter(|n| ![123, 321].contains(n)));
        assert_eq!(counts(&tester, "narrow", guarantee)?, others, "{guarantee:?}");
        assert_eq!(tester.table("work", Int64).all()?.len(), 398);
    }
    Ok(())
}

#[test]
fn records_that_fit_are_delivered_however_the_client_packs_them() -> Done {
    for guarantee in BOTH {
        let tester = backlog(sized(2), guarantee, narrow(2_000), 120, "1200", (&[], ""))?;
        tester.drain()?;
        assert_eq!(counts(&tester, "dead", guarantee)?, BTreeMap::new(), "{guarantee:?}");
        let written = counts(&tester, "narrow", guarantee)?;
        let times = if guarantee == Guarantee::ExactlyOnce { 2 } else { 1 };
        assert!(written.len() == 120 && written.values().all(|n| *n == times), "{guarantee:?}: {written:?}");
    }
    Ok(())
}

/// Emits so many hours after its own time.
fn timed() -> Arc<GroupGraph> {
    let mut g = Group::define("work").table(Int64);
    let out = g.output("narrow", Text);
    let input = Input::topic("in").on_error(ErrorPolicy::dead_letter("dead"));
    g.input(input, Text, move |ctx, hours: String| {
        let n = ctx.value()?.unwrap_or(0);
        let at = ctx.now_ms() + hours.parse::<i64>().unwrap() * HOUR;
        ctx.emit_with(out, ctx.key(), &hours, Emit::new().timestamp(at))?;
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

fn hourly() -> TopicConfig {
    TopicConfig::new().timestamp_after_max_ms(HOUR)
}

/// Whether the client passes the broker's marks on (two or more) or not (one).
#[test]
fn records_with_refused_times_are_blamed_and_their_neighbours_are_sent_again() -> Done {
    for guarantee in BOTH {
        for bad in [&[77][..], &[77, 78, 79, 277], &[0, 399]] {
            let tester = backlog(timed(), guarantee, hourly(), 400, "0", (bad, "2"))?;
            tester.drain()?;
            assert_eq!(counts(&tester, "dead", guarantee)?, once(bad.iter().copied()), "{guarantee:?} {bad:?}");
            let others = once((0..400).filter(|n| !bad.contains(n)));
            assert_eq!(counts(&tester, "narrow", guarantee)?, others, "{guarantee:?} {bad:?}");
        }
    }
    Ok(())
}

/// The culprit among many is found by halving: the hand-overs of the search grow with the logarithm of the backlog.
#[test]
fn one_refused_record_in_a_backlog_takes_few_transactions() -> Done {
    let tester = Tester::new();
    make(&tester, "narrow", hourly())?;
    tester.add_with(timed(), |p| p.guarantee(Guarantee::ExactlyOnce))?;
    tester.stop("work")?;
    let input = tester.input("in", Text);
    for i in 0..4_000 {
        input.push(format!("k{i}").as_str(), if i == 1_234 { "2" } else { "0" }.to_owned())?;
    }
    tester.restart("work")?;
    tester.drain()?;
    assert_eq!(counts(&tester, "dead", Guarantee::ExactlyOnce)?, once([1_234].into_iter()));
    // Each transaction, committed or aborted, leaves a marker in the table's topic.
    let end = tester.block_on(tester.log().offsets(
        vec![(stream_core::log::TopicPartition::new(table_topic("work"), 0), stream_core::log::OffsetSpec::Latest)],
        stream_core::log::Isolation::ReadUncommitted,
    ))?;
    assert!(end[0] < 4_000 + 12_000, "{} records and markers for 3,999 writes", end[0]);
    Ok(())
}

/// A group that keeps time.
fn keeping_time(guarantee_of: &str) -> Arc<GroupGraph> {
    let mut g = Group::define(guarantee_of).table(Int64);
    let timer = g.timer("unused", Text);
    g.on_timer(timer, |_, _| Ok(()));
    g.input(Input::topic("in").on_error(ErrorPolicy::skip()), Text, |ctx, _: String| {
        let n = ctx.value()?.unwrap_or(0);
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

#[test]
fn positions_that_their_topic_refuses_for_good_end_the_run() -> Done {
    for guarantee in BOTH {
        let tester = Tester::new();
        let mut g = Group::define("work").table(Int64);
        g.input(Input::topic("in").on_error(ErrorPolicy::skip()), Text, |ctx, _: String| ctx.set(1));
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let refused = LogError::Refused { topic: "work-positions".into(), reason: "policy violation".into() };
        let fault = tester.log().faults().on(|r| r.topic == "work-positions").fail(refused);
        tester.input("in", Text).push("k", "1".to_owned())?;
        let error = format!("{:?}", tester.drain().unwrap_err());
        assert!(error.contains("work-positions") && error.contains("policy violation"), "{guarantee:?}: {error}");
        assert!(matches!(tester.failure("work"), Some(ProcessorError::OwnRecord { .. })), "{guarantee:?}");
        assert!(fault.hits() < 20, "not again and again: {}", fault.hits());
        drop(fault);
        tester.restart("work")?;
        tester.drain()?;
        assert_eq!(tester.table("work", Int64).get("k")?, Some(1));
    }
    Ok(())
}

#[test]
fn a_record_of_the_library_s_own_that_is_refused_for_good_ends_the_run() -> Done {
    for guarantee in BOTH {
        let tester = Tester::new();
        tester.add_with(keeping_time("work"), move |p| p.guarantee(guarantee))?;
        let refused = LogError::Refused { topic: "work-time".into(), reason: "policy violation".into() };
        let fault = tester.log().faults().on(|r| r.topic == "work-time").fail(refused.clone());
        tester.input("in", Text).push("k", "1".to_owned())?;
        let now = || tester.block_on(async { tokio::time::Instant::now() });
        let before = now();
        let error = format!("{:?}", tester.drain().unwrap_err());
        let says = "refuses a record that the library itself writes";
        assert!(error.contains("work-time") && error.contains(says), "{error}");
        assert!(error.contains("policy violation"), "{error}");
        assert!(matches!(tester.failure("work"), Some(ProcessorError::OwnRecord { .. })), "{guarantee:?}");
        // Each time stream time, the position, and what the state means.
        assert!(fault.hits() < 40, "not again and again: {}", fault.hits());
        assert!(now() - before > ms(5_000), "{guarantee:?}: it was tried for a while");
        // Once the topic takes it, the group goes on.
        drop(fault);
        tester.restart("work")?;
        tester.drain()?;
        let counted = tester.table("work", Int64).get("k")?;
        // At-least-once delivery may do what was not committed twice.
        assert!(counted == Some(1) || guarantee == Guarantee::AtLeastOnce && counted == Some(2), "{counted:?}");
    }
    Ok(())
}

/// The table has writes of a later batch to be taken back, while the search goes through the records of the refused one.
#[test]
fn what_is_written_back_beside_a_refused_record_does_not_end_the_run() -> Done {
    let tester = Tester::new();
    let mut g = Group::define("work").table(Text);
    g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), Text, |ctx, text| ctx.set(text));
    tester.add(g.build()?)?;
    tester.stop("work")?;
    let input = tester.input("in", Text);
    for i in 0..16_000 {
        input.push(format!("k{i}").as_str(), "x".repeat(100))?;
    }
    let _refused =
        tester.log().faults().on(|r| r.topic == "work-table" && r.key == Some(b"k3") && r.value.is_some()).refuse();
    tester.restart("work")?;
    tester.drain()?;
    let dead = tester.output("dead", Text).read_pairs()?;
    assert_eq!(
        dead.into_iter().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>(),
        ["k3".to_owned()].into()
    );
    assert_eq!(tester.table("work", Text).all()?.len(), 15_999);
    Ok(())
}

/// Also one that passes after some attempts.
#[test]
fn a_refusal_of_the_library_s_own_record_that_ends_in_time_is_waited_for() -> Done {
    for guarantee in BOTH {
        let tester = Tester::new();
        tester.add_with(keeping_time("work"), move |p| p.guarantee(guarantee))?;
        let refused = LogError::Refused { topic: "work-time".into(), reason: "policy violation".into() };
        let _fault = tester.log().faults().on(|r| r.topic == "work-time").times(4).fail(refused);
        tester.input("in", Text).send("k", "1".to_owned())?;
        assert_eq!(tester.table("work", Int64).get("k")?, Some(1), "{guarantee:?}");
    }
    Ok(())
}

#[test]
fn stream_time_is_written_with_the_time_of_its_writing() -> Done {
    for guarantee in BOTH {
        let tester = Tester::new();
        tester.add_with(keeping_time("work"), move |p| p.guarantee(guarantee))?;
        tester.input("in", Text).send_at("k", "1".to_owned(), 5)?;
        let written = tester.output("work-time", stream_core::codec::Bytes).read()?;
        assert!(!written.is_empty() && written.iter().all(|r| r.timestamp > 1_000), "{written:?}");
    }
    Ok(())
}

/// A transaction with such an offset has to be aborted, and so would each one after it.
#[test]
fn offsets_whose_metadata_the_brokers_refuse_end_the_run_and_nothing_is_lost() -> Done {
    for guarantee in BOTH {
        let tester = Tester::new();
        tester.log().faults().limit_offset_metadata(16);
        tester.add_with(sized(0), move |p| p.guarantee(guarantee))?;
        tester.input("in", Text).push("k", "1".to_owned())?;
        let error = format!("{:?}", tester.drain().unwrap_err());
        assert!(error.contains("offset.metadata.max.bytes"), "{guarantee:?}: {error}");
        tester.log().faults().limit_offset_metadata(4_096);
        tester.restart("work")?;
        tester.drain()?;
        let counted = tester.table("work", Int64).get("k")?;
        assert!(counted == Some(1) || guarantee == Guarantee::AtLeastOnce && counted == Some(2), "{counted:?}");
    }
    Ok(())
}

#[test]
fn what_passes_is_waited_for_without_end_and_shown() -> Done {
    for guarantee in BOTH {
        let tester = Tester::new();
        tester.add_with(sized(0), move |p| p.guarantee(guarantee))?;
        let handle = tester.handle("work", 0)?;
        let passing = LogError::Retriable { what: "produce".into(), reason: "too few replicas in sync".into() };
        let fault = tester.log().faults().on(|r| r.topic == "work-table").fail(passing);
        tester.input("in", Text).push("k", "1".to_owned())?;
        tester.wait_until("it says that it waits", || handle.status().state == State::Waiting)?;
        let waiting = handle.status().waiting.unwrap();
        assert!(guarantee == Guarantee::ExactlyOnce || waiting.on.contains("too few replicas"), "{waiting:?}");
        tester.run_for(ms(600_000));
        assert_eq!(handle.status().waiting, Some(waiting), "since the same moment");
        drop(fault);
        tester.drain()?;
        assert_eq!(tester.table("work", Int64).get("k")?, Some(1), "{guarantee:?}");
        assert_eq!((handle.status().state, handle.status().waiting), (State::Running, None));
    }
    Ok(())
}

#[test]
fn acknowledgements_that_do_not_come_are_shown_as_waited_for() -> Done {
    let tester = Tester::new();
    tester.add(sized(0))?;
    let handle = tester.handle("work", 0)?;
    let held = tester.log().faults().on(|r| r.topic == "work-table").hold_acks();
    tester.input("in", Text).push("k", "1".to_owned())?;
    tester.wait_until("it says that it waits", || handle.status().state == State::Waiting)?;
    assert!(handle.status().waiting.unwrap().on.contains("work-table"));
    drop(held);
    tester.drain()?;
    assert_eq!((handle.status().state, handle.status().waiting), (State::Running, None));
    Ok(())
}

/// The topic's limit can't be asked for, and has to be found by trying.
#[test]
fn a_limit_that_may_not_be_seen_is_found_by_trying() -> Done {
    for guarantee in BOTH {
        for (value, odd) in [("1200", &[][..]), ("100", &[123, 321])] {
            let tester = Tester::with_partitions(4);
            let _denied = tester.log().faults().deny_describe_configs();
            make(&tester, "narrow", narrow(2_000))?;
            tester.add_with(sized(2), move |p| p.guarantee(guarantee))?;
            let input = tester.input("in", Text);
            for i in 0..400 {
                let value = if odd.contains(&i) { "3000" } else { value };
                input.push(format!("k{i}").as_str(), value.to_owned())?;
            }
            tester.drain()?;
            assert_eq!(counts(&tester, "dead", guarantee)?, once(odd.iter().copied()), "{guarantee:?} {value}");
            let written = counts(&tester, "narrow", guarantee)?;
            let times = if guarantee == Guarantee::ExactlyOnce { 2 } else { 1 };
            assert!(written.len() == 400 - odd.len() && written.values().all(|n| *n == times), "{guarantee:?} {value}");
        }
    }
    Ok(())
}

#[test]
fn too_few_replicas_are_waited_for_and_shown() -> Done {
    for guarantee in BOTH {
        let tester = backlog(timed(), guarantee, TopicConfig::default(), 40, "0", (&[], ""))?;
        tester.drain()?;
        let handle = tester.handle("work", 0)?;
        let short = tester.log().faults().lose_replicas("narrow");
        for i in 40..80 {
            tester.input("in", Text).push(format!("k{i}").as_str(), "0".to_owned())?;
        }
        tester.wait_until("it says that it waits", || handle.status().state == State::Waiting)?;
        tester.run_for(ms(120_000));
        assert_eq!(handle.status().state, State::Waiting, "{guarantee:?}");
        drop(short);
        tester.drain()?;
        assert_eq!(counts(&tester, "narrow", guarantee)?, once(0..80), "{guarantee:?}");
        tester.wait_until("it runs", || handle.status().state == State::Running)?;
    }
    Ok(())
}
