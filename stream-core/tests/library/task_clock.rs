//! D15, time-bound: commits and effects do not wait for the end of a backlog; a stop, a revocation, a visit or a read waits for
//! the callback at hand only, and so do the other partitions of a worker; reads keep nothing waiting.
//!
//! In real time and on threads: what is looked at is what comes before what, never how long it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph, Input, Visitor};
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    FetchLimits, Fetched, Isolation, LogHandle, NewRecord, ProduceBatch, ProducerOptions, RecordBatch, TopicPartition,
    TopicSpec,
};
use stream_core::processor::{Guarantee, Handle, Processor, ProcessorResult, ReadError};
use stream_core::store::MemoryStores;
use stream_core::topics::TopicOptions;
use tokio::task::JoinHandle;

use crate::support::{Done, ms};

/// Records of a backlog: a few seconds of work, all of which one fetch may bring.
const RECORDS: u64 = 1_500;
const EACH: Duration = Duration::from_millis(2);

/// What the callbacks count, and whether they still take their time.
#[derive(Clone, Default)]
struct Work {
    begun: Arc<AtomicU64>,
    other: Arc<AtomicU64>,
    hurries: Arc<AtomicBool>,
}

impl Work {
    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// A callback of the backlog that never awaits.
    fn go(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if !self.hurries.load(Ordering::SeqCst) {
            std::thread::sleep(EACH);
        }
    }

    async fn has_begun(&self, n: u64) {
        while self.begun() < n {
            tokio::time::sleep(ms(1)).await;
        }
    }
}

/// Counts by key, and copies only the first record of its backlog.
fn counter(work: &Work, awaits: bool) -> (Arc<GroupGraph>, Visitor<()>) {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("out", Text);
    let looked = g.visitor("look", |_, (): &(), _| Ok(()));
    let of = work.clone();
    if awaits {
        g.input_async(Input::topic("in").concurrency(8), Text, async move |ctx, text: String| {
            of.go();
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)?;
            if text == "0" { ctx.emit(out, ctx.key(), &text) } else { Ok(()) }
        });
    } else {
        g.input("in", Text, move |ctx, text: String| {
            if text == "other" {
                of.other.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            of.go();
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)?;
            if text == "0" { ctx.emit(out, ctx.key(), &text) } else { Ok(()) }
        });
    }
    (g.build().unwrap(), looked)
}

struct Running {
    handle: Handle,
    run: JoinHandle<ProcessorResult<()>>,
}

fn start(graph: &Arc<GroupGraph>, log: &LogHandle, guarantee: Guarantee) -> Running {
    let mut topics = TopicOptions::default();
    topics.partitions = Some(2);
    let processor = Processor::new(Arc::clone(graph), Arc::clone(log))
        .guarantee(guarantee)
        .stores(Arc::new(MemoryStores::new()))
        .topics(topics)
        .workers(1)
        .commit_interval(ms(20));
    Running { handle: processor.handle(), run: tokio::spawn(processor.run()) }
}

async fn write(log: &LogHandle, partition: i32, values: impl Iterator<Item = String>) {
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    let (topic, key) = (Arc::from("in"), Some(&b"k"[..]));
    let mut batch = ProduceBatch::new();
    for value in values {
        let (value, partition) = (Some(value.as_bytes()), Some(partition));
        batch.push(NewRecord { topic: &topic, partition, timestamp: None, key, value }, std::iter::empty());
    }
    assert!(producer.send(Arc::new(batch)).await.failed.is_empty());
}

/// A group with a backlog in partition 0, under way.
async fn backlog(guarantee: Guarantee, awaits: bool) -> (LogHandle, Work, Visitor<()>, Running) {
    let (log, work): (LogHandle, _) = (InMemory::new(), Work::default());
    let (graph, visitor) = counter(&work, awaits);
    log.create_topics(vec![TopicSpec::new("in").partitions(2)]).await.unwrap();
    write(&log, 0, (0..RECORDS).map(|n| n.to_string())).await;
    let running = start(&graph, &log, guarantee);
    (log, work, visitor, running)
}

async fn committed(log: &LogHandle) -> i64 {
    let of = vec![TopicPartition::new("in", 0)];
    log.group_offsets("count".into(), of).await.unwrap()[0].unwrap_or_default()
}

async fn copied(log: &LogHandle) -> bool {
    let reader = log.reader(Isolation::ReadCommitted).unwrap();
    let mut found = false;
    for partition in 0..2 {
        let mut fetch = reader.read(TopicPartition::new("out", partition), 0).await.unwrap();
        let (mut batch, limits) = (RecordBatch::new(), FetchLimits::default());
        found |= std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits)).await.unwrap() == Fetched::Records;
    }
    found
}

async fn ends(work: &Work, running: Running) -> Done {
    work.hurries.store(true, Ordering::SeqCst);
    running.handle.stop();
    Ok(running.run.await??)
}

/// Runs a test with both guarantees; against hanging only, it has a bound.
async fn with_both(test: impl AsyncFn(Guarantee) -> Done) -> Done {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        tokio::time::timeout(Duration::from_secs(120), test(guarantee)).await.map_err(|_| "the test hangs")??;
    }
    Ok(())
}

