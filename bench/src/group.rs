//! The count as a stream-core group.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use stream_core::codec::Int64;
use stream_core::group::{Group, table_topic};
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, RecordBatch, TopicPartition};
use stream_core::processor::Processor;
use stream_core::store::MemoryStores;
use tokio::sync::Notify;

use crate::{Args, Counts, Measured, Outcome, StoreKind};

/// A value that is not looked at.
pub(crate) struct Raw;

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
    let (began, all_seen) = (Arc::new(OnceLock::new()), Arc::new(Notify::new()));
    let (first, last) = (Arc::clone(&began), Arc::clone(&all_seen));
    let (seen, records) = (AtomicU64::new(0), args.records / args.keys * args.keys);
    let mut g = Group::define(name.as_str()).table(Int64);
    g.input(args.topic.as_str(), Raw, move |ctx, ()| {
        let before = seen.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            first.get_or_init(Instant::now);
        }
        if before + 1 == records {
            last.notify_one();
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
    crate::run_until(processor, &all_seen).await?;
    let took = began.get().ok_or("no record was seen")?.elapsed();
    let cpu = crate::cpu_seconds()?;
    let counts = read_table(&log, &name, args.partitions).await?;
    Ok(Measured { took, cpu, counts })
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
