//! What follows the error of a record (semantics D6): loading what a codec misses, retries, then the input's policy.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::slots::{State, Work};
use super::{SlotEnd, Task};
use crate::codec::CodecError;
use crate::context::{Obstacle, Stage};
use crate::group::handler::CodecOf;
use crate::group::{AnyCodec, CallbackError, Handler, OnError};
use crate::log::{NewRecord, RecordRef};
use crate::processor::error::{ProcessorError, ProcessorResult};

/// How often a codec may ask for something to be loaded for one record: a value can hold several layers of it.
const MAX_LOADS: u32 = 8;

impl Task {
    /// A slot's callback, codec or deferred work failed.
    pub(super) fn slot_failed(&mut self, id: u64, error: CallbackError) -> ProcessorResult<()> {
        let graph = Arc::clone(&self.core.graph);
        let Some(slot) = self.slots.get(id) else { return Ok(()) };
        let (input, next) = (slot.input, slot.next);
        let obstacle = slot.stage.obstacle.take();
        // What it staged is void, and so is deferred work that is still open.
        slot.stage = Stage::default();
        slot.state = State::Resting;
        // Waiting for a lookup is no attempt.
        slot.attempts += u32::from(!matches!(obstacle, Some(Obstacle::Lookup(_))));
        let attempts = slot.attempts;
        let Some(edge) = self.inputs.get(input).and_then(|i| graph.inputs.get(i.edge)) else { return Ok(()) };
        slot.alone |= matches!(edge.handler, Handler::Sync(_));
        if self.replay.poisoned(input, next - 1).is_none() {
            match obstacle {
                Some(Obstacle::Load(of, missed)) if attempts <= MAX_LOADS => {
                    if let Some(codec) = self.codec(of) {
                        self.futures.push(Box::pin(async move {
                            match codec.load(missed).await {
                                Ok(()) => (id, SlotEnd::Again),
                                Err(error) => (id, SlotEnd::Unloadable(load_error(missed, &error))),
                            }
                        }));
                        return Ok(());
                    }
                }
                Some(Obstacle::Lookup(index)) => {
                    if let Some(copies) = self.core.lookups.get(index).map(Arc::clone) {
                        self.futures.push(Box::pin(async move {
                            copies.readable().await;
                            (id, SlotEnd::Again)
                        }));
                        return Ok(());
                    }
                }
                // These are no fault of the record's, so its policy has no say: leaving it out would lose it.
                Some(Obstacle::LookupEnded(index, reason)) => {
                    let table = graph.lookups.get(index).map_or_else(String::new, |e| e.topic.to_string());
                    return Err(ProcessorError::Lookup { group: graph.name().to_owned(), table, reason });
                }
                Some(Obstacle::Store(error)) => return Err(ProcessorError::store(graph.name(), error)),
                Some(Obstacle::Load(..)) | None => {}
            }
            if let Some(retry) = edge.input.policy.retry.filter(|r| attempts <= r.attempts) {
                let delay = retry.delay(attempts - 1);
                tracing::warn!(
                    group = graph.name(), topic = %edge.input.topic, partition = self.core.partition,
                    offset = next - 1, attempt = attempts, ?delay, %error, "a record failed and is tried again"
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

    /// Applies the end of the input's policy.
    fn give_up(&mut self, id: u64, error: &CallbackError) -> ProcessorResult<()> {
        let graph = Arc::clone(&self.core.graph);
        let Some(slot) = self.slots.get(id) else { return Ok(()) };
        let Some(edge) = self.inputs.get(slot.input).and_then(|i| graph.inputs.get(i.edge)) else { return Ok(()) };
        let (topic, partition, offset) = (&edge.input.topic, self.core.partition, slot.next - 1);
        let key = String::from_utf8_lossy(slot.key().unwrap_or(b"none")).into_owned();
        match &edge.input.policy.then {
            OnError::Skip => {
                tracing::warn!(group = graph.name(), %topic, partition, offset, key, %error, "a record is left out");
                self.env.counters.skipped.fetch_add(1, Ordering::Relaxed);
            }
            OnError::DeadLetter(to) => {
                tracing::warn!(group = graph.name(), %topic, partition, offset, key, %error, to = %to, "a record goes to the dead letters");
                self.env.counters.dead_lettered.fetch_add(1, Ordering::Relaxed);
                match slot.work.clone() {
                    Some(Work::One(record)) => {
                        dead_letter(&mut slot.stage, to, graph.name(), topic, partition, record.view(), error);
                    }
                    Some(Work::Many(records)) => {
                        for record in records.iter() {
                            dead_letter(&mut slot.stage, to, graph.name(), topic, partition, record, error);
                        }
                    }
                    None => {}
                }
            }
            OnError::Fail => {
                return Err(ProcessorError::Record {
                    group: graph.name().to_owned(),
                    topic: topic.to_string(),
                    partition,
                    offset,
                    key,
                    reason: error.to_string(),
                });
            }
        }
        self.slot_done(id)
    }

    fn codec(&self, of: CodecOf) -> Option<Rc<Arc<dyn AnyCodec>>> {
        let graph = &self.core.graph;
        let codec = match of {
            CodecOf::Input(i) => &graph.inputs.get(i)?.codec,
            CodecOf::Table => &graph.table.as_ref()?.codec,
            CodecOf::Join(i) => &graph.joins.get(i)?.codec,
            CodecOf::Lookup(i) => &graph.lookups.get(i)?.codec,
        };
        Some(Rc::new(Arc::clone(codec)))
    }
}

fn load_error(id: u32, error: &CodecError) -> CallbackError {
    CallbackError::msg(format!("what the value needs (id {id}) can't be loaded: {error}"))
}

/// Stages a record as it came, with headers that say why and where from.
fn dead_letter(
    stage: &mut Stage,
    to: &Arc<str>,
    group: &str,
    topic: &str,
    partition: i32,
    record: RecordRef<'_>,
    error: &CallbackError,
) {
    let reason = error.to_string();
    let (partition, offset) = (partition.to_string(), record.offset.to_string());
    let timestamp = record.timestamp.to_string();
    let ours: [(&str, &str); 6] = [
        ("dead-letter-reason", &reason),
        ("dead-letter-group", group),
        ("dead-letter-topic", topic),
        ("dead-letter-partition", &partition),
        ("dead-letter-offset", &offset),
        ("dead-letter-timestamp", &timestamp),
    ];
    let headers = record.headers.iter().chain(ours.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
    let new = NewRecord {
        topic: to,
        partition: None,
        timestamp: Some(record.timestamp),
        key: record.key,
        value: record.value,
    };
    stage.out.push(new, headers);
}
