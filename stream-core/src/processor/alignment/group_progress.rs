//! Looks up how far the rest of the group has come: in the partitions of other instances, and in what is sent on and not
//! fetched yet.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::{Alignment, GroupProgress, Lowest, Other, RECHECK_INTERVAL, STALL_TIMEOUT};
use crate::log::{FetchLimits, Fetched, Isolation, LogResult, OffsetSpec, RecordBatch, TopicPartition};
use crate::processor::env::Env;

impl Alignment {
    /// Waits until it is known that the limit is another one. Who asks has a record of this time next, beyond the limit.
    pub(in crate::processor) async fn wait_for_limit(self: Arc<Self>, env: Arc<Env>, limit: i64, head: i64) {
        let mut progress = self.waiting.lock().await;
        let mut changed = self.changed.subscribe();
        while self.limit() == limit {
            changed.mark_unchanged();
            let mut lowest = self.here();
            if self.limit_of(&lowest, head) > limit || self.has_others() {
                lowest = self.lowest(&env, &mut progress).await;
            }
            let new = match lowest.low {
                Ok(_) => self.limit_of(&lowest, head),
                Err(()) => limit,
            };
            if new != limit {
                self.limit.send_replace(new);
                return;
            }
            // What is waited for may be in a transaction that has yet to end.
            env.egress.hasten();
            if self.has_others() {
                self.held.notify_one();
            }
            tokio::select! {
                biased;
                // The sender lives as long as this.
                _ = changed.changed() => {}
                () = sleep_until(lowest.again) => {}
            }
        }
    }

    /// The earliest unfinished record of the group. What is sent on is looked for after what it is made of, stage by stage, so
    /// that it is in one of the two, and what is here is asked again at last.
    async fn lowest(&self, env: &Env, progress: &mut GroupProgress) -> Lowest {
        let before = self.here();
        // What is not known yet is asked again at last.
        let mut seen = Lowest { low: Ok(before.low.unwrap_or_default()), ..before };
        let unread = self.look(env, progress, &mut seen).await;
        let mut lowest = self.here();
        if let Ok(Some(low)) = seen.low {
            lowest.lower(low);
        }
        let now = Instant::now();
        let unread = match unread {
            Ok(unread) => unread,
            Err(error) => {
                tracing::debug!(group = env.graph.name(), ?error, "how far the group is can't be looked up now");
                return Lowest { low: Err(()), again: now + RECHECK_INTERVAL };
            }
        };
        let before = std::mem::take(&mut progress.unread);
        for (partition, at) in unread {
            let since = before.get(&partition).filter(|(was, _)| *was == at).map_or(now, |(_, since)| *since);
            if since + STALL_TIMEOUT > now {
                lowest.low = Err(());
                lowest.again = lowest.again.min(since + STALL_TIMEOUT);
            }
            progress.unread.insert(partition, (at, since));
        }
        if !progress.others.is_empty() {
            lowest.again = lowest.again.min(now + RECHECK_INTERVAL);
        }
        for other in progress.others.values() {
            lowest.take(other.low, other.moved, now);
        }
        lowest
    }

    /// Looks at what other instances have, and at the ends of what comes back to this one: gives the partitions of those that
    /// have more than is fetched, and up to where they are. What is unfinished here meanwhile is taken into `seen`.
    async fn look(
        &self,
        env: &Env,
        progress: &mut GroupProgress,
        seen: &mut Lowest,
    ) -> LogResult<Vec<(TopicPartition, i64)>> {
        let others = |of: &[TopicPartition]| -> Vec<TopicPartition> {
            let seats = self.seats();
            of.iter().filter(|p| !seats.has(p)).cloned().collect()
        };
        let elsewhere: Vec<_> = self.stages.iter().map(|of| others(of)).collect();
        progress.others.retain(|partition, _| elsewhere.iter().any(|of| of.contains(partition)));
        if elsewhere.iter().any(|of| !of.is_empty()) {
            if let Some(asked) = progress.asked {
                sleep_until(asked + RECHECK_INTERVAL).await;
            }
            progress.asked = Some(Instant::now());
        }
        let mut unread = Vec::new();
        for (stage, (of, elsewhere)) in self.stages.iter().zip(&elsewhere).enumerate() {
            self.fetch_others(env, elsewhere, progress).await?;
            if stage > 0 {
                self.look_at_ends(env, of, seen, &mut unread).await?;
            }
        }
        Ok(unread)
    }

    /// Looks at the ends of a stage's partitions that are here.
    async fn look_at_ends(
        &self,
        env: &Env,
        of: &[TopicPartition],
        seen: &mut Lowest,
        unread: &mut Vec<(TopicPartition, i64)>,
    ) -> LogResult<()> {
        let ours: Vec<_> = of.iter().filter(|p| self.seats().taken.contains_key(*p)).cloned().collect();
        if ours.is_empty() {
            return Ok(());
        }
        let latest = ours.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
        // Not the end of committed records: a commit is known before readers can see its markers.
        let ends = env.log.offsets(latest, Isolation::ReadUncommitted).await?;
        let (now, markers) = (Instant::now(), i64::from(env.egress.transactions().is_some()));
        let seats = self.seats();
        for (partition, end) in ours.into_iter().zip(ends) {
            let Some(seat) = seats.taken.get(&partition) else { continue };
            seen.take(seat.seen.low, seat.moved, now);
            // Behind a record that a transaction wrote there is a marker at least.
            if seat.seen.at + markers < end {
                unread.push((partition, seat.seen.at));
            }
        }
        Ok(())
    }

    async fn fetch_others(&self, env: &Env, of: &[TopicPartition], progress: &mut GroupProgress) -> LogResult<()> {
        if of.is_empty() {
            return Ok(());
        }
        let done = env.log.group_offsets(Arc::clone(&env.graph.name), of.to_vec()).await?;
        let all = |spec: OffsetSpec| of.iter().map(|p| (p.clone(), spec)).collect();
        let begins = env.log.offsets(all(OffsetSpec::Earliest), Isolation::ReadCommitted).await?;
        let ends = env.log.offsets(all(OffsetSpec::Latest), Isolation::ReadCommitted).await?;
        for (((partition, done), begin), end) in of.iter().zip(done).zip(begins).zip(ends) {
            let at = done.unwrap_or_default().max(begin);
            let low = if at < end { time_at(env, partition, at).await? } else { None };
            let now = Instant::now();
            match progress.others.get_mut(partition) {
                Some(other) if (other.at, other.low) == (at, low) => {}
                Some(other) => *other = Other { low, at, moved: now },
                None => _ = progress.others.insert(partition.clone(), Other { low, at, moved: now }),
            }
        }
        Ok(())
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
