//! The transaction coordinator: one open transaction for each transactional id, its fencing and its end.
//!
//! Invariants: a transaction is decided once, for all its partitions and offsets in one step under the lock; what a
//! producer of an older epoch asks is refused. As in Kafka the time-out runs from the first record or offset, and a
//! transaction that ran out of time fences its producer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::BrokerState;
use crate::log::{Commits, LogError, LogResult};

/// The identity of a transactional producer.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) id: Arc<str>,
    pub(super) epoch: u64,
    pub(super) timeout: Duration,
}

/// An open transaction.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    deadline: Option<Instant>,
    /// The topics' numbers and the partitions written to.
    partitions: Vec<(usize, i32)>,
    groups: Vec<Arc<str>>,
    /// Why it can only be aborted.
    pub(super) failed: Option<String>,
}

impl Open {
    fn new(number: u64) -> Self {
        Self { number, deadline: None, partitions: Vec::new(), groups: Vec::new(), failed: None }
    }
}

#[derive(Debug, Default)]
struct Entry {
    epoch: u64,
    /// The epoch that a time-out ended.
    timed_out: Option<u64>,
    /// The coordinator has forgotten the producer; it has yet to hear of it.
    expired: bool,
    open: Option<Open>,
}

/// All transactional ids that were ever used.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    entries: BTreeMap<Arc<str>, Entry>,
}

impl Transactions {
    /// The next time-out.
    pub(super) fn due(&self) -> Option<Instant> {
        self.entries.values().filter_map(|e| e.open.as_ref()?.deadline).min()
    }

    fn entry(&mut self, who: &Identity, what: &str) -> LogResult<&mut Entry> {
        let what = what.to_owned();
        let entry = self.entries.entry(Arc::clone(&who.id)).or_default();
        if entry.epoch == who.epoch {
            return Ok(entry);
        }
        let reason = if entry.timed_out == Some(who.epoch) {
            format!("the transaction of {} was open for longer than its time-out ({:?})", who.id, who.timeout)
        } else {
            format!("transactional id {} has a newer producer", who.id)
        };
        Err(LogError::Fenced { what, reason })
    }

    /// The open transaction of a producer.
    pub(super) fn open(&mut self, who: &Identity, what: &str) -> LogResult<&mut Open> {
        let none = || LogError::Config { what: what.to_owned(), reason: "no transaction is open".to_owned() };
        self.entry(who, what)?.open.as_mut().ok_or_else(none)
    }

    #[cfg(feature = "testing")]
    pub(super) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    /// Forgets an id that has no open transaction.
    pub(super) fn expire(&mut self, id: &str) -> bool {
        let entry = self.entries.get_mut(id).filter(|e| e.open.as_ref().is_none_or(|o| o.deadline.is_none()));
        entry.map(|e| e.expired = true).is_some()
    }

    fn is_expired(&self, who: &Identity) -> bool {
        self.entries.get(&who.id).is_some_and(|e| e.expired && e.epoch == who.epoch)
    }

    /// Notes that a producer's record failed: its transaction can only be aborted.
    pub(super) fn fail(&mut self, who: &Identity, reason: &str) {
        if let Ok(open) = self.open(who, "")
            && open.failed.is_none()
        {
            open.failed = Some(reason.to_owned());
        }
    }

    /// The open transaction's number, for a write to a partition (which becomes part of it). Gives the time-out that
    /// this starts.
    pub(super) fn enlist(
        &mut self,
        who: &Identity,
        partition: (usize, i32),
        now: Instant,
    ) -> LogResult<(u64, Option<Instant>)> {
        if self.is_expired(who) {
            // What is not sent yet is dropped, for the producer has to start over.
            return Err(LogError::Purged);
        }
        let open = self.open(who, "write a record")?;
        // The newest first: batches go to few partitions at a time.
        if !open.partitions.iter().rev().any(|p| *p == partition) {
            open.partitions.push(partition);
        }
        Ok((open.number, open.start(who, now)))
    }
}

impl Open {
    fn start(&mut self, who: &Identity, now: Instant) -> Option<Instant> {
        let begun = self.deadline.is_some();
        let deadline = *self.deadline.get_or_insert(now + who.timeout);
        (!begun).then_some(deadline)
    }
}

impl BrokerState {
    /// A new producer takes a transactional id over: older ones are fenced, what they have open is aborted.
    pub(super) fn take_over(&mut self, id: &Arc<str>, timeout: Duration) -> Identity {
        let entry = self.transactions.entries.entry(Arc::clone(id)).or_default();
        entry.epoch += 1;
        entry.expired = false;
        let epoch = entry.epoch;
        let open = entry.open.take();
        if let Some(open) = open {
            self.finish(open, false);
        }
        Identity { id: Arc::clone(id), epoch, timeout }
    }

    pub(super) fn begin(&mut self, who: &Identity) -> LogResult<()> {
        let what = "begin a transaction";
        let number = self.id();
        let entry = self.transactions.entry(who, what)?;
        if entry.open.is_some() {
            return Err(LogError::Config { what: what.to_owned(), reason: "one is open already".to_owned() });
        }
        entry.open = Some(Open::new(number));
        Ok(())
    }

    /// Adds a group's offsets to the open transaction: undecided until it ends.
    pub(super) fn add_offsets(&mut self, who: &Identity, group: &Arc<str>, offsets: Commits) -> LogResult<()> {
        let what = "add offsets to the transaction";
        if self.transactions.is_expired(who) {
            let reason = "the transactional id expired".to_owned();
            return Err(LogError::Abortable { what: what.to_owned(), reason });
        }
        let open = self.transactions.open(who, what)?;
        let (number, deadline) = (open.number, open.start(who, Instant::now()));
        if !open.groups.contains(group) {
            open.groups.push(Arc::clone(group));
        }
        self.groups.entry(Arc::clone(group)).or_default().pending.entry(number).or_default().extend(offsets);
        if let Some(deadline) = deadline {
            self.due_at(deadline);
        }
        Ok(())
    }

    /// Ends the open transaction. Without one, an abort is fine.
    pub(super) fn end(&mut self, who: &Identity, commit: bool) -> LogResult<()> {
        let what = if commit { "commit the transaction" } else { "abort the transaction" };
        let entry = self.transactions.entry(who, what)?;
        entry.expired &= commit;
        if let Some(open) = entry.open.take() {
            self.finish(open, commit);
        }
        Ok(())
    }

    /// Writes the markers, decides the offsets.
    fn finish(&mut self, open: Open, commit: bool) {
        for (topic, partition) in open.partitions {
            if let Some(partition) = self.topics.at(topic).and_then(|t| t.partition(partition)) {
                partition.marker(open.number, commit);
                partition.wake(&mut self.wake);
            }
        }
        for name in open.groups {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            let offsets = group.pending.remove(&open.number).unwrap_or_default();
            if commit {
                group.commit(offsets);
            }
            group.wake(&mut self.wake);
        }
        self.changed = true;
    }

    pub(super) fn tick_transactions(&mut self, now: Instant) {
        let mut over = Vec::new();
        for entry in self.transactions.entries.values_mut() {
            if let Some(open) = entry.open.take_if(|o| o.deadline.is_some_and(|d| d <= now)) {
                entry.timed_out = Some(entry.epoch);
                entry.epoch += 1;
                over.push(open);
            }
        }
        for open in over {
            self.finish(open, false);
        }
    }
}
