//! The cases of a task that looks up from its work in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::topics::TopicOptions;
use stream_core::window::Windows;

use super::world::{World, ms};
use crate::kafka_support::{Running, committed, read, topic_with, unique, until};

/// Copies every hundredth record, and takes its time for each of them.
fn slow(world: &World, takes: Duration, begun: &Arc<AtomicU64>, hurries: &Arc<AtomicBool>) -> Arc<GroupGraph> {
    let mut g = Group::define(&*world.group);
    let out = g.output(&*world.out, Text);
    let (begun, hurries) = (Arc::clone(begun), Arc::clone(hurries));
    g.input(&*world.input, Text, move |ctx, text: String| {
        let n = begun.fetch_add(1, Ordering::SeqCst);
        let until = Instant::now() + takes;
        while !hurries.load(Ordering::Relaxed) && Instant::now() < until {
            if takes > ms(1) {
                std::thread::sleep(takes);
            }
        }
        if n % 100 == 0 { ctx.emit(out, ctx.key(), &text) } else { Ok(()) }
    });
    g.build().unwrap()
}

async fn fill(world: &World, records: i64) {
    write_all(&world.log, &world.input, (0..records).map(|n| (0, n))).await;
}

pub async fn commits_and_effects_do_not_wait_for_the_end_of_a_backlog(log: &LogHandle, guarantee: Guarantee) {
    for (takes, records) in [(10, 400_000_i64), (300, 15_000), (5_000, 1_000)] {
        let world = World::new(log, guarantee, "slow").await;
        fill(&world, records).await;
        let (begun, hurries) = (Arc::default(), Arc::default());
        let started = Instant::now();
        let running = world.start(slow(&world, Duration::from_micros(takes), &begun, &hurries)).await;
        let (mut effect, mut last, mut commits) = (None, None, Vec::new());
        while commits.len() < 5 && begun.load(Ordering::SeqCst) < records.unsigned_abs() {
            if effect.is_none() && !world.records().await.is_empty() {
                effect = Some((started.elapsed(), begun.load(Ordering::SeqCst)));
            }
            let now = committed(log, &world.group, &world.input, 1).await[0].filter(|at| *at > 0);
            if now != last && now.is_some() {
                commits.push(started.elapsed());
                last = now;
            }
        }
        let seen = begun.load(Ordering::SeqCst);
        hurries.store(true, Ordering::SeqCst);
        world.done().await;
        running.stop().await;
        println!(
            "{guarantee:?}, {takes} us: first effect {effect:?}, commits seen at {commits:?}, {seen} of {records}"
        );
        assert!(effect.is_some_and(|(_, n)| n < records.unsigned_abs()), "effects came at the end");
        assert!(seen < records.unsigned_abs() && !commits.is_empty(), "commits came at the end");
    }
}

pub async fn a_stop_waits_for_the_callback_at_hand_only(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "stopped").await;
    fill(&world, 1_500).await;
    let (begun, hurries) = (Arc::<AtomicU64>::default(), Arc::default());
    let running = world.start(slow(&world, ms(5), &begun, &hurries)).await;
    until("20 have begun", async || begun.load(Ordering::SeqCst) >= 20).await;
    running.stop().await;
    let seen = begun.load(Ordering::SeqCst);
    assert!(seen < 1_500, "all that was fetched was done first");
    let at = committed(log, &world.group, &world.input, 1).await[0];
    assert_eq!(at, Some(i64::try_from(seen).unwrap()));
}

const PARTITIONS: i32 = 4;
const SECONDS: i64 = 7_200;

/// Sends each record round the loop by another key; where it comes back it is counted in its minute, if that is asked for.
fn round(group: &str, input: &str, out: &str, grace: Option<u64>) -> Arc<GroupGraph> {
    let mut g = Group::define(group);
    let finals = g.output(out, Text);
    let round = g.loopback(Text);
    g.input(input, Text, move |ctx, text: String| ctx.loopback(round, format!("user {}", ctx.offset() % 7), &text));
    if let Some(grace) = grace {
        let counts = g.window("counts", Windows::tumbling(ms(60_000)).grace(ms(grace)), Int64);
        g.on_loop(round, move |ctx, _| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            Ok(())
        });
        g.on_close(counts, move |ctx, (window, n)| ctx.emit(finals, ctx.key(), format!("{} {n}", window.start)));
    } else {
        g.on_loop(round, |_, _| Ok(()));
    }
    g.build().unwrap()
}

