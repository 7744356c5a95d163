//! The count as a stream-core group.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stream_core::codec::Int64;
use stream_core::group::{Group, table_topic};
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, OffsetSpec, RecordBatch, TopicPartition};
use stream_core::processor::Processor;
use stream_core::store::MemoryStores;

use crate::{Args, Counts, Measured, Outcome, StoreKind};

struct Raw;

impl stream_core::codec::Codec<()> for Raw {
    fn encode(&self, (): &(), _: &mut Vec<u8>) -> Result<(), stream_core::codec::CodecError> {
        Ok(())
    }
    fn decode(&self, _: &[u8]) -> Result<(), stream_core::codec::CodecError> {
        Ok(())
    }
}

pub(crate) fn run(args: &Args, store: StoreKind, exactly_once: bool) -> Outcome<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(count(args, store, exactly_once))
}

async fn count(args: &Args, store: StoreKind, exactly_once: bool) -> Outcome<Measured> {
    let log: LogHandle = Kafka::connect(KafkaOptions::new(&args.brokers))?;
    let name = format!("bench-{}", std::process::id());
    let began: Arc<Mutex<Option<Instant>>> = Arc::default();
    let first = Arc::clone(&began);
    let started = AtomicBool::new(false);
    let seen = Arc::new(AtomicU64::new(0));
    let mut g = Group::define(name.as_str()).table(Int64);
    g.input(args.topic.as_str(), Raw, move |ctx, ()| {
        if !started.load(Ordering::Relaxed) {
            started.store(true, Ordering::Relaxed);
            first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let dir = tempfile::tempdir()?;
    let mut processor = Processor::new(g.build()?, Arc::clone(&log)).state_dir(dir.path());
    if exactly_once {
        processor = processor.guarantee(stream_core::processor::Guarantee::ExactlyOnce);
    }
    if store == StoreKind::Memory {
        processor = processor.stores(Arc::new(MemoryStores::new()));
    }
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    let partitions: Vec<_> = (0..args.partitions).map(|p| TopicPartition::new(args.topic.as_str(), p)).collect();
    let ends = partitions.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
    let ends = log.offsets(ends, Isolation::ReadCommitted).await?;
    let took = loop {
        let done = log.group_offsets(name.as_str().into(), partitions.clone()).await?;
        if done.iter().zip(&ends).all(|(done, end)| done.is_some_and(|done| done >= *end)) {
            let began = began.lock().unwrap_or_else(PoisonError::into_inner).ok_or("no record was seen")?;
            break began.elapsed();
        }
        if running.is_finished() {
            return Err(format!("the processor ended early: {:?}", running.await?).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    handle.stop();
    running.await??;
    drop(seen);
    let counts = read_table(&log, &name, args.partitions).await?;
    Ok(Measured { took, counts })
}

/// The table as any other client sees it.
async fn read_table(log: &LogHandle, group: &str, partitions: i32) -> Outcome<Counts> {
    let reader = log.reader(Isolation::ReadCommitted)?;
    let mut last: std::collections::HashMap<Vec<u8>, u64> = std::collections::HashMap::new();
    for p in 0..partitions {
        let mut fetch = reader.read(TopicPartition::new(table_topic(group), p), 0).await?;
        let mut batch = RecordBatch::new();
        while std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await?
            == Fetched::Records
        {
            for r in batch.iter() {
                let n = std::str::from_utf8(r.value.unwrap_or_default())?.parse()?;
                last.insert(r.key.unwrap_or_default().to_vec(), n);
            }
        }
    }
    Ok(Counts::of(last.into_values()))
}
