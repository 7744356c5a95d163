//! States that can be awaited, listeners, and stops at any moment.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::TopicPartition;
use stream_core::processor::{Rebalance, State, TaskState};
use stream_core::testing::Tester;
use stream_core::topics::TopicOptions;

use crate::support::{Done, Gate, Notes, ms, pairs, table};

fn counter(updates: &Notes<(i32, String, Option<i64>)>) -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    let noted = updates.clone();
    g.on_update(move |partition, key, value| {
        noted.add((partition, String::from_utf8_lossy(key).into_owned(), value.copied()));
    });
    g.input("in", Text, |ctx, text: String| {
        if text == "delete" {
            return ctx.delete();
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

#[test]
fn the_states_follow_each_other_and_listeners_get_them() -> Done {
    let (states, rebalances) = (Notes::new(), Notes::new());
    let (of_state, of_rebalance) = (states.clone(), rebalances.clone());
    let tester = Tester::with_partitions(2);
    tester.add_with(counter(&Notes::new()), move |p| {
        let (states, rebalances) = (of_state.clone(), of_rebalance.clone());
        p.on_state(move |s| states.add(s.clone())).on_rebalance(move |r| rebalances.add(r.clone()))
    })?;
    let both = vec![TopicPartition::new("in", 0), TopicPartition::new("in", 1)];
    let handle = tester.handle("count", 0)?;
    let running = handle.status();
    assert_eq!(running.state, State::Running);
    assert_eq!(
        running.tasks.into_iter().collect::<Vec<_>>(),
        both.iter().map(|p| (p.clone(), TaskState::Running)).collect::<Vec<_>>()
    );
    tester.stop("count")?;
    let mut seen: Vec<State> = states.all().iter().map(|s| s.state).collect();
    seen.dedup();
    assert_eq!(seen, [State::Starting, State::Restoring, State::Running, State::Stopping, State::Stopped]);
    assert_eq!(rebalances.all(), [Rebalance::Assigned(both)]);
    // A wait for what can't come any more ends.
    assert!(tester.block_on(handle.running()).is_err());
    assert_eq!(tester.block_on(handle.wait_for(|s| s.state == State::Stopped)).unwrap().state, State::Stopped);
    Ok(())
}

#[test]
fn a_failure_is_a_state_too() -> Done {
    let tester = Tester::new();
    tester.add(counter(&Notes::new()))?;
    let handle = tester.handle("count", 0)?;
    tester.fail_callbacks("in", 1, "on purpose");
    tester.input("in", Text).push("k", "x".to_owned())?;
    let status = tester.block_on(handle.wait_for(|s| s.state == State::Failed)).unwrap();
    assert!(status.tasks.is_empty());
    assert!(tester.drain().is_err());
    Ok(())
}

#[test]
fn listeners_get_updates_once_they_are_acknowledged() -> Done {
    let updates = Notes::new();
    let tester = Tester::new();
    tester.add(counter(&updates))?;
    let input = tester.input("in", Text);
    let hold = tester.log().faults().on(|r| r.topic == "count-table").hold_acks();
    for (key, text) in [("a", "x"), ("b", "x"), ("a", "x"), ("b", "delete")] {
        input.push(key, text.to_owned())?;
    }
    tester.run_for(ms(500));
    assert_eq!(updates.len(), 0);
    drop(hold);
    tester.drain()?;
    let expected = [("a", Some(1)), ("b", Some(1)), ("a", Some(2)), ("b", None)];
    assert_eq!(updates.take(), expected.map(|(key, n)| (0, key.to_owned(), n)));
    tester.restart("count")?;
    assert_eq!(updates.len(), 0, "a restore is no update");
    Ok(())
}

#[test]
fn listeners_get_an_update_that_was_taken_back_as_it_came_out() -> Done {
    let updates = Notes::new();
    let tester = Tester::new();
    tester.add(counter(&updates))?;
    let input = tester.input("in", Text);
    input.send("a", "x".to_owned())?;
    updates.take();
    let fault =
        tester.log().faults().on(|r| r.topic == "count-table").times(2).fail_after_write(crate::support::passing());
    input.push("a", "x".to_owned())?;
    tester.drain()?;
    assert!(fault.hits() > 0);
    // The value before may come again; the last word is what is true, and nothing else was ever true.
    let seen = updates.all();
    assert_eq!(seen.last(), Some(&(0, "a".to_owned(), Some(2))));
    assert!(seen.iter().all(|(.., n)| matches!(n, Some(1 | 2))), "{seen:?}");
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 2)]));
    Ok(())
}