async fn commits_and_effects(awaits: bool) -> Done {
    with_both(async |guarantee| {
        let (log, work, _, running) = backlog(guarantee, awaits).await;
        running.handle.running().await?;
        while !(copied(&log).await && committed(&log).await > 0) {
            tokio::time::sleep(ms(1)).await;
        }
        let begun = work.begun();
        ends(&work, running).await?;
        assert!(begun < RECORDS, "{guarantee:?}: seen only once the backlog was done");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d15_commits_and_effects_do_not_wait_for_the_end_of_a_backlog() -> Done {
    commits_and_effects(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d15_nor_do_they_where_callbacks_that_await_do_not_give_way() -> Done {
    commits_and_effects(true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d15_a_stop_waits_for_the_callback_at_hand_only() -> Done {
    with_both(async |guarantee| {
        let (log, work, _, running) = backlog(guarantee, false).await;
        work.has_begun(20).await;
        running.handle.stop();
        running.run.await??;
        let begun = work.begun();
        assert!(begun < RECORDS, "{guarantee:?}: all that was fetched was done first");
        assert_eq!(committed(&log).await, i64::try_from(begun)?, "{guarantee:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d15_a_revocation_waits_for_the_callback_at_hand_only() -> Done {
    with_both(async |guarantee| {
        let (log, work, _, first) = backlog(guarantee, false).await;
        // So that both partitions have something that their next owner may begin with.
        write(&log, 1, (0..RECORDS).map(|n| n.to_string())).await;
        work.has_begun(20).await;
        let (graph, _) = counter(&work, false);
        let second = start(&graph, &log, guarantee);
        second.handle.wait_for(|s| !s.tasks.is_empty()).await.ok_or("it ended")?;
        let begun = work.begun();
        ends(&work, first).await?;
        ends(&work, second).await?;
        assert!(begun < RECORDS, "{guarantee:?}: all that was fetched was done first");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d15_a_visit_or_a_read_waits_for_the_callback_at_hand_only() -> Done {
    with_both(async |guarantee| {
        let (_, work, visitor, running) = backlog(guarantee, false).await;
        running.handle.running().await?;
        work.has_begun(20).await;
        running.handle.visit(visitor, ()).await?;
        let visited = work.begun();
        _ = running.handle.range_bytes(stream_core::processor::TableRange::all()).await?;
        let read = work.begun();
        ends(&work, running).await?;
        assert!(visited < RECORDS && read < RECORDS, "{guarantee:?}: {visited}, {read}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d15_the_other_partitions_of_a_worker_have_their_turn() -> Done {
    with_both(async |guarantee| {
        let (log, work, _, running) = backlog(guarantee, false).await;
        work.has_begun(20).await;
        write(&log, 1, std::iter::once("other".to_owned())).await;
        while work.other.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(ms(1)).await;
        }
        let begun = work.begun();
        ends(&work, running).await?;
        assert!(begun < RECORDS, "{guarantee:?}: the other partition came behind the backlog");
        Ok(())
    })
    .await
}

/// Reads that are answered at once, because another instance has the partition, come without end.
#[tokio::test]
async fn d15_reads_without_end_keep_neither_commits_nor_revocations_waiting() -> Done {
    with_both(async |guarantee| {
        let (log, work, _, first) = backlog(guarantee, false).await;
        work.hurries.store(true, Ordering::SeqCst);
        let (graph, _) = counter(&work, false);
        let second = start(&graph, &log, guarantee);
        for of in [&first, &second] {
            of.handle.wait_for(|s| s.tasks.len() == 1).await.ok_or("it ended")?;
            of.handle.running().await?;
        }
        let has_zero = |r: &Running| r.handle.status().tasks.keys().any(|p| p.partition == 0);
        let (owner, other) = if has_zero(&first) { (first, second) } else { (second, first) };
        let keys = async {
            // Keys of the other partition.
            let mut keys = Vec::new();
            for n in 0..64 {
                let key = format!("k{n}");
                if matches!(owner.handle.get_bytes(key.as_bytes()).await, Err(ReadError::NotHere { .. })) {
                    keys.push(key);
                }
            }
            keys
        };
        let keys = Arc::new(keys.await);
        let over = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = (0..1_000)
            .map(|n| {
                let (handle, keys, over) = (owner.handle.clone(), Arc::clone(&keys), Arc::clone(&over));
                tokio::spawn(async move {
                    while !over.load(Ordering::Relaxed) {
                        _ = handle.get_bytes(keys[n % keys.len()].as_bytes()).await;
                    }
                })
            })
            .collect();
        let before = committed(&log).await;
        write(&log, 0, (0..10).map(|n| format!("more {n}"))).await;
        let goes_on = async {
            while committed(&log).await < before + 10 {
                tokio::time::sleep(ms(1)).await;
            }
            // The owner gets the other's partition, too, which it learns of its membership only.
            other.handle.stop();
            other.run.await??;
            owner.handle.wait_for(|s| s.tasks.len() == 2).await.ok_or("it ended")?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let went_on = tokio::time::timeout(Duration::from_secs(30), goes_on).await;
        over.store(true, Ordering::Relaxed);
        for task in asking {
            task.await?;
        }
        ends(&work, owner).await?;
        went_on.map_err(|_| format!("{guarantee:?}: reads keep all else waiting"))?
    })
    .await
}
