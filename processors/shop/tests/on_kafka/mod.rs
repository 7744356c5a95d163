//! A shop of a test's own on a real Kafka: its names, its binaries as processes, what its topics have.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, RecordBatch, TopicPartition};

/// Against hanging only.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A shop under names of its own.
pub struct Shop {
    brokers: String,
    prefix: String,
    pub state: tempfile::TempDir,
}

impl Shop {
    pub fn new(test: &str) -> Self {
        let brokers = std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA=HOST:PORT says where the Kafka is");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        Self { brokers, prefix: format!("{test}-{now}"), state: tempfile::tempdir().unwrap() }
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub fn command(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(args)
            .args(["--commit-interval", "100ms", "--state-dir"])
            .arg(self.state.path())
            .env("KAFKA_BROKERS", &self.brokers)
            .env("PRODUCT_TOPIC", self.topic("products"))
            .env("PRODUCT_FILTERED_TOPIC", self.topic("filtered"))
            .env("PRODUCT_RULES_TOPIC", self.topic("rules"))
            .env("PRODUCT_FIND_TOPIC", self.topic("find"))
            .env("PRODUCT_RECOM_TOPIC", self.topic("recom"))
            .env("PRODUCT_RECOM_GROUP", self.topic("recommendations"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, binary: &str, args: &[&str]) -> String {
        let done = self.command(binary, args).output().unwrap();
        assert!(done.status.success(), "{binary} {args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    pub fn log(&self) -> LogHandle {
        Kafka::connect(KafkaOptions::new(self.brokers.as_str())).unwrap()
    }

    /// Every record of a topic, by partition and in order.
    pub async fn records(&self, name: &str) -> Vec<(String, Option<Vec<u8>>)> {
        self.timed_records(name).await.into_iter().map(|(_, key, value)| (key, value)).collect()
    }

    /// The same with their times.
    pub async fn timed_records(&self, name: &str) -> Vec<(i64, String, Option<Vec<u8>>)> {
        let (log, topic) = (self.log(), Arc::<str>::from(self.topic(name)));
        let Some(info) = log.topics(vec![Arc::clone(&topic)]).await.unwrap().remove(0) else { return Vec::new() };
        let reader = log.reader(Isolation::ReadCommitted).unwrap();
        let mut all = Vec::new();
        for partition in 0..info.partitions {
            let mut fetch = reader.read(TopicPartition::new(Arc::clone(&topic), partition), 0).await.unwrap();
            let mut batch = RecordBatch::new();
            loop {
                let got = std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await;
                if matches!(got.unwrap(), Fetched::End(_)) {
                    break;
                }
                let key = |key: Option<&[u8]>| String::from_utf8(key.unwrap().to_vec()).unwrap();
                all.extend(batch.iter().map(|r| (r.timestamp, key(r.key), r.value.map(<[u8]>::to_vec))));
            }
        }
        all
    }
}

/// Asks it to end, and waits for that.
pub fn end(mut child: Child) {
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(asked.success());
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{ended}");
}
