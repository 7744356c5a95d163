//! Faults on demand, for tests and simulations: what a network and a cluster do to their clients.
//!
//! ```
//! # use stream_core::log::{LogError, embedded::InMemory};
//! let log = InMemory::new();
//! // The first record of this topic is never written; the others are.
//! let fault = log.faults().on(|record| record.topic == "mails").times(1).fail(LogError::Timeout {
//!     what: "deliver".into(),
//!     reason: "injected".into(),
//! });
//! assert_eq!(fault.hits(), 0);
//! drop(fault); // From here on all is well again.
//! ```
//!
//! Faults of deliveries are met when a record is handed to [`Producer::send`](crate::log::Producer::send), first rule
//! first, one rule a record. A rule lasts until its [`Fault`] is dropped. Predicates run under the log's lock: they
//! must not use the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fault_rules::{Action, Matches, Network, Outgoing, Rule, RuleId};
use super::state::Shared;
use crate::log::{LogError, Offsets};

/// Makes faults. Of [`InMemory::faults`](super::InMemory::faults).
pub struct Faults {
    shared: Arc<Shared>,
}

impl Faults {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Chooses records on their way to the log; say next what becomes of them. The predicate may keep a state, as the
    /// random numbers of a simulation.
    pub fn on(&self, matches: impl FnMut(&Outgoing<'_>) -> bool + Send + 'static) -> On {
        On { shared: Arc::clone(&self.shared), matches: Box::new(matches), times: None }
    }

    /// Makes the log reachable or not. While it is not, look-ups and commits fail with [`LogError::Unreachable`],
    /// members and fetches wait, and records wait until their delivery time-out fails them. When it is back, all
    /// sessions restart; transactions may have run out of time.
    pub fn set_available(&self, available: bool) {
        self.shared.with(|state| state.set_available(available));
    }

    /// Makes the groups' coordinators answer or not, as when they move to another broker: records are written and read,
    /// while members hear nothing and no offset is committed or looked up. When they are back, all sessions restart.
    pub fn set_coordinating(&self, on: bool) {
        self.shared.with(|state| state.set_coordinating(on));
    }

    /// Takes a member out of its group, as if its session had expired; it learns of it when it is polled. The id is
    /// that of [`Log::group_members`](crate::log::Log::group_members). Whether there was such a member.
    pub fn expire_member(&self, group: &str, member_id: &str) -> bool {
        self.shared.with(|state| {
            let Some((name, group)) = state.groups.get_key_value(group) else { return false };
            let found = group.members.keys().copied().find(|id| super::member::member_id(*id) == member_id);
            let name = Arc::clone(name);
            let (Some(id), Some(group)) = (found, state.groups.get_mut(&name)) else { return false };
            group.remove(id, &mut state.wake);
            state.rebalance(&name);
            true
        })
    }

    /// Rebalances a group: every partition moves to the next member, or away and back where there is only one.
    pub fn rebalance(&self, group: &str) {
        self.shared.with(|state| {
            if let Some(group) = state.groups.get_mut(group) {
                group.rotate(&mut state.wake);
            }
        });
    }

    /// Holds every transaction that is being committed at the point where its offsets are sent and nothing is
    /// decided. Its time-out runs on.
    pub fn hold_commits(&self) -> CommitHold {
        self.shared.with(|state| state.rules.commit_holds += 1);
        CommitHold { shared: Arc::clone(&self.shared) }
    }

    /// Holds what is read from a topic, by everybody, until the guard is dropped: a broker that is slow to answer.
    pub fn hold_fetches(&self, topic: &str) -> FetchHold {
        self.shared.with(|state| *state.rules.fetch_holds.entry(topic.to_owned()).or_default() += 1);
        FetchHold { shared: Arc::clone(&self.shared), topic: topic.to_owned() }
    }

    /// Takes so many replicas of a topic away that it falls below its `min.insync.replicas`, until the guard is dropped:
    /// producers send their batches again and again, until their delivery time-out.
    pub fn lose_replicas(&self, topic: &str) -> ReplicaLoss {
        self.shared.with(|state| *state.rules.short.entry(topic.to_owned()).or_default() += 1);
        ReplicaLoss { shared: Arc::clone(&self.shared), topic: topic.to_owned() }
    }

    /// Does not show the settings of topics, until the guard is dropped, as to a user without the right to
    /// `DescribeConfigs`.
    pub fn deny_describe_configs(&self) -> Denial {
        self.shared.with(|state| state.rules.secrets += 1);
        Denial { shared: Arc::clone(&self.shared) }
    }

    /// Forgets the offsets that a group committed, of one topic or of all, as `kafka-consumer-groups.sh --delete-offsets`
    /// does, or their retention (`offsets.retention.minutes`).
    pub fn forget_offsets(&self, group: &str, topic: Option<&str>) {
        self.shared.with(|state| {
            if let Some(group) = state.groups.get_mut(group) {
                group.committed.retain(|of, _| topic.is_some_and(|t| t != &*of.topic));
            }
        });
    }

    /// The transactional ids that were ever used.
    #[cfg(feature = "testing")]
    pub(crate) fn transactional_ids(&self) -> Vec<Arc<str>> {
        self.shared.with(|state| state.transactions.ids().cloned().collect())
    }

    /// Lets a transactional id expire that has no open transaction (`transactional.id.expiration.ms`): the next
    /// transaction of its producer fails, the one after works. Whether there was such an id.
    pub fn expire_transactional_id(&self, id: &str) -> bool {
        self.shared.with(|state| state.transactions.expire(id))
    }

    /// Puts a network between the producers and the log, from now on.
    pub fn set_network(&self, network: Network) {
        self.shared.with(|state| {
            state.rules.network = network;
            state.changed = true;
        });
    }

    /// The next commit of a transaction fails with this error and has no effect.
    pub fn fail_commit(&self, error: LogError) {
        self.shared.with(|state| state.rules.commit_errors.push_back((error, false)));
    }

    /// The next commit of a transaction takes effect and is reported as this error: its answer was lost.
    pub fn fail_commit_after(&self, error: LogError) {
        self.shared.with(|state| state.rules.commit_errors.push_back((error, true)));
    }

    /// The next commit of offsets by a member fails with this error and has no effect.
    pub fn fail_offset_commit(&self, error: LogError) {
        self.shared.with(|state| state.rules.offset_errors.push_back((error, false)));
    }

    /// The next commit of offsets by a member takes effect and is reported as this error: its answer was lost.
    pub fn fail_offset_commit_after(&self, error: LogError) {
        self.shared.with(|state| state.rules.offset_errors.push_back((error, true)));
    }

    /// Refuses offsets whose metadata has more bytes, as brokers do by `offset.metadata.max.bytes` (4,096 unless set).
    pub fn limit_offset_metadata(&self, bytes: usize) {
        self.shared.with(|state| state.rules.offset_metadata_bytes = bytes);
    }

    /// Forgets the errors that commits were to fail with and have not yet.
    #[cfg(feature = "testing")]
    pub(crate) fn forget_commits(&self) {
        self.shared.with(|state| {
            state.rules.commit_errors.clear();
            state.rules.offset_errors.clear();
        });
    }

    /// Look-ups do not find a topic until the guard is dropped, as those of a broker that has just started and does not
    /// know of it yet. The topic itself works.
    pub fn hide_topic(&self, topic: &str) -> Hidden {
        self.shared.with(|state| _ = state.rules.hidden.insert(topic.to_owned()));
        Hidden { shared: Arc::clone(&self.shared), topic: topic.to_owned() }
    }

    /// Leaves offsets of a group in an undecided transaction, as a predecessor that died in the middle of its commit
    /// does.
    pub fn pending_offsets(&self, group: &str, offsets: Offsets) -> Pending {
        let number = self.shared.with(|state| {
            let number = state.id();
            let offsets = crate::log::types::without_metadata(offsets);
            state.groups.entry(group.into()).or_default().pending.insert(number, offsets);
            number
        });
        Pending { shared: Arc::clone(&self.shared), group: group.into(), number }
    }
}

/// Records that were chosen. See [`Faults::on`].
#[must_use = "nothing happens before it is said what becomes of the records"]
pub struct On {
    shared: Arc<Shared>,
    matches: Matches,
    times: Option<usize>,
}

impl On {
    /// Only the first `n` records that match.
    pub fn times(mut self, n: usize) -> Self {
        self.times = Some(n);
        self
    }

