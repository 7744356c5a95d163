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

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) partitions: Vec<Partition>,
    /// The topic's own settings.
    set: TopicConfig,
    /// The effective settings: its own, else the cluster's defaults.
    pub(super) config: TopicConfig,
    segment_bytes: usize,
}

/// The defaults of Kafka's brokers.
fn kafka_defaults() -> TopicConfig {
    TopicConfig {
        cleanup: Some(Cleanup::Delete),
        retention_ms: Some(7 * 24 * 3_600_000),
        delete_retention_ms: Some(24 * 3_600_000),
        max_message_bytes: Some(MAX_MESSAGE_BYTES),
        retention_bytes: Some(-1),
        timestamp_type: Some(TimestampType::CreateTime),
        timestamp_before_max_ms: Some(i64::MAX),
        timestamp_after_max_ms: Some(AFTER_MAX_MS),
        compression_type: Some("producer".to_owned()),
        min_insync_replicas: Some(1),
        other: Vec::new(),
    }
}

/// Settings, and for those that are not set, others.
fn over(set: &TopicConfig, else_: &TopicConfig) -> TopicConfig {
    TopicConfig {
        cleanup: set.cleanup.or(else_.cleanup),
        retention_ms: set.retention_ms.or(else_.retention_ms),
        delete_retention_ms: set.delete_retention_ms.or(else_.delete_retention_ms),
        max_message_bytes: set.max_message_bytes.or(else_.max_message_bytes),
        retention_bytes: set.retention_bytes.or(else_.retention_bytes),
        timestamp_type: set.timestamp_type.or(else_.timestamp_type),
        timestamp_before_max_ms: set.timestamp_before_max_ms.or(else_.timestamp_before_max_ms),
        timestamp_after_max_ms: set.timestamp_after_max_ms.or(else_.timestamp_after_max_ms),
        compression_type: set.compression_type.clone().or_else(|| else_.compression_type.clone()),
        min_insync_replicas: set.min_insync_replicas.or(else_.min_insync_replicas),
        other: Vec::new(),
    }
}

impl Topic {
    fn new(spec: TopicSpec, defaults: &TopicConfig) -> LogResult<Self> {
        let count = spec.partitions.unwrap_or(1);
        if count < 1 || spec.name.is_empty() {
            let reason = format!("{count} partitions");
            return Err(LogError::Config { what: format!("create topic {:?}", spec.name), reason });
        }
        let other = |name: &str| spec.config.other.iter().rev().find(|(n, _)| n == name);
        let segment_bytes = other("segment.bytes").and_then(|(_, v)| v.parse().ok()).unwrap_or(SEGMENT_BYTES);
        let config = over(&spec.config, defaults);
        let partitions = (0..count).map(|_| Partition::default()).collect();
        Ok(Self { name: spec.name, partitions, set: spec.config, config, segment_bytes })
    }

    pub(super) fn compacted(&self) -> bool {
        self.config.cleanup != Some(Cleanup::Delete)
    }

    /// The largest batch that it takes.
    pub(super) fn max_batch(&self) -> usize {
        usize::try_from(self.config.max_message_bytes.unwrap_or(MAX_MESSAGE_BYTES)).unwrap_or(0)
    }

    /// The times of records that it takes; any, if none.
    pub(super) fn times(&self, now: i64) -> Option<(i64, i64)> {
        let create = self.config.timestamp_type != Some(TimestampType::LogAppendTime);
        let before = self.config.timestamp_before_max_ms.unwrap_or(i64::MAX);
        let after = self.config.timestamp_after_max_ms.unwrap_or(i64::MAX);
        // No limit is no limit, however far back.
        let earliest = if before == i64::MAX { i64::MIN } else { now.saturating_sub(before) };
        create.then(|| (earliest, now.saturating_add(after)))
    }

    /// The specification that it was made with, with later changes.
    #[cfg(feature = "testing")]
    pub(super) fn spec(&self) -> TopicSpec {
        TopicSpec::new(Arc::clone(&self.name)).partitions(self.count()).config(self.set.clone())
    }

