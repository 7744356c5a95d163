//! The count as one loop over a consumer and a producer: the limit to come near.
//!
//! It does what any such program must: read, count, write each new count to a changelog, and once a second wait for
//! the changelog, flush the store, commit the offsets.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::{Args, Counts, Measured, Outcome, StoreKind};

pub(crate) fn run(args: &Args, store: StoreKind) -> Outcome<Measured> {
    let group = format!("bare-{}", std::process::id());
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("group.id", &group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for p in 0..args.partitions {
        assignment.add_partition_offset(&args.topic, p, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "1000000")
        .set("partitioner", "murmur2_random")
        .create()?;
    let changelog = format!("{group}-changelog");
    let dir = tempfile::tempdir()?;
    let tree = match store {
        StoreKind::Memory => None,
        StoreKind::Sled => {
            Some(sled::Config::new().path(dir.path()).cache_capacity(256 << 20).flush_every_ms(None).open()?)
        }
    };
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut dirty: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut positions = vec![0; usize::try_from(args.partitions)?];
    let (mut seen, mut began, mut flushed) = (0, None, Instant::now());
    let mut number = String::new();
    while seen < args.records {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message?;
            began.get_or_insert_with(Instant::now);
            seen += 1;
            let key = message.key().unwrap_or_default();
            let n = if let Some(n) = counts.get_mut(key) {
                *n += 1;
                *n
            } else {
                counts.insert(key.to_vec(), 1);
                1
            };
            if tree.is_some() {
                if let Some(old) = dirty.get_mut(key) {
                    *old = n;
                } else {
                    dirty.insert(key.to_vec(), n);
                }
            }
            number.clear();
            std::fmt::Write::write_fmt(&mut number, format_args!("{n}"))?;
            let mut record = BaseRecord::to(&changelog).key(key).payload(&number);
            while let Err((error, back)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                std::thread::sleep(Duration::from_millis(1));
                record = back;
            }
            if let Some(at) = positions.get_mut(usize::try_from(message.partition())?) {
                *at = message.offset() + 1;
            }
        }
        if flushed.elapsed() >= Duration::from_secs(1) || seen == args.records {
            flushed = Instant::now();
            producer.flush(Duration::from_secs(30))?;
            if let Some(tree) = &tree {
                for (key, n) in dirty.drain() {
                    tree.insert(key, n.to_string().as_bytes())?;
                }
                tree.flush()?;
            }
            let mut offsets = TopicPartitionList::new();
            for (p, at) in positions.iter().enumerate() {
                offsets.add_partition_offset(&args.topic, i32::try_from(p)?, Offset::Offset(*at))?;
            }
            consumer.commit(&offsets, CommitMode::Sync)?;
        }
    }
    let took = began.ok_or("no record was seen")?.elapsed();
    let cpu = crate::cpu_seconds()?;
    let counts = match &tree {
        None => Counts::of(counts.into_values()),
        Some(tree) => {
            let mut all = Vec::new();
            for pair in tree.iter() {
                all.push(std::str::from_utf8(&pair?.1)?.parse()?);
            }
            Counts::of(all.into_iter())
        }
    };
    Ok(Measured { took, cpu, counts })
}
