//! The log: what the runtime asks of Kafka, and nothing else.
//!
//! Two implementations share these traits and one conformance suite: `kafka` (with the feature of that name) and
//! [`embedded`]. What a real Kafka does decides wherever the two could differ.
//!
//! Everything here speaks in batches, so that the indirection costs nothing a record. This module must never know
//! about group graphs, tables or codecs; nothing above it may name `rdkafka`.
//!
//! # The pieces
//! - [`Log`]: a connection's entry point: topics, offsets, and makers of the other pieces.
//! - [`Member`]: one member of a consumer group. Yields assignments and revocations; each assigned partition has
//!   its own [`Fetch`], so that a task that is busy is simply not read from (that is the back-pressure).
//! - [`Producer`]: takes batches, reports their delivery, and holds transactions when made with a transactional id.
//! - [`Reader`]: reads partitions outside any group, for restores and views.

mod arena;
mod batch;
mod delivery;
mod error;
pub mod partitioner;
mod topic;
mod types;

pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

pub use self::arena::Headers;
pub use self::batch::{NewRecord, ProduceBatch, RecordBatch, RecordRef, Savepoint};
pub use self::delivery::{Delivery, FailedRecord};
pub use self::error::{ErrorClass, LogError};
pub use self::topic::{Cleanup, TimestampType, TopicConfig, TopicInfo, TopicSpec};
use self::types::without_metadata;
pub use self::types::{
    AutoOffsetReset, Commits, FetchLimits, Fetched, GroupMember, GroupMetadata, Isolation, MemberOptions,
    OffsetAndMetadata, OffsetSpec, Offsets, Partitioner, ProducerOptions, Subscription, TopicPartition,
};
use crate::clock::Clock;

/// Keeps the traits of a log closed: they grow with what the library needs of Kafka. The tests of this repository
/// wrap logs, and see it with the feature `testing`.
mod sealed {
    #[allow(missing_docs, reason = "only a seal")]
    pub trait Sealed {}
}
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use self::sealed::Sealed;
#[cfg(not(feature = "testing"))]
use self::sealed::Sealed;

/// Result of a log operation.
pub type LogResult<T> = Result<T, LogError>;

/// A shared handle on a log.
pub type LogHandle = Arc<dyn Log>;

/// A connection to a log: Kafka, or the embedded one.
///
/// All methods may be called from any thread. None blocks the caller: what takes time returns a future. Every future
/// ends within a bound (a time-out is an error), except [`Member::next`] and [`Fetch::poll_fetch`], which wait for
/// something to happen.
pub trait Log: Sealed + Send + Sync + 'static {
    /// The name of this log for messages: `kafka at host:9092`, `the embedded log`.
    fn name(&self) -> String;

    /// The addresses by which command-line tools reach it (`host:port`, several separated by commas); `None` for a log
    /// that they can't reach.
    fn brokers(&self) -> Option<String> {
        None
    }

    /// The clock that everything on this log goes by.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Looks topics up, in the order asked; `None` for one that does not exist. Never creates one.
    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>>;

    /// The topic's unique id. A topic that is deleted and recreated gets a new one. `None` if there is no such topic, or the
    /// brokers know no ids.
    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>>;

    /// Creates topics and returns once they can be used. One that exists already is
    /// [`LogError::TopicExists`]; the others are created all the same.
    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>>;

    /// Deletes topics; one that does not exist is [`LogError::UnknownTopic`].
    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>>;

    /// Adds partitions to a topic, up to `total`.
    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>>;

    /// Deletes the records below each offset.
    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>>;

    /// Resolves positions to offsets, in the order asked. The end is the last stable offset for
    /// [`Isolation::ReadCommitted`] and the high watermark for [`Isolation::ReadUncommitted`]. A time resolves to the
    /// first offset whose record is at or after it, or to the end when there is none.
    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>>;

    /// The committed offsets of a group, in the order asked, without joining it. `None` where there is none.
    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>>;

    /// The live members of a group and the topics that they subscribe to, as far as the log knows them.
    fn group_members(&self, group: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>>;

    /// Joins a group. Nothing happens before the first [`Member::next`].
    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>>;

    /// Makes a producer. With a transactional id, older producers of that id are fenced and their open transaction
    /// is aborted before this resolves.
    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>>;

    /// Makes a reader outside any group.
    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>>;

    /// The same, with a bound on what it fetches ahead of each partition, in bytes; `None` for the log's own. A log in this
    /// process fetches nothing ahead.
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    fn bounded_reader(&self, isolation: Isolation, prefetch: Option<usize>) -> LogResult<Arc<dyn Reader>> {
        _ = prefetch;
        self.reader(isolation)
    }

    /// Resolves when producers or readers that were made before may never reach the log again, and must be recreated.
    /// Members, and the calls of the log itself, recover without that.
    fn brokers_lost(&self) -> BoxFuture<'static, LogError> {
        Box::pin(std::future::pending())
    }
}

