//! Everything the embedded log knows, behind one lock that is held briefly and never across an await.
//!
//! The rule of the lock: code that changes something that others wait for leaves their wakers in `wake` (or sets
//! `changed`), and [`Shared::with`] calls them once the lock is released. Time takes effect lazily: every access first
//! does what is due, and everybody who waits also waits for the next due moment. So no task is needed, but by a
//! producer whose batches wait for time to pass (`producer`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fault_rules::Rules;
use super::group::Group;
use super::outbox::{Completion, Outbox};
use super::topics::Topics;
use super::transactions::Transactions;
use crate::clock::Clock;
use crate::log::{LogError, LogResult};

/// The state that all handles of one embedded log share.
pub(super) struct Shared {
    state: Mutex<BrokerState>,
    /// Notified after each access that set [`BrokerState::changed`].
    pub(super) notify: Notify,
    pub(super) clock: Arc<dyn Clock>,
    /// Whose time it is, for callers outside of any runtime.
    runtime: Option<tokio::runtime::Handle>,
}

/// The state.
pub(super) struct BrokerState {
    pub(super) topics: Topics,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) transactions: Transactions,
    /// The outbox of each living producer.
    pub(super) outboxes: BTreeMap<u64, Outbox>,
    pub(super) rules: Rules,
    /// The wakers of those that wait for the end of an outage.
    pub(super) sleepers: Vec<Waker>,
    /// To be called once the lock is released.
    pub(super) wake: Vec<Waker>,
    /// Deliveries to report once the lock is released.
    pub(super) completions: Vec<Completion>,
    /// Whether waiting futures must look again.
    pub(super) changed: bool,
    /// No later than the next moment at which time changes something.
    pub(super) due: Option<Instant>,
    next_id: u64,
    pub(super) clock: Arc<dyn Clock>,
}

impl Shared {
    pub(super) fn new(clock: Arc<dyn Clock>, runtime: Option<tokio::runtime::Handle>) -> Arc<Self> {
        let state = BrokerState {
            topics: Topics::default(),
            groups: BTreeMap::new(),
            transactions: Transactions::default(),
            outboxes: BTreeMap::new(),
            rules: Rules::default(),
            sleepers: Vec::new(),
            wake: Vec::new(),
            completions: Vec::new(),
            changed: false,
            due: None,
            next_id: 0,
            clock: Arc::clone(&clock),
        };
        Arc::new(Self { state: Mutex::new(state), notify: Notify::new(), clock, runtime })
    }

    /// The runtime that waits for what takes time.
    pub(super) fn handle(&self) -> Option<tokio::runtime::Handle> {
        tokio::runtime::Handle::try_current().ok().or_else(|| self.runtime.clone())
    }

    /// Does what is due, then `work`, then wakes whom it concerns.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut BrokerState) -> R) -> R {
        let _entered = self.runtime.as_ref().map(tokio::runtime::Handle::enter);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tick();
        let result = work(&mut state);
        let wake = std::mem::take(&mut state.wake);
        let completions = std::mem::take(&mut state.completions);
        let changed = std::mem::take(&mut state.changed) || !completions.is_empty();
        drop(state);
        for (done, delivery) in completions {
            // Nobody need wait for it.
            let _ = done.send(delivery);
        }
        for waker in wake {
            waker.wake();
        }
        if changed {
            self.notify.notify_waiters();
        }
        result
    }

    /// Waits until `look` has an answer, or a moment is reached.
    pub(super) async fn wait_for<T>(
        &self,
        until: Option<Instant>,
        mut look: impl FnMut(&mut BrokerState) -> Option<T>,
    ) -> Option<T> {
        loop {
            // Made before looking, so that no change is missed.
            let notified = self.notify.notified();
            let (found, due) = self.with(|state| (look(state), state.due));
            if found.is_some() {
                return found;
            }
            if until.is_some_and(|u| u <= Instant::now()) {
                return None;
            }
            match [due, until].into_iter().flatten().min() {
                None => notified.await,
                Some(moment) => {
                    tokio::select! {
                        biased;
                        () = notified => {}
                        () = tokio::time::sleep_until(moment) => {}
                    }
                }
            }
        }
    }
}

