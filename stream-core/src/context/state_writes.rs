//! Staged writes to the library's own tables: what goes to their changelogs.
//!
//! Which table a write is of is known by the topic's place in the batch: no names are compared for each record.

use super::core::{Core, too_large};
use crate::log::{NewRecord, ProduceBatch, Savepoint};
use crate::table::Place;
use crate::topology::{CallbackError, CallbackResult, Failure, TableId};

/// Writes in the order in which they were staged. What is cleared keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct StateWrites {
    batch: ProduceBatch,
    /// The table of each topic of the batch.
    tables: Vec<TableId>,
    /// Once they are applied: the table and the place of each.
    applied: Vec<(TableId, Place)>,
}

/// The time of a table's record, for an event time. Kafka stops the compaction of a partition for good when it rewrites a
/// batch with a time below zero, so such a record gets the earliest time that there is. A client may take zero for no time.
pub(crate) fn table_time(at: i64) -> i64 {
    if at < 0 { 1 } else { at }
}

impl StateWrites {
    /// Appends a write; `None` is a deletion.
    pub(crate) fn push(&mut self, core: &Core, table: TableId, at: i64, key: &[u8], value: Option<&[u8]>) {
        let Some(edge) = core.graph.tables.get(table) else { return };
        let (topic, partition, timestamp) = (&edge.topic, Some(core.partition), Some(table_time(at)));
        self.batch.push(NewRecord { topic, partition, timestamp, key: Some(key), value }, std::iter::empty());
        self.note_topic(table);
    }

    /// Appends a write whose value `encode` appends to a buffer. One that fails, or is larger than the topic takes, leaves
    /// everything as it was.
    pub(crate) fn push_with(
        &mut self,
        core: &Core,
        table: TableId,
        at: i64,
        key: &[u8],
        encode: impl FnOnce(&mut Vec<u8>) -> CallbackResult,
    ) -> CallbackResult {
        let Some(edge) = core.graph.tables.get(table) else { return Ok(()) };
        let (topic, partition, timestamp) = (&edge.topic, Some(core.partition), Some(table_time(at)));
        let record = NewRecord { topic, partition, timestamp, key: Some(key), value: None };
        let (before, bytes) = (self.batch.savepoint(), self.batch.bytes());
        // A topic stays with the batch, even if its record does not, because `encode` fails or panics.
        self.batch.add_topic(topic);
        self.note_topic(table);
        self.batch.push_with(record, std::iter::empty(), encode)?;
        let size = self.batch.bytes() - bytes;
        let limit = core.table_limit(table);
        if size > limit {
            self.batch.truncate(before);
            return Err(CallbackError::of(Failure::Emit(too_large(topic, size, limit))));
        }
        Ok(())
    }

    fn note_topic(&mut self, table: TableId) {
        if self.tables.len() < self.batch.topics().len() {
            self.tables.push(table);
        }
    }

    /// All of them: table, key and value.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (TableId, &[u8], Option<&[u8]>)> {
        (0..self.batch.len()).filter_map(|index| {
            let table = *self.tables.get(self.batch.topic_of(index)?)?;
            let (record, _) = self.batch.get(index)?;
            Some((table, record.key?, record.value))
        })
    }

    /// Those of a table: key and value.
    pub(crate) fn of(&self, table: TableId) -> impl DoubleEndedIterator<Item = (&[u8], Option<&[u8]>)> {
        self.iter().filter(move |(of, ..)| *of == table).map(|(_, key, value)| (key, value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.applied.clear();
    }

    pub(crate) fn savepoint(&self) -> Savepoint {
        self.batch.savepoint()
    }

    pub(crate) fn truncate(&mut self, to: Savepoint) {
        self.batch.truncate(to);
    }

    /// The table and the place of each, in order, once they are applied.
    pub(crate) fn applied(&self) -> &[(TableId, Place)] {
        &self.applied
    }

    /// The memory for the places, to be given back by [`set_applied`](Self::set_applied).
    pub(crate) fn take_applied(&mut self) -> Vec<(TableId, Place)> {
        let mut applied = std::mem::take(&mut self.applied);
        applied.clear();
        applied
    }

    pub(crate) fn set_applied(&mut self, applied: Vec<(TableId, Place)>) {
        self.applied = applied;
    }

    /// As records of the changelogs.
    pub(crate) fn records(&self) -> &ProduceBatch {
        &self.batch
    }
}
