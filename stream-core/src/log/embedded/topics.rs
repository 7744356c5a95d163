//! The topics: their configuration and their partitions. Must never know about groups or producers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compact::Active;
use super::partition::{Partition, SEGMENT_BYTES};
use crate::log::{
    Cleanup, Headers, LogError, LogResult, NewRecord, TimestampType, TopicConfig, TopicInfo, TopicPartition, TopicSpec,
};

/// Kafka's default of `max.message.bytes`.
const MAX_MESSAGE_BYTES: i64 = 1_048_588;
/// Kafka's default of `message.timestamp.after.max.ms`.
const AFTER_MAX_MS: i64 = 3_600_000;
/// What a record batch with one record costs beside the record's key, value and headers.
const BATCH_OVERHEAD: usize = 70;

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) partitions: Vec<Partition>,
    pub(super) config: TopicConfig,
    compacted: bool,
    segment_bytes: usize,
}

impl Topic {
    fn new(spec: TopicSpec) -> LogResult<Self> {
        let count = spec.partitions.unwrap_or(1);
        if count < 1 || spec.name.is_empty() {
            let reason = format!("{count} partitions");
            return Err(LogError::Config { what: format!("create topic {:?}", spec.name), reason });
        }
        let config = TopicConfig {
            cleanup: spec.config.cleanup.or(Some(Cleanup::Delete)),
            retention_ms: spec.config.retention_ms.or(Some(7 * 24 * 3_600_000)),
            delete_retention_ms: spec.config.delete_retention_ms.or(Some(24 * 3_600_000)),
            max_message_bytes: spec.config.max_message_bytes.or(Some(MAX_MESSAGE_BYTES)),
            retention_bytes: spec.config.retention_bytes.or(Some(-1)),
            timestamp_type: spec.config.timestamp_type.or(Some(TimestampType::CreateTime)),
            timestamp_before_max_ms: spec.config.timestamp_before_max_ms.or(Some(i64::MAX)),
            timestamp_after_max_ms: spec.config.timestamp_after_max_ms.or(Some(AFTER_MAX_MS)),
            compression_type: spec.config.compression_type.clone().or_else(|| Some("producer".to_owned())),
            min_insync_replicas: spec.config.min_insync_replicas.or(Some(1)),
            other: Vec::new(),
        };
        let other = |name: &str| spec.config.other.iter().rev().find(|(n, _)| n == name);
        let segment_bytes = other("segment.bytes").and_then(|(_, v)| v.parse().ok()).unwrap_or(SEGMENT_BYTES);
        let compacted = config.cleanup != Some(Cleanup::Delete);
        let partitions = (0..count).map(|_| Partition::default()).collect();
        Ok(Self { name: spec.name, partitions, config, compacted, segment_bytes })
    }

    /// How many partitions.
    pub(super) fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub(super) fn info(&self) -> TopicInfo {
        TopicInfo::new(Arc::clone(&self.name), self.count(), 1, self.config.clone())
    }

    pub(super) fn partition(&mut self, partition: i32) -> Option<&mut Partition> {
        usize::try_from(partition).ok().and_then(|p| self.partitions.get_mut(p))
    }

    /// Whether a record may be written here.
    pub(super) fn check(&self, record: &NewRecord<'_>, headers: Headers<'_>) -> LogResult<()> {
        let payload = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let headers: usize = headers.iter().map(|(n, v)| n.len() + v.map_or(0, <[u8]>::len) + 2).sum();
        let size = payload + headers + BATCH_OVERHEAD;
        let own = usize::try_from(self.config.max_message_bytes.unwrap_or(MAX_MESSAGE_BYTES)).unwrap_or(0);
        if size > own {
            let limit = format!("the topic's max.message.bytes = {own}");
            return Err(LogError::TooLarge { topic: self.name.to_string(), size, limit });
        }
        if self.compacted && record.key.is_none() {
            let reason = "a compacted topic takes no record without a key".to_owned();
            return Err(LogError::Refused { topic: self.name.to_string(), reason });
        }
        Ok(())
    }