/// A change in the assignment of a member of a group.
#[non_exhaustive]
pub enum MemberEvent {
    /// Partitions that are newly this member's. Fetching starts at [`Assigned::start`]. Empty if a new member was assigned
    /// nothing.
    Assigned(Vec<Assigned>),
    /// Partitions that are about to go to another member. They stay this member's, commits included, until `done` is
    /// dropped or its bound (below `max.poll.interval.ms`) passes; past it they are lost.
    Revoking {
        /// The partitions, co-partitioned ones included.
        partitions: Vec<TopicPartition>,
        /// Drop it once everything of these partitions is committed and their [`Fetch`]es are dropped.
        done: RevokeToken,
    },
    /// Partitions that another member may already own. Nothing of them may be committed or produced any more.
    Lost(Vec<TopicPartition>),
}

/// Holds a revocation back until it is dropped.
#[derive(Debug)]
pub struct RevokeToken(#[allow(dead_code, reason = "only its drop matters")] tokio::sync::oneshot::Sender<()>);

impl RevokeToken {
    /// A token, and a future that resolves (with an error or not) once it is dropped.
    pub fn new() -> (Self, tokio::sync::oneshot::Receiver<()>) {
        let (tx, rx) = tokio::sync::oneshot::channel();
        (Self(tx), rx)
    }
}

/// One partition that a member was given.
#[non_exhaustive]
pub struct Assigned {
    /// Which one.
    pub partition: TopicPartition,
    /// Where fetching starts: the committed offset, else the start position made explicit
    /// ([D9](crate::semantics#d9-positions-are-explicit-and-do-not-expire)). An offset from a reset is not yet committed.
    pub start: i64,
    /// Whether `start` is a committed offset.
    pub committed: bool,
    /// The metadata of the committed offset; empty if there is none.
    pub metadata: Arc<str>,
    /// Yields its records.
    pub fetch: Box<dyn Fetch>,
}

/// One member of a consumer group.
///
/// With [`Subscription::CoPartitioned`], the group assigns the lead topic's partitions, and partition p of every co-partitioned
/// topic comes and goes with the lead's p. The lead itself is not consumed unless it is also listed.
pub trait Member: Sealed + Send {
    /// Waits for the next event. Must be polled all the time for the member to stay in its group (`max.poll.interval`
    /// in Kafka's words). Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, LogResult<MemberEvent>>;

    /// A handle for commits, usable while `next` is pending and while a revocation is held back.
    fn group(&self) -> Arc<dyn GroupHandle>;

    /// Leaves the group (a static member stays until its session ends) and closes. The caller has committed and
    /// dropped all [`Fetch`]es; no further event comes.
    fn close(self: Box<Self>) -> BoxFuture<'static, LogResult<()>>;
}

/// Commits of a [`Member`].
pub trait GroupHandle: Sealed + Send + Sync + 'static {
    /// Commits offsets under the group; commits take effect in the order of the calls, whenever they are awaited. Fails
    /// with [`LogError::NotMember`] when this member's generation has ended.
    fn commit_with_metadata(&self, offsets: Commits) -> BoxFuture<'static, LogResult<()>>;

    /// Commits offsets without metadata, as [`commit_with_metadata`](Self::commit_with_metadata) does with it.
    fn commit(&self, offsets: Offsets) -> BoxFuture<'static, LogResult<()>> {
        self.commit_with_metadata(without_metadata(offsets))
    }

    /// Who this member is now, for [`Producer::commit_transaction`]. `None` before the first assignment and after
    /// the membership is lost.
    fn metadata(&self) -> Option<GroupMetadata>;
}