pub async fn write_all(log: &LogHandle, to: &Arc<str>, records: impl Iterator<Item = (i32, i64)>) {
    let writer = log.producer(ProducerOptions::default()).await.unwrap();
    let records: Vec<_> = records.collect();
    for some in records.chunks(2_000) {
        let mut batch = ProduceBatch::new();
        for (partition, at) in some {
            let (partition, timestamp, bytes) = (Some(*partition), Some(*at), Some(&b"x"[..]));
            let new = NewRecord { topic: to, partition, timestamp, key: bytes, value: bytes };
            batch.push(new, std::iter::empty());
        }
        assert!(writer.send(Arc::new(batch)).await.failed.is_empty());
    }
}

/// Two hours of four partitions, a record a second in each, partition by partition; and how long it takes without windows.
pub async fn a_backlog_goes_round_the_loop_in_step(log: &LogHandle, guarantee: Guarantee) {
    let kept = TopicConfig::new().retention_ms(-1);
    let input = topic_with(log, "in", PARTITIONS, kept.clone()).await;
    // A time at which no broker has a limit.
    let first = 1_000_000_000_000;
    let all = (0..PARTITIONS).flat_map(|p| (0..SECONDS).map(move |n| (p, first + n * 1000)));
    write_all(log, &input, all).await;
    let mut took = Vec::new();
    for grace in [None, Some(10_000), Some(60_000)] {
        let (group, out) = (unique("round"), topic_with(log, "out", PARTITIONS, kept.clone()).await);
        let mut topics = TopicOptions::default();
        topics.partitions = Some(PARTITIONS);
        let processor = Processor::new(round(&group, &input, &out, grace), Arc::clone(log))
            .guarantee(guarantee)
            .topics(topics)
            .stores(Arc::new(MemoryStores::new()));
        let running = Running::up(processor).await;
        let began = Instant::now();
        running.handle.caught_up().await.unwrap();
        took.push((grace, began.elapsed()));
        if grace.is_some() {
            // What closes the last windows.
            let end = first + (SECONDS + 1_000) * 1000;
            write_all(log, &input, (0..PARTITIONS).map(|p| (p, end))).await;
            running.handle.caught_up().await.unwrap();
            let counted = async || {
                let mut of: BTreeMap<i64, i64> = BTreeMap::new();
                for result in read(log, &out, PARTITIONS).await.into_iter().filter_map(|r| r.value) {
                    let (start, n) = result.split_once(' ').unwrap();
                    *of.entry(start.parse().unwrap()).or_default() += n.parse::<i64>().unwrap();
                }
                of.retain(|start, _| *start < first + SECONDS * 1000);
                of.values().sum::<i64>()
            };
            until("all results are there", async || counted().await >= SECONDS * i64::from(PARTITIONS)).await;
            assert_eq!(counted().await, SECONDS * i64::from(PARTITIONS), "{guarantee:?}, grace {grace:?}");
        }
        running.stop().await;
    }
    println!("{guarantee:?}: {} records round the loop, by grace: {took:?}", SECONDS * i64::from(PARTITIONS));
}

pub async fn a_quiet_partition_closes_its_windows(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "quiet").await;
    let graph = || {
        let mut g = Group::define(&*world.group);
        let out = g.output(&*world.out, Text);
        let counts = g.window("counts", Windows::tumbling(ms(60)).grace(ms(10)), Int64);
        g.input(&*world.input, Text, move |ctx, _| {
            if ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?.is_empty() {
                return ctx.emit(out, ctx.key(), format!("late at {}", ctx.stream_time().unwrap_or(-1)));
            }
            Ok(())
        });
        g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{window} {n}")));
        g.build().unwrap()
    };
    let start = async || {
        let processor = Processor::new(graph(), Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1);
        Running::up(processor.guarantee(guarantee).idle_close(ms(500))).await
    };
    let running = start().await;
    world.say(&[("a", "", 5), ("b", "", 10)]).await;
    world.until_emitted(&["[0, 60) 1", "[0, 60) 1"]).await;
    running.stop().await;
    let running = start().await;
    world.say(&[("a", "", 6)]).await;
    world.until_emitted(&["[0, 60) 1", "[0, 60) 1", "late at 70"]).await;
    running.stop().await;
}