    /// How many partitions.
    pub(super) fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// The topic's description for clients, with its settings or without.
    pub(super) fn info(&self, settings: bool) -> TopicInfo {
        let config = if settings { self.config.clone() } else { TopicConfig::default() };
        TopicInfo::new(Arc::clone(&self.name), self.count(), 1, config)
    }

    pub(super) fn partition(&mut self, partition: i32) -> Option<&mut Partition> {
        usize::try_from(partition).ok().and_then(|p| self.partitions.get_mut(p))
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
        let (bytes, compacted, config) = (self.segment_bytes, self.compacted(), self.config.delete_retention_ms);
        let appended = self.config.timestamp_type == Some(TimestampType::LogAppendTime);
        let time = record.timestamp.filter(|_| !appended).unwrap_or(now);
        let unknown =
            || LogError::UnknownPartition { partition: TopicPartition::new(Arc::clone(record.topic), partition) };
        let place = self.partition(partition).ok_or_else(unknown)?;
        let (offset, rolled) = place.append(record, headers, time, txn, bytes);
        if rolled && compacted && place.is_dirty() {
            place.compact(Active::Segment, now, config.unwrap_or_default());
        }
        Ok(offset)
    }

    /// Compacts it now, if it is a compacted one.
    pub(super) fn compact(&mut self, now: i64) {
        if self.compacted() {
            for partition in &mut self.partitions {
                partition.compact(Active::Record, now, self.config.delete_retention_ms.unwrap_or_default());
            }
        }
    }

    /// Deletes what is older or more than it is to keep.
    pub(super) fn retain(&mut self, now: i64) {
        if self.config.cleanup == Some(Cleanup::Compact) {
            return;
        }
        let oldest = self.config.retention_ms.filter(|ms| *ms >= 0).map(|ms| now.saturating_sub(ms));
        let bytes = self.config.retention_bytes.and_then(|b| usize::try_from(b).ok());
        for partition in &mut self.partitions {
            partition.retain(oldest, bytes);
        }
    }

    /// Whether records may be deleted by offset: Kafka refuses it for topics that are only compacted.
    pub(super) fn can_delete(&self) -> bool {
        self.config.cleanup != Some(Cleanup::Compact)
    }
}

/// All topics. A deleted topic's number is never used again.
#[derive(Debug)]
pub(super) struct Topics {
    /// The settings of topics that have none of their own.
    defaults: TopicConfig,
    slots: Vec<Option<Topic>>,
    names: BTreeMap<Arc<str>, usize>,
}

impl Default for Topics {
    fn default() -> Self {
        Self { defaults: kafka_defaults(), slots: Vec::new(), names: BTreeMap::new() }
    }
}

impl Topics {
    /// Changes the cluster's defaults, for topics that exist, too.
    pub(super) fn set_defaults(&mut self, defaults: &TopicConfig) {
        self.defaults = over(defaults, &kafka_defaults());
        for topic in self.slots.iter_mut().flatten() {
            topic.config = over(&topic.set, &self.defaults);
        }
    }

    /// Changes settings of a topic, those that are named.
    pub(super) fn alter(&mut self, name: &Arc<str>, change: &TopicConfig) -> LogResult<()> {
        let defaults = self.defaults.clone();
        let topic = self.named(name)?;
        topic.set = over(change, &topic.set);
        topic.config = over(&topic.set, &defaults);
        Ok(())
    }

    /// The name of the topic of a number, if it was not deleted.
    pub(super) fn name_of(&self, number: usize) -> Option<&Arc<str>> {
        self.slots.get(number)?.as_ref().map(|t| &t.name)
    }

    pub(super) fn create(&mut self, spec: TopicSpec) -> LogResult<()> {
        if self.names.contains_key(&spec.name) {
            return Err(LogError::TopicExists { topic: spec.name.to_string() });
        }
        let topic = Topic::new(spec, &self.defaults)?;
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
