//! Records on their way through callbacks.
//!
//! While nothing is under way, a record of a non-awaiting input is processed in place: its effects go straight to the
//! end of the released batch, and are cut off again if it fails. Any other record gets a slot.

use std::rc::Rc;
use std::sync::Arc;

use super::Task;
use super::guard::guarded;
use super::in_flight::{InFlightSlot, SlotState, Work};
use super::nulls::{Verdict, verdict};
use super::search::Suspect;
use crate::context::{Blocker, OwnedRecord, Source, Stage};
use crate::group::Handler;
use crate::group::graph::InputCall;
use crate::log::{RecordBatch, RecordRef};
use crate::processor::error::ProcessorResult;
use crate::processor::faults::Moment;
use crate::topology::Calls;

impl Task {
    /// Whether the next record of an input may be dispatched.
    pub(super) fn room_for(&self, at: usize) -> bool {
        if self.in_flight.is_empty() {
            return true;
        }
        let Some(input) = self.inputs.get(at) else { return false };
        let Some(edge) = self.core.graph.inputs.get(input.edge) else { return false };
        if self.in_flight.len() >= edge.input.concurrency || self.is_blocked(at) {
            return false;
        }
        match edge.calls {
            Calls::Async => true,
            Calls::Batch => false,
            // Callbacks that do not await are called in offset order, so a busy key holds all others back.
            Calls::Sync => {
                let key = input.batch.get(input.at).and_then(|r| r.key);
                !key.is_some_and(|key| self.in_flight.is_busy(key))
            }
        }
    }

    /// Processes fetched records of one input, up to a time.
    pub(super) fn run_slice(&mut self, at: usize, until: i64) -> ProcessorResult<()> {
        let env = Arc::clone(&self.env);
        let graph = &env.graph;
        let Some(input) = self.inputs.get_mut(at) else { return Ok(()) };
        let Some(on) = graph.input(input.edge) else { return Ok(()) };
        if std::mem::take(&mut input.unchecked)
            && let Some(Some(placement)) = self.env.placements.get(input.edge)
        {
            let (partition, counters) = (self.core.partition, &self.env.counters);
            placement.check(graph.name(), partition, &input.batch, &mut input.looked, counters)?;
        }
        self.core.look_at_clock();
        let topic = Arc::clone(input.topic());
        let source = Source { input: input.edge, topic: &topic };
        let batch = std::mem::take(&mut input.batch);
        let mut next = input.at;
        let searching = self.replay.search.is_on(&self.inputs);
        let mut result = Ok(());
        self.blocked = None;
        self.pulse.begin();
        if let Handler::Batch(_) = on.handler {
            let suspect = batch.get(next).map(|record| (at, record.offset));
            if !searching || suspect.is_some_and(|s| self.admits(s)) {
                (next, result) = self.dispatch_batch(at, on, &batch, next, until);
                if !self.time.take_held() && searching {
                    self.replay.search.dispatched(suspect);
                }
            }
        } else {
            while let Some(record) = batch.get(next).filter(|r| r.timestamp <= until) {
                if searching && !self.admits((at, record.offset)) {
                    break;
                }
                let direct = matches!(on.handler, Handler::Sync(_)) && self.in_flight.is_empty();
                result = if direct {
                    self.call_in_place(at, on, source, record)
                } else {
                    self.dispatch(at, on, source, record)
                };
                if self.time.take_held() {
                    break;
                }
                next += 1;
                if searching {
                    self.replay.search.dispatched(Some((at, record.offset)));
                }
                let closed = searching && self.replay.search.is_closed();
                // Behind a record that failed for good nothing may be released: its offset would be passed.
                if result.is_err() || closed || self.is_full() || self.ending.is_some() {
                    break;
                }
                // In slots, each record is asked for again, for it may have to wait. What has fallen due comes first.
                if !self.in_flight.is_empty() || self.time.interrupts() || self.pulse.is_over() {
                    break;
                }
            }
        }
        if let Some(input) = self.inputs.get_mut(at) {
            input.batch = batch;
            input.at = next;
        }
        self.bound_buffer();
        result
    }

