//! Timers that fire, windows that close and what a join no longer keeps, between records.
//!
//! As a visit's, their effects are released as those of records are, and are no record's work. What follows an error is
//! [`due_failure`](super::due_failure)'s to say.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Task;
use super::guard::guarded;
use super::outbox::{OWN, TIMED};
use super::time::{After, Fired};
use crate::context::{Core, Source, StateWrites};
use crate::group::callback::SyncHandler;
use crate::group::{CallbackError, ErrorPolicy};
use crate::log::{Headers, RecordRef};
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::processor::faults::Moment;
use crate::time::due::{Due, Kind};
use crate::time::stream_join::keys::{Place, read_value};
use crate::topology::TableEdge;
use crate::window::{Which, Window, keys};

/// Whether something is to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firing {
    No,
    Now,
    /// Something that has to fire waits for what its callback needs.
    Waits,
}

/// A call for due work.
pub(super) struct DueCall<'a> {
    /// The topic of its table.
    pub(super) topic: &'a Arc<str>,
    pub(super) handler: Option<&'a dyn SyncHandler>,
    pub(super) policy: &'a ErrorPolicy,
    pub(super) of: DueOf<'a>,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// The event time of what it does.
    pub(super) at: i64,
    pub(super) entries: Entries<'a>,
}

