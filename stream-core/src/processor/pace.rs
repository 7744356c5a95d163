//! Keeps what is re-keyed for a join in step over all partitions of its topics (semantics J7, D4).
//!
//! Each partition of a source is sent on in its own time, so that after a stop one might be read to its end before another
//! has begun; stream time would be there, and the other's records late. So no input of such a group is read further than a
//! part of the join's grace beyond the first record that the group has not committed, of the sources and of what was made
//! of them, whoever has those.
//!
//! It is asked for only by a task that has come that far: hardly ever while the group keeps up. It never holds anything for
//! good: whoever is behind may be stuck, or have a clock that is wrong.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;

use super::env::Env;
use crate::group::GroupGraph;
use crate::log::{FetchLimits, Fetched, Isolation, LogResult, OffsetSpec, RecordBatch, TopicPartition};
use crate::topics::TopicFacts;

/// How far apart records may be in any case: with little grace a join can't be helped.
const LEAST: Duration = Duration::from_secs(10);
/// How long a task is held at most.
pub(super) const PATIENCE: Duration = LEAST;
/// Between two looks.
const REST: Duration = Duration::from_millis(50);

/// Of an instance.
pub(super) struct Pace {
    /// How far beyond the first uncommitted record.
    slack: i64,
    /// Of the sources; of what is made of them.
    partitions: [Vec<TopicPartition>; 2],
    /// The time of the first uncommitted record, when somebody looked last.
    known: watch::Sender<i64>,
    /// One looks at a time; when that was.
    looking: Mutex<Option<Instant>>,
    /// Somebody is held until more is committed.
    held: Notify,
}

impl Pace {
    /// `None` for a group that re-keys nothing.
    pub(super) fn of(graph: &GroupGraph, facts: &TopicFacts) -> Option<Arc<Self>> {
        let grace = graph.stream_joins.iter().filter(|j| j.re_keys).map(|j| j.windows.grace).min()?;
        let slack = (grace / 2).max(i64::try_from(LEAST.as_millis()).unwrap_or(i64::MAX));
        let all = |own: bool| {
            let edges = graph.inputs.iter().filter(move |e| if own { e.own } else { e.re_keys });
            let topics = edges.filter_map(|e| facts.topics.get(&e.input.topic));
            let partitions =
                topics.flat_map(|t| (0..t.partitions).map(|p| TopicPartition::new(Arc::clone(&t.name), p)));
            partitions.collect()
        };
        let partitions = [all(false), all(true)];
        Some(Arc::new(Self {
            slack,
            partitions,
            known: watch::Sender::new(i64::MIN),
            looking: Mutex::default(),
            held: Notify::new(),
        }))
    }

    /// Resolves when a task is held until more is committed: to wait for the next time would take long.
    pub(super) async fn held(pace: Option<&Self>) {
        match pace {
            Some(pace) => pace.held.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn known(&self) -> i64 {
        *self.known.borrow()
    }

    pub(super) fn limit(&self, known: i64) -> i64 {
        known.saturating_add(self.slack)
    }

    /// Looks how far the group is, unless somebody else has since it was `known`. Who asks has a record of this time next.
    pub(super) async fn look(self: Arc<Self>, env: Arc<Env>, known: i64, head: i64) {
        let mut last = self.looking.lock().await;
        if self.known() != known {
            return;
        }
        self.held.notify_one();
        if let Some(last) = *last {
            tokio::time::sleep_until(last + REST).await;
        }
        match self.first_uncommitted(&env).await {
            Ok(first) => drop(self.known.send_replace(first.map_or(head, |first| first.min(head)))),
            Err(error) => {
                tracing::debug!(group = env.graph.name(), %error, "how far the group is can't be looked up now");
            }
        }
        *last = Some(Instant::now());
    }

    async fn first_uncommitted(&self, env: &Env) -> LogResult<Option<i64>> {
        let mut first: Option<i64> = None;
        // In this order: what is no longer to be seen in a source is in what is made of it.
        for partitions in &self.partitions {
            let done = env.log.group_offsets(Arc::clone(&env.graph.name), partitions.clone()).await?;
            let all = |spec: OffsetSpec| partitions.iter().map(|p| (p.clone(), spec)).collect();
            let begins = env.log.offsets(all(OffsetSpec::Earliest), Isolation::ReadCommitted).await?;
            let ends = env.log.offsets(all(OffsetSpec::Latest), Isolation::ReadCommitted).await?;
            for (((partition, done), begin), end) in partitions.iter().zip(done).zip(begins).zip(ends) {
                let from = done.unwrap_or_default().max(begin);
                if from < end
                    && let Some(at) = time_at(env, partition, from).await?
                {
                    first = Some(first.map_or(at, |first| first.min(at)));
                }
            }
        }
        Ok(first)
    }
}

/// The time of the first record from an offset on, if there is one.
async fn time_at(env: &Env, partition: &TopicPartition, from: i64) -> LogResult<Option<i64>> {
    let mut fetch = env.reader.read(partition.clone(), from).await?;
    let mut batch = RecordBatch::new();
    let limits = FetchLimits { records: 1, ..FetchLimits::default() };
    let fetched = std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits)).await?;
    Ok(batch.get(0).filter(|_| fetched == Fetched::Records).map(|record| record.timestamp))
}
