//! T1a: with `idle_close`, what is open in a partition closes once the partition is caught up and has been quiet for so long by
//! the wall clock; stream time is at the last end and grace then, durably, and what comes later with an earlier time is late.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph, Side};
use stream_core::processor::Guarantee;
use stream_core::testing::{TestOutput, Tester};
use stream_core::window::{JoinWindows, Sessions, Windows};

use crate::support::{Done, Gate, Outcome, live_keys, move_to_second, ms, values, with_both};

const QUIET: u64 = 5_000;

/// Windows, sessions and timers over one input, which emits stream time with each record.
fn everything() -> Arc<GroupGraph> {
    let mut g = Group::define("all");
    let out = g.output("out", Text);
    let counts = g.window("counts", Windows::tumbling(ms(60)).grace(ms(10)), Int64);
    let visits = g.session("visits", Sessions::gap(ms(30)), Int64);
    let timer = g.timer("timer", Text);
    g.input("in", Text, move |ctx, text| {
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        ctx.aggregate_session(visits, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
        if let Some(("set", at)) = text.split_once(' ') {
            ctx.set_timer(timer, at.parse()?, &text)?;
        }
        ctx.emit(out, ctx.key(), format!("{text} at {}", ctx.stream_time().unwrap_or(-1)))
    });
    g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{window} {n}")));
    g.on_close(visits, move |ctx, (session, n)| ctx.emit(out, ctx.key(), format!("{session} {n}")));
    g.on_timer(timer, move |ctx, text| ctx.emit(out, ctx.key(), &text));
    g.build().unwrap()
}

fn tester(graph: Arc<GroupGraph>, guarantee: Guarantee, partitions: i32) -> Outcome<(Tester, TestOutput<String>)> {
    let tester = Tester::with_partitions(partitions);
    tester.add_with(graph, move |p| p.guarantee(guarantee).idle_close(ms(QUIET)))?;
    let out = tester.output("out", Text);
    Ok((tester, out))
}

fn send(tester: &Tester, key: &str, text: &str, at: i64) -> Done {
    Ok(tester.input("in", Text).send_at(key, text.to_owned(), at)?)
}

#[test]
fn t1a_what_is_open_closes_once_its_partition_is_quiet() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(everything(), guarantee, 1)?;
        send(&tester, "a", "set 69", 5)?;
        send(&tester, "b", "set 70", 10)?;
        send(&tester, "c", "set 71", 10)?;
        tester.advance(ms(QUIET - 1))?;
        assert_eq!(values(&out), ["set 69 at 5", "set 70 at 10", "set 71 at 10"]);
        tester.advance(ms(1))?;
        tester.wait_until("all is closed", || live_keys(&tester, "all-window-counts") == 0)?;
        let closed =
            ["[5, 5] 1", "[10, 10] 1", "[10, 10] 1", "set 69", "set 70", "[0, 60) 1", "[0, 60) 1", "[0, 60) 1"];
        assert_eq!(values(&out), closed, "a timer behind the last end waits on");
        send(&tester, "a", "late", 5)?;
        assert_eq!(values(&out), ["late at 70"]);
        assert_eq!(tester.late("all")?, 2, "for its window and for its session");
        tester.advance(ms(QUIET * 2))?;
        assert_eq!(values(&out).len(), 0, "once only");
        send(&tester, "a", "on time", 71)?;
        assert_eq!(values(&out), ["set 71", "on time at 71"]);
        Ok(())
    })
}

#[test]
fn t1a_quiet_lasts_from_the_last_record() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(everything(), guarantee, 1)?;
        for n in 0..4 {
            send(&tester, "a", "x", n)?;
            tester.advance(ms(QUIET - 1))?;
        }
        assert_eq!(values(&out).len(), 4, "nothing is closed");
        tester.advance(ms(1))?;
        tester.wait_until("all is closed", || live_keys(&tester, "all-window-counts") == 0)?;
        assert_eq!(values(&out), ["[0, 3] 4", "[0, 60) 4"]);
        Ok(())
    })
}