    /// Appends a checked record and gives its offset.
    pub(super) fn append(
        &mut self,
        partition: i32,
        record: &NewRecord<'_>,
        headers: Headers<'_>,
        now: i64,
        txn: u64,
    ) -> LogResult<i64> {
        let (bytes, compacted, config) = (self.segment_bytes, self.compacted, self.config.delete_retention_ms);
        let unknown =
            || LogError::UnknownPartition { partition: TopicPartition::new(Arc::clone(record.topic), partition) };
        let place = self.partition(partition).ok_or_else(unknown)?;
        let (offset, rolled) = place.append(record, headers, record.timestamp.unwrap_or(now), txn, bytes);
        if rolled && compacted && place.is_dirty() {
            place.compact(Active::Segment, now, config.unwrap_or_default());
        }
        Ok(offset)
    }

    /// Compacts it now, if it is a compacted one.
    pub(super) fn compact(&mut self, now: i64) {
        if self.compacted {
            for partition in &mut self.partitions {
                partition.compact(Active::Record, now, self.config.delete_retention_ms.unwrap_or_default());
            }
        }
    }

    /// Whether records may be deleted by offset: Kafka refuses it for topics that are only compacted.
    pub(super) fn can_delete(&self) -> bool {
        self.config.cleanup != Some(Cleanup::Compact)
    }
}

/// All topics. A deleted topic's number is never used again.
#[derive(Debug, Default)]
pub(super) struct Topics {
    slots: Vec<Option<Topic>>,
    names: BTreeMap<Arc<str>, usize>,
}

impl Topics {
    pub(super) fn create(&mut self, spec: TopicSpec) -> LogResult<()> {
        if self.names.contains_key(&spec.name) {
            return Err(LogError::TopicExists { topic: spec.name.to_string() });
        }
        let topic = Topic::new(spec)?;
        self.names.insert(Arc::clone(&topic.name), self.slots.len());
        self.slots.push(Some(topic));
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &Arc<str>) -> LogResult<Topic> {
        let number = self.names.remove(name);
        let topic = number.and_then(|n| self.slots.get_mut(n)).and_then(Option::take);
        topic.ok_or_else(|| LogError::UnknownTopic { topic: name.to_string() })
    }

    pub(super) fn grow(&mut self, name: &Arc<str>, total: i32) -> LogResult<()> {
        let topic = self.named(name)?;
        let count = topic.count();
        if total <= count {
            let what = format!("grow topic {name} to {total} partitions");
            return Err(LogError::Config { what, reason: format!("it has {count} already, and never shrinks") });
        }
        topic.partitions.resize_with(usize::try_from(total).unwrap_or_default(), Partition::default);
        Ok(())
    }

    /// The number of a topic.
    pub(super) fn number(&self, name: &Arc<str>) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The topic of a number, if it was not deleted.
    pub(super) fn at(&mut self, number: usize) -> Option<&mut Topic> {
        self.slots.get_mut(number).and_then(Option::as_mut)
    }

    pub(super) fn get(&self, name: &Arc<str>) -> Option<&Topic> {
        self.number(name).and_then(|n| self.slots.get(n)).and_then(Option::as_ref)
    }

    pub(super) fn named(&mut self, name: &Arc<str>) -> LogResult<&mut Topic> {
        let number = self.number(name);
        number.and_then(|n| self.at(n)).ok_or_else(|| LogError::UnknownTopic { topic: name.to_string() })
    }

    pub(super) fn partition(&mut self, of: &TopicPartition) -> LogResult<&mut Partition> {
        let found = self.named(&of.topic)?.partition(of.partition);
        found.ok_or_else(|| LogError::UnknownPartition { partition: of.clone() })
    }

    /// How many partitions a topic has; none if there is no such topic.
    pub(super) fn count(&self, name: &Arc<str>) -> i32 {
        self.get(name).map_or(0, Topic::count)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.slots.iter_mut().flatten()
    }
}
