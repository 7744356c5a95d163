//! Visitors: a function over every key of the table, inside the processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackError, Group, GroupGraph, Visitor};
use stream_core::processor::{Processor, State};
use stream_core::testing::Tester;

use crate::support::{Done, Gate, ms, open_transaction, pairs, table, values};

/// Counts its keys. The visitor adds its argument, emits what it found, deletes what comes to nothing and fails on -1.
fn counter() -> (Arc<GroupGraph>, Visitor<i64>) {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("out", Text);
    g.input("in", Text, |ctx, text: String| {
        if text == "delete" {
            return ctx.delete();
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let visitor = g.visitor("add", move |ctx, add: &i64, n| {
        ctx.emit(out, ctx.key(), n.to_string())?;
        match n + add {
            -1 => Err(CallbackError::msg("below zero")),
            0 => ctx.delete(),
            n => ctx.set(n),
        }
    });
    (g.build().unwrap(), visitor)
}

fn often(p: Processor) -> Processor {
    p.checkpoint_interval(ms(20))
}

#[test]
fn what_a_visitor_writes_is_counted_stays_and_survives() -> Done {
    let (graph, add) = counter();
    let tester = Tester::with_partitions(3);
    tester.add_with(graph, often)?;
    let input = tester.input("in", Text);
    for i in 0..1000 {
        input.push(format!("k{i:03}"), "x".to_owned())?;
    }
    tester.drain()?;
    tester.run_for(ms(100));
    // Half in the store only, some in the buffer, some deleted there.
    for i in 0..100 {
        input.push(format!("k{i:03}"), if i % 2 == 0 { "x" } else { "delete" }.to_owned())?;
    }
    tester.drain()?;
    assert_eq!(tester.visit("count", add, 10)?, 950, "keys that are deleted do not count");
    let expected = |n: i64| {
        let keys = (0..1000).filter(|i| *i >= 100 || i % 2 == 0);
        keys.map(|i| (format!("k{i:03}"), if i < 100 { n + 2 } else { n + 1 }))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(table(&tester, "count", Int64), expected(10));
    assert_eq!(values(&tester.output("out", Text)).len(), 950);
    tester.crash("count")?;
    tester.restart("count")?;
    assert_eq!(tester.visit("count", add, 10)?, 950);
    assert_eq!(table(&tester, "count", Int64), expected(20));
    // What a visitor deletes is gone.
    assert_eq!(tester.visit("count", add, -21)?, 950);
    assert_eq!(table(&tester, "count", Int64).len(), 50);
    assert_eq!(tester.visit("count", add, 1)?, 50);
    Ok(())
}

#[test]
fn an_error_ends_the_visit_and_leaves_what_was_visited() -> Done {
    let (graph, add) = counter();
    let tester = Tester::new();
    tester.add(graph)?;
    let input = tester.input("in", Text);
    for (key, times) in [("a", 5), ("b", 1), ("c", 5)] {
        for _ in 0..times {
            input.push(key, "x".to_owned())?;
        }
    }
    tester.drain()?;
    let error = format!("{:?}", tester.visit("count", add, -2).unwrap_err());
    assert!(error.contains("visitor add") && error.contains("below zero") && error.contains("key b"), "{error}");
    tester.run_for(ms(100));
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 3), ("b", 1), ("c", 5)]));
    assert_eq!(values(&tester.output("out", Text)), ["5"], "the emit of the key that failed is discarded");
    assert_eq!(tester.visit("count", add, 1)?, 3, "the processor goes on");
    Ok(())
}

