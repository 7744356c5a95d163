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
