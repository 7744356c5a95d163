//! Options at their limits: they are mended or refused, and never panic or stand still.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::FetchLimits;
use stream_core::processor::{Guarantee, Processor};
use stream_core::testing::Tester;

use crate::support::{Done, pairs, table};

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, _text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

#[test]
fn zero_is_as_little_as_possible() -> Done {
    let sets: [(&str, fn(Processor) -> Processor); 9] = [
        ("recommit interval", |p| p.recommit_interval(Duration::ZERO)),
        ("commit interval", |p| p.commit_interval(Duration::ZERO)),
        ("commit interval, exactly once", |p| p.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::ZERO)),
        ("checkpoint interval", |p| p.checkpoint_interval(Duration::ZERO)),
        ("topic check interval", |p| p.topic_check_interval(Duration::ZERO)),
        ("state cleanup delay", |p| p.state_cleanup_delay(Duration::ZERO)),
        ("bytes in flight", |p| p.in_flight_bytes(0)),
        ("buffer", |p| p.buffer_bytes(0)),
        ("fetch limits", |p| p.fetch_limits(FetchLimits::new(0, 0)).max_task_idle(Duration::ZERO)),
    ];
    for (name, set) in sets {
        let tester = Tester::new();
        tester.add_with(counter(), set)?;
        let input = tester.input("in", Text);
        for _ in 0..3 {
            input.push("k", "x".to_owned())?;
        }
        tester.drain().map_err(|e| format!("{name}: {e}"))?;
        assert_eq!(table(&tester, "count", Int64), pairs([("k", 3)]), "{name}");
    }
    Ok(())
}

/// A transaction stays open from one commit to the next, which the log must know.
#[test]
fn exactly_once_with_rare_commits_commits() -> Done {
    let tester = Tester::new();
    let rare = |p: Processor| p.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::from_secs(60));
    tester.add_with(counter(), rare)?;
    tester.run_for(Duration::from_secs(100));
    let input = tester.input("in", Text);
    for _ in 0..3 {
        input.push("k", "x".to_owned())?;
        tester.run_for(Duration::from_secs(1));
    }
    tester.drain()?;
    assert_eq!(table(&tester, "count", Int64), pairs([("k", 3)]));
    // An end does not wait for the next commit, which would take longer than it may.
    input.push("k", "x".to_owned())?;
    tester.run_for(Duration::from_secs(1));
    tester.stop("count")?;
    assert_eq!(tester.committed("count", "in", 0)?, Some(4));
    Ok(())
}

#[test]
fn exactly_once_with_commits_that_no_broker_takes_is_refused() -> Done {
    let every =
        |seconds| move |p: Processor| p.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::from_secs(seconds));
    let error = format!("{:?}", Tester::new().add_with(counter(), every(301)).unwrap_err());
    assert!(error.contains("commit_interval") && error.contains("301s is too long for exactly-once"), "{error}");
    Tester::new().add_with(counter(), every(300))?;
    Ok(())
}
