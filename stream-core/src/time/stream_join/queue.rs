//! The queue of a join's side: its open records in the order in which their nulls are emitted (semantics J4).
//!
//! Only a side that emits nulls has a queue. A record that is not open is passed over, once its time has come. What is ahead
//! is looked at too, so that stream time is not stopped for each record that needs nothing.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use super::keys::{OPEN, Place, from_time, read_bound};
use crate::context::Core;
use crate::store::{StoreError, prefix_end};
use crate::table::TablePartition;
use crate::time::due::{Kind, Queue};
use crate::topology::TableId;
use crate::window::{JoinWindows, Which};

/// How many records that are not open and not closed yet are passed over at a time. It bounds what is looked at again after a
/// record that comes out of order.
const AHEAD: usize = 64;

impl Queue {
    pub(crate) fn begin_at_bound(&mut self, core: &Core, side: Which) {
        if let Some(table) = core.tables.get(self.table) {
            self.pass_bound(&table.borrow(), side);
        }
    }

    /// Goes on at the bound at least. What it closes is emitted or settled, whatever a store still has of it: of a record that was
    /// passed over before it was due, the mark may be gone already, and not the entry.
    fn pass_bound(&mut self, table: &TablePartition, side: Which) {
        if let Some(at) = table.bound().and_then(|bound| read_bound(bound, side)) {
            let first = from_time(side, at);
            if self.floor < first {
                self.floor = first;
            }
        }
    }

    /// The first open record by time, key and arrival: bytes do not sort as these do, so all of one time are looked at, once.
    pub(crate) fn first_open(
        &mut self,
        core: &Core,
        table: &TablePartition,
        side: Which,
        now: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.pass_bound(table, side);
        let mut mark = Vec::new();
        let mut is_open = |entry: &[u8], value: &[u8]| -> Result<bool, StoreError> {
            if value != OPEN || core.is_deleted(self.table, entry) {
                return Ok(false);
            }
            let Some(place) = Place::of_time(entry) else { return Ok(false) };
            place.mark(&mut mark);
            table.with_value(&mark, |mark| mark.is_none())
        };
        while let Some(first) = self.of_one_time.last() {
            if is_open(first, OPEN)? {
                self.due = self.kind.due(first).unwrap_or(i64::MAX);
                return Ok(Some(first.clone()));
            }
            self.of_one_time.pop();
        }
        let end = prefix_end(side.by_time()).unwrap_or_default();
        let (mut found, mut time): (Vec<Vec<u8>>, i64) = (Vec::new(), 0);
        // The first entry that is not due yet, or is open; the last one before it; and when the one is due at which the search
        // was given up.
        let (mut floor, mut passed, mut given_up, mut ahead, mut failed) = (None, Vec::new(), None, 0, None);
        table.scan_derived(&self.floor, &end, |entry, value| {
            let Some(at) = Place::of_time(entry).map(|place| place.time) else { return ControlFlow::Continue(()) };
            if !found.is_empty() && at != time {
                return ControlFlow::Break(());
            }
            match is_open(entry, value) {
                Ok(true) => {
                    time = at;
                    found.push(entry.to_vec());
                }
                Ok(false) if found.is_empty() && self.kind.due(entry).is_some_and(|due| due > now) => ahead += 1,
                Ok(false) => {
                    if floor.is_none() {
                        entry.clone_into(&mut passed);
                    }
                    return ControlFlow::Continue(());
                }
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            floor.get_or_insert_with(|| entry.to_vec());
            if ahead > AHEAD {
                given_up = self.kind.due(entry);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(floor) = floor {
            self.floor = floor;
        } else if !passed.is_empty() {
            passed.push(0);
            self.floor = passed;
        }
        if found.len() > 1 {
            let order = |entry: &Vec<u8>| Place::of_time(entry).map(|place| (place.key.to_vec(), place.arrival));
            found.sort_by_cached_key(|entry| Reverse(order(entry)));
        }
        let first = found.last().cloned();
        if found.len() > 1 {
            self.of_one_time = found;
        }
        self.due = first.as_ref().and_then(|key| self.kind.due(key)).or(given_up).unwrap_or(i64::MAX);
        Ok(first)
    }
}

/// When the last record of a join's side that is kept is closed, whether or not it is open.
pub(crate) fn last_closes(
    core: &Core,
    table: TableId,
    side: Which,
    windows: JoinWindows,
) -> Result<Option<i64>, StoreError> {
    let Some(table) = core.tables.get(table) else { return Ok(None) };
    let table = table.borrow();
    let from = table
        .bound()
        .and_then(|bound| read_bound(bound, side))
        .map_or_else(|| side.by_time().to_vec(), |at| from_time(side, at));
    let end = prefix_end(side.by_time()).unwrap_or_default();
    let last = table.last_derived(&from, &end)?;
    Ok(last.and_then(|entry| Kind::Joined(0, side, windows).due(&entry)))
}
