//! One partition of a copy being kept: its part of a [`ReplicaUpdater`](super::updater::ReplicaUpdater).
//!
//! Errors: after one of the log, it pauses, then goes on from where it was. When the topic no longer has the position, or was
//! recreated (it has another id), the store is emptied and restored. An error of the store ends it, for nothing is left to
//! build upon.
//!
//! It must never record a checkpoint beyond what is in the store.

use std::convert::Infallible;
use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::probe::{Found, Probe, UpdaterContext};
use super::status::Phase;
use super::table::PartitionReplica;
use crate::log::{ErrorClass, LogError};
use crate::store::{Checkpoint, StoreError};
use crate::table::{FollowError, Goal, Known, Progress, Source, Step};

/// Why a follower can't go on as it is.
enum Broken {
    /// The log failed.
    Log(LogError),
    /// Somebody else found the topic gone.
    TopicMissing(LogError),
    /// The store's content can't be relied on any more.
    Distrust(&'static str),
    /// The store failed.
    Store(StoreError),
}

impl From<FollowError> for Broken {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Log(error) => Self::Log(error),
            FollowError::Store(error) => Self::Store(error),
        }
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// One partition being kept.
pub(super) struct PartitionFollower<'a> {
    context: &'a UpdaterContext,
    index: usize,
    copy: &'a PartitionReplica,
    probe: &'a Probe,
    /// The store's content; `None` before the first follower is there. Its contact is the last moment at which
    /// the copy is known to have been level with its topic, or else when it was begun.
    known: Option<Known>,
    recorded: Option<Checkpoint>,
    /// The end was reached since the probe last brought something.
    caught_up: bool,
    /// The topic's end at the last probe, if the copy was level with it.
    level: Option<i64>,
    /// The topic was gone, it was said: when it is back, it may be another one.
    missing: bool,
    /// Failures since the end was last reached.
    failures: u32,
}

impl<'a> PartitionFollower<'a> {
    pub(super) fn new(context: &'a UpdaterContext, index: usize, copy: &'a PartitionReplica, probe: &'a Probe) -> Self {
        let (known, recorded, level) = (None, None, None);
        Self { context, index, copy, probe, known, recorded, caught_up: false, level, missing: false, failures: 0 }
    }

