//! Errors of due work: loading of what a codec misses, retries, then its policy.
//!
//! A timer, a window, a session, a batch or the null of a join is no record, so that no input's policy has a say. What is
//! left out is deleted as if it had fired, and the others go on.

use std::sync::Arc;

use futures::FutureExt;

use super::Task;
use super::dead_letter::DeadLetter;
use super::fire::{DueCall, DueOf};
use super::time::Trying;
use crate::context::Blocker;
use crate::group::{CallbackError, LeftOut, dead_letter as named};
use crate::log::{Headers, RecordRef};
use crate::processor::error::ProcessorResult;
use crate::time::due::Due;
use crate::topology::OnError;
use crate::window::batches::Batch;
use crate::window::{Which, keys};

impl Task {
    /// The error of due work for which something can't be loaded.
    pub(super) fn unloadable(&mut self, due: &Due) -> Option<CallbackError> {
        self.time.trying.as_mut().filter(|trying| trying.is(due))?.unloadable.take()
    }

    fn trying(&mut self, due: &Due) -> &mut Trying {
        let trying = self.time.trying.take().filter(|trying| trying.is(due));
        let (table, key) = (due.table, &due.key);
        let new = || Trying { table, key: key.clone(), loads: 0, attempts: 0, unloadable: None };
        self.time.trying.insert(trying.unwrap_or_else(new))
    }

    /// Whether due work that failed is left out. If not, it is called again, or has ended the task.
    pub(super) fn is_left_out(
        &mut self,
        due: &Due,
        call: &DueCall<'_>,
        blocker: Option<Blocker>,
        error: &CallbackError,
        is_poisoned: bool,
    ) -> ProcessorResult<bool> {
        if !is_poisoned && !error.failure().is_final() {
            let loads = self.trying(due).loads;
            if let Some(resolving) = blocker.map(|o| self.resolve(o, loads)).transpose()?.flatten() {
                self.time.resolving = Some(resolving);
                self.trying(due).loads += 1;
                return Ok(false);
            }
            let trying = self.trying(due);
            trying.loads = 0;
            trying.attempts += 1;
            let attempts = trying.attempts;
            if let Some(retry) = call.policy.retry.filter(|r| attempts <= r.attempts) {
                let (delay, key) = (retry.delay(attempts - 1), String::from_utf8_lossy(call.key));
                tracing::warn!(
                    group = self.core.graph.name(), topic = %call.topic, partition = self.core.partition, %key,
                    attempt = attempts, ?delay, ?error, "{} failed and is tried again", call.of
                );
                self.time.resolving = Some(tokio::time::sleep(delay).map(Ok).boxed_local());
                return Ok(false);
            }
        }
        if call.policy.then == OnError::Fail {
            let key = String::from_utf8_lossy(call.key);
            self.fail(self.fire_error(call.topic.to_string(), &key, error));
            return Ok(false);
        }
        Ok(true)
    }

    /// Counts and logs due work that is left out, and puts it aside if its policy says so.
    pub(super) fn put_due_aside(&mut self, call: &DueCall<'_>, error: &CallbackError) {
        let graph = Arc::clone(&self.core.graph);
        let (partition, key) = (self.core.partition, String::from_utf8_lossy(call.key));
        let to = match &call.policy.then {
            OnError::DeadLetter(to) => Some(to),
            _ => None,
        };
        tracing::warn!(
            group = graph.name(), topic = %call.topic, partition, %key, at = call.at, ?error,
            to = to.map_or("nowhere", |to| to), "{} is left out: it failed", call.of
        );
        self.env.counters.left_out.count(LeftOut::Failed, 1);
        let Some(to) = to else { return };
        let now = self.core.clock.now_ms();
        let more = call.of.headers(call);
        let more: Vec<_> = more.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let mut put = |topic: &Arc<str>, offset: i64, value: &[u8]| {
            let (timestamp, headers) = (call.at, Headers::default());
            let record = RecordRef { offset, timestamp, key: Some(call.key), value: Some(value), headers };
            let letter = DeadLetter { group: graph.name(), topic, partition, record, error, now };
            letter.stage_with(&mut self.stage, to, &more);
        };
        match call.of {
            DueOf::Session(_) => {
                let accumulator = keys::read_time(call.value).map_or(call.value, |(_, accumulator)| accumulator);
                put(call.topic, -1, accumulator);
            }
            DueOf::Batch(_) => match Batch::read(call.value) {
                None => put(call.topic, -1, call.value),
                Some(batch) => {
                    for (origin, value) in batch.items() {
                        let (topic, offset) = match origin {
                            Some((topic, offset, _)) => (Arc::from(topic), offset),
                            None => (Arc::clone(call.topic), -1),
                        };
                        put(&topic, offset, value);
                    }
                }
            },
            DueOf::Timer(_) | DueOf::Window(..) | DueOf::Null(..) => put(call.topic, -1, call.value),
        }
    }
}

impl DueOf<'_> {
    fn what(&self) -> (&'static str, &str) {
        match self {
            Self::Timer(name) => ("timer", name),
            Self::Window(name, _) => ("window", name),
            Self::Session(name) => ("session", name),
            Self::Batch(name) => ("batch", name),
            Self::Null(name, Which::Left) => ("left", name),
            Self::Null(name, Which::Right) => ("right", name),
        }
    }

    /// The headers that name it.
    fn headers(&self, call: &DueCall<'_>) -> Vec<(&'static str, String)> {
        let (what, name) = self.what();
        let mut headers = vec![(named::DUE, what.to_owned()), (named::NAME, name.to_owned())];
        let span = match self {
            Self::Window(_, window) => Some((window.start, window.end)),
            Self::Session(_) => keys::read_time(call.value).map(|(start, _)| (start, call.at)),
            _ => None,
        };
        if let Some((start, end)) = span {
            headers.extend([(named::WINDOW_START, start.to_string()), (named::WINDOW_END, end.to_string())]);
        }
        headers
    }
}

impl std::fmt::Display for DueOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, self.what().1) {
            (Self::Window(_, window), name) => write!(f, "window {name} {window}"),
            (Self::Null(_, side), name) => write!(f, "the {} record without a match of join {name}", side.name()),
            (_, name) => write!(f, "{} {name}", self.what().0),
        }
    }
}
