//! From released effects to acknowledged ones, and what follows a delivery that failed.

use std::sync::Arc;
use std::time::Duration;

use super::Task;
use super::input::TaskInput;
use super::outbox::HandOver;
use crate::group::{CallbackError, Failure};
use crate::log::{Delivery, ErrorClass, LogError, ProduceBatch};
use crate::processor::error::{ProcessorError, ProcessorResult};

/// What a task does after a failed delivery (semantics D8).
///
/// Trouble that passes (a broker away) is met by going back and doing it again. A record that its topic refuses is
/// first searched for, one record at a time up to where the failure was seen; once it is known, its own policy
/// applies to it on the next replay.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// A delivery failed; everything on its way is waited for, then the task goes back.
    waiting: Option<Waiting>,
    /// Up to these positions records are processed and delivered one at a time.
    until: Option<Vec<i64>>,
    /// The record that can't be delivered: input, offset, why.
    poison: Option<(usize, i64, LogError)>,
    /// Failures in a row that may pass.
    failures: u32,
}

#[derive(Debug)]
struct Waiting {
    error: LogError,
}

impl Replay {
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether the records at hand are delivered one at a time.
    pub(super) fn one_by_one(&self, inputs: &[TaskInput]) -> bool {
        let Some(until) = &self.until else { return false };
        inputs.iter().zip(until).any(|(input, until)| input.released < *until)
    }

    /// Why this record is known to fail, if it is.
    pub(super) fn poisoned(&self, input: usize, offset: i64) -> Option<CallbackError> {
        let (at, poison, error) = self.poison.as_ref()?;
        (*at == input && *poison == offset).then(|| CallbackError::of(Failure::Emit(error.clone())))
    }
}

impl Task {
    /// Hands over what is released, and the positions that it brings.
    pub(super) fn hand_over(&mut self) {
        let (batch, sources) = self.outbox.fresh();
        let batch = Arc::new(std::mem::replace(&mut self.stage.out, batch));
        let sources = std::mem::replace(&mut self.sources, sources);
        let positions = self.inputs.iter().map(|i| i.released).collect();
        let named = || self.inputs.iter().map(|i| (i.partition.clone(), i.released)).collect();
        let delivery = self.env.egress.hand_over(self.id, self.epoch, Arc::clone(&batch), named);
        self.outbox.push(batch, positions, sources, delivery);
        self.moved = false;
    }

    pub(super) async fn delivered(&mut self, batch: HandOver, delivery: Delivery) -> ProcessorResult<()> {
        if let Some(failed) = delivery.failed.first() {
            // The first one that no retry mends is the one to look for.
            let worst = delivery.failed.iter().find(|f| is_poison(&f.error)).unwrap_or(failed);
            self.note_failure(&batch, worst.index, worst.error.clone());
        } else if self.replay.waiting.is_none() {
            self.acknowledge(&batch, &delivery);
        }
        self.outbox.recycle(batch);
        if self.outbox.is_empty()
            && let Some(Waiting { error }) = self.replay.waiting.take()
        {
            self.go_back(&error).await?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, done: &HandOver, delivery: &Delivery) {
        self.acknowledge_table(&done.batch, delivery);
        for (input, position) in self.inputs.iter_mut().zip(&done.positions) {
            input.acknowledged = *position;
        }
        if !done.batch.is_empty() {
            self.replay.failures = 0;
        }
        if let Some((at, offset, _)) = &self.replay.poison
            && self.inputs.get(*at).is_some_and(|i| i.acknowledged > *offset)
        {
            self.replay.poison = None;
        }
        if self.replay.until.is_some() && !self.replay.one_by_one(&self.inputs) {
            self.replay.until = None;
        }
        self.positions.publish(&self.inputs);
        if self.outbox.is_empty() && !self.moved {
            for (done, count) in self.visited.drain(..) {
                _ = done.send(Ok(count));
            }
        }
    }

    fn acknowledge_table(&mut self, batch: &ProduceBatch, delivery: &Delivery) {
        let (Some(table), Some(edge)) = (&self.core.table, &self.core.graph.table) else { return };
        let Some(topic) = batch.topics().iter().position(|t| *t == edge.topic) else { return };
        let mut table = table.borrow_mut();
        for index in 0..batch.len() {
            if batch.topic_of(index) != Some(topic) {
                continue;
            }
            let Some((record, _)) = batch.get(index) else { continue };
            let Some(key) = record.key else { continue };
            table.acknowledge(key, record.value);
            for listener in &self.core.graph.updates {
                listener(self.core.partition, key, record.value);
            }
        }
        if let Some(Some(last)) = delivery.last_offsets.get(topic) {
            table.advance(last + 1);
        }
    }

    fn note_failure(&mut self, batch: &HandOver, index: usize, error: LogError) {
        if is_poison(&error) {
            if self.replay.until.is_some() && batch.sources.len() == 1 {
                if let Some((input, offset)) = batch.source(index) {
                    self.replay.poison = Some((input, offset, error.clone()));
                }
            } else {
                let until = batch.positions.clone();
                self.replay.until = Some(match self.replay.until.take() {
                    Some(old) => old.iter().zip(&until).map(|(a, b)| *a.max(b)).collect(),
                    None => until,
                });
            }
        }
        let worse = self.replay.waiting.as_ref().is_none_or(|w| !is_poison(&w.error));
        if worse {
            self.replay.waiting = Some(Waiting { error });
        }
    }

    /// Forgets everything that is not acknowledged and reads it again.
    async fn go_back(&mut self, error: &LogError) -> ProcessorResult<()> {
        let group = Arc::clone(&self.core.graph.name);
        let partition = self.core.partition;
        if error.class() == ErrorClass::Fatal && !is_poison(error) {
            return Err(ProcessorError::log(&group, format!("write for partition {partition}"), error.clone()));
        }
        tracing::warn!(group = &*group, partition, %error, "a write failed: going back to what is acknowledged");
        // What was handed over before is void; what comes now counts again.
        self.epoch += 1;
        self.futures.clear();
        self.slots.clear();
        while self.deferred.try_recv().is_ok() {}
        self.stage.reset();
        self.stage.out.clear();
        self.sources.clear();
        self.moved = false;
        if let Some(table) = &self.core.table {
            table.borrow_mut().rollback();
        }
        let lost = || ProcessorError::log(&group, "visit: a write failed, so call it again", error.clone());
        for visit in self.visits.drain(..) {
            _ = visit.request.done.send(Err(lost()));
        }
        for (done, _) in self.visited.drain(..) {
            _ = done.send(Err(lost()));
        }
        for input in &mut self.inputs {
            let rewound = input.rewind().await;
            rewound.map_err(|e| ProcessorError::log(&group, format!("go back on {}", input.partition), e))?;
        }
        if !is_poison(error) {
            self.replay.failures = self.replay.failures.saturating_add(1);
            // A drain must end soon: what is not acknowledged is left to the next owner.
            if self.draining.is_none() {
                let rest = Duration::from_millis(100).saturating_mul(1 << self.replay.failures.min(6));
                tokio::time::sleep(rest).await;
            }
        }
        Ok(())
    }
}

/// Whether a record can never be delivered as it is.
fn is_poison(error: &LogError) -> bool {
    matches!(
        error,
        LogError::TooLarge { .. }
            | LogError::UnknownPartition { .. }
            | LogError::Config { .. }
            | LogError::Fatal { .. }
    )
}
