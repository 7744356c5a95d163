//! Reading a group's table from outside, as it is committed: by key and by range.
//!
//! A read is a message to the task of its partition, which answers it on its own thread between two turns, from the
//! store and what is acknowledged and not stored yet. So it never sees what may still be taken back (semantics D2), it
//! holds up no record for longer than a bounded look, and it asks nobody but this instance: a partition that another
//! one has is [`ReadError::NotHere`]. What is committed is seen once the task has heard of it, a moment after the log.

mod ask;

use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::status::State;
use crate::codec::CodecError;
use crate::store::{KeyRange, StoreError, prefix_end};
use crate::table::CommittedRows;

/// Why a read is not answered.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum ReadError {
    /// Without a table there is nothing to read.
    #[error("group {group} has no table")]
    NoTable { group: String },
    /// Another instance of the group has the partition, or nobody has it at the moment.
    #[error("group {group}: partition {partition} of the table is not here, which has {held:?}: ask another instance")]
    NotHere { group: String, partition: i32, held: Vec<i32> },
    /// None of the table's partitions is here.
    #[error("group {group}: no partition of the table is here: ask another instance")]
    NothingHere { group: String },
    /// The partition's table is not complete yet.
    #[error("group {group}: partition {partition} of the table is being restored: ask again")]
    Restoring { group: String, partition: i32 },
    /// The processor does not run (yet, or any more).
    #[error("group {group} is not running ({state:?})")]
    NotRunning { group: String, state: State },
    /// The partition went away while it was asked.
    #[error("group {group}: the table moved away while it was read: ask again")]
    Interrupted { group: String },
    /// The table holds values of another type.
    #[error("group {group}: the table's values are no {asked}")]
    OtherType { group: String, asked: &'static str },
    /// A value can't be decoded.
    #[error("group {group}: the value of key {key} can't be decoded")]
    Decode {
        group: String,
        key: String,
        #[source]
        error: CodecError,
    },
    /// The store failed.
    #[error("group {group}: the store failed")]
    Store {
        group: String,
        #[source]
        error: StoreError,
    },
}

crate::chain::debug_as_chain!(ReadError);

/// Which rows of a table to read, in the byte order of their keys. What is given narrows it; all of it has to hold.
///
/// ```
/// use stream_core::processor::TableRange;
/// let range = TableRange::all().prefix("user-").limit(50);
/// ```
#[derive(Clone, Debug)]
pub struct TableRange {
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    limit: usize,
}

impl TableRange {
    /// Rows of an answer if nothing else is said.
    pub const DEFAULT_LIMIT: usize = 100;
    /// Rows of an answer at most.
    pub const MAX_LIMIT: usize = 1000;

    /// Every row, [`DEFAULT_LIMIT`](Self::DEFAULT_LIMIT) at a time.
    pub fn all() -> Self {
        Self { from: None, to: None, prefix: None, after: None, limit: Self::DEFAULT_LIMIT }
    }

    /// From this key on, itself included.
    #[must_use]
    pub fn from(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.from = Some(key.into());
        self
    }

    /// Up to this key, itself excluded.
    #[must_use]
    pub fn to(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.to = Some(key.into());
        self
    }

    /// Keys that begin with this.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Behind this key, itself excluded: [`TablePage::next`] of the page before.
    #[must_use]
    pub fn after(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// So many rows at most, from 1 to [`MAX_LIMIT`](Self::MAX_LIMIT).
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows.clamp(1, Self::MAX_LIMIT);
        self
    }

    pub(super) fn most(&self) -> usize {
        self.limit
    }

    /// Calls `read` with the narrowest bounds.
    pub(super) fn with_bounds<R>(&self, read: impl FnOnce(KeyRange<'_>) -> R) -> R {
        let from = self.from.as_deref().max(self.prefix.as_deref());
        let from = match self.after.as_deref() {
            Some(after) if from.is_none_or(|from| after >= from) => Bound::Excluded(after),
            _ => from.map_or(Bound::Unbounded, Bound::Included),
        };
        let end = self.prefix.as_deref().and_then(prefix_end);
        let to = match (self.to.as_deref(), end.as_deref()) {
            (Some(to), Some(end)) => Some(to.min(end)),
            (to, end) => to.or(end),
        };
        read(KeyRange { from, to: to.map_or(Bound::Unbounded, Bound::Excluded) })
    }
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableRow<V> {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: V,
    /// Where it is.
    pub partition: i32,
}

/// Rows of the partitions that an instance has, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TablePage<V> {
    /// The rows. May be fewer than the limit, even none, although there is a next page: a page is bounded in bytes, too.
    pub rows: Vec<TableRow<V>>,
    /// The key to go on [after](TableRange::after); `None` if there is no more.
    pub next: Option<Vec<u8>>,
    /// The partitions that these rows are of, and those only.
    pub partitions: Vec<i32>,
    /// How many partitions the table has.
    pub of: i32,
}

/// A question to a task.
#[derive(Clone)]
pub(super) enum Question {
    Key(Arc<[u8]>),
    Rows(Arc<TableRange>),
}

/// A question on its way to a task.
pub(super) struct ReadRequest {
    pub(super) question: Question,
    pub(super) done: oneshot::Sender<Result<CommittedRows, ReadError>>,
}

/// Answers to come, by partition.
pub(super) struct Asked {
    pub(super) answers: Vec<(i32, oneshot::Receiver<Result<CommittedRows, ReadError>>)>,
    pub(super) of: i32,
}
