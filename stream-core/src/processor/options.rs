//! Options of a processor, in one place, with defaults.

use std::sync::Arc;
use std::time::Duration;

use super::error::ProcessorError;
use crate::log::{AutoOffsetReset, FetchLimits, Partitioner};
use crate::table::RestoreMemory;
use crate::topics::TopicOptions;

/// The brokers' default of `transaction.max.timeout.ms`.
const MAX_TRANSACTION: Duration = Duration::from_secs(15 * 60);
/// Less than this makes no sense for anything that is done again and again; zero would never come to an end.
pub(crate) const LEAST_INTERVAL: Duration = Duration::from_millis(1);
/// How often in a row a topic may refuse a record that the library itself writes: for about ten seconds.
pub(super) const OWN_REFUSALS: u32 = 6;

/// The reaction of a processor to a failure of its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// `run` returns the error (the default). Failures that are no fault of a record or of the group restart automatically, at
    /// most five times in a row. There are three of them. With exactly-once delivery, the instance's transactions have ended:
    /// it was frozen and another instance has its partitions, or the outcome of a commit is unknown; the new start looks up
    /// the committed offsets. A client has lost its brokers for good
    /// ([`LogError::BrokersLost`](crate::log::LogError::BrokersLost)). A position is lost while the group runs, and
    /// [`OnLostPosition`] says where to go on.
    Stop,
    /// Start again after a wait that doubles from `backoff` up to 64 times that. After `attempts` failures in a row
    /// without any record done in between, or of the same record, `run` returns the error all the same, so that a record
    /// that always fails does not loop for ever.
    Restart {
        /// The first wait.
        backoff: Duration,
        /// Failures in a row.
        attempts: u32,
    },
}

impl OnFailure {
    /// The first wait before a new start, and how many of them; `None` to return the error.
    pub(super) fn after(self, error: &ProcessorError) -> Option<(Duration, u32)> {
        match self {
            Self::Restart { backoff, attempts } => Some((backoff, attempts)),
            Self::Stop if error.is_restartable() => Some((Duration::from_millis(500), 5)),
            Self::Stop => None,
        }
    }
}

/// Where a group goes on in an input partition whose position is lost.
///
/// A position is lost when the topic no longer has it (its retention has passed it), when the topic was deleted and
/// recreated, or when the group has state, but neither a committed offset nor a position in its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLostPosition {
    /// The run ends with [`ProcessorError::Position`](super::ProcessorError::Position), which names the position and what the topic has
    /// (the default).
    #[default]
    Fail,
    /// At the topic's first record. What is counted already may be counted again.
    Earliest,
    /// Behind the topic's last record. What the topic has is left out.
    Latest,
}

/// Which position counts with exactly-once if the committed offset differs from the position in the group's state.
///
/// One transaction writes both, so they differ only if somebody else wrote an offset: a tool
/// (`kafka-consumer-groups.sh --reset-offsets`), or an instance with a version of this library that kept no positions in
/// the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnPositionMismatch {
    /// Neither: the run ends with [`ProcessorError::Position`](super::ProcessorError::Position), which names both (the default).
    #[default]
    Fail,
    /// The committed offset. Records between the two are counted twice, or not at all.
    Committed,
    /// The position in the state: nothing is counted twice or left out.
    State,
}

/// The delivery guarantee for a record's effects when something fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guarantee {
    /// Nothing is lost; after a crash, the work since the last commit is done again.
    #[default]
    AtLeastOnce,
    /// Nothing is lost and nothing is doubled, for readers of committed records: table writes, emits and offsets are
    /// one transaction a commit interval. What a callback does elsewhere (a mail, a row) is not part of it.
    ExactlyOnce,
}

/// Which partitions' tables an instance keeps warm copies of, beside its own.
///
/// A number of standbys for each partition would not help: which instance takes over is decided by the group's
/// coordinator, which does not know who has a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standbys {
    /// None: an instance that takes over a partition restores what its own store lacks first.
    #[default]
    None,
    /// All: each instance follows every partition of the group's table and of its joins, so that it takes over without a
    /// restore. Costs each instance the disk, and the reading, of the whole table.
    All,
}