#[test]
fn t1a_each_partition_is_quiet_by_itself_and_stays_where_it_is_after_a_restart_a_crash_and_a_move() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(everything(), guarantee, 2)?;
        let input = tester.input("in", Text);
        input.push_at("a", Some(&"x".to_owned()), Some(5), Some(0))?;
        tester.drain()?;
        tester.advance(ms(QUIET - 1))?;
        input.push_at("a", Some(&"y".to_owned()), Some(5), Some(1))?;
        tester.drain()?;
        tester.advance(ms(1))?;
        tester.wait_until("one is closed", || live_keys(&tester, "all-window-counts") == 1)?;
        let mut emitted = values(&out);
        emitted.sort();
        assert_eq!(emitted, ["[0, 60) 1", "[5, 5] 1", "x at 5", "y at 5"]);
        tester.restart("all")?;
        input.push_at("a", Some(&"late".to_owned()), Some(6), Some(0))?;
        tester.drain()?;
        tester.crash("all")?;
        tester.start_instance("all", 0)?;
        input.push_at("a", Some(&"late".to_owned()), Some(6), Some(0))?;
        tester.drain()?;
        move_to_second(&tester, "all")?;
        input.push_at("a", Some(&"late".to_owned()), Some(6), Some(0))?;
        tester.drain()?;
        assert_eq!(values(&out), ["late at 70"; 3]);
        Ok(())
    })
}

#[test]
fn t1a_it_is_not_quiet_while_a_record_is_under_way_or_its_effects_are() -> Done {
    with_both(|guarantee| {
        let gate = Gate::new();
        let mut g = Group::define("all");
        let out = g.output("out", Text);
        let counts = g.window("counts", Windows::tumbling(ms(60)), Int64);
        let at_gate = gate.clone();
        g.input_async("in", Text, async move |ctx: &mut stream_core::prelude::Ctx<'_, _>, text: String| {
            at_gate.pass(&text).await;
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            Ok(())
        });
        g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{window} {n}")));
        let (tester, out) = tester(g.build()?, guarantee, 1)?;
        gate.open("1");
        for n in 1..=2 {
            tester.input("in", Text).push_at("a", Some(&n.to_string()), Some(n), None)?;
        }
        tester.run_for(ms(100));
        tester.advance(ms(QUIET * 2)).expect_err("a record is under way");
        assert_eq!(values(&out).len(), 0, "a record is under way");
        gate.open_all();
        tester.drain()?;
        tester.advance(ms(QUIET))?;
        tester.wait_until("it is closed", || live_keys(&tester, "all-window-counts") == 0)?;
        assert_eq!(values(&out), ["[0, 60) 2"]);
        Ok(())
    })
}

#[test]
fn t1a_a_quiet_join_emits_its_nulls() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("join");
        let out = g.output("out", Text);
        let windows = JoinWindows::around(ms(60)).grace(ms(10));
        let (left, right) = (Side::topic("left", Text), Side::topic("right", Text));
        g.stream_join("pairs", windows, left, right)
            .left(move |ctx, l, r| ctx.emit(out, ctx.key(), format!("{l} {}", r.map_or("-", String::as_str))));
        let (tester, out) = tester(g.build()?, guarantee, 1)?;
        tester.input("left", Text).send_at("k", "a".to_owned(), 0)?;
        tester.input("left", Text).send_at("k", "b".to_owned(), 9)?;
        tester.input("right", Text).send_at("k", "x".to_owned(), 65)?;
        assert_eq!(values(&out), ["b x"]);
        tester.advance(ms(QUIET))?;
        tester.wait_until("nothing is kept", || live_keys(&tester, "join-kept-pairs") == 0)?;
        assert_eq!(values(&out), ["a -"]);
        tester.input("left", Text).send_at("k", "late".to_owned(), 10)?;
        assert_eq!((values(&out).len(), tester.late("join")?), (0, 1));
        Ok(())
    })
}

#[test]
fn t1a_without_the_option_a_quiet_window_stays_open() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(everything(), move |p| p.guarantee(guarantee))?;
        send(&tester, "a", "x", 5)?;
        tester.advance(ms(QUIET * 1_000))?;
        assert_eq!(live_keys(&tester, "all-window-counts"), 1);
        Ok(())
    })
}
