//! A check of this host's clock, for when a record is ahead of it.
//!
//! One record of a time to come says nothing about the clock. But if the newest records of several partitions are ahead, it
//! is the clock that is behind. The records' timestamps count: event times that are read from values are nobody's clock.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::utc;
use crate::log::{FetchLimits, Fetched, Isolation, LogResult, OffsetSpec, RecordBatch, TopicPartition};
use crate::processor::env::Env;
use crate::processor::error::ProcessorError;

/// The number of partitions that are looked at.
const MOST: usize = 16;
/// The newest of so many offsets of a partition: the last ones may be markers of transactions.
const TAIL: i64 = 16;
/// For so long at most.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// While records are left out, it is looked at no more often.
const EVERY: Duration = Duration::from_secs(60);

/// Looks at the clock while records that are ahead of it are left out.
#[derive(Default)]
pub(super) struct ClockCheck {
    looking: Option<BoxFuture<'static, Option<String>>>,
    looked: Option<Instant>,
}

impl ClockCheck {
    /// The next step. Loses nothing when it is dropped.
    pub(super) async fn step(&mut self, env: &Arc<Env>) {
        if self.looking.is_none() {
            if let Some(looked) = self.looked {
                sleep_until(looked + EVERY).await;
            }
            env.counters.left_out.ahead.notified().await;
            self.looked = Some(Instant::now());
            let env = Arc::clone(env);
            self.looking = Some(async move { verdict(&env).await }.boxed());
        }
        if let Some(looking) = &mut self.looking {
            let found = looking.await;
            self.looking = None;
            if let Some(found) = found {
                tracing::warn!(group = env.graph.name(), "records are left out because they are ahead: {found}");
            }
        }
    }
}

/// Adds to an error of a record that is ahead of the clock that the clock is wrong, if it is.
pub(super) async fn name_clock(env: &Env, error: ProcessorError) -> ProcessorError {
    match error {
        ProcessorError::Record { group, topic, partition, offset, key, mut error }
            if env.counters.left_out.take_failed_ahead() =>
        {
            if let Some(found) = verdict(env).await {
                error = error.within(found);
            }
            ProcessorError::Record { group, topic, partition, offset, key, error }
        }
        error => error,
    }
}

/// The fault of the clock in words, if it has one.
async fn verdict(env: &Env) -> Option<String> {
    let now = env.log.clock().now_ms();
    // A log that does not answer leaves it open.
    let (ahead, looked) = timeout(CHECK_TIMEOUT, look(env, now)).await.ok()?.ok()?;
    (ahead >= 2 && 2 * ahead > looked).then(|| {
        format!(
            "the newest records of {ahead} of {looked} partitions are ahead, so this host's clock is probably behind \
             (it says {}): set it right",
            utc(now)
        )
    })
}

/// In how many partitions the newest record is ahead, and how many have one.
async fn look(env: &Env, now: i64) -> LogResult<(usize, usize)> {
    let mut partitions = Vec::new();
    for edge in env.graph.inputs.iter().filter(|edge| !edge.own) {
        let limit = edge.input.max_ahead.unwrap_or(env.options.max_ahead);
        let found = env.log.topics(vec![Arc::clone(&edge.input.topic)]).await?;
        let count = found.into_iter().flatten().next().map_or(0, |topic| topic.partitions);
        let all = (0..count).map(|p| (TopicPartition::new(Arc::clone(&edge.input.topic), p), limit));
        partitions.extend(all.take(MOST));
    }
    partitions.truncate(MOST);
    let asked = |spec: OffsetSpec| partitions.iter().map(|(p, _)| (p.clone(), spec)).collect();
    let begins = env.log.offsets(asked(OffsetSpec::Earliest), Isolation::ReadCommitted).await?;
    let ends = env.log.offsets(asked(OffsetSpec::Latest), Isolation::ReadCommitted).await?;
    let (mut ahead, mut looked) = (0, 0);
    for (((partition, limit), begin), end) in partitions.iter().zip(begins).zip(ends) {
        if let Some(at) = newest(env, partition, begin.max(end - TAIL)).await? {
            looked += 1;
            // The limit for a clock whose records have none is the usual one.
            let limit = if *limit == i64::MAX { 3_600_000 } else { *limit };
            ahead += usize::from(at > now.saturating_add(limit));
        }
    }
    Ok((ahead, looked))
}

/// The time of the last record from an offset on, as far as one fetch has it.
async fn newest(env: &Env, partition: &TopicPartition, from: i64) -> LogResult<Option<i64>> {
    let mut fetch = env.reader.read(partition.clone(), from).await?;
    let mut batch = RecordBatch::new();
    let fetched = poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await?;
    let last = batch.len().checked_sub(1).and_then(|last| batch.get(last));
    Ok(last.filter(|_| fetched == Fetched::Records).map(|record| record.timestamp))
}
