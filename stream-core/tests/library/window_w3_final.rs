//! W3: a final result comes once, when stream time has reached the window's end and grace; then the window is deleted.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackResult, Group, GroupGraph, Input, Output};
use stream_core::prelude::{Ctx, NoTable};
use stream_core::processor::{Guarantee, Standbys};
use stream_core::testing::{TestOutput, Tester};
use stream_core::window::{Window, Windows};

use crate::support::{Done, Outcome, live_keys, move_to_second, ms, passing, under_way, values, with_both};

const WINDOWS: &str = "count-window-counts";

fn windows() -> Windows {
    Windows::tumbling(ms(60)).grace(ms(10))
}

/// A final result.
fn emit(ctx: &mut Ctx<'_, NoTable>, out: Output<String>, window: Window, n: i64) -> CallbackResult {
    let key = ctx.key_text()?;
    ctx.emit(out, key, format!("{key} {window} {n}"))
}

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count");
    let out = g.output("finals", Text);
    let counts = g.window("counts", windows(), Int64);
    g.input("in", Text, move |ctx, _| {
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(counts, move |ctx, (window, n)| emit(ctx, out, window, n));
    g.build().unwrap()
}

/// The same with a callback that awaits.
fn awaiting() -> Arc<GroupGraph> {
    let mut g = Group::define("count");
    let out = g.output("finals", Text);
    let counts = g.window("counts", windows(), Int64);
    g.input_async(Input::topic("in").concurrency(8), Text, async move |ctx: &mut Ctx<'_, NoTable>, _| {
        // Later ones are done earlier.
        tokio::time::sleep(ms(300 - ctx.timestamp().unsigned_abs().min(300))).await;
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(counts, move |ctx, (window, n)| emit(ctx, out, window, n));
    g.build().unwrap()
}

fn tester(guarantee: Guarantee, graph: Arc<GroupGraph>) -> Outcome<(Tester, TestOutput<String>)> {
    under_way(graph, guarantee, "finals")
}

fn push(tester: &Tester, records: &[(&str, i64)]) -> Done {
    for (key, at) in records {
        tester.input("in", Text).push_at(*key, Some(&String::new()), Some(*at), None)?;
    }
    Ok(tester.drain()?)
}

#[test]
fn w3_a_final_result_comes_once_and_the_window_is_gone() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, counter())?;
        push(&tester, &[("b", 5), ("a", 10), ("a", 59), ("a", 60), ("a", 69), ("b", 58)])?;
        assert_eq!(values(&out).len(), 0);
        assert_eq!(live_keys(&tester, WINDOWS), 3);
        push(&tester, &[("c", 70)])?;
        let finals = out.read()?;
        let emitted: Vec<_> = finals.iter().map(|r| (r.value.clone().unwrap_or_default(), r.timestamp)).collect();
        let expected = [("a [0, 60) 2".to_owned(), 59), ("b [0, 60) 2".to_owned(), 59)];
        assert_eq!(emitted, expected);
        assert_eq!(live_keys(&tester, WINDOWS), 2, "those of [60, 120)");
        push(&tester, &[("a", 59), ("c", 129)])?;
        assert_eq!(values(&out).len(), 0);
        push(&tester, &[("c", 1000)])?;
        assert_eq!(values(&out), ["a [60, 120) 2", "c [60, 120) 1", "c [120, 180) 1"]);
        assert_eq!(live_keys(&tester, WINDOWS), 1);
        Ok(())
    })
}

#[test]
fn w3_windows_close_in_the_order_of_time_whatever_makes_them_due() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, counter())?;
        push(&tester, &[("z", 61), ("a", 1), ("y", 62), ("b", 2), ("x", 10_000)])?;
        assert_eq!(values(&out), ["a [0, 60) 1", "b [0, 60) 1", "y [60, 120) 1", "z [60, 120) 1"]);
        Ok(())
    })
}