/// The kind and the name of due work.
#[derive(Clone, Copy)]
pub(super) enum DueOf<'a> {
    Timer(&'a str),
    Window(&'a str, Window),
    Session(&'a str),
    Batch(&'a str),
    /// The record of a side that has no match.
    Null(&'a str, Which),
}

/// The entries of something that is due, deleted once it has fired.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub(super) first: &'a [&'a [u8]],
    /// After all others.
    pub(super) last: Option<&'a [u8]>,
}

impl<'a> Entries<'a> {
    fn of(first: &'a [&'a [u8]]) -> Self {
        Self { first, last: None }
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.first.iter().copied().chain(self.last)
    }
}

/// How it went.
pub(super) enum Outcome {
    Fired,
    /// It could not be now.
    NotNow,
}

impl Task {
    pub(super) fn poll_time(&mut self, cx: &mut Context<'_>) -> Firing {
        if !self.time.on {
            return Firing::No;
        }
        if let Some(resolving) = &mut self.time.resolving {
            let Poll::Ready(resolve) = resolving.as_mut().poll(cx) else { return Firing::Waits };
            self.time.resolving = None;
            if let Err(error) = resolve {
                // It is an error of what waited for it, whose policy applies.
                if let Some(trying) = &mut self.time.trying {
                    trying.unloadable = Some(error);
                }
            }
        }
        // With at-least-once delivery, what fires again must be in the changelog again: a crash would leave what an earlier
        // entry has emitted twice behind what a later one has, which would not be emitted again.
        let due = if self.replay.suspects.is_empty() { Firing::Now } else { Firing::Waits };
        if self.time.is_due() {
            return due;
        }
        let wall = self.time.look_at_wall();
        if wall == i64::MAX {
            return Firing::No;
        }
        if wall > self.core.clock.now_ms() {
            let core = Rc::clone(&self.core);
            if self.time.wall_sleep(&core).poll(cx).is_pending() {
                return Firing::No;
            }
            self.time.slept();
        }
        due
    }

    /// Fires some of what is due, in the order of due times.
    pub(super) fn fire_slice(&mut self) -> ProcessorResult<()> {
        const MOST: usize = 256;
        let core = Rc::clone(&self.core);
        let searching = self.replay.search.is_on(&self.inputs);
        self.pulse.begin();
        let released = self.time.released;
        for _ in 0..MOST {
            let next = self.time.next(&core).map_err(|e| ProcessorError::store(core.graph.name(), e))?;
            let Some(due) = next else { break };
            let outcome = self.fire(&core, &due)?;
            if searching {
                self.replay.search.dispatched(None);
            }
            let closed = searching && self.replay.search.is_closed();
            let ends = closed || self.is_full() || self.ending.is_some() || self.pulse.is_over();
            if matches!(outcome, Outcome::NotNow) || ends {
                break;
            }
        }
        // What is passed over closes without a call.
        self.moved |= self.time.released > released || self.time.to_close().is_some();
        self.bound_buffer();
        Ok(())
    }

    fn fire(&mut self, core: &Rc<Core>, due: &Due) -> ProcessorResult<Outcome> {
        let graph = Arc::clone(&self.env.graph);
        let mut place = Vec::new();
        let key = match (due.kind, Place::of_time(&due.key)) {
            (Kind::Joined(..), Some(kept)) => {
                kept.by_key(&mut place);
                &place
            }
            _ => &due.key,
        };
        let value = core.state_value(due.table, key).map_err(|e| ProcessorError::store(graph.name(), e))?;
        let (Some(value), Some(TableEdge { topic, .. })) = (value, graph.tables.get(due.table)) else {
            self.time.pass(due);
            return Ok(Outcome::Fired);
        };
        match due.kind {
            Kind::Windows(index, windows) => {
                let (start, key) = keys::read_time(&due.key).unwrap_or_default();
                let Some((edge, handler)) = graph.windows.get(index).zip(graph.callbacks.windows.get(index)) else {
                    self.time.pass(due);
                    return Ok(Outcome::Fired);
                };
                let window = windows.starting(start);
                self.call_due(
                    core,
                    due,
                    &DueCall {
                        topic,
                        handler: handler.as_deref(),
                        policy: &edge.policy,
                        of: DueOf::Window(&edge.name, window),
                        key,
                        value: &value,
                        at: window.end.saturating_sub(1),
                        entries: Entries::of(&[&due.key]),
                    },
                )
            }
            Kind::Joined(index, side, _) => {
                let (Some(place), Some(join)) = (Place::of_time(&due.key), graph.stream_joins.get(index)) else {
                    self.time.pass(due);
                    return Ok(Outcome::Fired);
                };
                let handler = graph.callbacks.stream_joins.get(index).and_then(|join| join.of(side));
                self.call_due(
                    core,
                    due,
                    &DueCall {
                        topic,
                        handler,
                        policy: &join.policy,
                        of: DueOf::Null(&join.name, side),
                        key: place.key,
                        value: read_value(&value).1,
                        at: place.time,
                        entries: Entries::of(&[&due.key]),
                    },
                )
            }
            Kind::Entries(_) => self.fire_entry(core, due, topic),
            Kind::Timers(by) => {
                let rest = due.key.get(by.prefix().len() + 8..).unwrap_or_default();
                let found = keys::read_name(rest).and_then(|(name, key)| Some((graph.timer(name, by)?, key)));
                let Some(((timer, handler), key)) = found else {
                    let (group, partition, name) = (graph.name(), core.partition, String::from_utf8_lossy(rest));
                    tracing::warn!(group, partition, ?name, "a timer is due that the group no longer has: it stays");
                    self.time.pass(due);
                    return Ok(Outcome::Fired);
                };
                let place = keys::timer(&timer.name, key);
                let at = core.state_value(due.table, &place).map_err(|e| ProcessorError::store(graph.name(), e))?;
                let at = at.and_then(|v| keys::read_time(&v).map(|(at, _)| at));
                // A crash leaves an old entry behind whose timer was set again since, by its own callback or a record after it.
                // What the callback did besides may not be written, so it fires again; the timer stays as it was set.
                let set_again = match at.filter(|at| *at != due.at) {
                    None => false,
                    Some(at) => {
                        let other = core.state_value(due.table, &keys::due(by, at, &timer.name, key));
                        other.map_err(|e| ProcessorError::store(graph.name(), e))?.is_some()
                    }
                };
                let (alone, both): ([&[u8]; 1], [&[u8]; 2]) = ([&due.key], [&due.key, &place]);
                let entries = Entries::of(if set_again { &alone } else { &both });
                self.call_due(
                    core,
                    due,
                    &DueCall {
                        topic,
                        handler: handler.as_deref(),
                        policy: &timer.policy,
                        of: DueOf::Timer(&timer.name),
                        key,
                        value: &value,
                        at: due.at,
                        entries,
                    },
                )
            }
        }
    }

    /// Calls for what is due, and releases what comes of it. Its entries are deleted then.
    pub(super) fn call_due(&mut self, core: &Rc<Core>, due: &Due, call: &DueCall<'_>) -> ProcessorResult<Outcome> {
        let (first, before, seen) = (self.stage.out.len(), self.stage.out.savepoint(), self.time.seen);
        self.begin_due(core, due, call);
        let DueCall { topic, key, value, at, .. } = *call;
        let record =
            RecordRef { offset: -1, timestamp: at, key: Some(key), value: Some(value), headers: Headers::default() };
        let source = Source { input: usize::MAX, topic };
        let poisoned = self.replay.poisoned_due(due.table, &due.key);
        let is_poisoned = poisoned.is_some();
        let result = match poisoned.or_else(|| self.unloadable(due)) {
            Some(error) => Err(error),
            None => call.handler.map_or(Ok(()), |handler| {
                guarded(|| {
                    self.env.faults.check(topic, Moment::Before)?;
                    handler.call(core, source, record, &mut self.stage)?;
                    self.env.faults.check(topic, Moment::After)
                })
            }),
        };
        let result = result.and_then(|()| match self.stage.deferred {
            0 => Ok(()),
            _ => Err(CallbackError::msg("a timer's or a window's callback can't defer(): it is done when it returns")),
        });
        if let Err(error) = result {
            self.stage.out.truncate(before);
            self.time.seen = seen;
            for entry in call.entries.iter() {
                core.pending_deletes.borrow_mut().remove(due.table, entry);
            }
            let blocker = self.stage.blocker.take();
            self.stage.reset();
            if !self.is_left_out(due, call, blocker, &error, is_poisoned)? {
                return Ok(Outcome::NotNow);
            }
            // What stands for it is deleted all the same.
            self.begin_due(core, due, call);
            self.put_due_aside(call, &error);
        }
        self.time.trying = None;
        self.apply_in_place(core, Some(key));
        self.leave_out_own(self.stage.left_out, topic, record);
        if self.stage.out.len() > first {
            if self.alignment.is_on() && self.to_own_topics(first) {
                for input in 0..self.inputs.len() {
                    self.alignment.released(input, at);
                }
            }
            self.sources.push((first, TIMED, i64::try_from(self.time.makers.len()).unwrap_or(i64::MAX)));
            self.time.makers.push((due.table, due.key.as_slice().into()));
        } else if is_poisoned {
            self.time.makers.push((due.table, due.key.as_slice().into()));
        }
        let joined = matches!(due.kind, Kind::Joined(..));
        if joined || !self.time.atomic {
            let until = if due.kind.is_wall() { i64::MIN } else { due.at };
            let (table, after) = (due.table, if joined { After::Hide } else { After::Delete });
            let then = call.entries.last.map(Box::from);
            let first = call.entries.first.iter();
            let fired = first.map(|&e| Fired { table, key: e.into(), due: until, then: then.clone(), after });
            self.time.fired.extend(fired);
        }
        self.time.release(self.time.seen);
        self.moved = true;
        Ok(Outcome::Fired)
    }

    /// Begins the stage of something that is due: what stands for it is deleted.
    fn begin_due(&mut self, core: &Rc<Core>, due: &Due, call: &DueCall<'_>) {
        if !due.kind.is_wall() {
            self.time.seen = self.time.seen.max(due.at);
        }
        self.stage.reset();
        (self.stage.at, self.stage.time, self.stage.due) = (call.at, self.time.seen, i64::MAX);
        for entry in call.entries.iter() {
            if self.time.atomic && !matches!(due.kind, Kind::Joined(..)) {
                // Not the time of what is due: the topic may refuse that by now, though it took the entry.
                self.stage.state.push(core, due.table, core.clock.now_ms(), entry, None);
            } else {
                core.pending_deletes.borrow_mut().insert(due.table, entry.into());
            }
        }
    }

    /// Deletes an entry that means nothing any more, for what is staged instead.
    pub(super) fn forget(&mut self, core: &Rc<Core>, due: &Due, stage: impl FnOnce(&mut StateWrites)) {
        let first = self.stage.out.len();
        self.stage.reset();
        self.stage.at = core.clock.now_ms();
        stage(&mut self.stage.state);
        self.stage.superseded.push((due.table, due.key.as_slice().into()));
        self.apply_in_place(core, None);
        self.made_by(OWN, first);
        self.moved = true;
    }

    pub(super) fn fire_error(&self, topic: String, key: &str, error: &CallbackError) -> ProcessorError {
        ProcessorError::Record {
            group: self.core.graph.name().to_owned(),
            topic,
            partition: self.core.partition,
            offset: -1,
            key: key.to_owned(),
            error: error.clone().within("a timer or a window that was due"),
        }
    }
}
