//! The count as one loop over a consumer and a producer, without a library: the limit to come near.
//!
//! It does what any such program must: read, count in a map, write each new count to a changelog, and at each commit wait
//! for the changelog and commit the offsets. Its state is in memory only.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::{Delivery, Job, Progress, Topology, say, setting};
use crate::Outcome;

pub(super) fn run(job: &Job) -> Outcome<()> {
    if job.topology != Topology::Count || job.delivery != Delivery::AtLeastOnce {
        return Err("the bare loop only counts, at least once".into());
    }
    let [input] = job.inputs.as_slice() else { return Err("the bare loop has one input".into()) };
    let changelog = format!("{}-table", job.group);
    let client = || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &job.brokers);
        config
    };
    let admin: AdminClient<DefaultClientContext> = client().create()?;
    let topic = NewTopic::new(&changelog, job.partitions, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new()))?;
    let consumer: BaseConsumer = client()
        .set("group.id", &job.group)
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for p in 0..job.partitions {
        assignment.add_partition_offset(input, p, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let producer: ThreadedProducer<DefaultProducerContext> = client()
        .set("enable.idempotence", "true")
        .set("linger.ms", job.linger_ms.to_string())
        .set("queue.buffering.max.messages", "1000000")
        .set("partitioner", "murmur2_random")
        .create()?;
    setting("store", "a HashMap");
    setting("allocator", if cfg!(feature = "mimalloc") { "mimalloc" } else { "the system's" });
    setting("commit interval", format_args!("{} ms", job.commit_ms));
    setting("linger.ms", job.linger_ms);
    let progress = Progress::new(job);
    let every = Duration::from_millis(job.commit_ms);
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut positions = vec![0; usize::try_from(job.partitions)?];
    let (mut seen, mut committed) = (0, Instant::now());
    let mut number = String::new();
    say("ready");
    while seen < job.records {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message?;
            progress.record();
            seen += 1;
            let key = message.key().unwrap_or_default();
            let n = if let Some(n) = counts.get_mut(key) {
                *n += 1;
                *n
            } else {
                counts.insert(key.to_vec(), 1);
                1
            };
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
        if committed.elapsed() >= every || seen == job.records {
            committed = Instant::now();
            producer.flush(Duration::from_secs(30))?;
            let mut offsets = TopicPartitionList::new();
            for (p, at) in positions.iter().enumerate() {
                offsets.add_partition_offset(input, i32::try_from(p)?, Offset::Offset(*at))?;
            }
            consumer.commit(&offsets, CommitMode::Sync)?;
        }
    }
    Ok(())
}
