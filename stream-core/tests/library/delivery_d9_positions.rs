//! D9: every position is explicit, committed at the assignment, and committed anew from time to time.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{AutoOffsetReset, Log, LogError, TopicSpec};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;

use crate::support::{Done, Notes, ms};

fn noter(seen: &Notes<String>, with_table: bool) -> Arc<GroupGraph> {
    let seen = seen.clone();
    let note = move |text: String| {
        seen.add(text);
        Ok(())
    };
    if with_table {
        let mut g = Group::define("notes").table(Int64);
        g.input("in", Text, move |_ctx, text: String| note(text));
        g.input("idle", Text, |_ctx, _text: String| Ok(()));
        g.build().unwrap()
    } else {
        let mut g = Group::define("notes");
        g.input("in", Text, move |_ctx, text: String| note(text));
        g.input("idle", Text, |_ctx, _text: String| Ok(()));
        g.build().unwrap()
    }
}

#[test]
fn all_positions_are_committed_at_the_assignment() -> Done {
    for with_table in [false, true] {
        let tester = Tester::with_partitions(3);
        tester.add_with(noter(&Notes::new(), with_table), |p| p.commit_interval(Duration::from_secs(3600)))?;
        tester.run_for(ms(10));
        for topic in ["in", "idle"] {
            for partition in 0..3 {
                assert_eq!(tester.committed("notes", topic, partition)?, Some(0), "{topic}[{partition}]");
            }
        }
    }
    Ok(())
}

#[test]
fn latest_becomes_a_number_that_is_committed() -> Done {
    for with_table in [false, true] {
        let seen = Notes::new();
        let tester = Tester::new();
        tester.block_on(tester.log().create_topics(vec![TopicSpec::new("in"), TopicSpec::new("idle")]))?;
        let input = tester.input("in", Text);
        for text in ["old 1", "old 2"] {
            input.push("k", text.to_owned())?;
        }
        tester.add_with(noter(&seen, with_table), |p| p.auto_offset_reset(AutoOffsetReset::Latest))?;
        tester.run_for(ms(10));
        assert_eq!(tester.committed("notes", "in", 0)?, Some(2));
        assert_eq!(tester.committed("notes", "idle", 0)?, Some(0));
        // It dies before it has processed anything; what came meanwhile is not jumped over.
        tester.crash("notes")?;
        input.push("k", "new 1".to_owned())?;
        tester.input("idle", Text).push("k", "x".to_owned())?;
        tester.restart("notes")?;
        tester.drain()?;
        assert_eq!(seen.all(), ["new 1"]);
    }
    Ok(())
}

#[test]
fn positions_of_an_assignment_are_committed_though_the_first_transaction_is_aborted() -> Done {
    let abortable = || LogError::Abortable { what: "commit".into(), reason: "on purpose".into() };
    for with_table in [false, true] {
        let tester = Tester::new();
        tester.log().faults().fail_commit(abortable());
        tester.add_with(noter(&Notes::new(), with_table), |p| p.guarantee(Guarantee::ExactlyOnce))?;
        tester.run_for(Duration::from_secs(10));
        for topic in ["in", "idle"] {
            assert_eq!(tester.committed("notes", topic, 0)?, Some(0), "{topic}, with a table: {with_table}");
        }
    }
    Ok(())
}

#[test]
fn a_rewind_goes_to_the_number_even_where_nothing_was_committed_since() -> Done {
    let mut g = Group::define("copy");
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    let tester = Tester::new();
    tester.block_on(tester.log().create_topics(vec![TopicSpec::new("in")]))?;
    let input = tester.input("in", Text);
    input.push("k", "old".to_owned())?;
    tester.add_with(g.build()?, |p| p.auto_offset_reset(AutoOffsetReset::Latest))?;
    let fault = tester.log().faults().on(|r| r.topic == "out").times(2).fail(crate::support::passing());
    input.push("k", "1".to_owned())?;
    input.push("k", "2".to_owned())?;
    tester.drain()?;
    assert_eq!(fault.hits(), 2);
    assert_eq!(crate::support::values(&tester.output("out", Text)).iter().filter(|v| *v == "old").count(), 0);
    let mut out = crate::support::values(&tester.output("out", Text));
    out.dedup();
    assert!(out.ends_with(&["1".to_owned(), "2".to_owned()]), "{out:?}");
    Ok(())
}

#[test]
fn positions_that_do_not_move_are_committed_anew() -> Done {
    let fatal = || LogError::Fatal { what: "commit".into(), reason: "on purpose".into() };
    let tester = Tester::new();
    tester.add_with(noter(&Notes::new(), true), |p| p.commit_interval(Duration::from_secs(5)))?;
    tester.input("in", Text).send("k", "x".to_owned())?;
    tester.run_for(Duration::from_secs(10));
    // The next commit will show itself.
    tester.log().faults().fail_offset_commit(fatal());
    tester.run_for(Duration::from_secs(20 * 60));
    assert!(tester.failure("notes").is_none(), "nothing to commit");
    tester.run_for(Duration::from_secs(40 * 60));
    let error = format!("{:?}", tester.failure("notes").expect("at least once an hour"));
    assert!(error.contains("commit") && error.contains("on purpose"), "{error}");
    Ok(())
}

#[test]
fn a_commit_that_fails_for_a_while_is_made_good() -> Done {
    let seen = Notes::new();
    let tester = Tester::new();
    tester.add(noter(&seen, true))?;
    for _ in 0..5 {
        tester.log().faults().fail_offset_commit(crate::support::passing());
    }
    tester.input("in", Text).send("k", "x".to_owned())?;
    assert_eq!(tester.committed("notes", "in", 0)?, Some(1));
    // The last one too, when it stops.
    for _ in 0..5 {
        tester.log().faults().fail_offset_commit(crate::support::passing());
    }
    tester.input("in", Text).push("k", "y".to_owned())?;
    tester.wait_until("it is seen", || seen.len() == 2)?;
    tester.stop("notes")?;
    assert_eq!(tester.committed("notes", "in", 0)?, Some(2));
    Ok(())
}
