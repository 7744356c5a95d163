//! Restores: the content of a store is checked against its topic, and brought up to date (semantics D3, D10).
//!
//! Shared by everything that keeps a copy of a topic: a group's table, its joins and lookups, and views. This module
//! decides whether a store can be built upon; it never guesses: what can't be trusted is emptied and read again.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::follow::{FollowError, Follower, Step};
use crate::clock::Clock;
use crate::log::{Isolation, LogHandle, OffsetSpec, Reader, TopicPartition};
use crate::store::{Checkpoint, Store};

/// How long a restore waits at an end below its goal before it looks whether there is anything left to wait for: the
/// goal may lie behind offsets that no record and no marker has.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before a topic's id is asked for again.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How far a restore goes before it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// To this offset, taken from a reader that sees uncommitted records.
    Offset(i64),
    /// To the end, whatever it is when it is reached.
    End,
}

/// How much of a topic a store contains, and when that was last compared with the topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The next offset to apply.
    pub(crate) position: i64,
    /// The position when the log last answered, and the time of that answer.
    pub(crate) contact: Checkpoint,
}

impl From<Checkpoint> for Known {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { position: checkpoint.offset, contact: checkpoint }
    }
}

/// A partition's copy to be begun, or gone on with.
pub(crate) struct Source<'a> {
    pub(crate) log: &'a LogHandle,
    pub(crate) reader: &'a Arc<dyn Reader>,
    pub(crate) partition: &'a TopicPartition,
    pub(crate) store: &'a Arc<dyn Store>,
    /// `delete.retention.ms` of the topic.
    pub(crate) tombstone_retention_ms: Option<i64>,
    /// Its records are deleted once they are closed: a copy that misses some of them goes on behind them.
    pub(crate) is_cut: bool,
}

impl Source<'_> {
    /// Whether the partition is there.
    pub(crate) async fn exists(&self) -> Result<(), FollowError> {
        bounds(self.log, self.partition).await.map(|_| ())
    }

    /// Begins to follow where the store left off, or where `known` says; also gives the topic's end, uncommitted records
    /// included. A store that can't be trusted is emptied first, after a call of `emptied`.
    pub(crate) async fn follow(
        &self,
        known: Option<Known>,
        goal: Goal,
        emptied: &mut (dyn FnMut() + Send),
    ) -> Result<(Follower, i64), FollowError> {
        let Self { log, reader, partition, store, tombstone_retention_ms, is_cut } = self;
        let now_ms = log.clock().now_ms();
        // Before the bounds, so that these are of the same topic or a later one.
        let origin = store.origin()?;
        let mut id = log.topic_id(Arc::clone(&partition.topic)).await?;
        if id.is_none() && origin.is_some() {
            // Not believed at once: a broker may not know the topic yet.
            sleep(SECOND_LOOK).await;
            id = log.topic_id(Arc::clone(&partition.topic)).await?;
        }
        let (start, end) = bounds(log, partition).await?;
        let recreated = match (&origin, &id) {
            (Some(origin), Some(id)) if *origin != **id => {
                Some("it is a copy of another topic: this one was recreated")
            }
            (Some(_), None) => Some("it is not known any more which topic it is a copy of"),
            _ => None,
        };
        let distrust = |known| recreated.or_else(|| distrust(known, start, end, now_ms, *tombstone_retention_ms));
        let behind_the_cut = |known: Known| match known {
            Known { position, contact } if *is_cut && position < start => {
                tracing::info!(%partition, position, start, "the store goes on from where its changelog was cut");
                Known { position: start, contact }
            }
            known => known,
        };
        let from = match known.or(store.checkpointed()?.map(Known::from)).map(behind_the_cut) {
            None => start,
            Some(known) => match distrust(known) {
                None => known.position,
                Some(why) => {
                    tracing::warn!(%partition, ?known, start, end, why, "the store is emptied and restored");
                    emptied();
                    store.clear()?;
                    start
                }
            },
        };
        if let Some(id) = id
            && store.origin()?.as_deref() != Some(&*id)
        {
            store.set_origin(&id)?;
        }
        if let Goal::Offset(end) = goal
            && from < end
        {
            // Until the transactions below the end are over, readers of committed records stop short of it.
            wait_stable(log, partition, end).await?;
        }
        let fetch = reader.read((*partition).clone(), from).await?;
        Ok((Follower::new(fetch, Arc::clone(store), from), end))
    }
}

/// The first offset of a partition and the one past its last.
async fn bounds(log: &LogHandle, partition: &TopicPartition) -> Result<(i64, i64), FollowError> {
    let both = vec![(partition.clone(), OffsetSpec::Earliest), (partition.clone(), OffsetSpec::Latest)];
    let offsets = log.offsets(both, Isolation::ReadUncommitted).await?;
    Ok(match offsets.as_slice() {
        [start, end] => (*start, *end),
        _ => (0, 0),
    })
}

