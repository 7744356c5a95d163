//! Processors on worker threads, in real time: several instances on one log, as in production.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{CallbackError, Group, GroupGraph, Visitor};
use stream_core::log::embedded::Embedded;
use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, NewRecord, ProduceBatch, ProducerOptions};
use stream_core::log::{RecordBatch, TopicPartition};
use stream_core::processor::{Handle, Processor, ProcessorResult};
use stream_core::store::MemoryStores;
use stream_core::topics::TopicOptions;
use support::{Done, ms};
use tokio::task::JoinHandle;

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
        let log: LogHandle = Embedded::new();
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