#[test]
fn visits_and_traffic_do_not_starve_each_other() -> Done {
    let gate = Gate::new();
    let mut g = Group::define("count").table(Int64);
    let passed = gate.clone();
    g.input_async("in", Text, async move |ctx, text: String| {
        if text == "slow" {
            passed.pass("door").await;
        }
        tokio::time::sleep(ms(3)).await;
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let add = g.visitor("add", |ctx, add: &i64, n| ctx.set(n + add));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for i in 0..400 {
        input.push(format!("k{}", i % 100), "x".to_owned())?;
    }
    tester.drain()?;
    for i in 0..2000 {
        input.push(format!("k{}", i % 100), "x".to_owned())?;
    }
    tester.run_for(ms(10));
    let handle = tester.handle("count", 0)?;
    assert_eq!(tester.block_on(handle.visit(add, 1000))?, 100);
    let done = tester.committed("count", "in", 0)?.unwrap();
    assert!(done < 2400, "it is answered before the traffic ends");
    tester.drain()?;
    assert!(table(&tester, "count", Int64).values().all(|n| *n == 1024), "{:?}", table(&tester, "count", Int64));
    Ok(())
}

#[test]
fn a_visit_during_a_restore_waits_for_it() -> Done {
    let (graph, add) = counter();
    let tester = Tester::new();
    tester.add(graph)?;
    tester.input("in", Text).send("a", "x".to_owned())?;
    tester.stop("count")?;
    let foreign = open_transaction(&tester, "count-table", 0, (b"b", b"7"))?;
    let handle = tester.spawn_instance("count", 0)?;
    tester.run_for(Duration::from_secs(1));
    assert_eq!(handle.status().state, State::Restoring);
    let visit = handle.clone();
    let (count, ()) = tester.block_on(async {
        tokio::join!(async move { visit.visit(add, 100).await }, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            foreign.commit_transaction(Vec::new(), None).await.unwrap();
        })
    });
    assert_eq!(count?, 2);
    tester.input("in", Text).send("a", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 102), ("b", 107)]));
    Ok(())
}

#[test]
fn a_visit_waits_for_the_assignment_and_fails_with_the_processor() -> Done {
    let (graph, add) = counter();
    let tester = Tester::new();
    tester.add(graph)?;
    tester.input("in", Text).send("a", "x".to_owned())?;
    tester.stop("count")?;
    let handle = tester.spawn_instance("count", 0)?;
    assert_eq!(tester.block_on(handle.visit(add, 1))?, 1, "asked for before anything was assigned");
    tester.stop("count")?;
    assert!(tester.block_on(handle.visit(add, 1)).is_err());
    Ok(())
}

#[test]
fn a_visitor_of_another_group_is_refused() -> Done {
    let ((graph, _), (_, foreign)) = (counter(), counter());
    let tester = Tester::new();
    tester.add(graph)?;
    let error = format!("{:?}", tester.visit("count", foreign, 1).unwrap_err());
    assert!(error.contains("belongs to another group"), "{error}");
    Ok(())
}

#[test]
fn a_panic_in_a_visitor_is_its_error() -> Done {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, _text: String| ctx.set(1));
    let visitor = g.visitor("panics", |_ctx, (): &(), _n| panic!("at the visitor"));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send("a", "x".to_owned())?;
    let error = format!("{:?}", tester.visit("count", visitor, ()).unwrap_err());
    assert!(error.contains("at the visitor"), "{error}");
    tester.input("in", Text).send("b", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64).len(), 2);
    Ok(())
}

#[test]
fn a_visit_of_several_instances_sees_each_key_once() -> Done {
    let seen = Arc::new(AtomicUsize::new(0));
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, _text: String| ctx.set(1));
    let counted = Arc::clone(&seen);
    let visitor = g.visitor("see", move |_ctx, (): &(), _n| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let tester = Tester::with_partitions(4);
    tester.add(g.build()?)?;
    tester.add_instance("count")?;
    let input = tester.input("in", Text);
    for i in 0..100 {
        input.push(format!("k{i}"), "x".to_owned())?;
    }
    tester.drain()?;
    assert_eq!(tester.visit("count", visitor, ())?, 100);
    assert_eq!(seen.load(Ordering::Relaxed), 100);
    Ok(())
}

#[test]
fn a_visitor_can_t_defer() -> Done {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, _text: String| ctx.set(1));
    let visitor = g.visitor("later", |ctx, (): &(), n| {
        ctx.set(n + 1)?;
        ctx.defer().done();
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send("k", "x".to_owned())?;
    let error = format!("{:?}", tester.visit("count", visitor, ()).unwrap_err());
    assert!(error.contains("later") && error.contains("defer()"), "{error}");
    tester.input("in", Text).send("l", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("k", 1), ("l", 1)]), "nothing of it stays");
    Ok(())
}
