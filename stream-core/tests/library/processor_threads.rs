//! Processors on worker threads, in real time: several instances on one log, as in production.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{CallbackError, Group, GroupGraph, Visitor};
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    Cleanup, FetchLimits, Fetched, Isolation, LogError, LogHandle, NewRecord, ProduceBatch, ProducerOptions,
    RecordBatch, TopicConfig, TopicPartition, TopicSpec,
};
use stream_core::processor::{Handle, OnFailure, Processor, ProcessorResult};
use stream_core::store::MemoryStores;
use stream_core::topics::TopicOptions;
use tokio::task::JoinHandle;

use crate::support::{Done, ms};

const PARTITIONS: i32 = 6;

/// Counts what comes for a key by two inputs, one of which awaits.
fn counter() -> (Arc<GroupGraph>, Visitor<()>) {
    let mut g = Group::define("count").table(Int64);
    g.input("left", Text, |ctx, _text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.input_async("right", Text, async |ctx, _text: String| {
        tokio::task::yield_now().await;
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let visitor =
        g.visitor("look", |_ctx, (): &(), n| if n > 0 { Ok(()) } else { Err(CallbackError::msg("not counted")) });
    (g.build().unwrap(), visitor)
}

struct Running {
    handle: Handle,
    run: JoinHandle<ProcessorResult<()>>,
}

fn start(graph: &Arc<GroupGraph>, log: &LogHandle) -> Running {
    let mut topics = TopicOptions::default();
    topics.partitions = Some(PARTITIONS);
    let processor = Processor::new(Arc::clone(graph), Arc::clone(log))
        .stores(Arc::new(MemoryStores::new()))
        .topics(topics)
        .workers(2)
        .commit_interval(ms(20))
        .checkpoint_interval(ms(30))
        .max_task_idle(ms(50));
    Running { handle: processor.handle(), run: tokio::spawn(processor.run()) }
}

/// Sends records, and notes what must come of them.
async fn send(log: &LogHandle, counts: &mut BTreeMap<String, i64>, from: usize, n: usize) {
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    let topics: [Arc<str>; 2] = ["left".into(), "right".into()];
    for chunk in (from..from + n).collect::<Vec<_>>().chunks(50) {
        let mut batch = ProduceBatch::new();
        for i in chunk {
            let key = format!("k{}", i * 31 % 97);
            let (topic, value) = (&topics[i % 2], i.to_string());
            let (key_bytes, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            let new = NewRecord { topic, partition: None, timestamp: None, key: key_bytes, value };
            batch.push(new, std::iter::empty());
            *counts.entry(key).or_default() += 1;
        }
        assert!(producer.send(Arc::new(batch)).await.failed.is_empty());
        tokio::task::yield_now().await;
    }
}

async fn table(log: &LogHandle) -> BTreeMap<String, i64> {
    let reader = log.reader(Isolation::ReadCommitted).unwrap();
    let mut table = BTreeMap::new();
    for p in 0..PARTITIONS {
        let mut fetch = reader.read(TopicPartition::new("count-table", p), 0).await.unwrap();
        let mut batch = RecordBatch::new();
        loop {
            let limits = FetchLimits::default();
            let got = std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits)).await.unwrap();
            if matches!(got, Fetched::End(_)) {
                break;
            }
            for r in batch.iter() {
                let key = String::from_utf8(r.key.unwrap().to_vec()).unwrap();
                table.insert(key, Int64.decode(r.value.unwrap()).unwrap());
            }
        }
    }
    table
}

async fn all_committed(log: &LogHandle, sent: usize) {
    loop {
        let topics = ["left", "right"];
        let all = topics.iter().flat_map(|t| (0..PARTITIONS).map(|p| TopicPartition::new(*t, p))).collect();
        let offsets = log.group_offsets("count".into(), all).await.unwrap();
        let done: i64 = offsets.into_iter().flatten().sum();
        if usize::try_from(done).unwrap() == sent {
            return;
        }
        tokio::time::sleep(ms(5)).await;
    }
}

#[tokio::test]
async fn counts_are_exact_while_instances_on_threads_come_and_go() -> Done {
    let work = async {
        let log: LogHandle = InMemory::new();
        let (graph, visitor) = counter();
        let mut counts = BTreeMap::new();
        let first = start(&graph, &log);
        first.handle.running().await?;
        send(&log, &mut counts, 0, 2000).await;
        let second = start(&graph, &log);
        send(&log, &mut counts, 2000, 2000).await;
        let third = start(&graph, &log);
        third.handle.wait_for(|s| !s.tasks.is_empty()).await.expect("it lives");
        send(&log, &mut counts, 4000, 2000).await;
        first.handle.stop();
        first.run.await??;
        send(&log, &mut counts, 6000, 2000).await;
        second.handle.stop();
        send(&log, &mut counts, 8000, 2000).await;
        second.run.await??;
        all_committed(&log, 10_000).await;
        assert_eq!(table(&log).await, counts);
        assert_eq!(third.handle.visit(visitor, ()).await?, 97);
        third.handle.stop();
        third.run.await??;
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(120), work).await?
}

/// Copies what a lookup has for a key. Once it hangs: it says so, and waits for the other channel's end.
fn hanging(hangs: tokio::sync::mpsc::UnboundedSender<()>, until: mpsc::Receiver<()>) -> Arc<GroupGraph> {
    let mut g = Group::define("hangs");
    let names = g.lookup("names-table", Text);
    let out = g.output("out", Text);
    let until = Mutex::new(Some(until));
    g.input("in", Text, move |ctx, text: String| {
        let name = ctx.lookup(names, "k")?.unwrap_or_default();
        let wait = if text == "hang" { until.lock().unwrap().take() } else { None };
        if let Some(until) = wait {
            hangs.send(())?;
            _ = until.recv();
        }
        ctx.emit(out, ctx.key(), format!("{text} {name}"))
    });
    g.build().unwrap()
}

async fn write(log: &LogHandle, topic: &str, partition: i32, value: &str) {
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    let mut batch = ProduceBatch::new();
    let topic = topic.into();
    let (key, value) = (Some(&b"k"[..]), Some(value.as_bytes()));
    batch
        .push(NewRecord { topic: &topic, partition: Some(partition), timestamp: None, key, value }, std::iter::empty());
    assert!(producer.send(Arc::new(batch)).await.failed.is_empty());
}

/// Neither the end nor a start in the same process waits for it, and its partition is processed again.
#[tokio::test]
async fn a_callback_that_never_returns_is_left_behind() -> Done {
    let work = async {
        let embedded = InMemory::new();
        let log: LogHandle = Arc::clone(&embedded) as LogHandle;
        let compact = TopicConfig::new().cleanup(Cleanup::Compact);
        let specs = [TopicSpec::new("names-table").config(compact), TopicSpec::new("in"), TopicSpec::new("out")];
        log.create_topics(specs.map(|s| s.partitions(2)).to_vec()).await?;
        for partition in 0..2 {
            write(&log, "names-table", partition, "Ann").await;
        }
        let (hangs, mut hanging_now) = tokio::sync::mpsc::unbounded_channel();
        let (release, until) = mpsc::channel();
        let processor = Processor::new(hanging(hangs, until), Arc::clone(&log))
            .stores(Arc::new(MemoryStores::new()))
            .workers(2)
            .commit_interval(ms(20))
            .drain_timeout(ms(200))
            .on_failure(OnFailure::Restart { backoff: ms(10), attempts: 3 });
        let handle = processor.handle();
        let run = tokio::spawn(processor.run());
        handle.running().await?;
        // On the thread where the lookups would be, too, if they had none of their own.
        write(&log, "in", 0, "hang").await;
        hanging_now.recv().await.expect("it hangs");
        embedded.faults().fail_offset_commit(LogError::Fatal { what: "commit".into(), reason: "on purpose".into() });
        write(&log, "in", 1, "other").await;
        handle.caught_up().await?;
        handle.stop();
        run.await??;
        drop(release);
        let reader = log.reader(Isolation::ReadCommitted)?;
        let mut seen = BTreeSet::new();
        for partition in 0..2 {
            let mut fetch = reader.read(TopicPartition::new("out", partition), 0).await?;
            let mut batch = RecordBatch::new();
            let limits = FetchLimits::default();
            while std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits)).await? == Fetched::Records {
                seen.extend(batch.iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
            }
        }
        assert_eq!(seen, BTreeSet::from(["hang Ann".to_owned(), "other Ann".to_owned()]));
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(120), work).await?
}
