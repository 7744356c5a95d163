//! Keeps the partitions of a group in step whose records come back to it under other keys: by its loops, by what it re-keys, or
//! by what a join re-keys (semantics J7, D4).
//!
//! Each partition is sent on in its own time, so that after a stop one might be read to its end before another has begun:
//! stream time would be there, and the other's records late. So no input of such a group is read further than what is left
//! of half of the grace, beyond the earliest record that is not finished: of the inputs, and of what comes back of them,
//! whichever instance has those.
//!
//! **Finished** is a record whose work is released, and acknowledged where something of it goes back to the group itself.
//! Each task says of its partitions what the earliest unfinished record is ([`Alignment::report`]); of the partitions of other
//! instances the committed offsets say it. A record that was sent on and is not fetched yet is seen by the end of its
//! partition, which is asked for.
//!
//! It is asked for only by a task that has come that far: hardly ever while the group keeps up. It holds nothing for good: a
//! partition whose time stands still for [`STALL_TIMEOUT`] counts no longer until it goes on. It may be stuck, have a clock that
//! is wrong, or send records round its loop without end.

mod group_progress;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::group::GroupGraph;
use crate::log::TopicPartition;
use crate::topics::TopicFacts;
use crate::topology::{EntryKind, Passage};
use crate::window::{JoinWindows, Session, Sessions, Which, Windows};

/// How long a partition holds others without going on.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A partition that has had nothing for so long starts over with its next record.
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks at the partitions of other instances.
const RECHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How far apart the records of a join may be in any case, in milliseconds: to keep them closer together takes too long.
const LEAST: i64 = 1_000;

/// A part of a group that keeps records for stream time to pass.
#[derive(Clone, Copy, Debug)]
enum Keeps {
    Windows(Windows),
    Sessions(Sessions),
    Join(JoinWindows),
}

impl Keeps {
    /// The last stream time at which a record is in time that comes half of the grace behind the earliest unfinished one.
    fn limit(self, low: i64) -> i64 {
        let behind = |grace: i64| low.saturating_sub(grace / 2);
        match self {
            Self::Windows(windows) => {
                let first = windows.at(behind(windows.grace).max(0)).next();
                first.map_or(low, |window| windows.closes(window).saturating_sub(1))
            }
            Self::Sessions(sessions) => {
                let at = behind(sessions.grace);
                sessions.closes(Session { start: at, end: at }).saturating_sub(1)
            }
            Self::Join(join) => {
                let kept = [Which::Left, Which::Right].map(|side| join.kept_until(side, behind(join.grace)));
                kept.into_iter().fold(i64::MAX, i64::min).max(low.saturating_add(LEAST))
            }
        }
    }
}

/// A task's report on one of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The time of the earliest record that is not finished, as far as the task knows; `None` if all are.
    pub(super) low: Option<i64>,
    /// How far it has come: of an input, what is released; of what the group sends to itself, what is fetched.
    pub(super) at: i64,
}

#[derive(Debug)]
struct Seat {
    task: u64,
    seen: Seen,
    /// The latest time that it has come to.
    latest: i64,
    /// Since when all is finished.
    idle: Option<Instant>,
    /// When it went on last.
    moved: Instant,
}

impl Seat {
    /// Takes in what its task says. Records of one time that go round and round are no progress, though they are finished
    /// one after the other; of an input, each record that is released is.
    fn take(&mut self, task: u64, is_own: bool, seen: Seen, now: Instant) {
        let was_idle = self.idle.is_some_and(|since| now.duration_since(since) >= IDLE);
        let goes_on = match seen.low {
            Some(low) => low > self.latest || was_idle,
            None => false,
        };
        if goes_on || (!is_own && seen.at > self.seen.at) {
            self.moved = now;
        }
        self.latest = seen.low.map_or(self.latest, |low| low.max(self.latest));
        self.idle = match seen.low {
            Some(_) => None,
            None => self.idle.or(Some(now)),
        };
        (self.task, self.seen) = (task, seen);
    }
}

