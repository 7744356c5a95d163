//! The embedded log's [`Member`] and [`GroupHandle`].
//!
//! A member's sign of life is that its `next` is polled; the future wakes itself at a third of the session. One that
//! is not polled is a zombie: the other members' ticks take it out, it keeps what it has fetched and knows, and learns
//! of its loss when it is polled again.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::fetch::InMemoryFetch;
use super::group::{Held, Step};
use super::state::{BrokerState, Shared, ready};
use crate::log::{
    Assigned, AutoOffsetReset, Commits, Fetch, GroupHandle, GroupMetadata, LogError, LogResult, Member, MemberEvent,
    MemberOptions, OffsetAndMetadata, TopicPartition,
};

/// The content of a [`GroupMetadata`] of this log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) member: u64,
    pub(super) generation: u64,
}

/// Where partitions start, and whether that is committed.
type Starts = Vec<(TopicPartition, OffsetAndMetadata, bool)>;

/// How a member is called outside.
pub(super) fn member_id(id: u64) -> String {
    format!("member-{id}")
}

/// The member's own view of its membership. Lags behind the coordinator, as a client does.
#[derive(Debug, Default)]
struct View {
    id: Option<u64>,
    /// The last generation that was known while a member; `None` before the first assignment.
    generation: Option<u64>,
    closed: bool,
}

struct Handle {
    shared: Arc<Shared>,
    group: Arc<str>,
    view: Mutex<View>,
}

impl Handle {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member of a group.
pub(super) struct InMemoryMember {
    handle: Arc<Handle>,
    options: MemberOptions,
    /// The assignment that it was sent. An entry ends when its loss is reported, or once it let go (and is not alive).
    notified: BTreeMap<TopicPartition, Held>,
}

impl InMemoryMember {
    pub(super) fn new(shared: Arc<Shared>, options: MemberOptions) -> Self {
        let group = Arc::clone(&options.group);
        let handle = Arc::new(Handle { shared, group, view: Mutex::default() });
        Self { handle, options, notified: BTreeMap::new() }
    }

    /// Notes that partitions are gone.
    fn forget(&mut self, gone: Vec<(TopicPartition, Held)>) -> Vec<TopicPartition> {
        let mut partitions = Vec::new();
        for (slot, held) in gone {
            held.alive.store(false, Ordering::Release);
            self.notified.remove(&slot);
            partitions.extend(held.partitions);
        }
        partitions
    }

    /// One look. `Err`: wait, until that moment at the latest.
    fn look(&mut self, cx: &mut Context<'_>) -> Result<LogResult<MemberEvent>, Instant> {
        let shared = Arc::clone(&self.handle.shared);
        let now = Instant::now();
        let look = shared.with(|state| {
            if !state.rules.coordinated() {
                state.sleep(cx);
                return Ok(Err(now + self.options.session_timeout / 3));
            }
            let mut view = self.handle.view();
            let id = match view.id {
                Some(id) => id,
                None => *view.id.insert(self.join(state, now)),
            };
            let BrokerState { groups, topics, wake, .. } = state;
            let Some(group) = groups.get_mut(&self.options.group) else { return Ok(Err(now)) };
            if !group.members.contains_key(&id) {
                *view = View::default();
                return Err(group.fenced.contains(&id));
            }
            let step = group.step(id, now, |topic| topics.count(topic), cx, wake);
            view.generation = view.generation.map(|_| group.generation);
            let (until, generation) = (now + group.heartbeat(id), group.generation);
            if let Some(due) = group.due() {
                state.due_at(due);
            }
            let Some(step) = step else {
                return Ok(Err(state.due.map_or(until, |due| until.min(due))));
            };
            if let Step::Assigned(given) = &step {
                view.generation = Some(generation);
                self.notified.retain(|_, held| held.alive.load(Ordering::Acquire));
                self.notified.extend(given.iter().cloned());
            }
            let starts = self.starts(state, &step);
            Ok(Ok((step, starts)))
        });
        match look {
            Ok(Ok((step, starts))) => Ok(Ok(self.event(step, starts))),
            Ok(Err(until)) => Err(until),
            Err(true) => Ok(Err(LogError::Fatal {
                what: format!("stay in group {}", self.options.group),
                reason: "another member with the same instance id took its place".to_owned(),
            })),
            Err(false) => {
                let notified = std::mem::take(&mut self.notified).into_iter();
                // What it let go of is not lost.
                let lost = notified.filter(|(_, held)| held.alive.load(Ordering::Acquire)).collect();
                let lost = self.forget(lost);
                if lost.is_empty() { self.look(cx) } else { Ok(Ok(MemberEvent::Lost(lost))) }
            }
        }
    }

    fn join(&self, state: &mut BrokerState, now: Instant) -> u64 {
        let id = state.id();
        let group = state.groups.entry(Arc::clone(&self.options.group)).or_default();
        if group.join(id, self.options.clone(), now) {
            state.rebalance(&self.options.group);
        } else {
            group.wake(&mut state.wake);
        }
        id
    }

