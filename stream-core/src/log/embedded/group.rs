//! The coordinator of one consumer group: who is in it, who owns what, and what is committed.
//!
//! Invariants: a slot (a subscribed partition) is owned by at most one membership. A slot changes hands only after its
//! owner let go of it, heard of it too late (the bound of a revocation), or is out of the group. Every change of the
//! membership or of the ownership makes a new generation; offsets that carry another generation, or come from
//! somebody who is out, are refused. This file must never touch records, and never wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use super::assign::{Wish, assign};
use crate::log::{
    Commits, Isolation, LogError, LogResult, MemberOptions, OffsetAndMetadata, RevokeToken, Subscription,
    TopicPartition,
};

/// The assignment of a member for one slot.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The slot's partition and those that follow it, as they were when it was given.
    pub(super) partitions: Vec<TopicPartition>,
    /// Cleared when the assignment ends: its fetches yield nothing more.
    pub(super) alive: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Revoking {
    slots: Vec<TopicPartition>,
    done: oneshot::Receiver<()>,
    deadline: Instant,
}

/// One member as the coordinator knows it.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) options: MemberOptions,
    /// When it was last polled. After its session it is out, unless a revocation keeps it busy.
    seen: Instant,
    /// A static member that closed: its place is kept until its session ends.
    away: bool,
    target: BTreeSet<TopicPartition>,
    owned: BTreeMap<TopicPartition, Held>,
    /// To be revoked even though it is to have it again.
    evicted: BTreeSet<TopicPartition>,
    /// It was sent its assignment, even if that is empty.
    notified: bool,
    revoking: Option<Revoking>,
    /// Taken away past the bound of a revocation; the member does not know yet.
    lost: Vec<(TopicPartition, Held)>,
    pub(super) waker: Option<Waker>,
}

impl Membership {
    /// The topics that it subscribes to.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        match &self.options.subscription {
            Subscription::Topics(topics) => topics.clone(),
            Subscription::CoPartitioned { lead, .. } => vec![Arc::clone(lead)],
        }
    }

    /// The partitions that come with a slot.
    fn expand(&self, slot: &TopicPartition, count: impl Fn(&Arc<str>) -> i32) -> Vec<TopicPartition> {
        match &self.options.subscription {
            Subscription::Topics(_) => vec![slot.clone()],
            Subscription::CoPartitioned { with, .. } => with
                .iter()
                .filter(|topic| slot.partition < count(topic))
                .map(|topic| TopicPartition::new(Arc::clone(topic), slot.partition))
                .collect(),
        }
    }

    fn deadline(&self) -> Instant {
        self.revoking.as_ref().map_or(self.seen + self.options.session_timeout, |r| r.deadline)
    }
}

/// News for a member.
pub(super) enum Step {
    Lost(Vec<(TopicPartition, Held)>),
    Revoking(Vec<TopicPartition>, RevokeToken),
    Assigned(Vec<(TopicPartition, Held)>),
}

/// A group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) generation: u64,
    pub(super) members: BTreeMap<u64, Membership>,
    /// Static members that another of the same instance id replaced.
    pub(super) fenced: BTreeSet<u64>,
    pub(super) committed: BTreeMap<TopicPartition, OffsetAndMetadata>,
    /// The first commit that went back: from and to. Kafka allows it; for a group that nobody rewinds it is a mistake.
    pub(super) set_back: Option<(TopicPartition, i64, i64)>,
    /// Offsets in transactions that are not decided.
    pub(super) pending: BTreeMap<u64, Commits>,
}

impl Group {
    /// Takes a new member in, or the successor of a static one. `true`: a rebalance must follow.
    pub(super) fn join(&mut self, id: u64, options: MemberOptions, now: Instant) -> bool {
        let same = |m: &&Membership| m.options.instance_id.is_some() && m.options.instance_id == options.instance_id;
        let before = self.members.iter().find(|(_, m)| same(m)).map(|(id, _)| *id);
        let mut target = BTreeSet::new();
        let mut quiet = false;
        if let Some(before) = before
            && let Some(old) = self.members.remove(&before)
        {
            old.owned.values().for_each(|h| h.alive.store(false, Ordering::Release));
            // The same place, so nothing moves and the generation stays.
            quiet = old.options.subscription == options.subscription;
            target = old.target;
            if !old.away {
                self.fenced.insert(before);
            }
        }
        let membership = Membership {
            options,
            seen: now,
            away: false,
            target,
            owned: BTreeMap::new(),
            evicted: BTreeSet::new(),
            notified: false,
            revoking: None,
            lost: Vec::new(),
            waker: None,
        };
        self.members.insert(id, membership);
        !quiet
    }