/// A partition of another instance.
#[derive(Debug)]
struct Other {
    low: Option<i64>,
    at: i64,
    moved: Instant,
}

/// The partitions that this instance has.
#[derive(Debug, Default)]
struct Seats {
    taken: BTreeMap<TopicPartition, Seat>,
    /// Those whose task has said nothing yet, and since when: it begins, and restores.
    awaited: BTreeMap<TopicPartition, (u64, Instant)>,
}

impl Seats {
    fn has(&self, partition: &TopicPartition) -> bool {
        self.taken.contains_key(partition) || self.awaited.contains_key(partition)
    }

    fn len(&self) -> usize {
        self.taken.len() + self.awaited.keys().filter(|p| !self.taken.contains_key(*p)).count()
    }
}

/// The progress of the rest of the group, as it was looked up last.
#[derive(Debug, Default)]
struct GroupProgress {
    others: BTreeMap<TopicPartition, Other>,
    /// When that was asked for last.
    asked: Option<Instant>,
    /// Partitions with records that are not fetched: up to where they were, and since when.
    unread: BTreeMap<TopicPartition, (i64, Instant)>,
}

/// The alignment of the partitions of a group, as one instance takes part in it.
pub(super) struct Alignment {
    keeps: Vec<Keeps>,
    /// The partitions of the inputs, then of the group's own topics: each stage after those that its records come from, as long
    /// as they go round no circle.
    stages: Vec<Vec<TopicPartition>>,
    /// All of them.
    all: BTreeSet<TopicPartition>,
    seats: Mutex<Seats>,
    /// Changes with the seats.
    changed: watch::Sender<u64>,
    /// Records up to this time may be dispatched, as far as is known.
    limit: watch::Sender<i64>,
    /// One looks at a time.
    waiting: tokio::sync::Mutex<GroupProgress>,
    /// Somebody is held by another instance, which waits for commits as well.
    held: Notify,
}

/// The end of a task, in whichever way.
pub(super) struct Leaves(Arc<Alignment>, u64);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// The earliest unfinished record.
struct Lowest {
    /// `None` if there is none; an error if it is not known.
    low: Result<Option<i64>, ()>,
    /// When to look again although nothing has changed here.
    again: Instant,
}

impl Lowest {
    /// It is no later than this.
    fn lower(&mut self, low: i64) {
        self.low = self.low.map(|lowest| Some(lowest.map_or(low, |lowest| lowest.min(low))));
    }

    fn take(&mut self, low: Option<i64>, moved: Instant, now: Instant) {
        let until = moved + STALL_TIMEOUT;
        if let Some(low) = low
            && until > now
        {
            self.lower(low);
            self.again = self.again.min(until);
        }
    }
}

impl Alignment {
    /// `None` for a group that sends nothing to itself, or keeps nothing for stream time to pass.
    pub(super) fn of(graph: &GroupGraph, facts: &TopicFacts) -> Option<Arc<Self>> {
        let loops = graph.passages().any(|(_, of)| of != Passage::Side);
        let joins = graph.stream_joins.iter().filter(|j| loops || j.re_keys).map(|j| Keeps::Join(j.windows));
        let windows = graph.windows.iter().filter(|_| loops).map(|w| Keeps::Windows(w.windows));
        let sessions = graph.due_entries.iter().filter(|_| loops).filter_map(|o| match o.kind {
            EntryKind::Session(sessions) => Some(Keeps::Sessions(sessions)),
            EntryKind::Batch(_) => None,
        });
        let keeps: Vec<Keeps> = joins.chain(windows).chain(sessions).collect();
        if keeps.is_empty() {
            return None;
        }
        let partitions = |topics: &[&Arc<str>]| -> Vec<TopicPartition> {
            let known = topics.iter().filter_map(|topic| facts.topics.get(*topic));
            known.flat_map(|t| (0..t.partitions).map(|p| TopicPartition::new(Arc::clone(&t.name), p))).collect()
        };
        let inputs = graph.inputs.iter().filter(|e| !e.own && (loops || e.re_keys)).map(|e| &e.input.topic);
        // Sides of joins come from inputs only.
        let sides = graph.passages().filter(|(_, of)| *of == Passage::Side).map(|(topic, _)| topic);
        let others = graph.passages().filter(|(_, of)| *of != Passage::Side).map(|(topic, _)| vec![topic]);
        let stages: Vec<Vec<_>> = [inputs.collect(), sides.collect()].into_iter().chain(others).collect();
        Some(Self::new(keeps, stages.iter().map(|topics| partitions(topics)).collect()))
    }

