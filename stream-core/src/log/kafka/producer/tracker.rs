//! Which batches are under way: for flushes, for commits, and for purges.
//!
//! Touched once a batch. The numbers of batches follow the order of the calls.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use crate::log::LogError;
use crate::log::kafka::context::lock;

#[derive(Default)]
pub(super) struct Tracker {
    state: Mutex<TrackerState>,
    ended: Condvar,
    /// Counts purges: a batch that was handed over before the last one is not sent any more.
    epoch: AtomicU64,
}

#[derive(Default)]
struct TrackerState {
    next: u64,
    under_way: BTreeSet<u64>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    /// The first failure since the transaction began.
    failed: Option<LogError>,
    /// When something failed last that may have been written, or may yet be.
    doubt: Option<Instant>,
}

impl TrackerState {
    fn ended(&self, before: u64) -> bool {
        self.under_way.first().is_none_or(|first| *first >= before)
    }
}

impl Tracker {
    /// Numbers a batch; `queue` puts it into the queue, so that the order there is that of the numbers.
    pub(super) fn begin(&self, queue: impl FnOnce(u64)) -> u64 {
        let mut state = lock(&self.state);
        let seq = state.next;
        state.next += 1;
        state.under_way.insert(seq);
        queue(seq);
        seq
    }

    /// Does something between the batches that came before and those that come after; gives the number of the next.
    pub(super) fn between(&self, queue: impl FnOnce(u64)) {
        let state = lock(&self.state);
        queue(state.next);
    }

    pub(super) fn done(&self, seq: u64, failed: Option<LogError>) {
        let mut state = lock(&self.state);
        state.under_way.remove(&seq);
        if failed.as_ref().is_some_and(|e| e.is_passing() || *e == LogError::Purged) {
            state.doubt = Some(Instant::now());
        }
        if state.failed.is_none() {
            state.failed = failed;
        }
        let first = state.under_way.first().copied().unwrap_or(u64::MAX);
        for (_, waiting) in state.flushes.extract_if(.., |(before, _)| *before <= first) {
            // The caller may have gone.
            let _ = waiting.send(());
        }
        drop(state);
        self.ended.notify_all();
    }

    /// Resolves once everything handed over so far has ended.
    pub(super) fn flush(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = lock(&self.state);
        if state.under_way.is_empty() {
            return None;
        }
        let (tx, rx) = oneshot::channel();
        let before = state.next;
        state.flushes.push((before, tx));
        Some(rx)
    }

    /// Waits a moment for what came before a number; says whether it has all ended.
    pub(super) fn wait(&self, before: u64, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = lock(&self.state);
        while !state.ended(before) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Takes note of the first failure from now on.
    pub(super) fn forget_failure(&self) {
        lock(&self.state).failed = None;
    }

    pub(super) fn failure(&self) -> Option<LogError> {
        lock(&self.state).failed.clone()
    }

    /// When something failed last of which it is not known whether it is written.
    pub(super) fn doubt(&self) -> Option<Instant> {
        lock(&self.state).doubt
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes everything handed over so far void; `queue` as in [`between`](Self::between).
    pub(super) fn purge(&self, queue: impl FnOnce(u64)) {
        let state = lock(&self.state);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        queue(state.next);
        drop(state);
        self.ended.notify_all();
    }
}