    /// Where the partitions of an assignment start, and whether that is committed.
    fn starts(&self, state: &mut BrokerState, step: &Step) -> Starts {
        let Step::Assigned(given) = step else { return Vec::new() };
        let committed = state.groups.get(&self.options.group).map(|g| &g.committed);
        let partitions = given.iter().flat_map(|(_, held)| &held.partitions);
        partitions
            .map(|of| {
                if let Some(position) = committed.and_then(|c| c.get(of)) {
                    return (of.clone(), position.clone(), true);
                }
                let partition = state.topics.partition(of).ok();
                let start = partition.map_or(0, |p| match self.options.reset {
                    AutoOffsetReset::Earliest => p.start,
                    AutoOffsetReset::Latest => p.end(self.options.isolation),
                });
                (of.clone(), OffsetAndMetadata::new(start, ""), false)
            })
            .collect()
    }

    fn event(&mut self, step: Step, starts: Starts) -> MemberEvent {
        match step {
            Step::Lost(lost) => MemberEvent::Lost(self.forget(lost)),
            Step::Revoking(partitions, done) => MemberEvent::Revoking { partitions, done },
            Step::Assigned(given) => {
                let alive = |of: &TopicPartition| {
                    let held = given.iter().find(|(_, held)| held.partitions.contains(of));
                    held.map(|(_, held)| Arc::clone(&held.alive)).unwrap_or_default()
                };
                let assigned =
                    starts.into_iter().map(|(partition, OffsetAndMetadata { offset: start, metadata }, committed)| {
                        let alive = alive(&partition);
                        let isolation = self.options.isolation;
                        let fetch = InMemoryFetch::new(&self.handle.shared, partition.clone(), isolation, start, alive);
                        Assigned { partition, start, committed, metadata, fetch: Box::new(fetch) as Box<dyn Fetch> }
                    });
                MemberEvent::Assigned(assigned.collect())
            }
        }
    }
}

impl crate::log::Sealed for InMemoryMember {}

impl Member for InMemoryMember {
    fn next(&mut self) -> BoxFuture<'_, LogResult<MemberEvent>> {
        async move {
            let mut alarm = pin!(tokio::time::sleep_until(Instant::now()));
            poll_fn(|cx| {
                loop {
                    match self.look(cx) {
                        Ok(event) => return Poll::Ready(event),
                        Err(until) => {
                            alarm.as_mut().reset(until);
                            if alarm.as_mut().poll(cx).is_pending() {
                                return Poll::Pending;
                            }
                        }
                    }
                }
            })
            .await
        }
        .boxed()
    }

    fn group(&self) -> Arc<dyn GroupHandle> {
        Arc::clone(&self.handle) as Arc<dyn GroupHandle>
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, LogResult<()>> {
        let shared = Arc::clone(&self.handle.shared);
        shared.with(|state| {
            let mut view = self.handle.view();
            view.closed = true;
            let Some(id) = view.id.take() else { return };
            let Some(group) = state.groups.get_mut(&self.options.group) else { return };
            if self.options.instance_id.is_some() {
                group.go_away(id);
            } else if group.remove(id, &mut state.wake) {
                state.rebalance(&self.options.group);
            }
        });
        self.notified.values().for_each(|held| held.alive.store(false, Ordering::Release));
        ready(Ok(()))
    }
}

impl crate::log::Sealed for Handle {}

impl GroupHandle for Handle {
    fn commit_with_metadata(&self, offsets: Commits) -> BoxFuture<'static, LogResult<()>> {
        let what = "commit offsets";
        let done = self.shared.with(|state| {
            state.reach_coordinator(what)?;
            let id = {
                let view = self.view();
                if view.closed {
                    return Err(LogError::Closed { what: what.to_owned() });
                }
                view.id
            };
            let group = state.groups.entry(Arc::clone(&self.group)).or_default();
            group.check(what, &self.group, id.unwrap_or_default(), None)?;
            let error = match state.rules.offset_errors.pop_front() {
                Some((error, false)) => return Err(error),
                other => other.map(|(error, _)| error),
            };
            state.rules.take_metadata(what, &offsets)?;
            for (partition, _) in &offsets {
                state.topics.partition(partition)?;
            }
            let group = state.groups.entry(Arc::clone(&self.group)).or_default();
            group.commit(offsets);
            error.map_or(Ok(()), Err)
        });
        ready(done)
    }

    fn metadata(&self) -> Option<GroupMetadata> {
        self.shared.with(|state| {
            let mut view = self.view();
            let (member, mut generation) = (view.id?, view.generation?);
            // A live member's client learns of a new generation from its heartbeats; a zombie keeps what it knew.
            if let Some(group) = state.groups.get(&self.group).filter(|g| g.members.contains_key(&member)) {
                generation = group.generation;
                view.generation = Some(generation);
            }
            Some(GroupMetadata::new(Arc::clone(&self.group), Arc::new(Identity { member, generation })))
        })
    }
}