#[test]
fn w3_callbacks_that_await_are_done_before_their_window_closes() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, awaiting())?;
        push(&tester, &[("a", 1), ("b", 2), ("a", 50), ("c", 69), ("d", 70), ("a", 200)])?;
        assert_eq!(values(&out), ["a [0, 60) 2", "b [0, 60) 1", "c [60, 120) 1", "d [60, 120) 1"]);
        assert_eq!(tester.late("count")?, 0);
        Ok(())
    })
}

#[test]
fn w3_once_across_crashes_restarts_and_moves() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(counter(), move |p| p.guarantee(guarantee).standbys(Standbys::All))?;
        let out = tester.output("finals", Text);
        push(&tester, &[("a", 1), ("a", 2)])?;
        tester.crash("count")?;
        tester.start_instance("count", 0)?;
        push(&tester, &[("a", 3)])?;
        tester.restart("count")?;
        push(&tester, &[("a", 4), ("b", 65)])?;
        move_to_second(&tester, "count")?;
        push(&tester, &[("a", 5), ("b", 70)])?;
        assert_eq!(values(&out), ["a [0, 60) 5"]);
        tester.crash_instance("count", 1)?;
        tester.start_instance("count", 0)?;
        push(&tester, &[("b", 500)])?;
        assert_eq!(values(&out), ["b [60, 120) 2"]);
        Ok(())
    })
}

#[test]
fn w3_a_final_result_that_is_not_delivered_comes_again_whole() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, counter())?;
        push(&tester, &[("a", 1), ("a", 2)])?;
        let fault = tester.log().faults().on(|r| r.topic == "finals").times(2).fail(passing());
        push(&tester, &[("b", 70)])?;
        assert_eq!(fault.hits(), 2);
        assert_eq!(values(&out), ["a [0, 60) 2"]);
        push(&tester, &[("b", 1000)])?;
        assert_eq!(live_keys(&tester, WINDOWS), 1);
        Ok(())
    })
}

#[test]
fn w3_a_crash_between_the_result_and_its_deletion_never_brings_a_part_of_it() -> Done {
    // At least once: the result may come twice, but not as a smaller one that counts what was done again only.
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, counter())?;
        push(&tester, &[("a", 1), ("a", 2)])?;
        let held = tester.log().faults().on(|r| r.topic == "finals").hold_acks();
        let input = tester.input("in", Text);
        for (key, at) in [("a", 3), ("b", 70)] {
            input.push_at(key, Some(&String::new()), Some(at), None)?;
        }
        tester.wait_until("it is on its way", || held.hits() > 0)?;
        tester.crash("count")?;
        drop(held);
        tester.start_instance("count", 0)?;
        tester.drain()?;
        push(&tester, &[("b", 71)])?;
        let finals = values(&out);
        assert!(!finals.is_empty());
        for result in &finals {
            let n: i64 = result.rsplit(' ').next().unwrap_or_default().parse()?;
            assert!(n >= 3, "{finals:?}");
        }
        if guarantee == Guarantee::ExactlyOnce {
            assert_eq!(finals, ["a [0, 60) 3"]);
        }
        Ok(())
    })
}

#[test]
fn w3_the_state_stays_bounded() -> Done {
    with_both(|guarantee| {
        let (tester, _) = tester(guarantee, counter())?;
        let mut most = 0;
        for round in 0..20 {
            let records: Vec<(String, i64)> = (0..50).map(|i| (format!("k{}", i % 10), round * 50 + i)).collect();
            let records: Vec<(&str, i64)> = records.iter().map(|(k, at)| (k.as_str(), *at)).collect();
            push(&tester, &records)?;
            most = most.max(live_keys(&tester, WINDOWS));
        }
        assert!(most <= 30, "{most} keys: at most two windows of ten keys are open, and one is being deleted");
        Ok(())
    })
}

#[test]
fn w3_without_a_callback_closed_windows_are_deleted_all_the_same() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("count");
        let counts = g.window("counts", windows(), Int64);
        g.input("in", Text, move |ctx, _| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            Ok(())
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        push(&tester, &[("a", 1), ("b", 2), ("c", 100)])?;
        tester.wait_until("they are gone", || live_keys(&tester, WINDOWS) == 1)?;
        Ok(())
    })
}