/// An answer that is there already. Awaiting it gives way to others now and then, as a real log's answers do.
pub(super) fn ready<T: Send + 'static>(answer: T) -> BoxFuture<'static, T> {
    Box::pin(tokio::task::coop::cooperative(std::future::ready(answer)))
}

impl BrokerState {
    /// A number that was not given before.
    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether the log can be reached at all.
    pub(super) fn reach(&self, what: &str) -> LogResult<()> {
        if self.rules.available {
            return Ok(());
        }
        let reason = "made unavailable for a test".to_owned();
        Err(LogError::Unreachable { what: what.to_owned(), brokers: super::NAME.to_owned(), reason })
    }

    /// Whether a group's coordinator can be reached.
    pub(super) fn reach_coordinator(&self, what: &str) -> LogResult<()> {
        self.reach(what)?;
        if self.rules.coordinating {
            return Ok(());
        }
        let reason = "the group's coordinator is moving (on purpose)".to_owned();
        Err(LogError::Retriable { what: what.to_owned(), reason })
    }

    /// Wakes a waiter when an outage ends.
    pub(super) fn sleep(&mut self, cx: &Context<'_>) {
        if !self.sleepers.iter().any(|w| w.will_wake(cx.waker())) {
            self.sleepers.push(cx.waker().clone());
        }
    }

    /// Remembers that time matters at a moment.
    pub(super) fn due_at(&mut self, moment: Instant) {
        self.due = Some(self.due.map_or(moment, |d| d.min(moment)));
    }

    /// Lets time take effect, if it is time.
    pub(super) fn tick(&mut self) {
        let Some(due) = self.due else { return };
        let now = Instant::now();
        if now < due {
            return;
        }
        self.tick_outboxes(now);
        if self.rules.available {
            self.tick_transactions(now);
        }
        if self.rules.coordinated() {
            self.tick_groups(now);
        }
        let outboxes = self.outboxes.values().filter_map(|o| o.due(self.rules.available));
        let transactions = self.transactions.due().filter(|_| self.rules.available);
        let groups = self.groups.values().filter_map(Group::due).filter(|_| self.rules.coordinated());
        self.due = outboxes.chain(transactions).chain(groups).min();
        self.changed = true;
    }

    fn tick_groups(&mut self, now: Instant) {
        let Self { groups, topics, wake, .. } = self;
        for group in groups.values_mut() {
            let over = group.tick(now, wake);
            if !over.is_empty() {
                for id in over {
                    group.remove(id, wake);
                }
                group.rebalance(|topic| topics.count(topic), wake);
            }
        }
    }

    /// Assigns a group's partitions again.
    pub(super) fn rebalance(&mut self, group: &Arc<str>) {
        let Self { groups, topics, wake, .. } = self;
        if let Some(group) = groups.get_mut(group) {
            group.rebalance(|topic| topics.count(topic), wake);
        }
    }

    /// A topic was made, grown or deleted: groups that subscribe to it rebalance.
    pub(super) fn topic_changed(&mut self, name: &Arc<str>) {
        let Self { groups, topics, wake, .. } = self;
        for group in groups.values_mut().filter(|g| g.wants(name)) {
            group.rebalance(|topic| topics.count(topic), wake);
        }
        self.changed = true;
    }

    /// The groups' coordinators answer, or not, from now on.
    pub(super) fn set_coordinating(&mut self, on: bool) {
        self.rules.coordinating = on;
        self.begin_sessions(on);
        self.changed = true;
    }

    /// After an outage every session starts from the beginning; in any case members look again.
    fn begin_sessions(&mut self, available: bool) {
        let now = Instant::now();
        if available {
            self.groups.values_mut().for_each(|g| g.renew_sessions(now));
        }
        self.due_at(now);
        self.wake.append(&mut self.sleepers);
        for group in self.groups.values_mut() {
            group.wake(&mut self.wake);
        }
    }

    /// The log can be reached, or not, from now on.
    pub(super) fn set_available(&mut self, available: bool) {
        self.rules.available = available;
        self.begin_sessions(available);
        for partition in self.topics.all().flat_map(|t| &mut t.partitions) {
            partition.wake(&mut self.wake);
        }
        self.changed = true;
    }
}
