//! D2: what a task has begun when it fails is finished or taken back, so that the next start applies nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackError, Group, GroupGraph};
use stream_core::log::{Log, LogError, TopicPartition};
use stream_core::processor::{OnFailure, Processor, ProcessorError};
use stream_core::testing::Tester;

use crate::support::{Done, ms, pairs, table, values};

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| {
        if text == "bad" {
            return Err(CallbackError::msg("on purpose"));
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)?;
        ctx.emit(out, ctx.key(), &text)
    });
    g.build().unwrap()
}

fn restarting(p: Processor) -> Processor {
    p.on_failure(OnFailure::Restart { backoff: ms(100), attempts: 10 })
}

/// The changelog has the record's write, its other effects are refused: each new start must find the value before.
#[test]
fn a_table_write_whose_neighbour_is_refused_is_taken_back_before_the_failure() -> Done {
    let errors = [
        LogError::UnknownTopic { topic: "out".into() },
        LogError::Auth { what: "write".into(), reason: "on purpose".into() },
        LogError::Config { what: "write".into(), reason: "on purpose".into() },
    ];
    for error in errors {
        let tester = Tester::new();
        tester.add_with(counter(), restarting)?;
        let input = tester.input("in", Text);
        input.send("old", "1".to_owned())?;
        let fault = tester.log().faults().on(|r| r.topic == "out").times(3).fail(error.clone());
        input.push("old", "2".to_owned())?;
        tester.drain()?;
        assert_eq!(fault.hits(), 3, "{error}");
        input.send("new", "3".to_owned())?;
        assert_eq!(table(&tester, "count", Int64), pairs([("old", 2), ("new", 1)]), "{error}");
        tester.restart("count")?;
        input.send("old", "4".to_owned())?;
        assert_eq!(table(&tester, "count", Int64), pairs([("old", 3), ("new", 1)]), "{error}");
    }
    Ok(())
}

/// The write that takes another one back is refused. It is written again, for nothing else writes to its key.
#[test]
fn a_write_stays_suspect_until_the_changelog_has_what_takes_it_back() -> Done {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("out", Text);
    let again = AtomicBool::new(false);
    g.input("in", Text, move |ctx, text: String| {
        // What it does depends on more than its record: the second time, on nothing of the first.
        if again.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        ctx.set(1)?;
        ctx.emit(out, ctx.key(), &text)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let failed = tester.log().faults().on(|r| r.topic == "out").times(1).fail(crate::support::passing());
    let mut writes = 0;
    let second = move |r: &stream_core::log::embedded::Outgoing<'_>| {
        writes += u32::from(r.topic == "count-table");
        r.topic == "count-table" && writes == 2
    };
    let refused = tester.log().faults().on(second).refuse();
    tester.input("in", Text).push("k", "1".to_owned())?;
    tester.drain()?;
    assert_eq!((failed.hits(), refused.hits(), tester.committed("count", "in", 0)?), (1, 1, Some(1)));
    assert_eq!(table(&tester, "count", Int64), pairs([]));
    let changelog = tester.output("count-table", Int64).read()?;
    assert_eq!(changelog.last().map(|r| r.value), Some(None), "a restore gives what the store has: {changelog:?}");
    Ok(())
}

/// Neither can the changelog be written to: the end does not wait for that to change.
#[test]
fn a_write_that_can_t_be_taken_back_holds_the_end_up_not_for_ever() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let fault = tester.log().faults().on(|r| r.topic == "out").fail(LogError::UnknownTopic { topic: "out".into() });
    tester.input("in", Text).push("k", "1".to_owned())?;
    let closed = LogError::Auth { what: "write".into(), reason: "on purpose".into() };
    let mut first = true;
    let changelog =
        (tester.log().faults()).on(move |r| r.topic == "count-table" && !std::mem::take(&mut first)).fail(closed);
    tester.run_for(Duration::from_secs(1));
    let failure = format!("{:?}", tester.failure("count").expect("it fails"));
    assert!(failure.contains("topic out does not exist"), "{failure}");
    assert_eq!((fault.hits(), changelog.hits()), (1, 1));
    Ok(())
}

/// Something else fails while a batch is on its way: it is waited for, and committed.
#[test]
fn what_is_on_its_way_when_reading_fails_is_committed() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let input = tester.input("in", Text);
    let held = tester.log().faults().on(|r| r.topic == "count-table").hold_acks();
    input.push("k", "1".to_owned())?;
    tester.wait_until("it is on its way", || held.hits() == 1)?;
    let slow = tester.log().faults().hold_fetches("in");
    for text in ["2", "3", "4"] {
        input.push("k", text.to_owned())?;
    }
    tester.block_on(tester.log().delete_records(vec![(TopicPartition::new("in", 0), 3)]))?;
    drop(slow);
    tester.run_for(Duration::from_secs(2));
    drop(held);
    tester.run_for(Duration::from_secs(2));
    let failure = format!("{:?}", tester.failure("count").expect("it fails"));
    assert!(failure.contains("in[0] has no offset 1"), "{failure}");
    assert_eq!(tester.committed("count", "in", 0)?, Some(1));
    assert_eq!(table(&tester, "count", Int64), pairs([("k", 1)]));
    Ok(())
}

/// A record fails for good while one before it is on its way, and that one fails, too.
#[test]
fn what_fails_on_its_way_to_the_end_is_taken_back() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let input = tester.input("in", Text);
    tester.stop("count")?;
    for text in ["1", "bad"] {
        input.push("k", text.to_owned())?;
    }
    let fault = tester.log().faults().on(|r| r.topic == "out").times(1).fail(crate::support::passing());
    _ = tester.restart("count");
    tester.run_for(Duration::from_secs(2));
    let failure = tester.failure("count");
    assert!(matches!(failure, Some(ProcessorError::Record { offset: 1, .. })), "{failure:?}");
    assert_eq!((fault.hits(), tester.committed("count", "in", 0)?), (1, Some(0)));
    // It may fail again before it is seen to run.
    _ = tester.restart("count");
    assert!(tester.drain().is_err());
    assert_eq!(tester.committed("count", "in", 0)?, Some(1));
    assert_eq!(table(&tester, "count", Int64), pairs([("k", 1)]));
    assert_eq!(values(&tester.output("out", Text)), ["1"]);
    Ok(())
}
