//! One life of an instance: from its start to its end or its death, as its connection to the log sees it.
//!
//! Whatever an instance does to the world goes through its log and its stores. So to die at any await is to die before
//! or after any of those calls: from then on nothing of it has an effect, and what it awaits never comes. The future
//! itself is dropped by the simulator once it gives way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::owners::Owners;
use super::random::Random;
use super::trace::Trace;
use crate::log::{Commits, ProduceBatch, Producer, RevokeToken, TopicPartition};

/// Shared by an instance's connection, its stores' crash points and the simulator.
pub(super) struct Life {
    pub(super) name: String,
    group: usize,
    trace: Arc<Trace>,
    owners: Arc<Owners>,
    state: Mutex<LifeState>,
}

struct LifeState {
    random: Random,
    dead: bool,
    /// Calls until it dies.
    left: Option<u64>,
    /// Whether its calls take time.
    slow: bool,
    /// When its last commit of offsets reaches the log: one connection keeps them in order, even if the instance stands
    /// still until both are due.
    last_commit: Instant,
    /// Ends when that has reached it.
    committed: Option<oneshot::Receiver<()>>,
    /// Partitions that it lost, by the number of the loss.
    lost: BTreeMap<TopicPartition, u64>,
    losses: u64,
    /// The revocations that the log waits for, and that a dead process never completes.
    tokens: Vec<RevokeToken>,
    /// The producers whose records may still reach the log shortly after its death.
    producers: Vec<Arc<dyn Producer>>,
}

