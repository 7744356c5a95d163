//! The plain data of the log's traits.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Offsets by partition: for a commit, the next offset to read.
pub type Offsets = Vec<(TopicPartition, i64)>;

/// An offset to commit, and the text that is committed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndMetadata {
    /// The next offset to read.
    pub offset: i64,
    /// Text that the log keeps with the offset and gives back with it; empty for none.
    pub metadata: Arc<str>,
}

impl OffsetAndMetadata {
    /// An offset with a text.
    pub fn new(offset: i64, metadata: impl Into<Arc<str>>) -> Self {
        Self { offset, metadata: metadata.into() }
    }
}

/// Offsets to commit, with their metadata.
pub type Commits = Vec<(TopicPartition, OffsetAndMetadata)>;

/// The offsets, without metadata.
pub(in crate::log) fn without_metadata(offsets: Offsets) -> Commits {
    let none: Arc<str> = "".into();
    offsets.into_iter().map(|(of, offset)| (of, OffsetAndMetadata::new(offset, Arc::clone(&none)))).collect()
}

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

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Only records outside transactions or of committed ones, up to the last stable offset.
    #[default]
    ReadCommitted,
    /// Everything.
    ReadUncommitted,
}

/// A position to resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The first offset there is.
    Earliest,
    /// One past the last.
    Latest,
    /// The first record at or after this time, in milliseconds since the epoch.
    Time(i64),
}

/// Where a group starts on a partition without a committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AutoOffsetReset {
    /// At the first record.
    #[default]
    Earliest,
    /// Behind the last record.
    Latest,
}

/// The topics of a member, and how their partitions are assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subscription {
    /// Topics whose partitions are assigned independently.
    Topics(Vec<Arc<str>>),
    /// One topic whose partitions are assigned; partition p of each co-partitioned topic follows the lead's p.
    CoPartitioned {
        /// The topic that the group subscribes to.
        lead: Arc<str>,
        /// The topics that are consumed.
        with: Vec<Arc<str>>,
    },
}

/// How to join a group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemberOptions {
    /// The group.
    pub group: Arc<str>,
    /// The topics to subscribe to.
    pub subscription: Subscription,
    /// `group.instance.id`, for static membership.
    pub instance_id: Option<Arc<str>>,
    /// Which records to read, and whether committed offsets are asked for with require-stable.
    pub isolation: Isolation,
    /// Where to start without a committed offset.
    pub reset: AutoOffsetReset,
    /// After this long without a sign of life a member is out. Ignored by Kafka's new group protocol.
    pub session_timeout: Duration,
    /// Bound on holding a revocation back, below which the work of it must be done.
    pub revoke_timeout: Duration,
    /// `group.protocol=consumer` (KIP-848) instead of the classic protocol. Kafka only.
    pub new_protocol: bool,
    /// Bytes of each partition that are fetched ahead at most, if that is less than the connection's. Kafka only.
    pub prefetch: Option<usize>,
}

impl MemberOptions {
    /// A member with the defaults: earliest, read committed, 45 s of session, 60 s to hand over, classic protocol.
    pub fn new(group: impl Into<Arc<str>>, subscription: Subscription) -> Self {
        Self {
            group: group.into(),
            subscription,
            instance_id: None,
            isolation: Isolation::default(),
            reset: AutoOffsetReset::default(),
            session_timeout: Duration::from_secs(45),
            revoke_timeout: Duration::from_secs(60),
            new_protocol: false,
            prefetch: None,
        }
    }
}

/// A live member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// The id that the group coordinator gave it.
    pub member_id: String,
    /// The client's name for itself.
    pub client_id: String,
    /// The topics that it subscribes to; `None` if the log does not know them.
    pub topics: Option<Vec<Arc<str>>>,
}

/// Who a member is, to tie a transaction to its generation.
#[derive(Clone)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// The group.
    pub group: Arc<str>,
    /// The data by which the log checks it; only the log that made it can read it.
    pub detail: Arc<dyn Any + Send + Sync>,
}

impl GroupMetadata {
    /// Wraps a log's own detail.
    pub fn new(group: Arc<str>, detail: Arc<dyn Any + Send + Sync>) -> Self {
        Self { group, detail }
    }
}

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupMetadata").field("group", &self.group).finish_non_exhaustive()
    }
}

/// How a key chooses its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// The partitioner of Java clients: murmur2, and a random partition for a record without a key.
    #[default]
    Murmur2Random,
    /// The partitioner of Goka: FNV-1a.
    Fnv1aRandom,
}

/// How to produce.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// Makes the producer transactional.
    pub transactional_id: Option<Arc<str>>,
    /// How keys choose partitions.
    pub partitioner: Partitioner,
    /// How long a record may wait for its acknowledgement before it fails; default 30 s, below the session time-out. On
    /// Kafka, a third of it is for waiting to be sent at all (behind others, in an outage), the rest for being written.
    pub delivery_timeout: Option<Duration>,
    /// How long a transaction may stay open; default 10 s.
    pub transaction_timeout: Option<Duration>,
    /// The largest batch of several records to send; for Kafka, no larger than the smallest `max.message.bytes` of the
    /// topics written to. A single record may be as large as its topic lets it.
    pub max_batch_bytes: Option<usize>,
    /// Bytes that the client queues at most; what is beyond waits outside. Default 128 MiB. Kafka only.
    pub queue_bytes: Option<usize>,
}

/// How much one fetch may return.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FetchLimits {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl FetchLimits {
    /// So many records, and so many bytes of keys and values; at least one record, whatever its size.
    pub fn new(records: usize, bytes: usize) -> Self {
        Self { records, bytes }
    }
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { records: 1000, bytes: 1 << 20 }
    }
}

/// The result of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// At least one record.
    Records,
    /// No record: everything up to the end has been yielded, the end as the broker that answered the fetch knew it at
    /// some moment after the fetch began. With read committed that is the last stable offset. Reported once for each
    /// end reached.
    ///
    /// The offset is one below which everything is yielded. A [`Reader`](super::Reader)'s is the end itself; a
    /// member's may be less, where what lies below the end (a transaction's marker) is no record. A broker whose copy
    /// lags, as one that has just become the leader, may know of an end below one that was looked up before.
    End(i64),
}
