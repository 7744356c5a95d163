//! Visitors at work: a slice of the table's keys at a time, between records.
//!
//! A visit's effects are released as those of records are, but they are nobody's record: what can't be delivered of
//! them must never be blamed on one.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::Task;
use super::guard::guarded;
use super::outbox::{VISIT, Visited};
use super::visit::Visit;
use crate::context::Source;
use crate::group::CallbackError;
use crate::log::RecordRef;
use crate::processor::error::{ProcessorError, ProcessorResult};

impl Task {
    /// Ready if a visit is to go on. One that waits for something lets records pass meanwhile.
    pub(super) fn poll_visits(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(visit) = self.visits.front_mut() else { return Poll::Pending };
            let Some(resolving) = &mut visit.resolving else { return Poll::Ready(()) };
            let resolve = ready!(resolving.as_mut().poll(cx));
            visit.resolving = None;
            if let Err(error) = resolve
                && let Some(mut visit) = self.visits.pop_front()
            {
                let key = std::mem::take(&mut visit.at);
                let failed = self.visit_error(&visit, key, &error);
                visit.fail(failed);
            }
        }
    }

    /// Visits some keys; each is one record's worth of work.
    pub(super) fn visit_slice(&mut self) -> ProcessorResult<()> {
        const KEYS: usize = 256;
        let (graph, env) = (Arc::clone(&self.core.graph), Arc::clone(&self.env));
        let core = Rc::clone(&self.core);
        let Some(mut visit) = self.visits.pop_front() else { return Ok(()) };
        let (Some(table), Some(visitor)) =
            (&core.tables.group, env.graph.callbacks.visitors.get(visit.request.visitor))
        else {
            return Ok(());
        };
        if visit.next.is_empty() && !visit.last {
            let buffered = visit.buffered.get_or_insert_with(|| table.borrow().buffered_keys());
            let keys = table.borrow().keys_after(visit.after.as_deref(), buffered, KEYS);
            let keys = keys.map_err(|e| ProcessorError::store(graph.name(), e))?;
            visit.last = keys.len() < KEYS;
            visit.next = keys.into();
        }
        self.pulse.begin();
        let first = self.stage.out.len();
        let Some(topic) = graph.tables.group.as_ref().map(|t| Arc::clone(&t.topic)) else { return Ok(()) };
        let now = self.core.clock.now_ms();
        while let Some(key) = visit.next.pop_front() {
            match table.borrow().with_value(&key, |value| value.is_some()) {
                Ok(true) => {}
                Ok(false) => {
                    visit.after = Some(key);
                    continue;
                }
                Err(error) => {
                    self.made_by(VISIT, first);
                    let error = ProcessorError::store(graph.name(), error);
                    visit.fail(error.clone());
                    return Err(error);
                }
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
            (self.stage.at, self.stage.time, self.stage.due) = (now, self.time.seen, i64::MAX);
            let source = Source { input: usize::MAX, topic: &topic };
            let arg = &*visit.request.arg;
            let result = guarded(|| visitor.call(&core, source, record, arg, &mut self.stage));
            let result = result.and_then(|()| match self.stage.deferred {
                0 => Ok(()),
                _ => Err(CallbackError::msg("a visitor can't defer(): what it does is done when it returns")),
            });
            if let Err(error) = result {
                self.stage.out.truncate(before);
                self.made_by(VISIT, first);
                let key = String::from_utf8_lossy(&key).into_owned();
                if let Some(blocker) = self.stage.blocker.take() {
                    match self.resolve(blocker, visit.attempts) {
                        Ok(None) => {}
                        Ok(resolving) => {
                            visit.resolving = resolving;
                            visit.attempts += 1;
                            visit.at = key;
                            // Records pass meanwhile.
                            visit.next.clear();
                            visit.last = false;
                            self.visits.push_front(visit);
                            return Ok(());
                        }
                        Err(error) => {
                            visit.fail(error.clone());
                            return Err(error);
                        }
                    }
                }
                let failed = self.visit_error(&visit, key, &error);
                visit.fail(failed);
                return Ok(());
            }
            self.apply_in_place(&core, Some(&key));
            self.leave_out_own(self.stage.left_out, &topic, record);
            visit.count += 1;
            visit.attempts = 0;
            visit.after = Some(key);
            if self.pulse.is_over() || self.is_full() || self.time.interrupts() {
                break;
            }
        }
        self.made_by(VISIT, first);
        if visit.last && visit.next.is_empty() {
            // Answered when what is handed over next is acknowledged, of nothing if the visitor did nothing.
            self.visited.push(Visited { done: visit.request.done, count: visit.count });
            self.moved = true;
        } else {
            self.visits.push_front(visit);
        }
        Ok(())
    }

    fn visit_error(&self, visit: &Visit, key: String, error: &CallbackError) -> ProcessorError {
        let graph = &self.core.graph;
        let name = graph.visitors.get(visit.request.visitor).map_or("", |v| &*v.name);
        ProcessorError::Record {
            group: graph.name().to_owned(),
            topic: graph.tables.group.as_ref().map_or_else(String::new, |t| t.topic.to_string()),
            partition: self.core.partition,
            offset: -1,
            key,
            error: error.clone().within(format!("visitor {name}")),
        }
    }

    /// Notes that the batch from `first` on is no record's work, but a visitor's or the task's own.
    pub(super) fn made_by(&mut self, whom: usize, first: usize) {
        if self.stage.out.len() > first {
            // No record goes with it while a culprit is looked for.
            self.replay.search.close();
            self.sources.push((first, whom, -1));
            self.moved = true;
        }
    }
}
