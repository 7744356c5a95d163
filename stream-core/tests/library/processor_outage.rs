//! The log is away for a while: nothing is lost, and things go on by themselves.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::embedded::InMemory;
use stream_core::processor::{Processor, State};
use stream_core::store::{MemoryStores, StoreBackend, StoreId};
use stream_core::testing::Tester;

use crate::support::{Done, Gate, ms, table, values};

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("out", Text);
    for topic in ["left", "right"] {
        g.input(topic, Text, move |ctx, text: String| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), &text)?;
            ctx.set(n)
        });
    }
    g.build().unwrap()
}

fn push(tester: &Tester, from: usize, n: usize) -> Done {
    let inputs = [tester.input("left", Text), tester.input("right", Text)];
    for i in from..from + n {
        inputs[i % 2].push(format!("k{}", i % 10), i.to_string())?;
    }
    Ok(())
}

#[test]
fn an_outage_of_any_length_costs_nothing_but_time() -> Done {
    // Shorter than the delivery time-out; longer than it; longer than the session.
    for (seconds, exact) in [(5, true), (40, false), (300, false)] {
        let tester = Tester::with_partitions(2);
        tester.add(counter())?;
        push(&tester, 0, 100)?;
        tester.drain()?;
        push(&tester, 100, 100)?;
        // In the middle of the work.
        tester.run_for(ms(1));
        tester.log().faults().set_available(false);
        tester.run_for(Duration::from_secs(seconds));
        assert!(tester.failure("count").is_none(), "{:?}", tester.failure("count"));
        tester.log().faults().set_available(true);
        push(&tester, 200, 100)?;
        tester.drain()?;
        let counts = table(&tester, "count", Int64);
        assert_eq!(counts.len(), 10);
        // What could not be acknowledged in time may have been written all the same, and is done again; here it was not.
        assert!(counts.values().all(|n| *n == 30), "{seconds}: {counts:?}");
        let mut out: Vec<usize> = values(&tester.output("out", Text)).iter().map(|t| t.parse().unwrap()).collect();
        out.sort_unstable();
        if exact {
            assert_eq!(out.len(), 300);
        }
        out.dedup();
        assert_eq!(out, (0..300).collect::<Vec<_>>(), "{seconds}");
    }
    Ok(())
}

#[test]
fn a_group_without_a_coordinator_is_waited_for_and_shown() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    tester.stop("count")?;
    tester.log().faults().set_coordinating(false);
    let handle = tester.spawn_instance("count", 0)?;
    push(&tester, 0, 10)?;
    tester.wait_until("it says that it waits", || handle.status().state == State::Waiting)?;
    assert!(handle.status().waiting.unwrap().on.contains("coordinator"));
    tester.log().faults().set_coordinating(true);
    tester.drain()?;
    assert_eq!((handle.status().state, handle.status().waiting), (State::Running, None));
    Ok(())
}

#[test]
fn an_outage_during_callbacks_and_a_stop_loses_nothing() -> Done {
    let gate = Gate::new();
    let mut g = Group::define("count").table(Int64);
    let passed = gate.clone();
    g.input_async("in", Text, async move |ctx, _text: String| {
        passed.pass("door").await;
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| p.drain_timeout(Duration::from_secs(5)))?;
    let input = tester.input("in", Text);
    for i in 0..20 {
        input.push(format!("k{}", i % 4), "x".to_owned())?;
    }
    tester.run_for(ms(50));
    tester.log().faults().set_available(false);
    gate.open_all();
    tester.run_for(ms(50));
    let stopped = tester.stop("count");
    assert!(stopped.is_err(), "it could not commit");
    tester.log().faults().set_available(true);
    tester.restart("count")?;
    tester.drain()?;
    assert!(table(&tester, "count", Int64).values().all(|n| *n == 5), "{:?}", table(&tester, "count", Int64));
    Ok(())
}

#[test]
fn a_restore_waits_for_the_log_to_come_back() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    push(&tester, 0, 50)?;
    tester.drain()?;
    tester.stop("count")?;
    tester.stores("count", 0)?.destroy(&StoreId::new("count-table", 0))?;
    let slow = tester.log().faults().hold_fetches("count-table");
    let handle = tester.spawn_instance("count", 0)?;
    tester.run_for(ms(100));
    assert_eq!(handle.status().state, State::Restoring);
    tester.log().faults().set_available(false);
    drop(slow);
    tester.run_for(Duration::from_secs(30));
    assert!(tester.failure("count").is_none());
    tester.log().faults().set_available(true);
    push(&tester, 50, 50)?;
    tester.drain()?;
    assert!(table(&tester, "count", Int64).values().all(|n| *n == 10));
    Ok(())
}

#[test]
fn one_that_can_t_be_reached_at_the_start_is_a_clear_error() -> Done {
    let log = InMemory::new();
    log.faults().set_available(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let processor = Processor::new(counter(), log).stores(Arc::new(MemoryStores::new())).workers(1);
    let error = format!("{:?}", runtime.block_on(processor.run()).unwrap_err());
    assert!(error.contains("group count") && error.contains("no broker reached"), "{error}");
    Ok(())
}
