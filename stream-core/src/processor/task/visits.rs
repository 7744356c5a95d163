//! Visitors at work: a slice of the table's keys at a time, between records.
//!
//! A visit's effects are released as those of records are, but they are nobody's record: what can't be delivered of
//! them must never be blamed on one.

use std::rc::Rc;
use std::sync::Arc;

use super::dispatch::{guarded, push_changelog};
use super::outbox::{NO_INPUT, Visited};
use super::{Task, VisitRequest};
use crate::context::Source;
use crate::log::RecordRef;
use crate::processor::error::{ProcessorError, ProcessorResult};

/// A visit that is not over.
pub(super) struct Visit {
    pub(super) request: VisitRequest,
    /// The keys that only the write buffer had when the visit began, the smallest last.
    buffered: Option<Vec<Box<[u8]>>>,
    after: Option<Vec<u8>>,
    count: u64,
}

impl Visit {
    pub(super) fn new(request: VisitRequest) -> Self {
        Self { request, buffered: None, after: None, count: 0 }
    }
}

impl Task {
    /// Visits some keys; each is one record's worth of work.
    pub(super) fn visit_slice(&mut self) -> ProcessorResult<()> {
        const KEYS: usize = 256;
        let graph = Arc::clone(&self.core.graph);
        let Some(mut visit) = self.visits.pop_front() else { return Ok(()) };
        let (Some(table), Some(visitor)) = (&self.core.table, graph.visitors.get(visit.request.visitor)) else {
            return Ok(());
        };
        let buffered = visit.buffered.get_or_insert_with(|| table.borrow().buffered_keys());
        let keys = table.borrow().keys_after(visit.after.as_deref(), buffered, KEYS);
        let keys = keys.map_err(|e| ProcessorError::store(graph.name(), e))?;
        let first = self.stage.out.len();
        let Some(topic) = graph.table.as_ref().map(|t| Arc::clone(&t.topic)) else { return Ok(()) };
        let (last, now) = (keys.len() < KEYS, self.core.clock.now_ms());
        for key in keys {
            let present = table.borrow().with_value(&key, |value| value.is_some());
            if !present.map_err(|e| ProcessorError::store(graph.name(), e))? {
                visit.after = Some(key);
                continue;
            }
            let record = RecordRef {
                offset: -1,
                timestamp: now,
                key: Some(&key),
                value: None,
                headers: crate::log::Headers::default(),
            };
            let before = self.stage.out.savepoint();
            self.stage.reset();
            let source = Source { input: usize::MAX, topic: &topic };
            let arg = &*visit.request.arg;
            let result = guarded(|| visitor.handler.call(&self.core, source, record, arg, &mut self.stage));
            if let Err(error) = result {
                self.stage.out.truncate(before);
                self.made_without_input(first);
                let key = String::from_utf8_lossy(&key).into_owned();
                let (group, topic) = (graph.name().to_owned(), topic.to_string());
                let reason = format!("visitor {}: {error}", visitor.name);
                let partition = self.core.partition;
                let failed = ProcessorError::Record { group, topic, partition, offset: -1, key, reason };
                _ = visit.request.done.send(Err(failed));
                return Ok(());
            }
            let core = Rc::clone(&self.core);
            if let (Some(value), Some(table)) = (self.stage.written().map(|v| v.map(<[u8]>::to_vec)), &core.table) {
                table.borrow_mut().apply(&key, value.as_deref());
                push_changelog(&core, &mut self.stage, Some(&key), value.as_deref(), now);
            }
            visit.count += 1;
            visit.after = Some(key);
        }
        self.made_without_input(first);
        if last {
            // Answered when what is handed over next is acknowledged, of nothing if the visitor did nothing.
            self.visited.push(Visited { done: visit.request.done, count: visit.count });
            self.moved = true;
        } else {
            self.visits.push_front(visit);
        }
        Ok(())
    }

    /// Notes that the batch from `first` on is no input's work.
    pub(super) fn made_without_input(&mut self, first: usize) {
        if self.stage.out.len() > first {
            self.sources.push((first, NO_INPUT, -1));
            self.moved = true;
        }
    }
}
