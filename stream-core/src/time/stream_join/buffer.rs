//! The buffer of a join: the records that it keeps, and finds of the other side, in its own table (see [`super::keys`]).
//!
//! As everything else, writes are staged. Of one key there is never more than one record under way, and only its records write
//! its entries, so that what a scan sees needs nothing of what is staged.
//!
//! What is closed is not deleted: the bound of the table says which records these are. So a scan never looks below what stream
//! time keeps.

use std::ops::ControlFlow;

use super::keys::{OPEN, Place, SETTLED, read_value};
use crate::context::{Blocker, Core, Stage};
use crate::store::StoreError;
use crate::topology::{CallbackError, CallbackResult, Failure, TableId};

/// A record that is kept.
pub(crate) struct Kept {
    pub(crate) time: i64,
    pub(crate) arrival: i64,
    /// It came without a match, and its side emits nulls.
    pub(crate) open: bool,
    pub(crate) value: Vec<u8>,
}

impl Core {
    /// The records of a side and key with times from `first.time` to `last`, by time and arrival.
    pub(crate) fn kept(&self, table: TableId, first: Place<'_>, last: i64) -> Result<Vec<Kept>, StoreError> {
        let mut found = Vec::new();
        let Some(table) = self.tables.get(table) else { return Ok(found) };
        if first.time > last {
            return Ok(found);
        }
        let (mut from, mut end) = (Vec::with_capacity(first.key.len() + 24), Vec::with_capacity(first.key.len() + 24));
        first.from(&mut from);
        Place { time: last.saturating_add(1), ..first }.from(&mut end);
        table.borrow().scan(&from, Some(&end), |record, value| {
            if let Some(Place { time, arrival, .. }) = Place::of_record(record) {
                let (open, value) = read_value(value);
                found.push(Kept { time, arrival, open, value: value.to_vec() });
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Whether a record that is done now came without a match: one that was done before may have found one.
    pub(crate) fn came_open(
        &self,
        table: TableId,
        place: Place<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<bool, StoreError> {
        let Some(table) = self.tables.get(table) else { return Ok(true) };
        place.by_key(scratch);
        table.borrow().with_value(scratch, |value| value.is_none_or(|value| read_value(value).0))
    }

    /// Whether no null of a record is to be emitted, though it came without a match.
    pub(crate) fn is_marked(
        &self,
        table: TableId,
        place: Place<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<bool, StoreError> {
        let Some(partition) = self.tables.get(table) else { return Ok(true) };
        place.by_time(scratch);
        if self.is_deleted(table, scratch) {
            return Ok(true);
        }
        place.mark(scratch);
        partition.borrow().with_value(scratch, |value| value.is_some())
    }
}

impl Stage {
    /// Keeps a record.
    pub(crate) fn keep(
        &mut self,
        core: &Core,
        table: TableId,
        place: Place<'_>,
        value: &[u8],
        open: bool,
        scratch: &mut Vec<u8>,
    ) -> CallbackResult {
        place.by_key(scratch);
        // A log takes no times before 1970.
        self.state.push_with(core, table, place.time.max(0), scratch, |out| {
            out.extend_from_slice(if open { OPEN } else { SETTLED });
            out.extend_from_slice(value);
            Ok(())
        })
    }

    /// A record that is kept has found its first match: no null is emitted for it. With at-least-once delivery its mark is
    /// written once the match is acknowledged: a match may be refused, or lost, though its mark is accepted.
    pub(crate) fn settle(&mut self, table: TableId, place: Place<'_>, scratch: &mut Vec<u8>) {
        place.by_time(scratch);
        self.superseded.push((table, scratch.as_slice().into()));
    }

    /// Notes that it is not the record that is at fault.
    pub(crate) fn store_failed(&mut self, error: StoreError) -> CallbackError {
        self.blocker = Some(Blocker::Store(error.clone()));
        CallbackError::of(Failure::Store(error))
    }
}
