//! The assignment of a member, and how it changes: the bodies of librdkafka's rebalance callbacks.
//!
//! Runs on the member's poll thread, inside the callback. Invariants:
//! - `held` is what is assigned to the consumer: it changes here only, together with `incremental_(un)assign`, and one
//!   partition too many would fail the whole call, so only differences are passed on. A partition whose slot was removed is
//!   lost to the caller and waits for its unassignment.
//! - Every callback answers with exactly one such call, even an empty one, or the group would wait for ever.
//! - A loss is marked (`lost`, `epoch`) before anything is unassigned, for librdkafka joins again right after that and
//!   commits would go under the new generation. The mark is taken off when the caller takes the event.
//! - Nothing is sent while closing: nobody would take it.
//!
//! librdkafka reports a lost membership by a revocation with `assignment_lost`, but not if it happens while an earlier
//! callback is unanswered: then it joins again as if nothing had been, still holding partitions that others have by now.
//! It always resets its member id, which it says in a debug line; losses are detected by that line
//! ([`Shared::member_id_changed`]). For the same reason the group's metadata is taken at callbacks, when there is a
//! membership, and not when it is asked for: Kafka takes offsets without a generation from anybody.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::context::lock;
use super::error::ErrorContext;
use super::fetch::{FetchSlot, KafkaFetch};
use super::query::{PAUSE, committed, list, resolve};
use super::rebalance::{Consumer, Membership};
use crate::log::{
    Assigned, AutoOffsetReset, ErrorClass, LogError, LogResult, MemberEvent, MemberOptions, OffsetAndMetadata,
    OffsetSpec, RevokeToken, Subscription, TopicPartition,
};

/// The state that a member's handle, its poll thread and its fetches share.
pub(super) struct Shared {
    pub(super) connection: Arc<Connection>,
    pub(super) error_context: ErrorContext,
    pub(super) options: MemberOptions,
    /// The poll thread holds it alive.
    pub(super) consumer: Mutex<Weak<Consumer>>,
    pub(super) closing: AtomicBool,
    /// In the group, with an assignment (it may be empty).
    pub(super) joined: AtomicBool,
    /// Losses whose events were not taken yet.
    pub(super) lost: AtomicUsize,
    /// Counts losses.
    pub(super) epoch: AtomicU64,
    pub(super) held: Mutex<BTreeMap<TopicPartition, Option<Arc<FetchSlot>>>>,
    /// The metadata of the newest generation that is known to be ours.
    pub(super) metadata: Mutex<Option<Arc<ConsumerGroupMetadata>>>,
    /// Unsubscribed, and waiting for what that brings.
    pub(super) leaving: AtomicBool,
    /// An assignment was refused, for it may be of a membership that has ended: the poll thread starts over.
    pub(super) needs_rejoin: AtomicBool,
    /// When the poll thread last went to wait for events.
    pub(super) polled: Mutex<Instant>,
    pub(super) poller: OnceLock<Thread>,
    pub(super) attendance: Mutex<Attendance>,
    pub(super) events: mpsc::UnboundedSender<LogResult<MemberEvent>>,
}

/// Whether somebody waits for the member's events.
pub(super) struct Attendance {
    pub(super) waiting: bool,
    /// When that changed.
    pub(super) since: Instant,
}

/// Where partitions start, and whether that is a committed offset.
type Starts = Vec<(TopicPartition, OffsetAndMetadata, bool)>;

/// How holding a revocation back ended.
#[derive(PartialEq)]
enum Held {
    Done,
    TooLong,
    Lost,
    Closing,
}

