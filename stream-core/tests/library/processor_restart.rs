//! `OnFailure::Restart`: waits that double, an end to them, and a new count after progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupGraph, Input};
use stream_core::processor::{OnFailure, Processor, State};
use stream_core::testing::Tester;
use tokio::time::Instant;

use crate::support::{Done, Notes, ms, pairs, table};

/// Counts its keys; fails on `bad` as often as the test says.
fn group(failures: &Arc<AtomicUsize>, at: &Notes<Instant>) -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    let (left, at) = (Arc::clone(failures), at.clone());
    g.input("in", Text, move |ctx, text: String| {
        if text == "bad" && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            at.add(Instant::now());
            return Err(CallbackError::msg("not yet"));
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

fn restarting(attempts: u32) -> impl Fn(Processor) -> Processor {
    move |p| p.on_failure(OnFailure::Restart { backoff: Duration::from_secs(1), attempts })
}

#[test]
fn it_starts_again_with_a_wait_that_doubles_and_loses_nothing() -> Done {
    let (failures, at) = (Arc::new(AtomicUsize::new(4)), Notes::new());
    let tester = Tester::new();
    tester.add_with(group(&failures, &at), restarting(5))?;
    let input = tester.input("in", Text);
    for (key, text) in [("a", "x"), ("b", "bad"), ("a", "x")] {
        input.push(key, text.to_owned())?;
    }
    tester.drain()?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 2), ("b", 1)]));
    let waits: Vec<Duration> = at.all().windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(waits.len(), 3);
    for (wait, least) in waits.iter().zip([1, 2, 4]) {
        assert!(*wait >= Duration::from_secs(least) && *wait < Duration::from_secs(least + 1), "{waits:?}");
    }
    assert_eq!(tester.handle("count", 0)?.status().state, State::Running);
    Ok(())
}

#[test]
fn it_gives_up_after_so_many_failures_without_progress() -> Done {
    let (failures, at) = (Arc::new(AtomicUsize::new(usize::MAX)), Notes::new());
    let tester = Tester::new();
    tester.add_with(group(&failures, &at), restarting(3))?;
    let input = tester.input("in", Text);
    input.push("b", "bad".to_owned())?;
    let error = format!("{:?}", tester.drain().unwrap_err());
    assert!(error.contains("in[0]@0") && error.contains("not yet"), "{error}");
    assert_eq!(at.len(), 4, "once, and three times more");
    assert_eq!(tester.handle("count", 0)?.status().state, State::Failed);
    Ok(())
}

/// A failure at every second record, with less than a commit interval between them.
#[test]
fn progress_however_small_begins_a_new_count() -> Done {
    let at = Notes::new();
    let mut g = Group::define("count").table(Int64);
    let (calls, noted) = (AtomicUsize::new(0), at.clone());
    g.input("in", Text, move |ctx, _text: String| {
        if calls.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            noted.add(Instant::now());
            return Err(CallbackError::msg("every other time"));
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| restarting(1)(p).commit_interval(Duration::from_secs(3600)))?;
    tester.stop("count")?;
    let input = tester.input("in", Text);
    for _ in 0..10 {
        input.push("k", "x".to_owned())?;
    }
    tester.spawn_instance("count", 0)?;
    let count = || table(&tester, "count", Int64).get("k").copied().unwrap_or_default();
    tester.wait_until("all are counted", || count() == 10)?;
    assert_eq!(at.len(), 9);
    tester.stop("count")?;
    assert_eq!(tester.committed("count", "in", 0)?, Some(10));
    Ok(())
}

/// Other partitions go on between the restarts, which is no progress of the record that fails.
#[test]
fn a_record_that_always_fails_ends_it_whatever_others_do() -> Done {
    let at = Notes::new();
    let graph = {
        let (at, mut g) = (at.clone(), Group::define("count").table(Int64));
        // While it waits to be tried again, the other partition goes on.
        let input = Input::topic("in").on_error(ErrorPolicy::fail().retry(1, ms(200)));
        g.input(input, Text, move |ctx, text: String| {
            if text == "bad" {
                at.add(Instant::now());
                return Err(CallbackError::msg("never"));
            }
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)
        });
        g.build()?
    };
    let tester = Tester::with_partitions(2);
    tester.add_with(graph, restarting(3))?;
    let input = tester.input("in", Text);
    input.push_at("bad", Some(&"bad".to_owned()), None, Some(0))?;
    for _ in 0..100 {
        input.push_at("good", Some(&"x".to_owned()), None, Some(1))?;
        tester.run_for(ms(500));
    }
    let error = format!("{:?}", tester.failure("count").expect("it gives up"));
    assert!(error.contains("in[0]@0"), "{error}");
    assert_eq!(at.len(), 2 * 4);
    let done = tester.committed("count", "in", 1)?.unwrap();
    assert_eq!(table(&tester, "count", Int64), pairs([("good", done)]));
    assert!(done > 3, "partition 1 went on between the restarts");
    Ok(())
}

#[test]
fn what_no_restart_mends_is_not_tried_again() -> Done {
    let (failures, at) = (Arc::new(AtomicUsize::new(0)), Notes::new());
    let tester = Tester::new();
    tester.add_with(group(&failures, &at), |p| restarting(5)(p).topic_check_interval(Duration::from_secs(1)))?;
    tester.block_on(stream_core::log::Log::grow_topic(&**tester.log(), "in".into(), 2))?;
    tester.run_for(Duration::from_secs(2));
    assert!(tester.failure("count").is_some());
    Ok(())
}

#[test]
fn a_stop_is_heard_while_it_rests() -> Done {
    let (failures, at) = (Arc::new(AtomicUsize::new(usize::MAX)), Notes::new());
    let tester = Tester::new();
    let hour = |p: Processor| p.on_failure(OnFailure::Restart { backoff: Duration::from_secs(3600), attempts: 5 });
    tester.add_with(group(&failures, &at), hour)?;
    tester.input("in", Text).push("k", "bad".to_owned())?;
    tester.wait_until("it has failed", || at.len() == 1)?;
    tester.run_for(ms(100));
    let before = tester.block_on(async { Instant::now() });
    tester.stop("count")?;
    assert!(tester.block_on(async { before.elapsed() }) < Duration::from_secs(1));
    assert_eq!(tester.handle("count", 0)?.status().state, State::Stopped);
    Ok(())
}