    /// They are not written, and fail with this error.
    pub fn fail(self, error: LogError) -> Fault {
        self.act(Action::Fail(error))
    }

    /// They are written, and fail with this error all the same: the acknowledgement was lost.
    pub fn fail_after_write(self, error: LogError) -> Fault {
        self.act(Action::FailAfterWrite(error))
    }

    /// They are written later, and what follows them to the same partition waits for them.
    pub fn delay(self, by: Duration) -> Fault {
        self.act(Action::Delay(by))
    }

    /// The broker refuses the batches that they are in, and names them as it names a record with a bad time.
    pub fn refuse(self) -> Fault {
        self.act(Action::Refuse)
    }

    /// They are written, and not acknowledged before the [`Fault`] is dropped (or their delivery time-out fails them).
    pub fn hold_acks(self) -> Fault {
        self.act(Action::HoldAck)
    }

    fn act(self, action: Action) -> Fault {
        let rule = Rule { matches: self.matches, action, left: self.times, hits: 0 };
        let id = self.shared.with(|state| {
            let id = state.id();
            state.rules.deliveries.insert(id, rule);
            id
        });
        Fault { shared: self.shared, id }
    }
}

/// A fault of deliveries, until it is dropped.
#[must_use = "dropping it ends the fault"]
pub struct Fault {
    shared: Arc<Shared>,
    id: RuleId,
}

impl Fault {
    /// How many records it has met.
    pub fn hits(&self) -> usize {
        self.shared.with(|state| state.rules.deliveries.get(&self.id).map_or(0, |r| r.hits))
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // The rule's predicate is dropped outside of the lock: it is the caller's.
        let gone = self.shared.with(|state| {
            state.release(self.id);
            state.rules.deliveries.remove(&self.id)
        });
        drop(gone);
    }
}

/// Holds transactions that are being committed, until it is dropped.
#[must_use = "dropping it lets the commits go on"]
pub struct CommitHold {
    shared: Arc<Shared>,
}

impl Drop for CommitHold {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.rules.commit_holds = state.rules.commit_holds.saturating_sub(1);
            state.changed = true;
        });
    }
}

