//! The conformance suite on a real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod log_suite;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{LogHandle, Offsets};

use crate::log_suite::{PendingOffsets, World, log_suite, unique};

fn brokers() -> String {
    std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA must name the brokers (host:port) of a real Kafka")
}

struct KafkaWorld(Arc<Kafka>);

impl KafkaWorld {
    fn new() -> Self {
        log_lines();
        let options = KafkaOptions::new(brokers()).request_timeout(Duration::from_secs(15));
        Self(Kafka::connect(options).unwrap())
    }
}

/// With `RUST_LOG` set, a failing test shows what the adapter logged.
fn log_lines() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

impl World for KafkaWorld {
    fn log(&self) -> LogHandle {
        Arc::clone(&self.0) as LogHandle
    }

    fn compact(&self, _topic: Arc<str>) -> BoxFuture<'static, bool> {
        // The broker's cleaner comes round by itself, every 15 s by default.
        Box::pin(std::future::ready(true))
    }

    fn pending_offsets(
        &self,
        group: Arc<str>,
        offsets: Offsets,
    ) -> BoxFuture<'static, Option<Box<dyn PendingOffsets>>> {
        let brokers = brokers();
        let pending = blocking(move || {
            let consumer: BaseConsumer =
                ClientConfig::new().set("bootstrap.servers", &brokers).set("group.id", &*group).create().unwrap();
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", &brokers)
                .set("transactional.id", &*unique("pending"))
                .create()
                .unwrap();
            let mut list = TopicPartitionList::new();
            for (tp, offset) in offsets {
                list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(offset)).unwrap();
            }
            let time = Duration::from_secs(30);
            producer.init_transactions(time).unwrap();
            producer.begin_transaction().unwrap();
            // Nobody is a member: Kafka takes offsets without a generation then.
            producer.send_offsets_to_transaction(&list, &consumer.group_metadata().unwrap(), time).unwrap();
            Undecided(producer)
        });
        Box::pin(async move { Some(Box::new(pending.await) as Box<dyn PendingOffsets>) })
    }
}

fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> BoxFuture<'static, T> {
    Box::pin(async move { tokio::task::spawn_blocking(run).await.unwrap() })
}

struct Undecided(BaseProducer);

impl PendingOffsets for Undecided {
    fn commit(self: Box<Self>) -> BoxFuture<'static, ()> {
        blocking(move || self.0.commit_transaction(Duration::from_secs(30)).unwrap())
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        blocking(move || self.0.abort_transaction(Duration::from_secs(30)).unwrap())
    }
}

log_suite! {
    [#[tokio::test] #[ignore = "needs a real Kafka: make test starts one where Java is"]]
    KafkaWorld::new()
}