/// Why a copy can't be built upon (semantics D10). `now_ms` is taken before `start` and `end`.
pub(crate) fn distrust(
    known: Known,
    start: i64,
    end: i64,
    now_ms: i64,
    tombstone_retention_ms: Option<i64>,
) -> Option<&'static str> {
    if known.position > end {
        return Some("it is ahead of its changelog: the topic was recreated or lost records");
    }
    if known.position < start {
        return Some("its changelog no longer has what comes next");
    }
    let age = now_ms.saturating_sub(known.contact.at_ms);
    if tombstone_retention_ms.is_some() && known.contact.offset < end && age < 0 {
        return Some("its last checkpoint lies in the future, so that its age is not known: deletions may be missed");
    }
    if tombstone_retention_ms.is_some_and(|keep| known.contact.offset < end && age > keep / 2) {
        return Some("it was away so long that deletions may be missed");
    }
    None
}

/// Brings a follower to the goal and logs its progress. Then the store has everything, and nothing is held back.
pub(crate) async fn restore(
    follower: &mut Follower,
    partition: &TopicPartition,
    goal: Goal,
    interval: Duration,
    clock: &dyn Clock,
) -> Result<(), FollowError> {
    let mut progress = Progress::new(partition, follower.position(), interval);
    if let Goal::Offset(end) = goal
        && follower.position() >= end
    {
        return Ok(follower.settle().await?);
    }
    // An end was reached that lies below the goal, and whether the goal has been seen since.
    let (mut short, mut seen) = (false, false);
    loop {
        let step = poll_fn(|cx| follower.poll_step(cx, &mut |_, _| {}));
        let step = match goal {
            Goal::Offset(end) if short && !seen => {
                let Ok(step) = timeout(STEP_TIMEOUT, step).await else {
                    tracing::info!(%partition, position = follower.position(), end, "waiting for the end to be in sight");
                    follower.await_sight_of(end).await?;
                    seen = true;
                    continue;
                };
                step
            }
            _ => step.await,
        };
        match step? {
            Step::Applied(n) => {
                let left = match goal {
                    Goal::Offset(end) => Some(end - follower.position()),
                    Goal::End => None,
                };
                if progress.applied(n, left) {
                    // A crash from here on reads only what is left.
                    follower.checkpoint(clock.now_ms())?;
                }
            }
            Step::CaughtUp(at) => match goal {
                // The broker that answered lags behind the one that gave the goal: records are missing.
                Goal::Offset(end) if at < end && !seen => short = true,
                Goal::Offset(end) => {
                    follower.skip_to(end);
                    break;
                }
                Goal::End => break,
            },
        }
        if let Goal::Offset(end) = goal
            && follower.position() >= end
        {
            break;
        }
        tokio::task::yield_now().await;
    }
    follower.settle().await?;
    progress.done(follower.position());
    Ok(())
}

/// Logs the progress of a restore.
pub(crate) struct Progress<'a> {
    partition: &'a TopicPartition,
    from: i64,
    began: Instant,
    reported: Instant,
    interval: Duration,
    records: usize,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(partition: &'a TopicPartition, from: i64, interval: Duration) -> Self {
        let began = Instant::now();
        Self { partition, from, began, reported: began, interval, records: 0 }
    }

    /// So many records more; `left` is how many offsets are left, if that is known. Returns whether it was time to log it.
    pub(crate) fn applied(&mut self, records: usize, left: Option<i64>) -> bool {
        self.records += records;
        let due = self.reported.elapsed() >= self.interval;
        if due {
            self.reported = Instant::now();
            let (partition, records, per_second) = (self.partition, self.records, self.rate());
            let seconds_left = left.and_then(|n| u64::try_from(n).ok()?.checked_div(per_second));
            tracing::info!(%partition, records, per_second, offsets_left = left, seconds_left, "restoring");
        }
        due
    }

    /// It is done.
    pub(crate) fn done(&self, position: i64) {
        if self.records > 0 {
            let Self { partition, from, records, .. } = self;
            tracing::info!(%partition, records, from, to = position, per_second = self.rate(), "restored");
        }
    }

    fn rate(&self) -> u64 {
        let ms = self.began.elapsed().as_millis().max(1);
        u64::try_from(self.records as u128 * 1000 / ms).unwrap_or(u64::MAX)
    }
}

