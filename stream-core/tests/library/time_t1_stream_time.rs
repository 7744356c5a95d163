//! T1: stream time is the largest event time that a partition has seen, over all inputs and keys; it never goes back, and
//! survives a restart, a crash and a move.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{EventTime, Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupGraph, Input};
use stream_core::processor::Guarantee;
use stream_core::testing::{TestOutput, Tester};

use crate::support::{Done, Outcome, move_to_second, ms, passing, values, with_both};

/// Emits stream time with each record. A timer, though never set, makes the group keep it.
fn teller() -> Arc<GroupGraph> {
    let mut g = Group::define("teller");
    let out = g.output("times", Int64);
    let unused = g.timer("unused", Text);
    g.on_timer(unused, |_, _| Ok(()));
    for topic in ["a", "b"] {
        g.input(Input::topic(topic).on_error(ErrorPolicy::skip()), Int64, move |ctx, n| {
            let time = ctx.stream_time().unwrap_or(-1);
            ctx.emit(out, ctx.key(), time)?;
            if n < 0 { Err(CallbackError::msg("on purpose")) } else { Ok(()) }
        });
    }
    g.build().unwrap()
}

fn tester(guarantee: Guarantee, partitions: i32) -> Outcome<(Tester, TestOutput<i64>)> {
    let tester = Tester::with_partitions(partitions);
    tester.add_with(teller(), move |p| p.guarantee(guarantee).max_task_idle(ms(0)))?;
    let out = tester.output("times", Int64);
    Ok((tester, out))
}

#[test]
fn t1_all_inputs_and_keys_share_it_and_it_never_goes_back() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, 1)?;
        let (a, b) = (tester.input("a", Int64), tester.input("b", Int64));
        a.send_at("k", 1, 100)?;
        b.send_at("other", 1, 70)?;
        b.send_at("other", 1, 130)?;
        a.send_at("k", 1, 90)?;
        assert_eq!(values(&out), [100, 100, 130, 130]);
        Ok(())
    })
}

#[test]
fn t1_each_partition_has_its_own() -> Done {
    let (tester, out) = tester(Guarantee::AtLeastOnce, 2)?;
    let a = tester.input("a", Int64);
    a.push_at("k", Some(&1), Some(1000), Some(0))?;
    a.push_at("k", Some(&1), Some(5), Some(1))?;
    tester.drain()?;
    assert_eq!(values(&out), [1000, 5]);
    Ok(())
}

#[test]
fn t1_null_and_dropped_records_advance_it_undecodable_ones_do_not() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, 1)?;
        let a = tester.input("a", Int64);
        a.send_at("k", 1, 10)?;
        a.push_at("k", None, Some(20), None)?;
        a.send_at("k", 1, 1)?;
        // Its callback fails, and it is left out.
        a.send_at("k", -1, 30)?;
        a.send_at("k", 1, 1)?;
        a.push_bytes("k", Some(b"no number"), Some(40), None)?;
        a.send_at("k", 1, 1)?;
        assert_eq!(values(&out), [10, 20, 30, 30]);
        Ok(())
    })
}

#[test]
fn t1_it_survives_a_restart_and_a_crash() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, 1)?;
        let a = tester.input("a", Int64);
        a.send_at("k", 1, 500)?;
        tester.restart("teller")?;
        a.send_at("k", 1, 10)?;
        a.send_at("k", 1, 700)?;
        tester.crash("teller")?;
        tester.start_instance("teller", 0)?;
        a.send_at("k", 1, 10)?;
        assert_eq!(values(&out), [500, 500, 700, 700]);
        Ok(())
    })
}

#[test]
fn t1_it_moves_with_its_partition() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, 1)?;
        let a = tester.input("a", Int64);
        a.send_at("k", 1, 500)?;
        move_to_second(&tester, "teller")?;
        a.send_at("k", 1, 10)?;
        assert_eq!(values(&out), [500, 500]);
        Ok(())
    })
}

#[test]
fn t1_it_is_committed_with_the_records_that_it_is_of() -> Done {
    // A failed delivery takes the record back, and its time with it: the one before it is not late then.
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, 1)?;
        let a = tester.input("a", Int64);
        a.send_at("k", 1, 500)?;
        let _fault = tester.log().faults().on(|r| r.topic == "times").times(1).fail(passing());
        a.send_at("k", 1, 600)?;
        a.send_at("k", 1, 10)?;
        assert_eq!(values(&out), [500, 600, 600]);
        Ok(())
    })
}

#[test]
fn t1_it_can_be_read_from_the_value() -> Done {
    let mut g = Group::define("teller");
    let out = g.output("times", Int64);
    let unused = g.timer("unused", Text);
    g.on_timer(unused, |_, _| Ok(()));
    g.input("a", EventTime::by(Int64, |at: &i64| *at), move |ctx, at| {
        assert_eq!(ctx.timestamp(), at);
        ctx.emit(out, ctx.key(), ctx.stream_time().unwrap_or(-1))
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let a = tester.input("a", Int64);
    for at in [50, 20, 60] {
        a.send_at("k", at, 1_000_000)?;
    }
    let out: Vec<_> = tester.output("times", Int64).read()?.into_iter().map(|r| (r.value, r.timestamp)).collect();
    assert_eq!(out, [(Some(50), 50), (Some(50), 20), (Some(60), 60)]);
    Ok(())
}

#[test]
fn t1_a_record_too_far_in_the_future_is_an_error_and_no_jump() -> Done {
    let mut g = Group::define("teller");
    let out = g.output("times", Int64);
    let unused = g.timer("unused", Text);
    g.on_timer(unused, |_, _| Ok(()));
    let input = Input::topic("a").max_ahead(Duration::from_secs(60)).on_error(ErrorPolicy::dead_letter("dead"));
    g.input(input, Int64, move |ctx, _| ctx.emit(out, ctx.key(), ctx.stream_time().unwrap_or(-1)));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let (a, now) = (tester.input("a", Int64), tester.now_ms());
    a.send_at("k", 1, now + 60_000)?;
    a.send_at("k", 1, now + 60_001)?;
    a.send_at("k", 1, now)?;
    assert_eq!(values(&tester.output("times", Int64)), [now + 60_000, now + 60_000]);
    let dead = tester.output("dead", Int64).read()?;
    assert_eq!(dead.len(), 1);
    let reason = dead[0].header("dead-letter-reason").unwrap_or_default();
    assert!(reason.contains("ahead of this host's clock"), "{reason}");
    Ok(())
}
