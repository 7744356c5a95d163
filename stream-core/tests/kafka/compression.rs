//! Batches of every kind of compression: producers write them, readers read them.

use std::sync::Arc;
use std::time::Duration;

use stream_core::log::kafka::{Compression, Kafka, KafkaOptions};
use stream_core::log::{Log, LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig};

use crate::kafka_support::{bounded, brokers, kafka, log_lines, read, topic_with};

const KINDS: [(Compression, &str); 4] = [
    (Compression::Gzip, "gzip"),
    (Compression::Snappy, "snappy"),
    (Compression::Lz4, "lz4"),
    (Compression::Zstd, "zstd"),
];

/// Writes a value of 100,000 equal bytes; whether the topic took it.
async fn write_large(log: &LogHandle, topic: &Arc<str>) -> bool {
    let value = "x".repeat(100_000);
    let mut batch = ProduceBatch::new();
    let (key, value) = (Some(b"k".as_slice()), Some(value.as_bytes()));
    batch.push(NewRecord { topic, partition: Some(0), timestamp: None, key, value }, std::iter::empty());
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    producer.send(Arc::new(batch)).await.failed.is_empty()
}

async fn is_read(log: &LogHandle, topic: &str) {
    let records = read(log, topic, 1).await;
    assert_eq!(records.iter().map(|r| r.value.as_ref().map(String::len)).collect::<Vec<_>>(), [Some(100_000)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn producers_compress_with_all_four_and_readers_read_them() {
    bounded(120, async {
        log_lines();
        let plain = kafka();
        // Too small for the record unless it is compressed.
        let small = || TopicConfig::new().max_message_bytes(20_000);
        let topic = topic_with(&plain, "plain", 1, small()).await;
        assert!(!write_large(&plain, &topic).await, "nothing is compressed by default");
        for (compression, name) in KINDS {
            let options = KafkaOptions::new(brokers()).request_timeout(Duration::from_secs(15));
            let log: Arc<dyn Log> = Kafka::connect(options.compression(compression)).unwrap();
            let topic = topic_with(&log, name, 1, small()).await;
            assert!(write_large(&log, &topic).await, "{name}");
            is_read(&plain, &topic).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn batches_that_the_broker_compresses_are_read() {
    bounded(120, async {
        let log = kafka();
        for (_, name) in KINDS {
            let topic = topic_with(&log, name, 1, TopicConfig::new().other("compression.type", name)).await;
            assert!(write_large(&log, &topic).await, "{name}");
            is_read(&log, &topic).await;
        }
    })
    .await;
}