/// Yields the records of one partition, in order.
pub trait Fetch: Sealed + Send {
    /// Fills `into` (cleared first) with the next records within `limits` (at least one record is returned whatever
    /// its size), or says that the end was reached. `Pending` wakes `cx` once there is something.
    ///
    /// Transient trouble is handled inside; errors are for the caller to act on, as
    /// [`LogError::OffsetOutOfRange`].
    fn poll_fetch(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut RecordBatch,
        limits: FetchLimits,
    ) -> Poll<LogResult<Fetched>>;

    /// Goes on at `offset`. Nothing that was fetched before is yielded afterwards.
    fn seek(&mut self, offset: i64) -> BoxFuture<'_, LogResult<()>>;

    /// From now on, the offset of [`Fetched::End`] is the end itself, markers of transactions included.
    fn know_ends(&mut self) {}
}

/// Reads partitions outside any group.
pub trait Reader: Sealed + Send + Sync + 'static {
    /// Reads a partition from an offset on. Dropping the [`Fetch`] ends it. A partition can be read by one `Fetch` of
    /// a reader at a time.
    fn read(&self, partition: TopicPartition, from: i64) -> BoxFuture<'static, LogResult<Box<dyn Fetch>>>;
}

/// Writes batches to topics.
///
/// Idempotent, `acks=all`. Batches are taken in the order of the calls, and the records of one partition keep that
/// order.
pub trait Producer: Sealed + Send + Sync + 'static {
    /// Hands a batch over and returns at once; the future resolves when every record is acknowledged or failed, and
    /// need not be awaited for the batch to go out.
    ///
    /// A caller bounds what it has under way; the producer queues whatever it is given.
    /// With a transactional id, a transaction must be open, else every record fails.
    fn send(&self, batch: Arc<ProduceBatch>) -> BoxFuture<'static, Delivery>;

    /// Resolves when everything handed over before the call is acknowledged or failed.
    fn flush(&self) -> BoxFuture<'static, LogResult<()>>;

    /// Fails everything not yet acknowledged with [`LogError::Purged`]. What is on its way may still arrive.
    fn purge(&self);

    /// Resolves when what this producer sent to a partition before the call has arrived there or is lost, that which it gave up
    /// ([`purge`](Self::purge), a time-out) included. With a transactional id there is nothing to wait for: what was given up is
    /// never seen.
    ///
    /// A connection brings its requests in order, so the Kafka adapter asks the partition's leader for something else on the
    /// one that the writes took. What a connection had not delivered when it broke may still arrive later.
    ///
    /// # Errors
    /// When the log can't be reached.
    fn settled(&self, partition: TopicPartition) -> BoxFuture<'static, LogResult<()>>;

    /// Sends no batch of several records from now on that is larger than this; a single record may be. What was handed over
    /// before ends first, and no transaction may be open. Once the future has resolved, this holds.
    ///
    /// # Errors
    /// When the log can't be reached. Then this producer may be of no further use: what it is given fails.
    fn limit_batches(&self, bytes: usize) -> BoxFuture<'static, LogResult<()>>;

    /// Opens a transaction.
    fn begin_transaction(&self) -> BoxFuture<'static, LogResult<()>>;

    /// Waits for every record of the open transaction, adds the group's offsets to it and commits it.
    ///
    /// On an error of class [`ErrorClass::Abortable`] the caller aborts; on [`ErrorClass::Fatal`] (fenced, say) this
    /// producer is of no further use. A retriable error is retried inside.
    fn commit_transaction_with_metadata(
        &self,
        offsets: Commits,
        member: Option<GroupMetadata>,
    ) -> BoxFuture<'static, LogResult<()>>;

    /// Commits a transaction with offsets without metadata, as
    /// [`commit_transaction_with_metadata`](Self::commit_transaction_with_metadata) does with it.
    fn commit_transaction(&self, offsets: Offsets, member: Option<GroupMetadata>) -> BoxFuture<'static, LogResult<()>> {
        self.commit_transaction_with_metadata(without_metadata(offsets), member)
    }

    /// Aborts the open transaction; its unacknowledged records fail with [`LogError::Purged`].
    fn abort_transaction(&self) -> BoxFuture<'static, LogResult<()>>;
}