impl Life {
    pub(super) fn new(
        (group, name): (usize, String),
        trace: Arc<Trace>,
        owners: Arc<Owners>,
        random: Random,
        slow: bool,
    ) -> Arc<Self> {
        let state = LifeState {
            random,
            dead: false,
            left: None,
            slow,
            last_commit: Instant::now(),
            committed: None,
            lost: BTreeMap::new(),
            losses: 0,
            tokens: Vec::new(),
            producers: Vec::new(),
        };
        Arc::new(Self { name, group, trace, owners, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, LifeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(&self.name, what);
    }

    /// Shows what it sends, to be read when a seed is run again.
    pub(super) fn note_records(&self, batch: &ProduceBatch) {
        let show = |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), |b| b.escape_ascii().to_string());
        for (record, _) in batch.iter().filter(|_| tracing::enabled!(target: "simulation", tracing::Level::TRACE)) {
            let (who, key, value) = (&self.name, show(record.key), show(record.value));
            tracing::trace!(target: "simulation", who, "  {}{:?} {key} = {value}", record.topic, record.partition);
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(super) fn kill(&self) {
        self.state().dead = true;
    }

    /// Dies after so many more steps.
    pub(super) fn die_after(&self, steps: u64) {
        self.state().left = Some(steps);
    }

    /// Calls take time, or not.
    pub(super) fn set_slow(&self, slow: bool) {
        self.state().slow = slow;
    }

    /// A step; `false` if it dies here or is dead.
    pub(super) fn pass(&self, what: &str) -> bool {
        let mut state = self.state();
        if state.dead {
            return false;
        }
        match &mut state.left {
            Some(0) => {
                state.dead = true;
                drop(state);
                self.note(format_args!("dies at {what}"));
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    /// How long a call is on its way, in one direction.
    pub(super) fn delay(&self) -> Duration {
        let mut state = self.state();
        if !state.slow {
            return Duration::ZERO;
        }
        let ms = match state.random.below(100) {
            0..70 => 0,
            70..98 => state.random.below(20),
            _ => state.random.below(1500),
        };
        Duration::from_millis(ms)
    }

    /// How many records a fetch brings at most.
    pub(super) fn fetch_at_most(&self, records: usize) -> usize {
        let mut state = self.state();
        if state.slow && state.random.chance(500) { 1 + state.random.index(5.min(records)) } else { records }
    }

    /// A call that takes effect some time after it was made, and is answered some time after that.
    pub(super) fn call<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        call: impl FnOnce() -> BoxFuture<'static, T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let at = Instant::now() + self.delay();
        self.call_at(what, at, call)
    }

    /// As [`call`](Self::call), after all calls of this kind that were made before.
    pub(super) fn call_in_order<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        call: impl FnOnce() -> BoxFuture<'static, T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let delay = self.delay();
        let (done, committed) = oneshot::channel::<()>();
        let (at, earlier) = {
            let mut state = self.state();
            let now = Instant::now();
            let behind = if state.last_commit > now { state.last_commit + Duration::from_millis(1) } else { now };
            state.last_commit = behind.max(now + delay);
            (state.last_commit, state.committed.replace(committed))
        };
        let in_order = move || {
            async move {
                if let Some(earlier) = earlier {
                    // It learns of it by an error.
                    _ = earlier.await;
                }
                let result = call().await;
                drop(done);
                result
            }
            .boxed()
        };
        self.call_at(what, at, in_order)
    }

    fn call_at<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        at: Instant,
        call: impl FnOnce() -> BoxFuture<'static, T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let life = Arc::clone(self);
        async move {
            if at > Instant::now() {
                sleep_until(at).await;
            }
            if !life.pass(what) {
                return std::future::pending().await;
            }
            let result = call().await;
            if !life.pass(what) {
                return std::future::pending().await;
            }
            let back = life.delay();
            if back > Duration::ZERO {
                sleep(back).await;
            }
            result
        }
        .boxed()
    }

    /// The log's token of a revocation, let go when the instance lets go of the one that this gives it. The dead don't.
    pub(super) fn hold(self: &Arc<Self>, token: RevokeToken) -> RevokeToken {
        let (ours, dropped) = RevokeToken::new();
        let life = Arc::clone(self);
        tokio::spawn(async move {
            // It learns of it by an error.
            _ = dropped.await;
            if life.pass("let go") {
                life.note(format_args!("lets go"));
                drop(token);
            } else {
                life.state().tokens.push(token);
            }
        });
        ours
    }

    /// Notes a loss of partitions.
    pub(super) fn loses(&self, partitions: &[TopicPartition]) {
        let mut state = self.state();
        state.losses += 1;
        let number = state.losses;
        state.lost.extend(partitions.iter().map(|p| (p.clone(), number)));
    }

    /// How often it has lost partitions.
    pub(super) fn losses(&self) -> u64 {
        self.state().losses
    }

    /// Whether it lost one of these since then.
    pub(super) fn lost_since(&self, losses: u64, offsets: &Commits) -> bool {
        let state = self.state();
        offsets.iter().any(|(p, _)| state.lost.get(p).is_some_and(|number| *number > losses))
    }

    pub(super) fn keep(&self, producer: &Arc<dyn Producer>) {
        self.state().producers.push(Arc::clone(producer));
    }

    /// It is given partitions.
    pub(super) fn gains<'a>(&self, partitions: impl Iterator<Item = &'a TopicPartition>) {
        self.owners.assigned(self.group, &self.name, partitions.map(|of| of.partition));
    }

    /// It sends a batch. Gives a number, for [`hears`](Self::hears).
    pub(super) fn sends(&self, batch: &ProduceBatch) -> u64 {
        self.owners.sends(self.group, &self.name, batch)
    }

    /// It hears what became of a batch.
    pub(super) fn hears(&self, number: u64) {
        self.owners.heard(&self.name, number);
    }

    /// Loses the records that are under way.
    pub(super) fn forget_producers(&self) {
        self.owners.forget(&self.name);
        let gone = std::mem::take(&mut self.state().producers);
        drop(gone);
    }

    /// Records under way when the process dies arrive within a moment, or never: the connection went with the process.
    /// So the moment is short beside the session, and a log that is out of reach for longer gets nothing.
    pub(super) fn forget_producers_soon(self: &Arc<Self>) {
        let (life, on_the_way) = (Arc::clone(self), Duration::from_millis(self.state().random.below(500)));
        tokio::spawn(async move {
            sleep(on_the_way).await;
            life.forget_producers();
        });
    }
}
