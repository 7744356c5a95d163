//! Handling of a record's error (semantics D6): loading the codec's missing schema, retries, then the input's policy.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::dead_letter::DeadLetter;
use super::guard::panicked;
use super::in_flight::{SlotState, Work};
use super::{SlotEnd, Task};
use crate::codec::CodecError;
use crate::context::Blocker;
use crate::group::{CallbackError, Failure, LeftOut};
use crate::log::{RecordBatch, RecordRef};
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::topology::CodecOf;
use crate::topology::{AnyCodec, Calls, OnError, To};

/// How often a codec may ask for something to be loaded for one record: a value can hold several layers of it.
const MAX_LOADS: u32 = 8;

impl Task {
    /// A slot's callback, codec or deferred work failed.
    pub(super) fn slot_failed(&mut self, id: u64, error: CallbackError) -> ProcessorResult<()> {
        let graph = Arc::clone(&self.core.graph);
        let Some(slot) = self.in_flight.get(id) else { return Ok(()) };
        let (input, next) = (slot.input, slot.next);
        let blocker = slot.stage.blocker.take();
        let untimed = self.time.on && matches!(blocker, Some(Blocker::Load(CodecOf::Input(_), _)));
        let untimed = untimed && self.in_flight.is_last(id);
        let Some(slot) = self.in_flight.get(id) else { return Ok(()) };
        // What it staged is void, and so is deferred work that is still open.
        slot.forget_attempt(None);
        slot.state = SlotState::Resting;
        let loads = slot.loads;
        let Some(edge) = self.inputs.get(input).and_then(|i| graph.inputs.get(i.edge)) else { return Ok(()) };
        slot.alone |= untimed || edge.calls == Calls::Sync;
        if !error.failure().is_final() && self.replay.poisoned(input, next - 1).is_none() {
            if let Some(resolving) = blocker.map(|o| self.resolve(o, loads)).transpose()?.flatten() {
                if self.left_to_next_owner(id) {
                    return Ok(());
                }
                if let Some(slot) = self.in_flight.get(id) {
                    slot.loads += 1;
                }
                self.futures.push(Box::pin(async move {
                    match resolving.await {
                        Ok(()) if untimed => (id, SlotEnd::Loaded),
                        Ok(()) => (id, SlotEnd::Again),
                        Err(error) => (id, SlotEnd::Unloadable(error)),
                    }
                }));
                return Ok(());
            }
            // What a codec has to load first is no attempt of the callback's.
            let Some(slot) = self.in_flight.get(id) else { return Ok(()) };
            slot.loads = 0;
            slot.attempts += 1;
            let attempts = slot.attempts;
            if let Some(retry) = edge.input.policy.retry.filter(|r| attempts <= r.attempts) {
                if self.left_to_next_owner(id) {
                    return Ok(());
                }
                let delay = retry.delay(attempts - 1);
                tracing::warn!(
                    group = graph.name(), topic = %edge.input.topic, partition = self.core.partition,
                    offset = next - 1, attempt = attempts, ?delay, ?error, "a record failed and is tried again"
                );
                self.futures.push(Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    (id, SlotEnd::Again)
                }));
                return Ok(());
            }
        }
        self.give_up(id, &error)
    }

    /// The wait before a callback that met a blocker is called again, if there is one.
    ///
    /// # Errors
    /// Where waiting is of no use. That is no fault of the record's, so its policy has no say: leaving it out would lose
    /// it.
    pub(super) fn resolve(
        &self,
        blocker: Blocker,
        loads: u32,
    ) -> ProcessorResult<Option<LocalBoxFuture<'static, Result<(), CallbackError>>>> {
        let graph = &self.core.graph;
        Ok(match blocker {
            Blocker::Load(of, missed) if loads < MAX_LOADS => self.codec(of).map(|codec| {
                async move {
                    match AssertUnwindSafe(load(&**codec, missed)).catch_unwind().await {
                        Ok(loaded) => loaded.map_err(|error| load_error(of, missed, error)),
                        Err(panic) => Err(panicked(&panic)),
                    }
                }
                .boxed_local()
            }),
            // What is due is met before a record is called; here there is nothing to wait for.
            Blocker::Load(..) | Blocker::Due(_) => None,
            Blocker::Lookup(index) => self.core.lookups.get(index).map(Arc::clone).map(|replica| {
                async move {
                    replica.readable().await;
                    Ok(())
                }
                .boxed_local()
            }),
            Blocker::LookupEnded(index, reason) => {
                let table = graph.lookups.get(index).map_or_else(String::new, |e| e.topic.to_string());
                return Err(ProcessorError::Lookup { group: graph.name().to_owned(), table, reason });
            }
            Blocker::Store(error) => return Err(ProcessorError::store(graph.name(), error)),
        })
    }

    /// Whether a slot that would have to rest is cut off, because the task ends.
    fn left_to_next_owner(&mut self, id: u64) -> bool {
        let ends = self.ending.is_some();
        if ends {
            self.in_flight.cut_from(id);
        }
        ends
    }

    /// Applies the end of the input's policy.
    fn give_up(&mut self, id: u64, error: &CallbackError) -> ProcessorResult<()> {
        let graph = Arc::clone(&self.core.graph);
        let Some(slot) = self.in_flight.get(id) else { return Ok(()) };
        let Some(edge) = self.inputs.get(slot.input).and_then(|i| graph.inputs.get(i.edge)) else { return Ok(()) };
        let (topic, partition, offset) = (&edge.input.topic, self.core.partition, slot.next - 1);
        let key = String::from_utf8_lossy(slot.key().unwrap_or(b"none")).into_owned();
        if let Some(Work::Many(records)) = &slot.work
            && records.len() > 1
            && edge.input.may_go_on()
        {
            tracing::warn!(
                group = graph.name(), %topic, partition, offset, ?error,
                "a batch failed: its records are tried one by one, so that only the bad ones are put aside"
            );
            let (input, records) = (slot.input, Rc::clone(records));
            self.one_at_a_time(id, input, &records);
            return Ok(());
        }
        let reason = error.failure().left_out();
        let (work, route) = (slot.work.clone(), edge.input.route(reason));
        let to = match (route, edge.input.end(reason)) {
            (Some(To::DeadLetter(to)), _) | (None, OnError::DeadLetter(to)) => Some(to),
            (Some(To::Nowhere | To::Call(_)), _) | (None, OnError::Skip) => None,
            (None, OnError::Fail) => {
                if reason == LeftOut::Ahead {
                    self.env.counters.left_out.fail_ahead();
                }
                tracing::error!(
                    group = graph.name(), %topic, partition, offset, %key, ?error,
                    "a record failed: its policy ends the instance"
                );
                let (group, topic) = (graph.name().to_owned(), topic.to_string());
                let error = error.clone();
                self.fail_at(id, ProcessorError::Record { group, topic, partition, offset, key, error });
                return Ok(());
            }
        };
        if let Some(to) = to {
            let now = self.env.log.clock().now_ms();
            let mut put = |record: RecordRef<'_>| {
                DeadLetter { group: graph.name(), topic, partition, record, error, now }.stage(&mut slot.stage, to);
            };
            if let Some(work) = &work {
                work.each(&mut put);
            }
        }
        let records = work.as_ref().map_or(0, |work| work.len() as u64);
        self.env.counters.left_out.count(reason, records);
        let since = match (route, reason) {
            (Some(To::Call(call)), _) => {
                if let Some(work) = &work {
                    work.each(&mut |record| self.show(call, topic, reason, Some(error), record));
                }
                None
            }
            (Some(_), _) => None,
            // Each fails in its own way.
            (None, LeftOut::Failed | LeftOut::Undecodable) => Some(1),
            (None, _) => self.env.counters.left_out.to_log(reason, records),
        };
        if let Some(since) = since {
            let to = to.map_or("nowhere", |to| to);
            tracing::warn!(
                group = graph.name(), %topic, partition, offset, %key, ?error, to, since, "a record is left out: it failed"
            );
        }
        if reason == LeftOut::Ahead {
            self.env.counters.left_out.ahead.notify_one();
        }
        self.slot_done(id)
    }

    /// Dispatches the records of a batch again, each in its own batch.
    fn one_at_a_time(&mut self, id: u64, input: usize, records: &RecordBatch) {
        let left_out = self.in_flight.get(id).and_then(|slot| slot.left_out.first().map(|(_, r)| r.view().offset));
        let first = records.get(0).map(|r| r.offset).into_iter().chain(left_out).min().unwrap_or(i64::MAX);
        let last = records.get(records.len() - 1).map_or(i64::MIN, |r| r.offset);
        self.in_flight.remove(id);
        if let Some(input) = self.inputs.get_mut(input) {
            // A batch is alone in its task, so that nothing was fetched or dispatched since.
            input.at = input.batch.iter().position(|r| r.offset >= first).unwrap_or(input.at);
            input.single_until = last + 1;
        }
    }

    fn codec(&self, of: CodecOf) -> Option<Rc<Arc<dyn AnyCodec>>> {
        let graph = &self.core.graph;
        let codec = match of {
            CodecOf::Input(i) => &graph.inputs.get(i)?.codec,
            CodecOf::Join(i) => &graph.joins.get(i)?.codec,
            CodecOf::Lookup(i) => &graph.lookups.get(i)?.codec,
            CodecOf::Table(table) => &graph.tables.get(table)?.codec,
            CodecOf::Timer(i) => &graph.timers.get(i)?.codec,
        };
        Some(Rc::new(Arc::clone(codec)))
    }
}

/// Loads what a codec misses. A registry that is away is no fault of the record's: it is waited for.
async fn load(codec: &dyn AnyCodec, id: u32) -> Result<(), CodecError> {
    let mut rest = Duration::from_millis(100);
    loop {
        match codec.load(id).await {
            Err(CodecError::Unavailable(reason)) => {
                tracing::warn!(id, reason, ?rest, "what a value needs can't be loaded now: waiting");
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(Duration::from_secs(10));
            }
            done => return done,
        }
    }
}

fn load_error(of: CodecOf, id: u32, error: CodecError) -> CallbackError {
    match of {
        CodecOf::Input(_) => CallbackError::of(Failure::Load { id, error }),
        _ => CallbackError::from(error).within(format!("what a value of a table needs (id {id}) can't be loaded")),
    }
}
