//! Restores: a store is opened, checked against its topic, and brought up to date (semantics D3, D10).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use super::options::Options;
use super::worker::Workers;
use crate::clock::Clock;
use crate::group::GroupGraph;
use crate::log::{Isolation, LogHandle, OffsetSpec, Reader, TopicPartition};
use crate::store::{Checkpoint, Store, StoreBackend, StoreId};
use crate::table::{FollowError, Follower, Step};
use crate::topics::TopicFacts;
use crate::view::Copies;

/// How far a restore goes before it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// To this offset, taken from a reader that sees uncommitted records.
    Offset(i64),
    /// To the end, whatever it is when it is reached.
    End,
}

/// Opens a partition's store and restores it; the follower can go on from there.
pub(super) async fn open_and_restore(
    env: &Env,
    partition: &TopicPartition,
    codec: &str,
    goal: Goal,
) -> ProcessorResult<(Arc<dyn Store>, Follower)> {
    let group = env.graph.name();
    let store = env.stores.open(&StoreId::new(Arc::clone(&partition.topic), partition.partition), codec);
    let store = store.map_err(|e| ProcessorError::store(group, e))?;
    let doing = || format!("restore {partition}");
    let retention = env.tombstone_retention_ms(&partition.topic);
    let mut follower = open_follower(&env.log, &env.reader, partition, &store, retention, goal)
        .await
        .map_err(|e| ProcessorError::follow(group, doing(), e))?;
    restore(&mut follower, partition, goal, env.options.progress_interval)
        .await
        .map_err(|e| ProcessorError::follow(group, doing(), e))?;
    follower.checkpoint(env.log.clock().now_ms()).map_err(|e| ProcessorError::store(group, e))?;
    Ok((store, follower))
}

/// Begins to follow where the store left off. A store that can't be trusted is emptied first.
pub(crate) async fn open_follower(
    log: &LogHandle,
    reader: &Arc<dyn Reader>,
    partition: &TopicPartition,
    store: &Arc<dyn Store>,
    tombstone_retention_ms: Option<i64>,
    goal: Goal,
) -> Result<Follower, FollowError> {
    let both = vec![(partition.clone(), OffsetSpec::Earliest), (partition.clone(), OffsetSpec::Latest)];
    let offsets = log.offsets(both, Isolation::ReadUncommitted).await?;
    let (start, end) = match offsets.as_slice() {
        [start, end] => (*start, *end),
        _ => (0, 0),
    };
    let from = match store.checkpointed()? {
        None => start,
        Some(checkpoint) => match distrust(checkpoint, start, end, log.clock().now_ms(), tombstone_retention_ms) {
            None => checkpoint.offset,
            Some(why) => {
                tracing::warn!(%partition, ?checkpoint, start, end, why, "the store is emptied and restored");
                store.clear()?;
                start
            }
        },
    };
    if let Goal::Offset(end) = goal
        && from < end
    {
        // Until the transactions below the end are over, readers of committed records stop short of it. Waited for
        // before the fetch begins, so that an end which the fetch reports lies beyond the goal.
        wait_stable(log, partition, end).await?;
    }
    let fetch = reader.read(partition.clone(), from).await?;
    Ok(Follower::new(fetch, Arc::clone(store), from))
}

/// Why a checkpoint can't be built upon (semantics D10).
fn distrust(
    checkpoint: Checkpoint,
    start: i64,
    end: i64,
    now_ms: i64,
    tombstone_retention_ms: Option<i64>,
) -> Option<&'static str> {
    if checkpoint.offset > end {
        return Some("it is ahead of its changelog: the topic was made anew or lost records");
    }
    if checkpoint.offset < start {
        return Some("its changelog no longer has what comes next");
    }
    let age = now_ms.saturating_sub(checkpoint.at_ms);
    if tombstone_retention_ms.is_some_and(|keep| checkpoint.offset < end && age > keep / 2) {
        return Some("it was away so long that deletions may be missed");
    }
    None
}

/// Brings a follower to the goal, telling of its progress.
pub(crate) async fn restore(
    follower: &mut Follower,
    partition: &TopicPartition,
    goal: Goal,
    progress: Duration,
) -> Result<(), FollowError> {
    let (began, first) = (Instant::now(), follower.position());
    let (mut records, mut told) = (0_usize, Instant::now());
    if let Goal::Offset(end) = goal {
        if follower.position() >= end {
            return Ok(());
        }
    }
    loop {
        match poll_fn(|cx| follower.poll_step(cx, &mut |_, _| {})).await? {
            Step::Applied(n) => records += n,
            Step::CaughtUp => {
                if let Goal::Offset(end) = goal {
                    follower.skip_to(end);
                }
                break;
            }
        }
        if let Goal::Offset(end) = goal
            && follower.position() >= end
        {
            break;
        }
        if told.elapsed() >= progress {
            told = Instant::now();
            let rate = rate(records, began);
            let left = match goal {
                Goal::Offset(end) => end - follower.position(),
                Goal::End => -1,
            };
            tracing::info!(%partition, records, per_second = rate, offsets_left = left, "restoring");
        }
        tokio::task::yield_now().await;
    }
    if records > 0 {
        let (to, per_second) = (follower.position(), rate(records, began));
        tracing::info!(%partition, records, from = first, to, per_second, "restored");
    }
    Ok(())
}