    /// The alignment of a group with these input partitions, and these partitions of the group's topics.
    fn new(keeps: Vec<Keeps>, stages: Vec<Vec<TopicPartition>>) -> Arc<Self> {
        Arc::new(Self {
            keeps,
            all: stages.iter().flatten().cloned().collect(),
            stages,
            seats: Mutex::default(),
            changed: watch::Sender::default(),
            limit: watch::Sender::new(i64::MIN),
            waiting: tokio::sync::Mutex::default(),
            held: Notify::new(),
        })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when a task is held until another instance has committed more: which may be held by this one in turn.
    pub(super) async fn held(alignment: Option<&Self>) {
        match alignment {
            Some(alignment) => alignment.held.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether other instances may wait for what is unfinished here.
    pub(super) fn is_waited_for(&self) -> bool {
        let seats = self.seats();
        seats.len() < self.all.len() && seats.taken.values().any(|seat| seat.seen.low.is_some())
    }

    /// Records up to this time may be dispatched, as far as is known.
    pub(super) fn limit(&self) -> i64 {
        *self.limit.borrow()
    }

    /// A task begins, which will have these partitions. They are its own until the guard is dropped.
    pub(super) fn begins(self: &Arc<Self>, task: u64, partitions: &[TopicPartition]) -> Leaves {
        let now = Instant::now();
        let ours = partitions.iter().filter(|p| self.all.contains(p));
        self.seats().awaited.extend(ours.map(|p| (p.clone(), (task, now))));
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
        Leaves(Arc::clone(self), task)
    }

    /// A task says what it has of a partition.
    pub(super) fn report(&self, task: u64, partition: &TopicPartition, is_own: bool, seen: Seen) {
        if !self.all.contains(partition) {
            return;
        }
        let now = Instant::now();
        let mut seats = self.seats();
        let new = || Seat { task, seen, latest: i64::MIN, idle: None, moved: now };
        seats.awaited.retain(|p, (of, _)| *of != task || p != partition);
        seats.taken.entry(partition.clone()).or_insert_with(new).take(task, is_own, seen, now);
        drop(seats);
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn leave(&self, task: u64) {
        let mut seats = self.seats();
        seats.taken.retain(|_, seat| seat.task != task);
        seats.awaited.retain(|_, (of, _)| *of != task);
        drop(seats);
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn limit_of(&self, lowest: &Lowest, head: i64) -> i64 {
        let low = lowest.low.ok().flatten().map_or(head, |low| low.min(head));
        self.keeps.iter().map(|keeps| keeps.limit(low)).min().unwrap_or(i64::MAX)
    }

    /// Whether something is not finished here.
    pub(super) fn has_unfinished(&self) -> bool {
        matches!(self.here().low, Ok(Some(_)))
    }

    fn has_others(&self) -> bool {
        self.seats().len() < self.all.len()
    }

    /// The earliest unfinished record of this instance's tasks, by their reports.
    fn here(&self) -> Lowest {
        let now = Instant::now();
        let mut lowest = Lowest { low: Ok(None), again: now + STALL_TIMEOUT };
        let seats = self.seats();
        for seat in seats.taken.values() {
            lowest.take(seat.seen.low, seat.moved, now);
        }
        for until in seats.awaited.values().map(|(_, since)| *since + STALL_TIMEOUT).filter(|until| *until > now) {
            lowest.low = Err(());
            lowest.again = lowest.again.min(until);
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_round_at_one_time_is_no_progress() {
        let seen = |low: Option<i64>, at| Seen { low, at };
        let began = Instant::now();
        let mut seat = Seat { task: 0, seen: seen(Some(5), 0), latest: 5, idle: None, moved: began };
        for at in 1..10 {
            tokio::time::advance(ms(10)).await;
            seat.take(0, true, seen(None, at), Instant::now());
            seat.take(0, true, seen(Some(5), at), Instant::now());
        }
        assert_eq!(seat.moved, began);
        seat.take(0, true, seen(Some(6), 10), Instant::now());
        assert!(seat.moved > began, "a later time is");
        // After a pause it starts over, whatever its time is.
        seat.take(0, true, seen(None, 11), Instant::now());
        tokio::time::advance(IDLE).await;
        seat.take(0, true, seen(Some(3), 11), Instant::now());
        assert_eq!(seat.moved, Instant::now());
        // Of an input, each record counts.
        tokio::time::advance(ms(10)).await;
        seat.take(0, false, seen(Some(3), 12), Instant::now());
        assert_eq!(seat.moved, Instant::now());
    }

    /// Otherwise the partitions of a task that restores would be looked up as another instance's.
    #[tokio::test(start_paused = true)]
    async fn a_task_that_begins_has_its_partitions_and_holds_the_others_for_a_while() {
        let partitions = [0, 1].map(|p| TopicPartition::new("in", p));
        let alignment =
            Alignment::new(vec![Keeps::Windows(Windows::tumbling(ms(10)))], vec![partitions.to_vec(), Vec::new()]);
        assert!(alignment.has_others());
        let [one, two] = [(1, &partitions[..1]), (2, &partitions[1..])].map(|(task, of)| alignment.begins(task, of));
        assert!(!alignment.has_others());
        let says =
            |task, partition: &TopicPartition| alignment.report(task, partition, false, Seen { low: Some(5), at: 0 });
        says(1, &partitions[0]);
        assert_eq!(alignment.here().low, Err(()), "the second task has said nothing yet");
        tokio::time::advance(STALL_TIMEOUT).await;
        says(1, &partitions[0]);
        alignment.report(1, &partitions[0], false, Seen { low: Some(6), at: 1 });
        assert_eq!(alignment.here().low, Ok(Some(6)), "it restores for long");
        says(2, &partitions[1]);
        assert_eq!(alignment.here().low, Ok(Some(5)));
        drop(two);
        assert!(alignment.has_others());
        drop(one);
        assert_eq!(alignment.seats().len(), 0);
    }

    /// A record that is half of the grace behind the earliest unfinished one is in time at the limit, for all that is kept.
    #[test]
    fn the_limit_leaves_half_of_the_grace() {
        for (size, grace) in [(60_000, 10_000), (60_000, 60_000), (1_000, 0), (10, 7)] {
            let windows = Windows::tumbling(ms(size)).grace(ms(grace));
            for low in [0, 1, 59_999, 60_000, 60_001, 1_234_567] {
                let (limit, grace) = (Keeps::Windows(windows).limit(low), i64::try_from(grace).unwrap());
                let behind = (low - grace / 2).max(0);
                assert!(windows.at(behind).all(|window| windows.closes(window) > limit), "{windows:?} {low}");
                assert!(limit >= low, "the earliest itself may go on");
            }
        }
        let sessions = Sessions::gap(ms(500)).grace(ms(1_000));
        assert_eq!(Keeps::Sessions(sessions).limit(10_000), 11_000);
        let join = JoinWindows::around(ms(60_000)).grace(ms(60_000));
        assert_eq!(Keeps::Join(join).limit(100_000), 190_000);
    }
}
