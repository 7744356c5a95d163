//! From done to released: writes are seen by later records, and effects go to the end of what is handed over next.
//!
//! Effects are released in the order of offsets only (semantics D7).

use std::rc::Rc;

use super::Task;
use super::in_flight::{InFlightSlot, SlotState, Work};
use crate::context::{Core, LeftOutOf, Stage, StateWrites, table_time};
use crate::log::NewRecord;
use crate::processor::error::ProcessorResult;
use crate::table::Place;
use crate::topology::TableId;

impl Task {
    /// Applies what the stage has, and adds it to what is released.
    pub(super) fn apply_in_place(&mut self, core: &Rc<Core>, key: Option<&[u8]>) {
        let at = self.stage.at;
        if let Some(value) = self.stage.written() {
            let place = core.tables.group.as_ref().zip(key).map(|(table, key)| table.borrow_mut().apply(key, value));
            // Borrow of `stage.value` ends here: the push needs the whole stage.
            let bytes = value.is_some().then(|| std::mem::take(&mut self.stage.value));
            push_changelog(core, &mut self.stage, TableId::GROUP, place, key, bytes.as_deref(), at);
            if let Some(bytes) = bytes {
                self.stage.value = bytes;
            }
        }
        if !self.stage.state.is_empty() || !self.stage.superseded.is_empty() {
            self.time.apply(core, &mut self.stage);
            self.stage.out.append(self.stage.state.records());
            hand_over_state(core, &self.stage.state);
            self.time.release_superseded(&mut self.stage);
        }
    }

    /// Everything of a slot is done: its write is seen from now on, and what waits for its key begins.
    pub(super) fn slot_done(&mut self, id: u64) -> ProcessorResult<()> {
        let core = Rc::clone(&self.core);
        let Some(slot) = self.in_flight.get(id) else { return Ok(()) };
        slot.state = SlotState::Done;
        slot.alone = false;
        if let (Some(table), Some(value), Some(key)) = (&core.tables.group, slot.stage.written(), slot.key()) {
            slot.place = Some(table.borrow_mut().apply(key, value));
        }
        if !slot.stage.state.is_empty() {
            self.time.apply(&core, &mut slot.stage);
        }
        let key = slot.key().map(<[u8]>::to_vec);
        self.release();
        let waiting = key.and_then(|key| self.in_flight.free(&key));
        if let Some(next) = waiting
            && let Some(slot) = self.in_flight.get(next)
        {
            slot.state = SlotState::Running;
            return self.call_slot(next);
        }
        Ok(())
    }

    /// Releases what is done at the front.
    pub(super) fn release(&mut self) {
        while let Some(mut slot) = self.in_flight.pop_done() {
            let first = self.stage.out.len();
            // Of a batch that failed, only what comes before its record is left out with it.
            for (reason, record) in &slot.left_out {
                let mut left_out = LeftOutOf::default();
                left_out.add(*reason);
                self.leave_out(slot.input, left_out, record.view());
            }
            self.stage.out.append(&slot.stage.out);
            if let (Some(value), Some(Work::One(record))) = (slot.stage.written(), &slot.work) {
                let key = record.view().key;
                push_changelog(&self.core, &mut self.stage, TableId::GROUP, slot.place, key, value, slot.stage.at);
            }
            if self.time.on {
                self.stage.out.append(slot.stage.state.records());
                hand_over_state(&self.core, &slot.stage.state);
                self.time.release_superseded(&mut slot.stage);
                self.time.release(slot.seen.max(slot.stage.time));
            }
            if let (true, Some(Work::One(record))) = (slot.stage.left_out.is_any(), &slot.work) {
                self.leave_out(slot.input, slot.stage.left_out, record.view());
            }
            if self.alignment.is_on() {
                self.note_released(&slot);
            }
            self.released(slot.input, first, slot.next - 1, slot.next);
        }
    }

    fn note_released(&mut self, slot: &InFlightSlot) {
        match &slot.work {
            Some(Work::One(record)) => self.alignment.released(slot.input, record.view().timestamp),
            Some(Work::Many(records)) => {
                for record in records.iter() {
                    self.alignment.released(slot.input, record.timestamp);
                }
            }
            None => {}
        }
    }

    /// Notes that an input is done up to `next`, and that the batch from `first` on is the work of `offset`.
    pub(super) fn released(&mut self, input: usize, first: usize, offset: i64, next: i64) {
        if self.stage.out.len() > first {
            self.sources.push((first, input, offset));
        }
        if let Some(input) = self.inputs.get_mut(input) {
            input.released = next;
        }
        self.moved = true;
    }
}

/// Writes to the library's own tables are released, in the order in which they were applied.
fn hand_over_state(core: &Core, state: &StateWrites) {
    for (table, place) in state.applied() {
        if let Some(table) = core.tables.get(*table) {
            table.borrow_mut().hand_over(Some(*place));
        }
    }
}

/// Writes to a table for the task itself: the write is applied, and added to what is released.
pub(super) fn write_table(
    core: &Core,
    stage: &mut Stage,
    table: TableId,
    key: &[u8],
    value: Option<&[u8]>,
    timestamp: i64,
) {
    let Some(place) = core.tables.get(table).map(|table| table.borrow_mut().apply(key, value)) else { return };
    push_changelog(core, stage, table, Some(place), Some(key), value, timestamp);
}

/// Adds a write to a table, which is applied at a place, to what is released.
fn push_changelog(
    core: &Core,
    stage: &mut Stage,
    table: TableId,
    place: Option<Place>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    timestamp: i64,
) {
    let Some((table, edge)) = core.tables.get(table).zip(core.graph.tables.get(table)) else { return };
    table.borrow_mut().hand_over(place);
    let (partition, timestamp) = (Some(core.partition), Some(table_time(timestamp)));
    let record = NewRecord { topic: &edge.topic, partition, timestamp, key, value };
    stage.out.push(record, std::iter::empty());
}