async fn wait_stable(log: &LogHandle, partition: &TopicPartition, end: i64) -> Result<(), FollowError> {
    let mut reported = Instant::now();
    loop {
        let of = vec![(partition.clone(), OffsetSpec::Latest)];
        let stable = log.offsets(of, Isolation::ReadCommitted).await?.first().copied().unwrap_or_default();
        if stable >= end {
            return Ok(());
        }
        if reported.elapsed() >= Duration::from_secs(5) {
            reported = Instant::now();
            tracing::info!(%partition, stable, end, "waiting for an open transaction on the changelog to end");
        }
        // Nothing announces the end of somebody else's transaction, so it is asked for.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::{Context, Poll};

    use futures::future::BoxFuture;

    use super::*;
    use crate::clock::SystemClock;
    use crate::log::{Fetch, FetchLimits, Fetched, LogResult, RecordBatch};
    use crate::store::{MemoryStores, StoreBackend, StoreId};

    /// Yields what it was given, then nothing before a seek, which is noted.
    struct Script {
        steps: VecDeque<Fetched>,
        after_seeks: VecDeque<Vec<Fetched>>,
        next: i64,
        sought: Arc<std::sync::Mutex<Vec<i64>>>,
    }

    impl crate::log::Sealed for Script {}

    impl Fetch for Script {
        fn poll_fetch(
            &mut self,
            _: &mut Context<'_>,
            into: &mut RecordBatch,
            _: FetchLimits,
        ) -> Poll<LogResult<Fetched>> {
            into.clear();
            let Some(step) = self.steps.pop_front() else { return Poll::Pending };
            if step == Fetched::Records {
                into.push(self.next, 0, Some(&self.next.to_be_bytes()), Some(b"v"), std::iter::empty());
                self.next += 1;
            }
            Poll::Ready(Ok(step))
        }

        fn seek(&mut self, offset: i64) -> BoxFuture<'_, LogResult<()>> {
            self.next = offset;
            self.sought.lock().unwrap().push(offset);
            self.steps = self.after_seeks.pop_front().unwrap_or_default().into();
            Box::pin(async { Ok(()) })
        }
    }

    /// Restores from 0 to 3 by a script: what the checkpoint says then, how many keys there are, and the seeks.
    fn restored(steps: Vec<Fetched>, after_seeks: Vec<Vec<Fetched>>) -> (i64, usize, Vec<i64>) {
        let partition = TopicPartition::new("t", 0);
        let store = MemoryStores::new().open(&StoreId::new("t", 0), "bytes").unwrap();
        let sought = Arc::default();
        let (steps, after_seeks) = (steps.into(), after_seeks.into());
        let script = Script { steps, after_seeks, next: 0, sought: Arc::clone(&sought) };
        let mut follower = Follower::new(Box::new(script), Arc::clone(&store), 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let restoring = restore(&mut follower, &partition, Goal::Offset(3), Duration::from_secs(5), &SystemClock);
        runtime.block_on(restoring).unwrap();
        let keys = store.range(crate::store::KeyRange::ALL, crate::store::Direction::Forward).count();
        let sought = sought.lock().unwrap().clone();
        (follower.position(), keys, sought)
    }

    #[test]
    fn an_end_below_the_goal_is_not_the_end() {
        use Fetched::{End, Records};
        let lagging = vec![Records, End(1), Records, End(2), Records, End(3)];
        assert_eq!(restored(lagging, vec![]), (3, 3, vec![]), "the broker that answers lags");
        assert_eq!(restored(vec![Records, Records, End(3)], vec![]), (3, 2, vec![]), "a marker lies at the end");
    }

    #[test]
    fn offsets_that_nothing_has_do_not_hold_a_restore_up() {
        use Fetched::{End, Records};
        // Nothing comes any more: the goal is looked at, then everything below it is read.
        let (empty, lagged) = (vec![vec![End(3)], vec![End(2)]], vec![vec![Records], vec![Records, Records]]);
        assert_eq!(restored(vec![Records, End(1)], empty), (3, 1, vec![3, 1]));
        assert_eq!(restored(vec![Records, End(1)], lagged), (3, 3, vec![3, 1]));
    }

    #[test]
    fn a_copy_is_trusted_only_where_it_fits_and_misses_no_deletion() {
        let known = |position, offset, at_ms| Known { position, contact: Checkpoint { offset, at_ms } };
        let day = Some(24 * 3_600_000);
        let half = 12 * 3_600_000;
        let now = 1_000_000_000;
        let trusts = |known, start, end, keep| distrust(known, start, end, now, keep).is_none();
        assert!(trusts(known(5, 5, now), 0, 5, day));
        assert!(trusts(known(5, 5, now), 5, 9, day));
        assert!(!trusts(known(5, 5, now), 6, 9, day), "what comes next is gone");
        assert!(!trusts(known(5, 5, now), 0, 4, day), "ahead of its topic");
        assert!(trusts(known(5, 5, now), 0, 9, day));
        assert!(!trusts(known(5, 5, now + 1), 0, 9, day), "the clock was ahead");
        assert!(trusts(known(5, 5, now + 1), 0, 5, day), "nothing was missed");
        assert!(trusts(known(5, 5, now - half), 0, 9, day));
        assert!(!trusts(known(5, 5, now - half - 1), 0, 9, day), "away too long");
        assert!(trusts(known(5, 5, now - half - 1), 0, 9, None));
        assert!(trusts(known(5, 5, now - half - 1), 0, 5, day), "nothing was missed");
        // The records that came since the last contact do not show whether a deletion was compacted away before.
        assert!(!trusts(known(9, 5, now - half - 1), 0, 9, day));
    }
}