fn rate(records: usize, since: Instant) -> u64 {
    let ms = since.elapsed().as_millis().max(1);
    u64::try_from(records as u128 * 1000 / ms).unwrap_or(u64::MAX)
}

async fn wait_stable(log: &LogHandle, partition: &TopicPartition, end: i64) -> Result<(), FollowError> {
    let mut told = Instant::now();
    loop {
        let of = vec![(partition.clone(), OffsetSpec::Latest)];
        let stable = log.offsets(of, Isolation::ReadCommitted).await?.first().copied().unwrap_or_default();
        if stable >= end {
            return Ok(());
        }
        if told.elapsed() >= Duration::from_secs(5) {
            told = Instant::now();
            tracing::info!(%partition, stable, end, "waiting for an open transaction on the changelog to end");
        }
        // Nothing announces the end of somebody else's transaction, so it is asked for.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Opens the full copies that lookups read, up to date, and keeps them so from a worker.
#[allow(clippy::too_many_arguments, reason = "everything that exists before the environment does")]
pub(super) async fn open_lookups(
    log: &LogHandle,
    graph: &GroupGraph,
    facts: &TopicFacts,
    tombstones: &BTreeMap<Arc<str>, i64>,
    reader: &Arc<dyn Reader>,
    stores: &dyn StoreBackend,
    options: &Options,
    workers: &Workers,
) -> ProcessorResult<Vec<Arc<Copies>>> {
    let group = graph.name();
    let mut lookups = Vec::new();
    for edge in &graph.lookups {
        let partitions = facts.topics.get(&edge.topic).map_or(0, |t| t.partitions);
        let mut copies = Vec::new();
        for p in 0..partitions {
            let partition = TopicPartition::new(Arc::clone(&edge.topic), p);
            let id = StoreId::new(Arc::clone(&edge.topic), p);
            let store = stores.open(&id, edge.codec.name()).map_err(|e| ProcessorError::store(group, e))?;
            let retention = tombstones.get(&edge.topic).copied();
            let doing = || format!("restore lookup {partition}");
            let mut follower = open_follower(log, reader, &partition, &store, retention, Goal::End)
                .await
                .map_err(|e| ProcessorError::follow(group, doing(), e))?;
            restore(&mut follower, &partition, Goal::End, options.progress_interval)
                .await
                .map_err(|e| ProcessorError::follow(group, doing(), e))?;
            copies.push((store, follower));
        }
        let (stores, followers): (Vec<_>, Vec<_>) = copies.into_iter().unzip();
        let copies = Arc::new(Copies::new(stores, options.partitioner));
        let (weak, clock, every) = (Arc::downgrade(&copies), log.clock(), options.checkpoint_interval);
        let topic = Arc::clone(&edge.topic);
        workers.spawn(0, Box::new(move || Box::pin(keep_up(weak, topic, followers, clock, every))));
        lookups.push(copies);
    }
    Ok(lookups)
}

/// Follows a table's topic as long as somebody has its copies.
async fn keep_up(
    copies: Weak<Copies>,
    topic: Arc<str>,
    mut followers: Vec<Follower>,
    clock: Arc<dyn Clock>,
    checkpoint_interval: Duration,
) {
    let mut checkpoint = tokio::time::interval(checkpoint_interval);
    while copies.strong_count() > 0 {
        let step = poll_fn(|cx| {
            if checkpoint.poll_tick(cx).is_ready() {
                for follower in &mut followers {
                    if let Err(error) = follower.checkpoint(clock.now_ms()) {
                        tracing::error!(%topic, %error, "a lookup's checkpoint failed");
                    }
                }
                return Poll::Ready(Ok(()));
            }
            for follower in &mut followers {
                if let Poll::Ready(step) = follower.poll_step(cx, &mut |_, _| {}) {
                    return Poll::Ready(step.map(|_| ()));
                }
            }
            Poll::Pending
        });
        if let Err(error) = step.await {
            tracing::error!(%topic, %error, "a lookup can't be kept up to date; it is tried again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::task::yield_now().await;
    }
}
