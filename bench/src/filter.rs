//! A filter as a stream-core group without state: every second record of a partition goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use stream_core::group::Group;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, RecordBatch, TopicPartition, TopicSpec};
use stream_core::processor::{Guarantee, Processor};
use tokio::sync::Notify;

use crate::group::Raw;
use crate::{Args, Outcome};

/// How a run is made.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Filter {
    /// In transactions.
    #[arg(long)]
    exactly_once: bool,
}

pub(crate) fn run(args: &Args, how: Filter) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(filter(args, how))
}

async fn filter(args: &Args, how: Filter) -> Outcome<()> {
    let log: LogHandle = Kafka::connect(KafkaOptions::new(&args.brokers))?;
    let name = format!("bench-filter-{}", std::process::id());
    let topic: Arc<str> = format!("{name}-out").into();
    log.create_topics(vec![TopicSpec::new(Arc::clone(&topic)).partitions(args.partitions)]).await?;
    let (all_seen, seen) = (Arc::new(Notify::new()), AtomicU64::new(0));
    let (last, records) = (Arc::clone(&all_seen), args.records / args.keys * args.keys);
    let mut g = Group::define(name.as_str());
    let out = g.output(Arc::clone(&topic), Raw);
    g.input(args.topic.as_str(), Raw, move |ctx, ()| {
        let before = seen.fetch_add(1, Ordering::Relaxed);
        if before + 1 == records {
            last.notify_one();
        }
        if before.is_multiple_of(2) { ctx.emit(out, ctx.key(), ()) } else { Ok(()) }
    });
    let mut processor = Processor::new(g.build()?, Arc::clone(&log));
    if how.exactly_once {
        processor = processor.guarantee(Guarantee::ExactlyOnce);
    }
    let began = Instant::now();
    crate::run_until(processor, &all_seen).await?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), crate::cpu_seconds()?);
    let passed = count(&log, &topic, args.partitions).await?;
    if passed != records.div_ceil(2) {
        return Err(format!("{passed} of {records} records have passed, every second should").into());
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = records as f64 / seconds;
    println!(
        "filter exactly_once={} records={records} seconds={seconds:.2} records_per_second={rate:.0} cpu={cpu:.2} passed=exact",
        how.exactly_once
    );
    Ok(())
}

async fn count(log: &LogHandle, topic: &Arc<str>, partitions: i32) -> Outcome<u64> {
    let (reader, mut n) = (log.reader(Isolation::ReadCommitted)?, 0);
    for p in 0..partitions {
        let mut fetch = reader.read(TopicPartition::new(Arc::clone(topic), p), 0).await?;
        let mut batch = RecordBatch::new();
        while std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await?
            == Fetched::Records
        {
            n += u64::try_from(batch.iter().count())?;
        }
    }
    Ok(n)
}
