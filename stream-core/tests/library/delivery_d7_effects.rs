//! D7: what a callback does is staged, released in order, and discarded if it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, Input};
use stream_core::testing::Tester;

use crate::support::{Done, Gate, Notes, ms, pairs, table, values};

#[test]
fn what_a_failed_attempt_did_is_discarded_before_the_next() -> Done {
    let (attempts, found) = (Arc::new(AtomicUsize::new(0)), Notes::new());
    for is_async in [false, true] {
        attempts.store(0, Ordering::Relaxed);
        let mut g = Group::define("work").table(Int64);
        let out = g.output("out", Text);
        let input = Input::topic("in").on_error(ErrorPolicy::fail().retry(5, ms(10)));
        let (tried, noted) = (Arc::clone(&attempts), found.clone());
        let work = move |ctx: &mut stream_core::context::Ctx<'_, stream_core::group::Table<i64>>| {
            let attempt = tried.fetch_add(1, Ordering::Relaxed);
            noted.add(ctx.value()?);
            ctx.emit(out, ctx.key(), format!("attempt {attempt}"))?;
            ctx.set(100 + i64::try_from(attempt).unwrap())?;
            noted.add(ctx.value()?);
            match attempt {
                0 => Err(CallbackError::msg("first")),
                1 => panic!("second"),
                2 => {
                    // The last word within the attempt counts.
                    ctx.delete()?;
                    assert!(!ctx.has_value()?);
                    Err(CallbackError::msg("third"))
                }
                _ => Ok(()),
            }
        };
        if is_async {
            g.input_async(input, Text, async move |ctx, _: String| {
                tokio::task::yield_now().await;
                work(ctx)
            });
        } else {
            g.input(input, Text, move |ctx, _: String| work(ctx));
        }
        let tester = Tester::new();
        tester.add(g.build()?)?;
        tester.input("in", Text).send("k", "x".to_owned())?;
        assert_eq!(found.take(), [None, Some(100), None, Some(101), None, Some(102), None, Some(103)]);
        assert_eq!(values(&tester.output("out", Text)), ["attempt 3"]);
        assert_eq!(table(&tester, "work", Int64), pairs([("k", 103)]));
        let writes = tester.output("work-table", Int64).read()?;
        assert_eq!(writes.len(), 1, "nothing of the other attempts is in the changelog");
    }
    Ok(())
}

#[test]
fn an_emit_that_is_refused_within_the_callback_leaves_the_others() -> Done {
    let mut g = Group::define("work").table(Text);
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| {
        ctx.emit(out, "before", &text)?;
        let huge = "x".repeat(2 << 20);
        assert!(ctx.emit(out, "huge", &huge).is_err());
        ctx.set(text.clone())?;
        assert!(ctx.set(huge).is_err());
        assert_eq!(ctx.value()?, Some(text.clone()), "what was set before stays");
        ctx.emit(out, "after", &text)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send("k", "x".to_owned())?;
    let keys: Vec<_> =
        tester.output("out", Text).read()?.iter().map(stream_core::testing::TestRecord::key_text).collect();
    assert_eq!(keys, ["before", "after"]);
    assert_eq!(table(&tester, "work", Text), pairs([("k", "x".to_owned())]));
    Ok(())
}

/// Many records of few keys, with callbacks that take their time in an order of their own.
#[test]
fn records_of_a_key_go_one_after_the_other_and_effects_leave_in_offset_order() -> Done {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut g = Group::define("work").table(Int64);
    let out = g.output("out", Text);
    let (now, high) = (Arc::clone(&running), Arc::clone(&most));
    g.input_async(Input::topic("in").concurrency(8), Text, async move |ctx, text: String| {
        high.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let before = ctx.value()?.unwrap_or(0);
        let n: u64 = text.parse()?;
        tokio::time::sleep(ms(n * 7919 % 23)).await;
        assert_eq!(ctx.value()?.unwrap_or(0), before, "nobody else touches the key meanwhile");
        now.fetch_sub(1, Ordering::Relaxed);
        ctx.emit(out, ctx.key(), &text)?;
        ctx.set(before + 1)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for i in 0..200_u64 {
        input.push(format!("k{}", i * i % 11), i.to_string())?;
    }
    tester.drain()?;
    let expected: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    assert_eq!(values(&tester.output("out", Text)), expected);
    assert_eq!(table(&tester, "work", Int64).values().sum::<i64>(), 200);
    let most = most.load(Ordering::Relaxed);
    assert!((2..=8).contains(&most), "{most} at once");
    Ok(())
}

#[test]
fn the_order_of_a_key_holds_across_inputs_of_different_kinds() -> Done {
    let (gate, order) = (Gate::new(), Notes::new());
    let mut g = Group::define("work").table(Int64);
    let (noted, passed) = (order.clone(), gate.clone());
    g.input_async("slow", Text, async move |ctx, text: String| {
        passed.pass(&text).await;
        noted.add(text);
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let noted = order.clone();
    g.input("fast", Text, move |ctx, text: String| {
        noted.add(text);
        let n = ctx.value()?.unwrap_or(0) * 10;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let (slow, fast) = (tester.input("slow", Text), tester.input("fast", Text));
    slow.push_at("k", Some(&"s1".to_owned()), Some(1), None)?;
    tester.run_for(ms(100));
    fast.push_at("other", Some(&"f2".to_owned()), Some(2), None)?;
    fast.push_at("k", Some(&"f3".to_owned()), Some(3), None)?;
    tester.run_for(ms(100));
    assert_eq!(order.all(), ["f2"], "another key goes on, the same key waits");
    assert_eq!(tester.committed("work", "slow", 0)?, Some(0));
    assert_eq!(tester.committed("work", "fast", 0)?, Some(0), "what f2 did is not released before s1 is done");
    gate.open_all();
    tester.drain()?;
    assert_eq!(order.all(), ["f2", "s1", "f3"]);
    assert_eq!(table(&tester, "work", Int64), pairs([("k", 10), ("other", 0)]));
    Ok(())
}

#[test]
fn a_slow_callback_does_not_hold_what_is_before_it() -> Done {
    let gate = Gate::new();
    let mut g = Group::define("work").table(Int64);
    let passed = gate.clone();
    g.input_async("in", Text, async move |ctx, text: String| {
        passed.pass(&text).await;
        ctx.set(1)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for i in 0..100 {
        gate.open(&i.to_string());
        input.push(format!("k{i}"), i.to_string())?;
    }
    input.push("slow", "slow".to_owned())?;
    for i in 100..200 {
        gate.open(&i.to_string());
        input.push(format!("k{i}"), i.to_string())?;
    }
    tester.wait_until("all before it is committed", || tester.committed("work", "in", 0).unwrap() == Some(100))?;
    tester.run_for(ms(500));
    assert_eq!(tester.committed("work", "in", 0)?, Some(100));
    assert_eq!(table(&tester, "work", Int64).len(), 100);
    gate.open_all();
    tester.drain()?;
    assert_eq!(table(&tester, "work", Int64).len(), 201);
    Ok(())
}
