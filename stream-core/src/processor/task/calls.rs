//! Calls of records that have a slot, and what comes of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;

use super::guard::{guarded, panicked};
use super::in_flight::{SlotState, Work};
use super::nulls::{Verdict, verdict};
use super::{SlotEnd, Task};
use crate::context::{DeferredEnd, Stage};
use crate::group::callback::StagedFuture;
use crate::group::{CallbackError, CallbackResult, Handler};
use crate::log::RecordRef;
use crate::processor::error::ProcessorResult;
use crate::processor::faults::Moment;

impl Task {
    /// Calls a slot's callback, or starts to await it. A slot that waits for its key is left waiting.
    pub(super) fn call_slot(&mut self, id: u64) -> ProcessorResult<()> {
        let env = Arc::clone(&self.env);
        let Some(slot) = self.in_flight.get(id).filter(|s| s.state != SlotState::Waiting) else { return Ok(()) };
        slot.state = SlotState::Running;
        let (input, next, time) = (slot.input, slot.next, slot.seen);
        let Some(work) = slot.work.clone() else { return Ok(()) };
        let Some(input_edge) = self.inputs.get(input).map(|i| i.edge) else { return Ok(()) };
        let Some(on) = env.graph.input(input_edge) else { return Ok(()) };
        // Known from the start: deferred work may end while the callback still awaits something else.
        let token = self.core.next_work_id();
        slot.forget_attempt(Some(token));
        let mut stage = Stage { slot: Some(token), time, ..Stage::default() };
        let verdicts = |record: RecordRef<'_>| verdict(&self.core, on, input_edge, record);
        let fault = match &work {
            Work::One(record) => match verdicts(record.view()) {
                Verdict::Call => None,
                Verdict::Refuse(error) => Some(error),
                // It was ahead of the clock when it came, and no longer is.
                Verdict::LeaveOut(reason, _) => {
                    stage.left_out.add(reason);
                    return self.slot_returned(id, stage, Ok(()));
                }
            },
            Work::Many(records) => records.iter().find_map(|record| match verdicts(record) {
                Verdict::Refuse(error) => Some(error),
                Verdict::Call | Verdict::LeaveOut(..) => None,
            }),
        };
        let fault = fault.or_else(|| self.replay.poisoned(input, next - 1));
        let fault = fault.or_else(|| guarded(|| self.env.faults.check(&on.edge.input.topic, Moment::Before)).err());
        if let Some(error) = fault {
            return match work {
                Work::One(_) => self.slot_returned(id, stage, Err(error)),
                Work::Many(_) => {
                    self.fail_batch(id, error);
                    Ok(())
                }
            };
        }
        match (on.handler, work) {
            (Handler::Sync(handler), Work::One(record)) => {
                let result = guarded(|| {
                    handler.call(&self.core, record.source(), record.view(), &mut stage)?;
                    self.env.faults.check(&on.edge.input.topic, Moment::After)
                });
                return self.slot_returned(id, stage, result);
            }
            (Handler::Async(handler), Work::One(record)) => {
                let core = Rc::clone(&self.core);
                match catch_unwind(AssertUnwindSafe(|| handler.call(core, record, stage))) {
                    Ok(future) => self.await_slot(id, future, &on.edge.input.topic),
                    Err(panic) => return self.slot_returned(id, Stage::default(), Err(panicked(&panic))),
                }
            }
            (Handler::Batch(handler), Work::Many(records)) => {
                let core = Rc::clone(&self.core);
                match catch_unwind(AssertUnwindSafe(|| handler.call(core, input_edge, records, stage))) {
                    Ok(future) => self.await_slot(id, future, &on.edge.input.topic),
                    Err(panic) => self.fail_batch(id, panicked(&panic)),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A batch fails in a later turn only, for what follows may give its records back to their input.
    fn fail_batch(&mut self, id: u64, error: CallbackError) {
        let failed = SlotEnd::Returned(Stage::default(), Err(error));
        self.futures.push(Box::pin(std::future::ready((id, failed))));
    }

    fn await_slot(&mut self, id: u64, future: StagedFuture, topic: &Arc<str>) {
        let (env, topic) = (Arc::clone(&self.env), Arc::clone(topic));
        self.futures.push(Box::pin(async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok((stage, result)) => {
                    let fault = || guarded(|| env.faults.check(&topic, Moment::After));
                    (id, SlotEnd::Returned(stage, result.and_then(|()| fault())))
                }
                Err(panic) => (id, SlotEnd::Returned(Stage::default(), Err(panicked(&panic)))),
            }
        }));
    }

    /// Gives the records of a slot, behind which nothing was fetched or dispatched, back to their input: what is due before
    /// them comes first.
    fn give_back(&mut self, id: u64) {
        let Some(slot) = self.in_flight.get(id) else { return };
        let first = match &slot.work {
            Some(Work::One(record)) => record.view().offset,
            Some(Work::Many(records)) => records.get(0).map_or(i64::MAX, |record| record.offset),
            None => return,
        };
        let (input, next, loads, key) = (slot.input, slot.next, slot.loads, slot.key().map(<[u8]>::to_vec));
        self.in_flight.remove(id);
        if let Some(key) = key {
            self.in_flight.free(&key);
        }
        if let Some(input) = self.inputs.get_mut(input) {
            input.at = input.batch.iter().position(|r| r.offset >= first).unwrap_or(input.at);
            input.loaded = (next, loads);
        }
    }

    pub(super) fn slot_end(&mut self, id: u64, end: SlotEnd) -> ProcessorResult<()> {
        if self.in_flight.get(id).is_none() {
            return Ok(());
        }
        match end {
            SlotEnd::Returned(stage, result) => self.slot_returned(id, stage, result),
            SlotEnd::Again => self.call_slot(id),
            SlotEnd::Loaded => {
                self.give_back(id);
                Ok(())
            }
            SlotEnd::Unloadable(error) => self.slot_failed(id, error),
        }
    }

    /// A slot's callback returned.
    pub(super) fn slot_returned(&mut self, id: u64, stage: Stage, result: CallbackResult) -> ProcessorResult<()> {
        let Some(slot) = self.in_flight.get(id) else { return Ok(()) };
        slot.token = stage.slot;
        slot.stage = stage;
        slot.stage.deferred = slot.stage.deferred.saturating_sub(slot.early);
        match result.and_then(|()| slot.early_error.take().map_or(Ok(()), Err)) {
            Err(error) => self.slot_failed(id, error),
            Ok(()) if slot.stage.deferred > 0 => {
                slot.state = SlotState::Open;
                slot.set = self.time.first_due(&slot.stage.state);
                Ok(())
            }
            Ok(()) => self.slot_done(id),
        }
    }

    pub(super) fn deferred_end(&mut self, end: DeferredEnd) -> ProcessorResult<()> {
        let Some(slot) = self.in_flight.deferred(end.slot) else { return Ok(()) };
        let id = slot.id;
        match (slot.state, end.result) {
            // The callback itself still runs: its stage, with the count of what it deferred, comes with its end.
            (SlotState::Running, result) => {
                slot.early += 1;
                slot.early_error = slot.early_error.take().or(result.err());
                Ok(())
            }
            (SlotState::Open, Err(error)) => self.slot_failed(id, error),
            (SlotState::Open, Ok(())) => {
                slot.stage.deferred = slot.stage.deferred.saturating_sub(1);
                if slot.stage.deferred == 0 { self.slot_done(id) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}
