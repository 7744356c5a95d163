//! A task's part in keeping its group in step (see [`Alignment`]): what it says of its partitions, and its inputs that are held
//! back until the rest of the group has come as far.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::log::ProduceBatch;
use crate::processor::alignment::{Alignment, Seen};
use crate::processor::env::Env;

pub(super) struct TaskAlignment {
    pub(super) group: Option<Arc<Alignment>>,
    /// Records of aligned inputs up to this time may be dispatched.
    pub(super) limit: i64,
    pub(super) waiting: Option<LocalBoxFuture<'static, ()>>,
    /// For each input, the earliest time of what is released and not handed over.
    pub(super) begun: Vec<i64>,
    /// The last report on each input.
    pub(super) said: Vec<Option<Seen>>,
}

impl TaskAlignment {
    pub(super) fn new(group: Option<Arc<Alignment>>, inputs: usize) -> Self {
        let limit = if group.is_some() { i64::MIN } else { i64::MAX };
        let (begun, said) = (vec![i64::MAX; inputs], vec![None; inputs]);
        Self { group, limit, waiting: None, begun, said }
    }

    pub(super) fn is_on(&self) -> bool {
        self.group.is_some()
    }

    /// Nothing is held, or nothing more is read: a task that waits in vain keeps others from looking.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting = None;
    }

    /// Nothing is begun any more.
    pub(super) fn rollback(&mut self) {
        self.stop_waiting();
        self.begun.fill(i64::MAX);
    }

    /// A record of an input, of this time, is released.
    pub(super) fn released(&mut self, input: usize, time: i64) {
        if let Some(begun) = self.begun.get_mut(input) {
            *begun = time.min(*begun);
        }
    }

    /// Released records are flushed: the earliest time of each input, if something of it goes back to the group itself.
    pub(super) fn flush(&mut self, own: impl Fn(&str) -> bool, batch: &ProduceBatch) -> Vec<i64> {
        if !self.is_on() {
            return Vec::new();
        }
        let own: Vec<bool> = batch.topics().iter().map(|topic| own(topic)).collect();
        let to_own_topics = |index: usize| batch.topic_of(index).and_then(|t| own.get(t)).copied().unwrap_or_default();
        let lows = if (0..batch.len()).any(to_own_topics) { self.begun.clone() } else { Vec::new() };
        self.begun.fill(i64::MAX);
        lows
    }

    /// The next record of an aligned input has this time, beyond the limit. Ready once the limit is beyond that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, env: &Arc<Env>, head: i64) -> Poll<()> {
        let Some(group) = &self.group else { return Poll::Ready(()) };
        loop {
            self.limit = group.limit();
            if head <= self.limit {
                self.stop_waiting();
                return Poll::Ready(());
            }
            let limit = self.limit;
            let wait_for_limit = || Arc::clone(group).wait_for_limit(Arc::clone(env), limit, head).boxed_local();
            ready!(self.waiting.get_or_insert_with(wait_for_limit).as_mut().poll(cx));
            self.waiting = None;
        }
    }
}