impl Shared {
    fn send(&self, event: LogResult<MemberEvent>) {
        // A receiver that was dropped means that the member is being dropped.
        let _ = self.events.send(event);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The partitions that come and go with those of the callback.
    fn expand(&self, tpl: &TopicPartitionList) -> Vec<TopicPartition> {
        let given = tpl.elements();
        match &self.options.subscription {
            Subscription::Topics(_) => given.iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect(),
            Subscription::CoPartitioned { with, .. } => given
                .iter()
                .flat_map(|e| with.iter().map(|topic| TopicPartition::new(Arc::clone(topic), e.partition())))
                .collect(),
        }
    }

    pub(super) fn owns(&self, tp: &TopicPartition) -> bool {
        matches!(lock(&self.held).get(tp), Some(Some(_)))
    }

    /// Whether something waits for its unassignment.
    pub(super) fn has_remains(&self) -> bool {
        lock(&self.held).values().any(Option::is_none)
    }

    /// The error for a call that needs a membership that has ended.
    pub(super) fn not_member(&self, what: &str, reason: &str) -> LogError {
        let group = self.options.group.to_string();
        LogError::NotMember { what: what.to_owned(), group, reason: reason.to_owned() }
    }

    /// Takes note of the generation that a callback is about. False if it may be over.
    fn note_generation(&self, consumer: &Consumer) -> bool {
        let metadata = consumer.group_metadata().map(Arc::new);
        // The thread may have stood still before it came here, for so long that the membership is another's: then the
        // metadata may be without a generation.
        let stood_still = lock(&self.polled).elapsed() > self.options.session_timeout / 2;
        if stood_still {
            self.lose("the process stood still");
        } else if !self.is_closing() && !self.leaving.load(Ordering::Acquire) {
            *lock(&self.metadata) = metadata;
        }
        !stood_still
    }

    /// Answers an assignment.
    pub(super) fn assign(self: &Arc<Self>, consumer: &Consumer, tpl: &TopicPartitionList) {
        let sure = self.note_generation(consumer);
        self.needs_rejoin.store(!sure, Ordering::Release);
        let mut new = self.expand(tpl);
        new.retain(|tp| !lock(&self.held).contains_key(tp));
        tracing::debug!(target: "kafka", group = %self.options.group, partitions = ?new, "assigned");
        // With remains of a lost membership there is no telling what is whose: the poll thread starts over.
        let refused = !sure || self.is_closing() || self.leaving.load(Ordering::Acquire) || self.has_remains();
        if refused {
            new.clear();
        }
        let starts = if new.is_empty() { Ok(Vec::new()) } else { self.find_starts(consumer, &new) };
        let assigned = starts.and_then(|starts| self.start(consumer, starts));
        match assigned {
            Ok(assigned) => {
                // A new member learns of an empty share as well.
                let first = !self.joined.swap(!refused, Ordering::AcqRel) && !refused;
                if first || !assigned.is_empty() {
                    self.send(Ok(MemberEvent::Assigned(assigned)));
                }
            }
            Err(e) => {
                // The group still wants its answer. The caller decides whether to go on without them.
                self.answer(consumer.incremental_assign(&TopicPartitionList::new()));
                if !self.unwanted(consumer) {
                    self.send(Err(e));
                }
            }
        }
    }

    /// Finds where partitions start, however long the brokers can't be asked: librdkafka ends a membership that waits too
    /// long, and the group's next assignment finds out again.
    fn find_starts(&self, consumer: &Consumer, new: &[TopicPartition]) -> LogResult<Starts> {
        loop {
            match self.starts(consumer, new) {
                Err(error) if error.class() == ErrorClass::Retriable && !self.unwanted(consumer) => {
                    tracing::warn!(target: "kafka", group = %self.options.group, %error, "taking partitions is tried again");
                    std::thread::sleep(PAUSE);
                }
                found => return found,
            }
        }
    }

    /// Nobody waits for an assignment any more.
    fn unwanted(&self, consumer: &Consumer) -> bool {
        self.is_closing() || consumer.assignment_lost()
    }

    /// Finds where partitions start: their committed offsets, else what the reset says, made a number.
    fn starts(&self, consumer: &Consumer, new: &[TopicPartition]) -> LogResult<Starts> {
        let what = format!("looking up where group {} starts", self.options.group);
        let until = self.connection.until();
        let stop = || self.unwanted(consumer);
        let found = committed(consumer, new, until, stop).map_err(|e| self.error_context.error(&what, &e))?;
        let spec = match self.options.reset {
            AutoOffsetReset::Earliest => OffsetSpec::Earliest,
            AutoOffsetReset::Latest => OffsetSpec::Latest,
        };
        let without: Vec<_> =
            new.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(tp, _)| (tp.clone(), spec)).collect();
        let mut resolved = if without.is_empty() {
            Vec::new()
        } else {
            self.connection.exist(without.iter().map(|(tp, _)| tp), until)?;
            resolve(consumer, &without, until).map_err(|e| self.error_context.error(&what, &e))?
        }
        .into_iter();
        let start = new.iter().zip(found).map(|(tp, found)| {
            let committed = found.is_some();
            let offset = found.or_else(|| resolved.next().map(|offset| OffsetAndMetadata::new(offset, "")));
            let offset = offset.ok_or_else(|| LogError::UnknownPartition { partition: tp.clone() })?;
            Ok((tp.clone(), offset, committed))
        });
        start.collect()
    }