    /// Takes a member out; a rebalance must follow if it was in. Its fetches go on until it is notified, for nothing
    /// stops a zombie from reading.
    pub(super) fn remove(&mut self, id: u64, wake: &mut Vec<Waker>) -> bool {
        let gone = self.members.remove(&id);
        gone.map(|member| wake.extend(member.waker)).is_some()
    }

    /// A static member closes: its place stays until its session ends.
    pub(super) fn go_away(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.away = true;
            member.owned.values().for_each(|h| h.alive.store(false, Ordering::Release));
            member.revoking = None;
            member.waker = None;
        }
    }

    /// Assigns the partitions again.
    pub(super) fn rebalance(&mut self, count: impl Fn(&Arc<str>) -> i32, wake: &mut Vec<Waker>) {
        let wish = |m: &Membership| Wish { topics: m.topics(), before: m.target.clone() };
        let wishes = self.members.iter().map(|(id, m)| (*id, wish(m))).collect();
        for (id, target) in assign(&wishes, count) {
            if let Some(member) = self.members.get_mut(&id) {
                member.target = target;
            }
        }
        self.changed(wake);
    }

    /// Moves everything: each member's share goes to the next one. A single member, and members that subscribe to
    /// different topics, give all up and get it again.
    pub(super) fn rotate(&mut self, wake: &mut Vec<Waker>) {
        let mut targets: Vec<_> = self.members.values().map(|m| m.target.clone()).collect();
        let first = self.members.values().next().map(Membership::topics);
        let moves = targets.len() > 1 && self.members.values().all(|m| Some(m.topics()) == first);
        if moves {
            targets.rotate_right(1);
        }
        for (member, target) in self.members.values_mut().zip(targets) {
            member.target = target;
            if !moves {
                member.evicted = member.owned.keys().cloned().collect();
            }
        }
        self.changed(wake);
    }

    fn changed(&mut self, wake: &mut Vec<Waker>) {
        self.generation += 1;
        self.wake(wake);
    }

    /// Hands out the wakers of all members.
    pub(super) fn wake(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.members.values_mut().filter_map(|m| m.waker.take()));
    }

    /// Takes slots away from a member: it let go, or (`lost`) its session has expired.
    fn release(&mut self, id: u64, slots: &[TopicPartition], lost: bool, wake: &mut Vec<Waker>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        for slot in slots {
            member.evicted.remove(slot);
            if let Some(held) = member.owned.remove(slot) {
                if lost {
                    member.lost.push((slot.clone(), held));
                } else {
                    held.alive.store(false, Ordering::Release);
                }
            }
        }
        self.changed(wake);
    }

    /// Lets time take effect. Gives the members whose session has expired, for the caller to take out and rebalance.
    pub(super) fn tick(&mut self, now: Instant, wake: &mut Vec<Waker>) -> Vec<u64> {
        let ids: Vec<u64> = self.members.keys().copied().collect();
        let mut over = Vec::new();
        for id in ids {
            self.settle(id, now, wake);
            if self.members.get(&id).is_some_and(|m| m.revoking.is_none() && m.deadline() <= now) {
                over.push(id);
            }
        }
        over
    }

    /// Ends a revocation that is done or too late.
    fn settle(&mut self, id: u64, now: Instant, wake: &mut Vec<Waker>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(revoking) = &mut member.revoking else { return };
        let done = revoking.done.try_recv() != Err(TryRecvError::Empty);
        if done || revoking.deadline <= now {
            if done {
                // Letting go is a sign of life. Who lets the bound pass and is not polled either is out of the group, as
                // one without heartbeats is in Kafka: what it commits when it wakes is refused.
                member.seen = member.seen.max(revoking.deadline.min(now));
            }
            if let Some(revoking) = member.revoking.take() {
                self.release(id, &revoking.slots, !done, wake);
            }
        }
    }

    /// The next moment at which time changes something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.members.values().map(Membership::deadline).min()
    }

    /// After an outage of the log: every session starts from the beginning.
    pub(super) fn renew_sessions(&mut self, now: Instant) {
        self.members.values_mut().for_each(|m| m.seen = now);
    }

    /// Takes a member's heartbeat; returns its next news.
    pub(super) fn step(
        &mut self,
        id: u64,
        now: Instant,
        count: impl Fn(&Arc<str>) -> i32,
        cx: &mut std::task::Context<'_>,
        wake: &mut Vec<Waker>,
    ) -> Option<Step> {
        self.settle(id, now, wake);
        let wants = |m: &Membership| m.target.iter().any(|slot| !m.owned.contains_key(slot));
        let in_use: BTreeSet<TopicPartition> = match self.members.get(&id) {
            Some(member) if wants(member) => self.members.values().flat_map(|m| m.owned.keys().cloned()).collect(),
            _ => BTreeSet::new(),
        };
        let pending = &self.pending;
        let member = self.members.get_mut(&id)?;
        member.seen = now;
        member.waker = Some(cx.waker().clone());
        if !member.lost.is_empty() {
            return Some(Step::Lost(std::mem::take(&mut member.lost)));
        }
        if let Some(revoking) = &mut member.revoking {
            // Registers the waker: letting go wakes this member, which then wakes the others.
            return if std::future::Future::poll(std::pin::Pin::new(&mut revoking.done), cx).is_ready() {
                self.settle_done(id, now, wake);
                self.step(id, now, count, cx, wake)
            } else {
                None
            };
        }
        let leaving: Vec<TopicPartition> = member
            .owned
            .keys()
            .filter(|s| !member.target.contains(*s) || member.evicted.contains(*s))
            .cloned()
            .collect();
        if !leaving.is_empty() {
            let partitions: Vec<_> =
                leaving.iter().filter_map(|s| member.owned.get(s)).flat_map(|h| h.partitions.clone()).collect();
            if partitions.is_empty() {
                // Slots with nothing behind them: nobody needs to be asked.
                self.release(id, &leaving, false, wake);
                return self.step(id, now, count, cx, wake);
            }
            let (token, done) = RevokeToken::new();
            let deadline = now + member.options.revoke_timeout;
            member.revoking = Some(Revoking { slots: leaving, done, deadline });
            return Some(Step::Revoking(partitions, token));
        }
        let stable = |held: &[TopicPartition]| {
            member.options.isolation == Isolation::ReadUncommitted
                || !pending.values().flatten().any(|(p, _)| held.contains(p))
        };
        let mut given = Vec::new();
        for slot in member.target.iter().filter(|s| !in_use.contains(*s) && !member.owned.contains_key(*s)) {
            let partitions = member.expand(slot, &count);
            if stable(&partitions) {
                given.push((slot.clone(), Held { partitions, alive: Arc::new(AtomicBool::new(true)) }));
            }
        }
        // A new member learns of an empty share as well.
        if given.is_empty() && (member.notified || !member.target.is_empty()) {
            return None;
        }
        member.notified = true;
        member.owned.extend(given.iter().cloned());
        Some(Step::Assigned(given))
    }

    /// Ends a revocation whose token is known to be gone (its channel was polled to its end).
    fn settle_done(&mut self, id: u64, now: Instant, wake: &mut Vec<Waker>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.seen = now;
        if let Some(revoking) = member.revoking.take() {
            self.release(id, &revoking.slots, false, wake);
        }
    }

    /// Commits offsets.
    pub(super) fn commit(&mut self, offsets: Commits) {
        for (partition, position) in offsets {
            let (to, of) = (position.offset, Arc::clone(&position.metadata));
            // The metadata names the topic's id: an offset in a topic that was recreated does not go back.
            match self.committed.insert(partition.clone(), position) {
                Some(before) if before.offset > to && (before.metadata == of || before.metadata.is_empty()) => {
                    _ = self.set_back.get_or_insert((partition, before.offset, to));
                }
                _ => {}
            }
        }
    }

    /// Whether offsets of this member and generation may be committed.
    pub(super) fn check(&self, what: &str, group: &str, member: u64, generation: Option<u64>) -> LogResult<()> {
        let reason = if self.fenced.contains(&member) {
            "another member with its instance id took its place".to_owned()
        } else if !self.members.contains_key(&member) {
            "it is out of the group: it was not polled within its session time-out, or it left".to_owned()
        } else if self.members.get(&member).is_some_and(|m| !m.lost.is_empty()) {
            // The others are a generation further. Whatever it says now comes from the time before.
            "partitions were taken from it, for it did not let go in time, and it has yet to hear of it".to_owned()
        } else if let Some(stale) = generation.filter(|g| *g != self.generation) {
            format!("its generation {stale} has ended, the group is at {}", self.generation)
        } else {
            return Ok(());
        };
        Err(LogError::NotMember { what: what.to_owned(), group: group.to_owned(), reason })
    }

    /// Whether any member subscribes to a topic.
    pub(super) fn wants(&self, topic: &Arc<str>) -> bool {
        self.members.values().any(|m| m.topics().contains(topic))
    }

    /// The longest time between two polls that keeps a member in.
    pub(super) fn heartbeat(&self, id: u64) -> Duration {
        self.members.get(&id).map_or(Duration::from_secs(1), |m| m.options.session_timeout / 3)
    }
}
