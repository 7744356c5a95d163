//! A group that is started again and again, what it gets and what it emits: for the cases of `kafka_windows`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stream_core::group::GroupGraph;
use stream_core::log::{LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;

use crate::kafka_support::{Rec, Running, done, read, topic_with, unique, until};

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A group's topics. Each start begins without a local store, so that everything comes back from Kafka.
pub struct World {
    pub log: LogHandle,
    pub guarantee: Guarantee,
    pub group: String,
    pub input: Arc<str>,
    pub out: Arc<str>,
}

/// Times are near 0: by the broker's clock they are long over.
pub async fn kept_topic(log: &LogHandle, what: &str) -> Arc<str> {
    topic_with(log, what, 1, TopicConfig::new().retention_ms(-1)).await
}

impl World {
    pub async fn new(log: &LogHandle, guarantee: Guarantee, what: &str) -> Self {
        let (input, out) = (kept_topic(log, "in").await, kept_topic(log, "out").await);
        Self { log: Arc::clone(log), guarantee, group: unique(what), input, out }
    }

    pub async fn start(&self, graph: Arc<GroupGraph>) -> Running {
        let processor = Processor::new(graph, Arc::clone(&self.log)).stores(Arc::new(MemoryStores::new())).workers(1);
        let processor = processor.guarantee(self.guarantee).commit_interval(ms(100)).session_timeout(ms(6000));
        Running::up(processor).await
    }

    /// Writes records (key, value, time) to an input, without waiting for the group.
    pub async fn write(&self, to: &Arc<str>, records: &[(&str, Option<&[u8]>, i64)]) {
        let mut batch = ProduceBatch::new();
        for (key, value, at) in records {
            let (partition, timestamp, key) = (Some(0), Some(*at), Some(key.as_bytes()));
            let record = NewRecord { topic: to, partition, timestamp, key, value: *value };
            batch.push(record, std::iter::empty());
        }
        let writer = self.log.producer(ProducerOptions::default()).await.unwrap();
        assert!(writer.send(Arc::new(batch)).await.failed.is_empty());
    }

    /// Writes texts, and waits until the group is done with them.
    pub async fn say(&self, records: &[(&str, &str, i64)]) {
        let records: Vec<_> = records.iter().map(|(k, v, at)| (*k, Some(v.as_bytes()), *at)).collect();
        self.write(&self.input, &records).await;
        self.done().await;
    }

    pub async fn done(&self) {
        done(&self.log, &self.group, &[(&self.input, 1)]).await;
    }

    pub async fn records(&self) -> Vec<Rec> {
        read(&self.log, &self.out, 1).await
    }

    /// Everything that was emitted, and when.
    pub async fn emitted(&self) -> Vec<(i64, String)> {
        self.records().await.into_iter().map(|r| (r.timestamp, r.value.unwrap_or_default())).collect()
    }

    pub async fn words(&self) -> Vec<String> {
        self.emitted().await.into_iter().map(|(_, text)| text).collect()
    }

    pub async fn until_emitted(&self, words: &[&str]) {
        until(&format!("{words:?} is emitted"), async || self.words().await == words).await;
    }

    /// Waits until a table of the group has so many values.
    pub async fn until_live(&self, topic: &str, wanted: usize) {
        let live = async || {
            let mut live = BTreeSet::new();
            for record in read(&self.log, topic, 1).await {
                let key = record.key.unwrap();
                if record.value.is_some() {
                    live.insert(key)
                } else {
                    live.remove(&key)
                };
            }
            live.len() == wanted
        };
        until(&format!("{topic} has {wanted} values"), live).await;
    }
}
