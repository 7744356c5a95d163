//! A backlog that a group sends round its loop, to count it there by another key, is counted as if it had come in its time:
//! all partitions go on in step, and nobody is held for good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{Sessions, Windows};

use crate::support::{Done, ms, values, with_both};

const MINUTE: i64 = 60_000;

/// Sends each record round the loop by another key, and counts it there in its minute.
fn counter(grace: u64) -> Arc<GroupGraph> {
    let mut g = Group::define("count");
    let out = g.output("finals", Text);
    let round = g.loopback(Text);
    let counts = g.window("counts", Windows::tumbling(ms(60_000)).grace(ms(grace)), Int64);
    g.input("in", Text, move |ctx, text: String| ctx.loopback(round, format!("user {}", text.len() % 7), &text));
    g.on_loop(round, move |ctx, _| {
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{} {n}", window.start)));
    g.build().unwrap()
}

/// So many seconds of it, a record a second in each partition, the seconds of the first one first.
fn backlog(tester: &Tester, partitions: i32, seconds: i64) -> Done {
    let input = tester.input("in", Text);
    for partition in 0..partitions {
        for n in 0..seconds {
            let text = "x".repeat(usize::try_from(n * 31 % 10 + i64::from(partition))?);
            input.push_at("k", Some(&text), Some(n * 1000), Some(partition))?;
        }
    }
    Ok(())
}

fn counted(grace: u64, instances: usize, guarantee: Guarantee) -> Done {
    const SECONDS: i64 = 1_800;
    let tester = Tester::with_partitions(4);
    tester.add_with(counter(grace), move |p| p.guarantee(guarantee))?;
    for _ in 1..instances {
        tester.add_instance("count")?;
    }
    tester.stop("count")?;
    backlog(&tester, 4, SECONDS)?;
    tester.restart("count")?;
    tester.drain()?;
    assert_eq!(tester.late("count")?, 0, "{guarantee:?}, grace {grace}, {instances} instances");
    // What closes the last windows.
    for partition in 0..4 {
        tester.input("in", Text).push_at("k", Some(&"end".to_owned()), Some(SECONDS * 10_000), Some(partition))?;
    }
    tester.drain()?;
    let mut of: BTreeMap<i64, i64> = BTreeMap::new();
    for result in values(&tester.output("finals", Text)) {
        let (start, n) = result.split_once(' ').ok_or("a count")?;
        *of.entry(start.parse()?).or_default() += n.parse::<i64>()?;
    }
    let all = (0..SECONDS * 1000 / MINUTE).map(|minute| (minute * MINUTE, 240)).collect();
    assert_eq!(of, all, "{guarantee:?}, grace {grace}, {instances} instances");
    Ok(())
}

#[test]
fn j7_a_backlog_that_goes_round_the_loop_is_counted_as_if_it_had_come_in_its_time() -> Done {
    with_both(|guarantee| [10_000, 60_000].into_iter().try_for_each(|grace| counted(grace, 1, guarantee)))
}

#[test]
fn j7_it_is_without_any_grace() -> Done {
    with_both(|guarantee| counted(0, 1, guarantee))
}

#[test]
fn j7_it_is_by_several_instances() -> Done {
    with_both(|guarantee| counted(10_000, 2, guarantee))
}

#[test]
fn j7_sessions_of_what_goes_round_the_loop_are_whole() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("visits");
        let out = g.output("finals", Text);
        let round = g.loopback(Int64);
        let visits = g.session("visits", Sessions::gap(ms(5_000)).grace(ms(10_000)), Int64);
        g.input("in", Int64, move |ctx, n| ctx.loopback(round, format!("user {}", n / 30), n));
        g.on_loop(round, move |ctx, _| {
            ctx.aggregate_session(visits, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
            Ok(())
        });
        g.on_close(visits, move |ctx, (_, n)| ctx.emit(out, ctx.key(), n.to_string()));
        let tester = Tester::with_partitions(3);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        tester.stop("visits")?;
        for partition in 0..3 {
            for n in 0..900 {
                tester.input("in", Int64).push_at("k", Some(&n), Some(n * 1000), Some(partition))?;
            }
        }
        tester.restart("visits")?;
        tester.drain()?;
        for partition in 0..3 {
            tester.input("in", Int64).push_at("k", Some(&9_000), Some(9_000_000), Some(partition))?;
        }
        tester.drain()?;
        assert_eq!((tester.late("visits")?, values(&tester.output("finals", Text))), (0, vec!["90".to_owned(); 30]));
        Ok(())
    })
}

