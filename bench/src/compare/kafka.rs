//! The Kafka of the comparison: one node, started by `docker/kafka.sh`, ended and deleted with the run.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, NoCustomPartitioner, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList};

use crate::Outcome;

/// The brokers' own settings, beside those of `docker/kafka.sh`. Nothing is compacted or deleted while engines run: it would
/// take processor time at moments that nobody chooses, and the bytes that were produced could not be counted.
const BROKER: &str =
    "log.cleaner.min.compaction.lag.ms=86400000\nlog.retention.ms=-1\nlog.retention.check.interval.ms=86400000";
const TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const NO_DELIVERY_ERROR: u64 = 0;

/// A running Kafka.
#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    script: PathBuf,
    state: PathBuf,
    port: u16,
    /// `host:port`.
    pub(crate) brokers: String,
}

/// Counts what could not be delivered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<AtomicU64>);

impl Watched {
    pub(crate) fn failed(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ClientContext for Watched {}

impl ProducerContext<NoCustomPartitioner> for Watched {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Kafka {
    /// Starts one with its data in `state`; what an earlier run left there is deleted.
    pub(crate) fn start(root: &Path, state: &Path) -> Outcome<Self> {
        let port = match std::env::var("KAFKA_PORT") {
            Ok(port) => port.parse()?,
            Err(_) => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        let script = root.join("docker/kafka.sh");
        let kafka = Self { script, state: state.to_owned(), port, brokers: format!("127.0.0.1:{port}") };
        kafka.call("down")?;
        if let Err(error) = kafka.call("up") {
            kafka.stop();
            return Err(error);
        }
        Ok(kafka)
    }

    fn call(&self, what: &str) -> Outcome<()> {
        let heap = std::env::var("KAFKA_HEAP").unwrap_or_else(|_| "-Xms1g -Xmx1g".into());
        let status = Command::new(&self.script)
            .arg(what)
            .env("STREAM_STATE", &self.state)
            .env("KAFKA_PORT", self.port.to_string())
            .env("KAFKA_EXTRA", BROKER)
            .env("KAFKA_HEAP", heap)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("docker/kafka.sh {what} failed ({status})").into()) }
    }

    /// Ends it and deletes its data.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.call("down") {
            eprintln!("Kafka could not be ended: {error}");
        }
    }

    /// The process id of the broker.
    pub(crate) fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.state.join("kafka/kafka.pid")).ok()?.trim().parse().ok()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    pub(crate) fn producer(&self, linger_ms: u64) -> Outcome<ThreadedProducer<Watched>> {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", linger_ms.to_string())
            .set("queue.buffering.max.messages", "500000")
            // As Kafka's own clients choose.
            .set("partitioner", "murmur2_random");
        Ok(config.create_with_context(Watched::default())?)
    }

    fn admin<T>(
        &self,
        call: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> Outcome<T>,
    ) -> Outcome<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let admin = self.client().create()?;
        runtime.block_on(call(&admin, &AdminOptions::new().operation_timeout(Some(TIMEOUT))))
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32) -> Outcome<()> {
        self.admin(async |admin, options| {
            let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
            for result in admin.create_topics(&[topic], options).await? {
                result.map_err(|(topic, error)| format!("topic {topic} could not be made: {error}"))?;
            }
            Ok(())
        })
    }

    /// Deletes the topics whose names begin so.
    pub(crate) fn delete_topics(&self, prefix: &str) -> Outcome<()> {
        let all = self.topics(prefix)?;
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.admin(async |admin, options| {
            for result in admin.delete_topics(&names, options).await? {
                result.map_err(|(topic, error)| format!("topic {topic} could not be deleted: {error}"))?;
            }
            Ok(())
        })
    }

    /// The topics whose names begin so, with how many partitions each has.
    pub(crate) fn topics(&self, prefix: &str) -> Outcome<Vec<(String, i32)>> {
        let consumer: BaseConsumer = self.client().create()?;
        let all = consumer.fetch_metadata(None, TIMEOUT)?;
        let ours = all.topics().iter().filter(|t| t.name().starts_with(prefix));
        ours.map(|t| Ok((t.name().to_owned(), i32::try_from(t.partitions().len())?))).collect()
    }

    /// The end of each partition of a topic.
    pub(crate) fn ends(&self, topic: &str, partitions: i32) -> Outcome<Vec<i64>> {
        let consumer: BaseConsumer = self.client().create()?;
        (0..partitions).map(|p| Ok(consumer.fetch_watermarks(topic, p, TIMEOUT)?.1)).collect()
    }

    /// Checks that a group has committed everything up to these ends.
    pub(crate) fn check_committed(&self, group: &str, topic: &str, ends: &[i64]) -> Outcome<()> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create()?;
        let mut asked = TopicPartitionList::new();
        for p in 0..ends.len() {
            asked.add_partition(topic, i32::try_from(p)?);
        }
        let committed = consumer.committed_offsets(asked, TIMEOUT)?;
        for (element, end) in committed.elements().iter().zip(ends) {
            let done = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            if done < *end {
                let p = element.partition();
                return Err(format!("{group} has committed {done} of {topic}/{p}, which ends at {end}").into());
            }
        }
        Ok(())
    }

    /// What the topics whose names begin so take on the brokers' disk, in bytes, and how many records they have, those that
    /// end transactions included.
    pub(crate) fn produced(&self, prefix: &str) -> Outcome<(u64, u64)> {
        let (mut bytes, mut records) = (0, 0);
        for (topic, partitions) in self.topics(prefix)? {
            let consumer: BaseConsumer = self.client().create()?;
            for p in 0..partitions {
                let (low, high) = consumer.fetch_watermarks(&topic, p, TIMEOUT)?;
                records += u64::try_from(high - low).unwrap_or_default();
                for file in std::fs::read_dir(self.state.join(format!("kafka/data/{topic}-{p}")))? {
                    let file = file?;
                    if file.path().extension().is_some_and(|e| e == "log") {
                        bytes += file.metadata()?.len();
                    }
                }
            }
        }
        Ok((bytes, records))
    }

    /// Reads a topic from its beginning to its end: all that is committed, each record's key and value.
    pub(crate) fn read(
        &self,
        topic: &str,
        partitions: i32,
        mut each: impl FnMut(&[u8], Option<&[u8]>) -> Outcome<()>,
    ) -> Outcome<()> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "bench-check")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "5")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for p in 0..partitions {
            assignment.add_partition_offset(topic, p, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut at_end = HashSet::new();
        while at_end.len() < usize::try_from(partitions)? {
            match consumer.poll(TIMEOUT) {
                None => return Err(format!("{topic} could not be read within {TIMEOUT:?}").into()),
                Some(Ok(message)) => each(message.key().unwrap_or_default(), message.payload())?,
                Some(Err(KafkaError::PartitionEOF(p))) => {
                    at_end.insert(p);
                }
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A consumer that follows a topic from its beginning.
    pub(crate) fn follow(&self, topic: &str, partitions: i32) -> Outcome<BaseConsumer> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "bench-follow")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "1")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for p in 0..partitions {
            assignment.add_partition_offset(topic, p, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        Ok(consumer)
    }
}