/// The settings of a processor. Each has a method of the same name on [`Processor`](super::Processor).
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) workers: usize,
    pub(crate) guarantee: Guarantee,
    /// One second, or a tenth of it for exactly-once, if not set.
    pub(crate) commit_interval: Option<Duration>,
    pub(crate) recommit_interval: Duration,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) standbys: Standbys,
    pub(crate) state_cleanup_delay: Duration,
    /// Writes of a checkpoint between two looks at other work.
    pub(crate) checkpoint_chunk: usize,
    /// What the instance may take of memory, in bytes; `None` where each setting counts alone.
    pub(crate) memory: Option<usize>,
    /// Bytes of each partition of a table that are fetched ahead, if that is bounded.
    pub(crate) prefetch: Option<usize>,
    pub(crate) buffer_bytes: usize,
    /// What the restores of an instance hold back together.
    pub(crate) restore_memory: RestoreMemory,
    /// A task hands over when it has released this many records …
    pub(crate) batch_records: usize,
    /// … or bytes, or when it has nothing else to do.
    pub(crate) batch_bytes: usize,
    /// Above this a task waits for acknowledgements.
    pub(crate) in_flight_bytes: usize,
    pub(crate) fetch: FetchLimits,
    pub(crate) max_task_idle: Duration,
    /// In milliseconds; `i64::MAX` for no limit.
    pub(crate) max_ahead: i64,
    /// In milliseconds.
    pub(crate) idle_close: Option<i64>,
    pub(crate) drain_timeout: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) new_protocol: bool,
    pub(crate) reset: AutoOffsetReset,
    pub(crate) partitioner: Partitioner,
    pub(crate) on_failure: OnFailure,
    pub(crate) on_lost_position: OnLostPosition,
    pub(crate) on_position_mismatch: OnPositionMismatch,
    pub(crate) progress_interval: Duration,
    pub(crate) topic_check_interval: Duration,
    pub(crate) topics: TopicOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            guarantee: Guarantee::AtLeastOnce,
            commit_interval: None,
            recommit_interval: Duration::from_secs(30 * 60),
            checkpoint_interval: Duration::from_secs(10),
            standbys: Standbys::None,
            state_cleanup_delay: Duration::from_secs(10 * 60),
            checkpoint_chunk: 256,
            memory: None,
            prefetch: None,
            buffer_bytes: 64 << 20,
            restore_memory: RestoreMemory::default(),
            batch_records: 2_000,
            batch_bytes: 256 << 10,
            in_flight_bytes: 8 << 20,
            fetch: FetchLimits { records: 2_000, bytes: 1 << 20 },
            max_task_idle: Duration::from_secs(1),
            max_ahead: 3_600_000,
            idle_close: None,
            drain_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(45),
            instance_id: None,
            new_protocol: false,
            reset: AutoOffsetReset::Earliest,
            partitioner: Partitioner::default(),
            on_failure: OnFailure::Stop,
            on_lost_position: OnLostPosition::Fail,
            on_position_mismatch: OnPositionMismatch::Fail,
            progress_interval: Duration::from_secs(5),
            topic_check_interval: Duration::from_secs(30),
            topics: TopicOptions::default(),
        }
    }
}

impl Options {
    pub(crate) fn commit_interval(&self) -> Duration {
        let default = match self.guarantee {
            Guarantee::AtLeastOnce => Duration::from_secs(1),
            Guarantee::ExactlyOnce => Duration::from_millis(100),
        };
        self.commit_interval.unwrap_or(default)
    }

    /// How long a transaction may stay open; `None` where no broker takes transactions of such a commit interval. After a
    /// crash, others wait this long for what was open.
    pub(crate) fn transaction_timeout(&self) -> Option<Duration> {
        let timeout = self.commit_interval().saturating_mul(3).max(Duration::from_secs(10));
        (timeout <= MAX_TRANSACTION).then_some(timeout)
    }
}
