//! Reading a group's table from outside, as it is committed: by key and by range.
//!
//! A read is a message to the task of its partition, which answers it on its own thread between two turns, from the
//! store and what is acknowledged and not stored yet. So it never sees what may still be taken back (semantics D2), it
//! holds up no record for longer than a bounded look, and it asks nobody but this instance: a partition that another
//! one has is [`ReadError::NotHere`]. What is committed is seen once the task has heard of it, a moment after the log.

use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::state::{Handle, Request, State};
use crate::codec::{Codec, CodecError};
use crate::group::handler::typed;
use crate::store::{KeyRange, Pair, StoreError, prefix_end};
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

/// What is asked of a task.
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

impl Handle {
    /// The committed value of a key of the group's table, if this instance has the key's partition: the one that the
    /// processor's [partitioner](super::Processor::partitioner) chooses, as it must have for the records of the key.
    ///
    /// # Errors
    /// [`ReadError::NotHere`] when another instance has it; see [`ReadError`] for the rest.
    pub async fn get<V: 'static>(&self, key: impl AsRef<[u8]>) -> Result<Option<V>, ReadError> {
        let key = key.as_ref();
        let codec = self.table_codec::<V>()?;
        match self.get_bytes(key).await? {
            Some(bytes) => self.decode(codec, key, &bytes).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`get`](Self::get), the value as it is in the table's topic.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_bytes(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, ReadError> {
        self.row(key.as_ref()).await.map(|(_, value)| value)
    }

    /// The partition of a key, which is here, and the key's value.
    pub(crate) async fn row(&self, key: &[u8]) -> Result<(i32, Option<Vec<u8>>), ReadError> {
        let asked = self.ask(Question::Key(key.into())).await?;
        let mut row = (-1, None);
        for (partition, answer) in asked.answers {
            row = (partition, self.answered(answer).await?.rows.pop().map(|(_, value)| value));
        }
        Ok(row)
    }

    /// The committed rows of a range, of the partitions that this instance has: [`TablePage::partitions`] names them.
    ///
    /// # Errors
    /// When it has none, or a partition is still being restored and no other is there; see [`ReadError`].
    pub async fn range<V: 'static>(&self, range: TableRange) -> Result<TablePage<V>, ReadError> {
        let codec = self.table_codec::<V>()?;
        let TablePage { rows, next, partitions, of } = self.range_bytes(range).await?;
        let mut decoded = Vec::with_capacity(rows.len());
        for TableRow { key, value, partition } in rows {
            let value = self.decode(codec, &key, &value).await?;
            decoded.push(TableRow { key, value, partition });
        }
        Ok(TablePage { rows: decoded, next, partitions, of })
    }

    /// As [`range`](Self::range), the values as they are in the table's topic.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub async fn range_bytes(&self, range: TableRange) -> Result<TablePage<Vec<u8>>, ReadError> {
        let most = range.most();
        let asked = self.ask(Question::Rows(Arc::new(range))).await?;
        let (mut found, mut restoring) = (Vec::new(), None);
        for (partition, answer) in asked.answers {
            match self.answered(answer).await {
                Ok(rows) => found.push((partition, rows)),
                Err(error @ ReadError::Restoring { .. }) => restoring = Some(error),
                Err(error) => return Err(error),
            }
        }
        match restoring {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(merged(found, most, asked.of)),
        }
    }

    async fn ask(&self, question: Question) -> Result<Asked, ReadError> {
        let group = || self.graph.name().to_owned();
        if self.graph.table.is_none() {
            return Err(ReadError::NoTable { group: group() });
        }
        let state = self.status.borrow().state;
        if !matches!(state, State::Restoring | State::Running | State::Waiting) {
            return Err(ReadError::NotRunning { group: group(), state });
        }
        let (done, asked) = oneshot::channel();
        let not_running = || ReadError::NotRunning { group: group(), state: self.status.borrow().state };
        self.requests.send(Request::Read { question, done }).map_err(|_| not_running())?;
        asked.await.map_err(|_| not_running())?
    }

    async fn answered(
        &self,
        answer: oneshot::Receiver<Result<CommittedRows, ReadError>>,
    ) -> Result<CommittedRows, ReadError> {
        answer.await.unwrap_or_else(|_| Err(ReadError::Interrupted { group: self.graph.name().to_owned() }))
    }

    fn table_codec<V: 'static>(&self) -> Result<&Arc<dyn Codec<V>>, ReadError> {
        let group = || self.graph.name().to_owned();
        let table = self.graph.table.as_ref().ok_or_else(|| ReadError::NoTable { group: group() })?;
        typed::<V>(&table.codec)
            .ok_or_else(|| ReadError::OtherType { group: group(), asked: std::any::type_name::<V>() })
    }

    /// Decodes a value; what its codec needs for that is loaded first.
    async fn decode<V: 'static>(&self, codec: &Arc<dyn Codec<V>>, key: &[u8], bytes: &[u8]) -> Result<V, ReadError> {
        let decoded = match codec.decode(bytes) {
            Err(CodecError::NotLoaded(id)) => match codec.load(id).await {
                Ok(()) => codec.decode(bytes),
                Err(error) => Err(error),
            },
            decoded => decoded,
        };
        let (group, key) = (|| self.graph.name().to_owned(), || String::from_utf8_lossy(key).into_owned());
        decoded.map_err(|error| ReadError::Decode { group: group(), key: key(), error })
    }
}

/// One page of what the partitions found. It ends where one of them may have more, so that no row is passed over.
fn merged(found: Vec<(i32, CommittedRows)>, most: usize, of: i32) -> TablePage<Vec<u8>> {
    let partitions = found.iter().map(|(partition, _)| *partition).collect();
    let mut next = found.iter().filter_map(|(_, rows)| rows.up_to.clone()).min();
    let mut rows: Vec<TableRow<Vec<u8>>> = Vec::new();
    for (partition, found) in found {
        let sure = found.rows.into_iter().filter(|(key, _)| next.as_ref().is_none_or(|next| key <= next));
        rows.extend(sure.map(|(key, value): Pair| TableRow { key, value, partition }));
    }
    rows.sort_by(|a, b| (&a.key, a.partition).cmp(&(&b.key, b.partition)));
    // A key that is in two partitions, because somebody chose them otherwise, is not torn apart.
    let same = |n: usize| rows.get(n).map(|row| &row.key).zip(rows.get(n - 1).map(|row| &row.key));
    let end = (most..rows.len()).find(|n| same(*n).is_some_and(|(key, before)| key != before));
    if let Some(end) = end {
        rows.truncate(end);
        next = rows.last().map(|row| row.key.clone());
    }
    TablePage { rows, next, partitions, of }
}
