//! Back-pressure: what is on its way is bounded, whatever comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, Input};
use stream_core::log::FetchLimits;
use stream_core::testing::Tester;

use crate::support::{Done, Gate, Notes, ms, table};

#[test]
fn missing_acknowledgements_stop_the_reading_and_their_coming_lets_it_go_on() -> Done {
    let called = Arc::new(AtomicUsize::new(0));
    let mut g = Group::define("count").table(Int64);
    let calls = Arc::clone(&called);
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| {
        calls.fetch_add(1, Ordering::Relaxed);
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.emit(out, ctx.key(), &text)?;
        ctx.set(n)
    });
    let tester = Tester::new();
    let limits = FetchLimits::new(10, 1 << 20);
    tester.add_with(g.build()?, move |p| {
        p.in_flight_bytes(20_000).fetch_limits(limits).session_timeout(Duration::from_secs(9000))
    })?;
    let hold = tester.log().faults().on(|r| r.topic == "out").hold_acks();
    let input = tester.input("in", Text);
    for i in 0..2000 {
        input.push(format!("k{}", i % 50), "x".repeat(100))?;
    }
    tester.run_for(Duration::from_secs(5));
    let before = called.load(Ordering::Relaxed);
    // About 400 bytes a record, with both its writes; it may go over by what one turn adds.
    assert!((20..200).contains(&before), "{before} records are under way");
    tester.run_for(Duration::from_secs(60));
    assert_eq!(called.load(Ordering::Relaxed), before);
    assert_eq!(tester.committed("count", "in", 0)?, Some(0));
    drop(hold);
    tester.drain()?;
    assert_eq!(called.load(Ordering::Relaxed), 2000, "each once");
    assert!(table(&tester, "count", Int64).values().all(|n| *n == 40));
    Ok(())
}

#[test]
fn a_slow_front_bounds_what_is_begun_behind_it() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let mut g = Group::define("count").table(Int64);
    let (passed, noted) = (gate.clone(), begun.clone());
    g.input_async(Input::topic("in").concurrency(8), Text, async move |ctx, text: String| {
        noted.add(text.clone());
        passed.pass(&text).await;
        ctx.set(1)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for i in 0..50 {
        gate.open(&i.to_string());
        input.push(format!("k{i}"), if i == 3 { "slow".to_owned() } else { i.to_string() })?;
    }
    tester.run_for(Duration::from_secs(5));
    assert_eq!(begun.len(), 3 + 8, "what is finished behind the slow one counts too");
    gate.open_all();
    tester.drain()?;
    assert_eq!(begun.len(), 50);
    tester.run_for(ms(10));
    Ok(())
}

#[test]
fn one_partition_that_waits_does_not_stop_the_others() -> Done {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, _text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::with_partitions(2);
    tester.add_with(g.build()?, |p| p.in_flight_bytes(1000).session_timeout(Duration::from_secs(9000)))?;
    let hold = tester.log().faults().on(|r| r.topic == "count-table" && r.partition == 0).hold_acks();
    let input = tester.input("in", Text);
    for i in 0..500 {
        for partition in [0, 1] {
            input.push_at(format!("p{partition}-{}", i % 5), Some(&"x".to_owned()), None, Some(partition))?;
        }
    }
    tester.wait_until("partition 1 is done", || tester.committed("count", "in", 1).unwrap() == Some(500))?;
    assert!(tester.committed("count", "in", 0)?.unwrap() < 500);
    drop(hold);
    tester.drain()?;
    assert!(table(&tester, "count", Int64).values().all(|n| *n == 100));
    Ok(())
}