    /// Works until it has to stop, then records a last checkpoint.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), String> {
        self.recorded = self.copy.store.checkpointed().map_err(|e| e.to_string())?;
        loop {
            let broken = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                broken = self.follow() => broken,
            };
            let rest = self.after(broken)?;
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = sleep(rest) => {}
            }
        }
        self.checkpoint().map_err(|e| e.to_string())
    }

    /// Handles trouble: how long to pause before the next attempt; an error if none would help.
    fn after(&mut self, broken: Broken) -> Result<Duration, String> {
        let partition = &self.copy.partition;
        let rest = Duration::from_millis(100).saturating_mul(1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        match broken {
            Broken::Store(error) => return Err(error.to_string()),
            Broken::Distrust(why) => {
                tracing::warn!(%partition, why, "the copy is emptied and restored");
                self.empty().map_err(|e| e.to_string())?;
            }
            Broken::Log(LogError::OffsetOutOfRange { offset, start, .. })
                if self.context.options.is_cut && offset < start =>
            {
                tracing::info!(%partition, offset, start, "the topic was cut: the copy goes on from there");
            }
            Broken::Log(error @ LogError::OffsetOutOfRange { .. }) => {
                tracing::warn!(%partition, ?error, "the copy is emptied and restored");
                self.empty().map_err(|e| e.to_string())?;
            }
            Broken::TopicMissing(error) => {
                self.missing = true;
                self.wait(&error, rest);
            }
            Broken::Log(error) => {
                let missing = matches!(error, LogError::UnknownTopic { .. } | LogError::UnknownPartition { .. });
                // A client that lost all brokers is replaced for the next read.
                let passes =
                    missing || error.class() != ErrorClass::Fatal || matches!(error, LogError::BrokersLost { .. });
                if !passes && !self.copy.is_complete() {
                    // Nothing is served yet, so that to try again would only hide it.
                    return Err(error.to_string());
                }
                self.missing |= missing;
                self.context.note_missing(&error);
                self.wait(&error, rest);
            }
        }
        Ok(rest)
    }

    fn wait(&self, error: &LogError, rest: Duration) {
        let partition = &self.copy.partition;
        tracing::warn!(%partition, ?error, ?rest, "the copy can't follow its topic; it is tried again");
        self.context.replica.set_phase(self.index, Phase::Waiting, Some(error.to_string()));
    }

    fn empty(&mut self) -> Result<(), StoreError> {
        self.copy.emptied();
        self.copy.store.clear()?;
        (self.known, self.recorded) = (None, None);
        // The probe's finding concerned the store's former content.
        self.probe.take();
        self.context.replica.set_phase(self.index, Phase::Restoring, None);
        Ok(())
    }

    /// Restores and follows until something is wrong.
    async fn follow(&mut self) -> Broken {
        match self.try_follow().await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn try_follow(&mut self) -> Result<Infallible, Broken> {
        let UpdaterContext { log, reader, tombstone_retention_ms, options, updates, .. } = self.context;
        let PartitionReplica { partition, store, .. } = self.copy;
        let source = Source {
            log,
            reader,
            partition,
            store,
            tombstone_retention_ms: *tombstone_retention_ms,
            is_cut: options.is_cut,
        };
        if self.missing {
            // Served until its successor is there.
            source.exists().await?;
            self.probe.take();
            // One answer is no proof that it was deleted. Its id proves it, where it has one: see `Source::follow`.
            if store.origin()?.is_none() {
                tracing::warn!(%partition, "the topic was gone and is back: the copy is emptied and restored");
                self.empty()?;
            }
            self.missing = false;
        }
        let (copy, mut emptied) = (self.copy, false);
        let asked = log.clock().now_ms();
        let mut on_emptied = || {
            copy.emptied();
            emptied = true;
        };
        let (mut follower, end) = source.follow(self.known, Goal::End, &mut on_emptied).await?;
        if emptied {
            (self.known, self.recorded) = (None, None);
        }
        // A store that is trusted keeps the age that it has until it is level with its topic again.
        let position = follower.position();
        let known = self.known.or(self.recorded.map(Known::from)).filter(|_| position < end);
        let contact = known.map_or(Checkpoint { offset: position, at_ms: asked }, |k| k.contact);
        self.known = Some(Known { position, contact });
        (self.caught_up, self.level) = (false, None);
        copy.set_position(position);
        copy.set_end(end);
        if !copy.is_complete() {
            // Nobody reads the store before it is complete. One that was complete is read while it catches up.
            follower.hold_back(&options.memory);
        }
        self.context.replica.set_phase(self.index, Phase::Restoring, None);

        let mut progress = Some(Progress::new(partition, position, options.progress));
        let mut checkpoints = interval_at(Instant::now() + options.checkpoint, options.checkpoint);
        checkpoints.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut late = Vec::new();
        loop {
            // A listener is notified of changes of a complete copy, not of restored values.
            let listening = updates.as_deref().filter(|_| copy.is_complete());
            let mut notify = |key: &[u8], value: Option<&[u8]>| {
                let Some(updates) = listening else { return };
                // From the first value on whose schema is missing all wait, to keep their order.
                if !late.is_empty() || !updates.notify(partition.partition, key, value) {
                    late.push((key.to_vec(), value.map(<[u8]>::to_vec)));
                }
            };
            tokio::select! {
                biased;
                () = self.probe.updated.notified() => self.compare()?,
                _ = checkpoints.tick() => self.checkpoint()?,
                step = poll_fn(|cx| follower.poll_step(cx, &mut notify)) => match step? {
                    Step::Applied(n) => {
                        self.moved(follower.stored());
                        if let Some(progress) = &mut progress {
                            let left = copy.end() - follower.position();
                            progress.applied(n, Some(left).filter(|n| *n > 0));
                        }
                    }
                    Step::CaughtUp(_) => {
                        self.caught_up = true;
                        self.moved(follower.stored());
                        if let Some(progress) = progress.take() {
                            progress.done(follower.position());
                            self.failures = 0;
                            copy.completed();
                            self.context.replica.set_phase(self.index, Phase::Running, None);
                        }
                    }
                },
            }
            if let Some(updates) = updates {
                for (key, value) in late.drain(..) {
                    updates.load_and_notify(partition.partition, &key, value.as_deref()).await;
                }
            }
            // A follower that always has records must let the others, and other users of the thread, have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// The store contains everything below `position`.
    fn moved(&mut self, position: i64) {
        if let Some(known) = &mut self.known {
            known.position = position;
        }
        self.copy.set_position(position);
    }

    /// Holds the copy against what the probe found (semantics D10): one that was not level with its topic for long may
    /// have missed deletions, even if it is level with it by now.
    fn compare(&mut self) -> Result<(), Broken> {
        let found = self.probe.take();
        let (Some(found), Some(known)) = (found, &mut self.known) else { return Ok(()) };
        let (end, at_ms) = match found {
            Found::End { end, at_ms } => (end, at_ms),
            Found::TopicMissing(error) => return Err(Broken::TopicMissing(error)),
        };
        let age = at_ms.saturating_sub(known.contact.at_ms);
        let keep = self.context.tombstone_retention_ms;
        if keep.is_some_and(|keep| known.contact.offset < end && age > keep / 2) {
            return Err(Broken::Distrust("it was cut off so long that deletions may be missed"));
        }
        // Markers of transactions at the end take offsets that no position reaches, hence the other two.
        let level = known.position >= end || self.caught_up || self.level == Some(end);
        self.level = level.then_some(end);
        self.caught_up = false;
        if level {
            known.contact = Checkpoint { offset: known.position, at_ms };
        }
        Ok(())
    }

    /// Records how far the store is, unless it is recorded already.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        let Some(known) = self.known else { return Ok(()) };
        let at_ms = known.contact.at_ms;
        let now_ms = self.context.log.clock().now_ms();
        let keep = self.context.tombstone_retention_ms.unwrap_or(DAY_MS);
        // Not level for long, nobody knows whether deletions were missed: the older checkpoint stands, and its age
        // decides.
        if now_ms.saturating_sub(at_ms) > keep / 2 {
            return Ok(());
        }
        // One that does not move is recorded again at times, so that its age shows how long the copy was away.
        let stale =
            self.recorded.is_none_or(|r| r.offset != known.position || at_ms.saturating_sub(r.at_ms) > keep / 8);
        if stale {
            let checkpoint = Checkpoint { offset: known.position, at_ms };
            self.copy.store.checkpoint(checkpoint)?;
            self.recorded = Some(checkpoint);
        }
        Ok(())
    }
}

/// Kafka's default for `delete.retention.ms`.
const DAY_MS: i64 = 24 * 3_600_000;

/// Resolves once the updater is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the updater was dropped.
    _ = stop.wait_for(|stop| *stop).await;
}