    /// Splits the queues off, then assigns.
    fn start(self: &Arc<Self>, consumer: &Consumer, starts: Starts) -> LogResult<Vec<Assigned>> {
        let what = format!("taking partitions of group {}", self.options.group);
        let shared = self.client().ok_or_else(|| LogError::Closed { what: what.clone() })?;
        if starts.is_empty() {
            self.answer(consumer.incremental_assign(&TopicPartitionList::new()));
            return Ok(Vec::new());
        }
        let slots = starts.iter().map(|(tp, ..)| FetchSlot::open(&shared, tp)).collect::<LogResult<Vec<_>>>()?;
        let assigned = list(starts.iter().map(|(tp, at, _)| (tp, Offset::Offset(at.offset))))
            .and_then(|list| consumer.incremental_assign(&list));
        assigned.map_err(|e| self.error_context.error(&what, &e))?;
        let mut held = lock(&self.held);
        let assigned = starts.into_iter().zip(slots).map(|((partition, at, committed), slot)| {
            let OffsetAndMetadata { offset: start, metadata } = at;
            held.insert(partition.clone(), Some(Arc::clone(&slot)));
            let fetch = KafkaFetch::new(partition.clone(), slot, Arc::clone(self) as _, start);
            Assigned { partition, start, committed, metadata, fetch: Box::new(fetch) }
        });
        Ok(assigned.collect())
    }

    /// Answers a revocation, which may be a loss.
    pub(super) fn revoke(&self, consumer: &Consumer, tpl: &TopicPartitionList) {
        let lost = consumer.assignment_lost();
        if lost {
            // With the membership everything is lost at once, whichever part of it this callback is about.
            self.lose("the group went on without it");
        } else {
            self.note_generation(consumer);
        }
        let mut old = self.expand(tpl);
        if lost || self.leaving.load(Ordering::Acquire) {
            old = lock(&self.held).keys().cloned().collect();
        }
        old.retain(|tp| lock(&self.held).contains_key(tp));
        let moving: Vec<_> = old.iter().filter(|tp| self.owns(tp)).cloned().collect();
        tracing::debug!(target: "kafka", group = %self.options.group, partitions = ?old, lost, "revoked");
        if !moving.is_empty() && !self.is_closing() {
            match self.hold(consumer, &moving) {
                Held::Done | Held::Closing => {}
                Held::Lost => self.lose("the group went on without it"),
                Held::TooLong => {
                    let (group, bound) = (&self.options.group, self.options.revoke_timeout);
                    tracing::warn!(target: "kafka", %group, ?bound, partitions = ?moving, "not handed over in time");
                    self.mark_lost(moving);
                }
            }
        }
        for tp in &old {
            // A reader that is at it right now finishes first; then there is nothing left to read.
            if let Some(slot) = lock(&self.held).remove(tp).flatten() {
                slot.close();
            }
        }
        let gone = list(old.iter().map(|tp| (tp, Offset::Invalid)));
        self.answer(gone.and_then(|gone| consumer.incremental_unassign(&gone)));
    }