/// One guard of a topic less.
fn release(guarded: &mut BTreeMap<String, usize>, topic: &str) {
    if let Some(guards) = guarded.get_mut(topic) {
        *guards -= 1;
        if *guards == 0 {
            guarded.remove(topic);
        }
    }
}

/// Holds what is read from a topic, until it is dropped.
#[must_use = "dropping it lets the fetches go on"]
pub struct FetchHold {
    shared: Arc<Shared>,
    topic: String,
}

impl Drop for FetchHold {
    fn drop(&mut self) {
        self.shared.with(|state| {
            release(&mut state.rules.fetch_holds, &self.topic);
            state.wake.append(&mut state.sleepers);
        });
    }
}

/// A topic has too few replicas in sync, until it is dropped.
#[must_use = "dropping it brings the replicas back"]
pub struct ReplicaLoss {
    shared: Arc<Shared>,
    topic: String,
}

impl Drop for ReplicaLoss {
    fn drop(&mut self) {
        self.shared.with(|state| release(&mut state.rules.short, &self.topic));
    }
}

/// The settings of topics are not shown, until it is dropped.
#[must_use = "dropping it shows them again"]
pub struct Denial {
    shared: Arc<Shared>,
}

impl Drop for Denial {
    fn drop(&mut self) {
        self.shared.with(|state| state.rules.secrets = state.rules.secrets.saturating_sub(1));
    }
}

/// A topic that look-ups do not find, until it is dropped.
#[must_use = "dropping it shows the topic again"]
pub struct Hidden {
    shared: Arc<Shared>,
    topic: String,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.shared.with(|state| _ = state.rules.hidden.remove(&self.topic));
    }
}

/// Offsets in an undecided transaction. Dropping it leaves them undecided for ever.
pub struct Pending {
    shared: Arc<Shared>,
    group: Arc<str>,
    number: u64,
}

impl Pending {
    /// The transaction is committed.
    pub fn commit(self) {
        self.decide(true);
    }

    /// The transaction is aborted.
    pub fn abort(self) {
        self.decide(false);
    }

    fn decide(self, commit: bool) {
        self.shared.with(|state| {
            let Some(group) = state.groups.get_mut(&self.group) else { return };
            let offsets = group.pending.remove(&self.number).unwrap_or_default();
            if commit {
                group.commit(offsets);
            }
            group.wake(&mut state.wake);
        });
    }
}
