//! The queries of a handle: asks the tasks, and puts their answers together.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Asked, Question, ReadError, TablePage, TableRange, TableRow};
use crate::codec::{Codec, CodecError};
use crate::processor::handle::{Handle, Request};
use crate::processor::status::State;
use crate::store::Pair;
use crate::table::CommittedRows;
use crate::topology::typed;

impl Handle {
    /// The committed value of a key of the group's table, if this instance has the key's partition: the one that the
    /// processor's [partitioner](crate::processor::Processor::partitioner) chooses, as it must have for the records of the key.
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
        if self.graph.tables.group.is_none() {
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
        let table = self.graph.tables.group.as_ref().ok_or_else(|| ReadError::NoTable { group: group() })?;
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
