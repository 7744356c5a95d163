//! Reads and writes of the library's own tables, shared by the operations of a callback. As everything else, their writes are
//! staged.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Blocker, Ctx};
use crate::topology::{CallbackError, CallbackResult, CodecOf, Failure, TableId};

impl<S> Ctx<'_, S> {
    /// Stream time of the partition, the record's own event time included, in milliseconds since the epoch. `None` in a group
    /// without timers and windows, which does not keep it.
    pub fn stream_time(&self) -> Option<i64> {
        (self.core.graph.tables.time().is_some() && self.stage.time > i64::MIN).then_some(self.stage.time)
    }

    /// Takes back what was staged if it fails or panics, for the callback may go on.
    pub(crate) fn all_or_nothing(&mut self, stage: impl FnOnce(&mut Self) -> CallbackResult) -> CallbackResult {
        let (before, superseded_before) = (self.stage.state.savepoint(), self.stage.superseded.len());
        let done = catch_unwind(AssertUnwindSafe(|| stage(self)));
        if !matches!(done, Ok(Ok(()))) {
            self.stage.state.truncate(before);
            self.stage.superseded.truncate(superseded_before);
        }
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Keeps the newest value of a key in a state table as it came; a null deletes it.
    pub(crate) fn keep(&mut self, table: TableId, key: &[u8], value: Option<&[u8]>) -> CallbackResult {
        let Some(value) = value else {
            self.stage_state(table, key, None);
            return Ok(());
        };
        self.stage_encoded(table, key, |out| {
            out.extend_from_slice(value);
            Ok(())
        })
    }

    /// The value that a state table has for a key.
    pub(crate) fn kept<A: 'static>(&mut self, table: TableId, key: &[u8]) -> Result<Option<A>, CallbackError> {
        self.accumulator(table, key)
    }

    pub(crate) fn accumulator<A: 'static>(&mut self, table: TableId, place: &[u8]) -> Result<Option<A>, CallbackError> {
        let Some(edge) = self.core.graph.tables.get(table) else { return Ok(None) };
        let bytes = self.state_value(table, place)?;
        self.decode_table(&edge.topic, &edge.codec, CodecOf::Table(table), bytes.as_deref())
    }

    /// The value of a state table that a callback sees: the one that it has staged itself, else the table's.
    pub(crate) fn state_value(&mut self, table: TableId, place: &[u8]) -> Result<Option<Vec<u8>>, CallbackError> {
        let staged = self.stage.state.of(table).rev().find(|(key, _)| *key == place);
        let staged = staged.map(|(_, value)| value.map(<[u8]>::to_vec));
        match staged {
            Some(value) => Ok(value),
            None => self.core.state_value(table, place).map_err(|error| {
                self.stage.blocker = Some(Blocker::Store(error.clone()));
                CallbackError::of(Failure::Store(error))
            }),
        }
    }

    pub(crate) fn stage_state(&mut self, table: TableId, place: &[u8], value: Option<&[u8]>) {
        self.stage.state.push(self.core, table, self.record.timestamp, place, value);
    }

    pub(crate) fn stage_encoded(
        &mut self,
        table: TableId,
        place: &[u8],
        encode: impl FnOnce(&mut Vec<u8>) -> CallbackResult,
    ) -> CallbackResult {
        self.stage.state.push_with(self.core, table, self.record.timestamp, place, encode)
    }
}