    fn mark_lost(&self, partitions: Vec<TopicPartition>) {
        self.lost.fetch_add(1, Ordering::AcqRel);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.send(Ok(MemberEvent::Lost(partitions)));
    }

    /// The membership has ended: everything is lost, and waits for its unassignment.
    pub(super) fn lose(&self, reason: &str) {
        if self.is_closing() {
            return;
        }
        self.joined.store(false, Ordering::Release);
        *lock(&self.metadata) = None;
        let owned: Vec<_> = {
            let held = lock(&self.held);
            held.iter().filter(|(_, slot)| slot.is_some()).map(|(tp, _)| tp.clone()).collect()
        };
        self.epoch.fetch_add(1, Ordering::AcqRel);
        if owned.is_empty() {
            return;
        }
        tracing::warn!(target: "kafka", group = %self.options.group, partitions = ?owned, "membership lost: {reason}");
        self.mark_lost(owned.clone());
        for tp in owned {
            if let Some(slot) = lock(&self.held).get_mut(&tp).and_then(Option::take) {
                slot.close();
            }
        }
    }

    /// librdkafka says that its member id is another. One that is taken away is the end of the membership.
    pub(super) fn member_id_changed(&self, line: &str) {
        let new_member = line.contains("id \"\" ->") || line.contains("\"(not-set)\" ->");
        let taken_away = line.ends_with("-> \"\"") || line.ends_with("-> \"(not-set)\"");
        if taken_away && !new_member && !self.leaving.load(Ordering::Acquire) {
            self.lose("the group coordinator does not know it any more");
        }
    }

    /// Waits until the caller has handed over, within the bound.
    fn hold(&self, consumer: &Consumer, old: &[TopicPartition]) -> Held {
        let (done, mut gone) = RevokeToken::new();
        self.send(Ok(MemberEvent::Revoking { partitions: old.to_vec(), done }));
        let until = Instant::now() + self.options.revoke_timeout;
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            if Pin::new(&mut gone).poll(&mut cx).is_ready() {
                return Held::Done;
            }
            if self.is_closing() {
                return Held::Closing;
            }
            if consumer.assignment_lost() {
                return Held::Lost;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Held::TooLong;
            }
            std::thread::park_timeout(left.min(Duration::from_millis(100)));
        }
    }

    fn answer(&self, answered: Result<(), KafkaError>) {
        if let Err(e) = answered {
            let what = format!("answering a rebalance of group {}", self.options.group);
            self.send(Err(self.error_context.error(&what, &e)));
        }
    }

    /// The end: takes the queues away.
    pub(super) fn release(&self) {
        self.joined.store(false, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        *lock(&self.metadata) = None;
        for slot in lock(&self.held).values_mut() {
            if let Some(slot) = slot.take() {
                slot.close();
            }
        }
    }

    /// Why nothing may be committed under an epoch any more, if so.
    pub(super) fn over(&self, epoch: u64) -> Option<&'static str> {
        if self.is_closing() {
            Some("it is closing")
        } else if self.lost.load(Ordering::Acquire) > 0 || self.epoch.load(Ordering::Acquire) != epoch {
            Some("partitions were lost")
        } else if self.client().is_none_or(|c| c.assignment_lost()) {
            Some("the group went on without it")
        } else if self.joined.load(Ordering::Acquire) {
            None
        } else {
            Some("it has no assignment")
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Membership for Shared {
    fn assign(self: Arc<Self>, consumer: &Consumer, tpl: &TopicPartitionList) {
        Shared::assign(&self, consumer, tpl);
    }

    fn revoke(&self, consumer: &Consumer, tpl: &TopicPartitionList) {
        Shared::revoke(self, consumer, tpl);
    }

    fn member_id_changed(&self, line: &str) {
        Shared::member_id_changed(self, line);
    }
}