    /// Whether a record may go into the next hand-over, while a culprit is looked for.
    fn admits(&mut self, suspect: Suspect) -> bool {
        let fresh = self.in_flight.is_empty() && !self.moved;
        self.replay.search.admits(suspect, fresh)
    }

    /// The fast path: call, and release at once.
    fn call_in_place(
        &mut self,
        at: usize,
        on: InputCall<'_>,
        source: Source<'_>,
        record: RecordRef<'_>,
    ) -> ProcessorResult<()> {
        let Handler::Sync(handler) = on.handler else { return Ok(()) };
        let before = self.stage.out.savepoint();
        let first = self.stage.out.len();
        self.stage.reset();
        (self.stage.at, self.stage.time, self.stage.due) = (record.timestamp, self.time.seen, self.time.due);
        let result = match verdict(&self.core, on, source.input, record) {
            Verdict::LeaveOut(reason, time) => {
                self.stage.left_out.add(reason);
                self.stage.arrive(time, record).map(drop)
            }
            Verdict::Refuse(error) => Err(error),
            Verdict::Call => match self.replay.poisoned(at, record.offset) {
                Some(error) => Err(error),
                None => guarded(|| {
                    self.env.faults.check(source.topic, Moment::Before)?;
                    handler.call(&self.core, source, record, &mut self.stage)?;
                    self.env.faults.check(source.topic, Moment::After)
                }),
            },
        };
        if result.is_ok() && self.stage.deferred == 0 {
            if self.stage.has_written() {
                let core = Rc::clone(&self.core);
                self.apply_in_place(&core, record.key);
            }
            if self.time.on {
                self.time.release(self.stage.time);
            }
            if self.stage.left_out.is_any() {
                self.leave_out(at, self.stage.left_out, record);
            }
            if self.alignment.is_on() {
                self.alignment.released(at, record.timestamp);
            }
            self.released(at, first, record.offset, record.offset + 1);
            return Ok(());
        }
        if let Some(Blocker::Due(time)) = self.stage.blocker {
            self.stage.reset();
            self.time.hold(time);
            return Ok(());
        }
        // It failed or deferred: what it staged moves to its own slot.
        self.time.seen = self.time.seen.max(self.stage.time);
        let mut stage = Stage { write: self.stage.write, deferred: self.stage.deferred, ..Stage::default() };
        (stage.slot, stage.blocker) = (self.stage.slot, self.stage.blocker.take());
        (stage.at, stage.time) = (self.stage.at, self.stage.time);
        stage.left_out = self.stage.left_out;
        std::mem::swap(&mut stage.state, &mut self.stage.state);
        std::mem::swap(&mut stage.superseded, &mut self.stage.superseded);
        std::mem::swap(&mut stage.value, &mut self.stage.value);
        stage.out.append_from(&self.stage.out, before);
        self.stage.out.truncate(before);
        self.stage.reset();
        let id = self.push_slot(
            at,
            Work::One(Rc::new(OwnedRecord::new(source, record))),
            record.offset + 1,
            SlotState::Running,
        );
        self.slot_returned(id, stage, result)
    }

    /// Gives a record a slot, and calls its callback unless its key is busy.
    fn dispatch(
        &mut self,
        at: usize,
        on: InputCall<'_>,
        source: Source<'_>,
        record: RecordRef<'_>,
    ) -> ProcessorResult<()> {
        let next = record.offset + 1;
        let verdict = verdict(&self.core, on, source.input, record);
        let time = self.event_time(on, source.input, record, &verdict);
        if !self.reach(at, time) {
            return Ok(());
        }
        let work = Work::One(Rc::new(OwnedRecord::new(source, record)));
        if let Verdict::LeaveOut(reason, _) = verdict {
            let id = self.push_slot(at, work, next, SlotState::Done);
            if let Some(slot) = self.in_flight.get(id) {
                slot.stage.left_out.add(reason);
            }
            self.release();
            return Ok(());
        }
        let id = self.push_slot(at, work, next, SlotState::Running);
        let horizon = self.time.horizon(time);
        if let Some(slot) = self.in_flight.get(id) {
            slot.horizon = horizon;
            // Nothing is read behind a record whose time is not known: it may have to go back to its input.
            slot.alone |= self.time.on && time.is_none();
        }
        self.call_slot(id)
    }

