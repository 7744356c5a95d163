//! The buffer of a join: the entries that it keeps of a record, and finds of the other side, in its own table (see
//! [`super::keys`]).
//!
//! As everything else, writes are staged. Of one key there is never more than one record under way, and only its records write
//! its entries, so that what a scan sees needs nothing of what is staged.

use std::ops::ControlFlow;

use super::keys::{OPEN, Place, SETTLED, read_end};
use crate::context::{Blocker, Core, Stage};
use crate::store::StoreError;
use crate::topology::{CallbackError, CallbackResult, Failure};

/// A record that is kept.
pub(crate) struct Kept {
    pub(crate) time: i64,
    pub(crate) arrival: i64,
    pub(crate) value: Vec<u8>,
}

impl Core {
    /// The entries of a side and key with times from `first.time` to `last`, by time and arrival.
    pub(crate) fn kept(&self, state: usize, first: Place<'_>, last: i64) -> Result<Vec<Kept>, StoreError> {
        let mut found = Vec::new();
        let Some(table) = self.state.get(state) else { return Ok(found) };
        let (mut from, mut end) = (Vec::with_capacity(first.key.len() + 24), Vec::with_capacity(first.key.len() + 24));
        first.from(&mut from);
        Place { time: last.saturating_add(1), ..first }.from(&mut end);
        table.borrow().scan(&from, Some(&end), |entry, value| {
            // One that has fired is no longer kept, though it is not deleted yet.
            if !self.is_deleted(state, entry)
                && let Some((time, arrival)) = read_end(entry)
            {
                found.push(Kept { time, arrival, value: value.to_vec() });
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Whether the record's null is still to be emitted; `None` for a record that is not kept.
    pub(crate) fn is_open(
        &self,
        state: usize,
        place: Place<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<bool>, StoreError> {
        let Some(table) = self.state.get(state) else { return Ok(None) };
        place.by_time(scratch);
        if self.is_deleted(state, scratch) {
            return Ok(None);
        }
        table.borrow().with_value(scratch, |value| value.map(|value| value == OPEN))
    }
}

impl Stage {
    /// Keeps a record. The entry that it falls due by comes first: one alone is cleared away in its time.
    pub(crate) fn keep(
        &mut self,
        core: &Core,
        state: usize,
        place: Place<'_>,
        value: &[u8],
        open: bool,
        scratch: &mut Vec<u8>,
    ) -> CallbackResult {
        place.by_time(scratch);
        self.put(core, state, place.time, scratch, if open { OPEN } else { SETTLED })?;
        place.by_key(scratch);
        self.put(core, state, place.time, scratch, value)
    }

    /// A record that is kept has found a match: no null is emitted for it.
    pub(crate) fn settle(
        &mut self,
        core: &Core,
        state: usize,
        place: Place<'_>,
        scratch: &mut Vec<u8>,
    ) -> CallbackResult {
        place.by_time(scratch);
        self.put(core, state, place.time, scratch, SETTLED)
    }

    fn put(&mut self, core: &Core, state: usize, at: i64, entry: &[u8], value: &[u8]) -> CallbackResult {
        // A log takes no times before 1970.
        self.state.push_with(core, state, at.max(0), entry, |out| {
            out.extend_from_slice(value);
            Ok(())
        })
    }

    /// Notes that it is not the record that is at fault.
    pub(crate) fn store_failed(&mut self, error: StoreError) -> CallbackError {
        self.blocker = Some(Blocker::Store(error.clone()));
        CallbackError::of(Failure::Store(error))
    }
}