/// A partition that has nothing, or one that has been read to its end, holds nobody.
#[test]
fn j7_an_idle_partition_holds_nobody() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(3);
        tester.add_with(counter(10_000), move |p| p.guarantee(guarantee))?;
        let now = || tester.block_on(async { tokio::time::Instant::now() });
        let (input, began) = (tester.input("in", Text), now());
        input.push_at("k", Some(&"old".to_owned()), Some(0), Some(1))?;
        for n in 0..50 {
            input.push_at("k", Some(&"x".to_owned()), Some(n * 1_000_000), Some(0))?;
        }
        tester.drain()?;
        assert!(now() - began < Duration::from_secs(9), "somebody's patience was over");
        Ok(())
    })
}

/// A partition that is stuck holds the others for a while only, counted from its last progress.
#[test]
fn j7_a_stuck_partition_holds_nobody_for_good() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("count");
        let round = g.loopback(Text);
        let counts = g.window("counts", Windows::tumbling(ms(60_000)).grace(ms(10_000)), Int64);
        let policy = ErrorPolicy::skip().retry(3, Duration::from_secs(1000));
        g.input(Input::topic("in").on_error(policy), Text, move |ctx, text: String| {
            if text == "stuck" {
                return Err(stream_core::group::CallbackError::msg("on purpose"));
            }
            ctx.loopback(round, ctx.key(), &text)
        });
        g.on_loop(round, move |ctx, _| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            Ok(())
        });
        let tester = Tester::with_partitions(2);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let now = || tester.block_on(async { tokio::time::Instant::now() });
        let (input, began) = (tester.input("in", Text), now());
        input.push_at("k", Some(&"stuck".to_owned()), Some(0), Some(0))?;
        for n in 1..=20 {
            input.push_at("k", Some(&n.to_string()), Some(n * 1_000_000), Some(1))?;
        }
        tester.wait_until("all others are done", || tester.committed("count", "in", 1).unwrap() == Some(20))?;
        // Where it is stuck, what comes back to it is, too.
        assert!(now() - began < Duration::from_secs(60), "each of them was held as long as the first");
        assert_eq!(tester.committed("count", "in", 0)?.unwrap_or_default(), 0, "it is stuck still");
        Ok(())
    })
}

/// Records that go round and round at one time hold nobody for good.
#[test]
fn j7_a_loop_that_feeds_itself_without_end_holds_nobody_for_good() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("round");
        let out = g.output("out", Text);
        let round = g.loopback(Text);
        let counts = g.window("counts", Windows::tumbling(ms(60_000)).grace(ms(10_000)), Int64);
        g.input("in", Text, move |ctx, text: String| {
            ctx.emit(out, ctx.key(), &text)?;
            ctx.loopback(round, ctx.key(), &text)
        });
        g.on_loop(round, move |ctx, text: String| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            if text == "for ever" { ctx.loopback(round, ctx.key(), &text) } else { Ok(()) }
        });
        let tester = Tester::with_partitions(2);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let slow = tester.log().faults().on(|r| r.topic == "round-loop").delay(ms(5));
        let input = tester.input("in", Text);
        input.push_at("k", Some(&"for ever".to_owned()), Some(0), Some(0))?;
        for n in 1..=10 {
            input.push_at("k", Some(&n.to_string()), Some(n * 1_000_000), Some(1))?;
        }
        let (texts, mut found) = (tester.output("out", Text), Vec::new());
        tester.wait_until("all others go on", || {
            found.extend(values(&texts));
            found.len() == 11
        })?;
        assert!(slow.hits() > 100, "it goes round");
        Ok(())
    })
}