    fn dispatch_batch(
        &mut self,
        at: usize,
        on: InputCall<'_>,
        batch: &RecordBatch,
        from: usize,
        until: i64,
    ) -> (usize, ProcessorResult<()>) {
        let mut records = RecordBatch::new();
        let mut next = from;
        let single = self.inputs.get(at).map_or(i64::MIN, |i| i.single_until);
        let single = self.replay.search.is_on(&self.inputs) || batch.get(from).is_some_and(|r| r.offset < single);
        let most = if single { 1 } else { on.edge.input.batch };
        let input = self.inputs.get(at).map_or(0, |i| i.edge);
        let mut left_out = Vec::new();
        let mut offset = None;
        let mut refused = false;
        while records.len() < most
            && !refused
            && let Some(record) = batch.get(next).filter(|r| r.timestamp <= until)
        {
            let verdict = verdict(&self.core, on, input, record);
            let time = self.event_time(on, input, record, &verdict);
            if !self.reach(at, time) {
                break;
            }
            match verdict {
                // It fails alone: what is before it goes first.
                Verdict::Refuse(_) if !records.is_empty() => break,
                Verdict::LeaveOut(reason, _) => {
                    let source = Source { input, topic: &on.edge.input.topic };
                    left_out.push((reason, Rc::new(OwnedRecord::new(source, record))));
                }
                called => {
                    refused = matches!(called, Verdict::Refuse(_));
                    records.push(record.offset, record.timestamp, record.key, record.value, record.headers.iter());
                }
            }
            next += 1;
            offset = Some(record.offset + 1);
        }
        let Some(offset) = offset else { return (next, Ok(())) };
        let state = if records.is_empty() { SlotState::Done } else { SlotState::Running };
        let id = self.push_slot(at, Work::Many(Rc::new(records)), offset, state);
        if let Some(slot) = self.in_flight.get(id) {
            slot.left_out = left_out;
        }
        if state == SlotState::Running {
            return (next, self.call_slot(id));
        }
        self.release();
        (next, Ok(()))
    }

    /// The event time of a record that gets a slot, as far as it moves stream time and is known before its callback.
    fn event_time(&self, on: InputCall<'_>, input: usize, record: RecordRef<'_>, verdict: &Verdict) -> Option<i64> {
        match verdict {
            _ if !self.time.on => None,
            Verdict::LeaveOut(_, time) => *time,
            Verdict::Refuse(_) => None,
            Verdict::Call => {
                let mut at = None;
                // An error or a panic of the codec is met again by the call, where the input's policy applies to it.
                _ = guarded(|| {
                    at = on.handler.event_time(&self.core, input, record)?;
                    Ok(())
                });
                at
            }
        }
    }

    /// A record that gets a slot takes stream time to its event time. False, and the record is held, if something is due
    /// before, or may be once a record under way is done.
    fn reach(&mut self, at: usize, time: Option<i64>) -> bool {
        if !self.time.on {
            return true;
        }
        let reached = self.time.reached_by(time);
        if self.in_flight.horizon() <= reached {
            self.blocked = Some((at, reached));
            self.time.block();
            return false;
        }
        time.is_none_or(|time| self.time.dispatch(time))
    }

    /// Whether the next record of an input waits for a record under way, because of what that may set.
    fn is_blocked(&self, at: usize) -> bool {
        self.blocked.is_some_and(|(input, reached)| input == at && self.in_flight.horizon() <= reached)
    }

    fn push_slot(&mut self, input: usize, work: Work, next: i64, state: SlotState) -> u64 {
        let id = self.core.next_work_id();
        let mut slot = InFlightSlot::new(id, input, next, work, state);
        slot.seen = self.time.seen;
        if let Some(input) = self.inputs.get(input).filter(|input| input.loaded.0 == next) {
            slot.loads = input.loaded.1;
        }
        self.in_flight.push(slot);
        id
    }
}