#[test]
fn a_graceful_stop_commits_all_that_was_begun() -> Done {
    let gate = Gate::new();
    let mut g = Group::define("count").table(Int64);
    let passed = gate.clone();
    g.input_async("in", Text, async move |ctx, _text: String| {
        passed.pass("door").await;
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| p.commit_interval(Duration::from_secs(3600)))?;
    let input = tester.input("in", Text);
    for i in 0..20 {
        input.push(format!("k{i}"), "x".to_owned())?;
    }
    tester.run_for(ms(100));
    let hold = tester.log().faults().on(|r| r.topic == "count-table").delay(ms(300));
    tester.handle("count", 0)?.stop();
    tester.run_for(ms(50));
    gate.open_all();
    tester.stop("count")?;
    drop(hold);
    assert_eq!(tester.committed("count", "in", 0)?, Some(20));
    assert_eq!(table(&tester, "count", Int64).len(), 20);
    tester.restart("count")?;
    tester.run_for(ms(500));
    assert!(table(&tester, "count", Int64).values().all(|n| *n == 1));
    Ok(())
}

#[test]
fn a_stop_does_not_wait_for_retries() -> Done {
    let mut g = Group::define("count").table(Int64);
    let policy = stream_core::group::ErrorPolicy::fail().retry(1000, Duration::from_secs(5));
    g.input_async(stream_core::group::Input::topic("in").on_error(policy), Text, async move |ctx, text: String| {
        tokio::time::sleep(ms(100)).await;
        if text == "bad" {
            return Err(stream_core::group::CallbackError::msg("never"));
        }
        ctx.set(1)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for text in ["good", "bad", "behind"] {
        input.push(text, text.to_owned())?;
    }
    // Once while it rests, once while it is called.
    for wait in [2000, 5150] {
        tester.run_for(ms(wait));
        let before = tester.block_on(async { tokio::time::Instant::now() });
        tester.stop("count")?;
        assert!(tester.block_on(async { before.elapsed() }) < Duration::from_secs(1));
        assert_eq!(tester.committed("count", "in", 0)?, Some(1));
        tester.restart("count")?;
    }
    assert_eq!(table(&tester, "count", Int64), pairs([("good", 1)]));
    Ok(())
}

/// A stop while acknowledgements are missing waits for them; the writes fail while it does.
#[test]
fn a_stop_while_writes_fail_leaves_the_rest_to_the_next_start() -> Done {
    let tester = Tester::new();
    tester.add(counter(&Notes::new()))?;
    let input = tester.input("in", Text);
    input.send("a", "x".to_owned())?;
    let fault = tester.log().faults().on(|r| r.topic == "count-table").fail(crate::support::passing());
    input.push("a", "x".to_owned())?;
    tester.run_for(Duration::from_secs(5));
    tester.handle("count", 0)?.stop();
    tester.run_for(Duration::from_secs(60));
    drop(fault);
    assert!(tester.stop("count").is_err(), "it did not end in time");
    tester.restart("count")?;
    tester.drain()?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 2)]));
    Ok(())
}

#[test]
fn it_can_be_stopped_while_it_waits_for_another_group_s_table() -> Done {
    let mut g = Group::define("joins").table(Int64);
    let _names = g.join("nobody-table", Text);
    g.input("in", Text, |_ctx, _text| Ok(()));
    let graph = g.build()?;
    let log = stream_core::log::embedded::InMemory::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let mut topics = TopicOptions::default();
        topics.wait_for_tables = Duration::from_secs(3600);
        let processor = stream_core::processor::Processor::new(graph, log)
            .stores(Arc::new(stream_core::store::MemoryStores::new()))
            .workers(1)
            .topics(topics);
        let handle = processor.handle();
        let run = tokio::spawn(processor.run());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(handle.status().state, State::Starting);
        let before = tokio::time::Instant::now();
        handle.stop();
        run.await.unwrap().unwrap();
        assert!(before.elapsed() < Duration::from_secs(1));
        assert_eq!(handle.status().state, State::Stopped);
    });
    Ok(())
}

#[test]
fn a_listener_that_panics_harms_nobody_but_itself() -> Done {
    let updates = Notes::new();
    let noted = updates.clone();
    let mut g = Group::define("count").table(Int64);
    g.on_update(|_, _, _| panic!("on purpose"));
    g.on_update(move |_, key, value| noted.add((String::from_utf8_lossy(key).into_owned(), value.copied())));
    g.input("in", Text, |ctx, _text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for _ in 0..3 {
        input.send("k", "x".to_owned())?;
    }
    assert_eq!(table(&tester, "count", Int64), pairs([("k", 3)]));
    assert_eq!(updates.all(), [1, 2, 3].map(|n| ("k".to_owned(), Some(n))), "the other listeners get them");
    Ok(())
}

/// Work before it that does not end must not hide the failure for ever.
#[test]
fn a_failure_behind_work_that_never_ends_is_reported() -> Done {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, text: String| {
        if text == "bad" {
            return Err(stream_core::group::CallbackError::msg("on purpose"));
        }
        std::mem::forget(ctx.defer());
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    input.push("a", "stuck".to_owned())?;
    input.push("b", "bad".to_owned())?;
    tester.run_for(Duration::from_secs(60));
    let failure = format!("{:?}", tester.failure("count").expect("it fails"));
    assert!(failure.contains("in[0]@1"), "{failure}");
    assert_eq!(tester.committed("count", "in", 0)?, Some(0));
    Ok(())
}
