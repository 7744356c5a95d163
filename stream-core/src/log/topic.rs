//! Topics: as they are, as they are to be created, and their settings.

use std::sync::Arc;

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication: i32,
    /// Its effective configuration, as far as we use it; a setting is `None` where the broker does not know it. All are
    /// `None` where the broker does not let us see them.
    pub config: TopicConfig,
}

impl TopicInfo {
    /// Describes a topic.
    pub fn new(name: Arc<str>, partitions: i32, replication: i32, config: TopicConfig) -> Self {
        Self { name, partitions, replication, config }
    }
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Number of partitions; the broker's default when `None`.
    pub partitions: Option<i32>,
    /// Replicas of each partition; the broker's default when `None`.
    pub replication: Option<i32>,
    /// Its configuration; `None` fields take the broker's default.
    pub config: TopicConfig,
}

impl TopicSpec {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), partitions: None, replication: None, config: TopicConfig::default() }
    }

    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, n: i32) -> Self {
        self.partitions = Some(n);
        self
    }

    /// Sets the number of replicas of each partition.
    #[must_use]
    pub fn replication(mut self, n: i32) -> Self {
        self.replication = Some(n);
        self
    }

    /// Sets the configuration.
    #[must_use]
    pub fn config(mut self, config: TopicConfig) -> Self {
        self.config = config;
        self
    }
}

/// The settings of a topic that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup: Option<Cleanup>,
    /// `retention.ms`; -1 keeps for ever.
    pub retention_ms: Option<i64>,
    /// `delete.retention.ms`: how long a tombstone survives compaction.
    pub delete_retention_ms: Option<i64>,
    /// `max.message.bytes`: the largest record batch that the topic takes.
    pub max_message_bytes: Option<i64>,
    /// `retention.bytes`: the size of a partition above which its oldest records are deleted; -1 for no limit.
    pub retention_bytes: Option<i64>,
    /// `message.timestamp.type`.
    pub timestamp_type: Option<TimestampType>,
    /// `message.timestamp.before.max.ms`: how far before the broker's clock a record's time may be. Brokers before
    /// Kafka 3.6 don't know it.
    pub timestamp_before_max_ms: Option<i64>,
    /// `message.timestamp.after.max.ms`: how far after the broker's clock a record's time may be. Brokers before Kafka
    /// 3.6 don't know it.
    pub timestamp_after_max_ms: Option<i64>,
    /// `compression.type`: how the broker stores batches; `producer` to keep them as they come.
    pub compression_type: Option<String>,
    /// `min.insync.replicas`: the number of replicas in sync below which the topic takes no records.
    pub min_insync_replicas: Option<i32>,
    /// Any other setting, by Kafka's name. Not filled in by look-ups.
    pub other: Vec<(String, String)>,
}

impl TopicConfig {
    /// The broker's defaults.
    ///
    /// ```
    /// use stream_core::log::{Cleanup, TopicConfig, TopicSpec};
    ///
    /// let config = TopicConfig::new().cleanup(Cleanup::Compact).other("segment.ms", "60000");
    /// let topic = TopicSpec::new("prices-table").partitions(4).config(config);
    /// # assert_eq!(topic.partitions, Some(4));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `cleanup.policy`.
    #[must_use]
    pub fn cleanup(mut self, policy: impl Into<Option<Cleanup>>) -> Self {
        self.cleanup = policy.into();
        self
    }

    /// Sets `retention.ms`.
    #[must_use]
    pub fn retention_ms(mut self, ms: impl Into<Option<i64>>) -> Self {
        self.retention_ms = ms.into();
        self
    }

    /// Sets `delete.retention.ms`.
    #[must_use]
    pub fn delete_retention_ms(mut self, ms: impl Into<Option<i64>>) -> Self {
        self.delete_retention_ms = ms.into();
        self
    }

    /// Sets `max.message.bytes`.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: impl Into<Option<i64>>) -> Self {
        self.max_message_bytes = bytes.into();
        self
    }

    /// Sets `retention.bytes`.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: impl Into<Option<i64>>) -> Self {
        self.retention_bytes = bytes.into();
        self
    }

    /// Sets `message.timestamp.type`.
    #[must_use]
    pub fn timestamp_type(mut self, of: impl Into<Option<TimestampType>>) -> Self {
        self.timestamp_type = of.into();
        self
    }

    /// Sets `message.timestamp.before.max.ms`.
    #[must_use]
    pub fn timestamp_before_max_ms(mut self, ms: impl Into<Option<i64>>) -> Self {
        self.timestamp_before_max_ms = ms.into();
        self
    }

    /// Sets `message.timestamp.after.max.ms`.
    #[must_use]
    pub fn timestamp_after_max_ms(mut self, ms: impl Into<Option<i64>>) -> Self {
        self.timestamp_after_max_ms = ms.into();
        self
    }

    /// Sets `min.insync.replicas`.
    #[must_use]
    pub fn min_insync_replicas(mut self, replicas: impl Into<Option<i32>>) -> Self {
        self.min_insync_replicas = replicas.into();
        self
    }

    /// Sets `compression.type`.
    #[must_use]
    pub fn compression_type(mut self, name: impl Into<String>) -> Self {
        self.compression_type = Some(name.into());
        self
    }

    /// Adds another setting, by Kafka's name.
    #[must_use]
    pub fn other(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.other.push((name.into(), value.into()));
        self
    }

    /// The settings that it names, as Kafka has them.
    pub(crate) fn properties(&self) -> Vec<(String, String)> {
        let number = |value: Option<i64>| value.map(|v| v.to_string());
        let named = [
            ("cleanup.policy", self.cleanup.map(|c| c.as_str().to_owned())),
            ("retention.ms", number(self.retention_ms)),
            ("delete.retention.ms", number(self.delete_retention_ms)),
            ("max.message.bytes", number(self.max_message_bytes)),
            ("retention.bytes", number(self.retention_bytes)),
            ("message.timestamp.type", self.timestamp_type.map(|t| t.as_str().to_owned())),
            ("message.timestamp.before.max.ms", number(self.timestamp_before_max_ms)),
            ("message.timestamp.after.max.ms", number(self.timestamp_after_max_ms)),
            ("compression.type", self.compression_type.clone()),
            ("min.insync.replicas", self.min_insync_replicas.map(|v| v.to_string())),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        named.chain(self.other.iter().cloned()).collect()
    }
}

/// `cleanup.policy` of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cleanup {
    /// Old records are deleted by time or size.
    Delete,
    /// The last record of each key is kept.
    Compact,
    /// Both.
    CompactDelete,
}

impl Cleanup {
    /// Kafka's name for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactDelete => "compact,delete",
        }
    }
}

/// `message.timestamp.type` of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimestampType {
    /// A record keeps the time that its producer gave it.
    CreateTime,
    /// The broker overwrites a record's time with the time of its append.
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        }
    }
}
