//! The state of a copy's topic, as its updater knows it: a probe asks the log from time to time, and notifies the partitions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::table::TableReplica;
use super::updates::Updates;
use crate::log::{Isolation, LogError, LogHandle, OffsetSpec, Reader};
use crate::table::RestoreMemory;

/// The intervals of an updater's work, and the memory of its restores.
#[derive(Clone, Debug)]
pub(crate) struct UpdaterOptions {
    pub(crate) checkpoint: Duration,
    pub(crate) progress: Duration,
    pub(crate) probe: Duration,
    /// Records of the topic are deleted once they are closed (see [`Source`](crate::table::Source)).
    pub(crate) is_cut: bool,
    pub(crate) memory: RestoreMemory,
}

impl Default for UpdaterOptions {
    fn default() -> Self {
        Self {
            checkpoint: Duration::from_secs(10),
            progress: Duration::from_secs(5),
            probe: Duration::from_secs(10),
            memory: RestoreMemory::default(),
            is_cut: false,
        }
    }
}

/// The context that all followers share.
pub(super) struct UpdaterContext {
    pub(super) replica: Arc<TableReplica>,
    pub(super) log: LogHandle,
    pub(super) reader: Arc<dyn Reader>,
    pub(super) tombstone_retention_ms: Option<i64>,
    pub(super) updates: Option<Arc<dyn Updates>>,
    pub(super) options: UpdaterOptions,
    /// The topic's partitions, of which the copies may be some.
    pub(super) count: i32,
    pub(super) probes: Vec<Probe>,
}

/// The probe's last finding about a partition, for its follower to look at.
#[derive(Debug, Default)]
pub(super) struct Probe {
    found: Mutex<Option<Found>>,
    pub(super) updated: Notify,
}

impl Probe {
    fn report(&self, found: Found) {
        let mut last = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        // That the topic was gone must not be missed, even if it is back by now.
        if !matches!(*last, Some(Found::TopicMissing(_))) {
            *last = Some(found);
        }
        self.updated.notify_one();
    }

    /// Takes the finding, if there is one: each is given once.
    pub(super) fn take(&self) -> Option<Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The topic's end, and a moment before it was asked for.
    End { end: i64, at_ms: i64 },
    /// The topic is not there.
    TopicMissing(LogError),
}

impl UpdaterContext {
    /// Asks the log about the topic, again and again. Ends when the topic has changed so that the copy can't follow.
    pub(super) async fn probe(&self) -> String {
        let topic = self.replica.topic();
        let count = self.count;
        loop {
            sleep(self.options.probe).await;
            let at_ms = self.log.clock().now_ms();
            match self.ask().await {
                Ok((partitions, _)) if partitions != count => {
                    return format!(
                        "topic {topic} has changed from {count} to {partitions} partitions: reopen the view, or \
                         restart the group"
                    );
                }
                Ok((_, ends)) => {
                    self.replica.set_unreachable(None);
                    for ((copy, probe), end) in self.replica.partitions().iter().zip(&self.probes).zip(ends) {
                        copy.set_end(end);
                        probe.report(Found::End { end, at_ms });
                    }
                }
                Err(error) => {
                    self.note_missing(&error);
                    self.replica.set_unreachable(Some(error.to_string()));
                }
            }
        }
    }

    /// One follower may see that the topic is missing, and another only its successor: so each finding goes to all.
    pub(super) fn note_missing(&self, error: &LogError) {
        if matches!(error, LogError::UnknownTopic { .. }) {
            self.probes.iter().for_each(|probe| probe.report(Found::TopicMissing(error.clone())));
        }
    }

    /// The topic's partition count, and the end of each partition.
    async fn ask(&self) -> Result<(i32, Vec<i64>), LogError> {
        let topic = self.replica.topic();
        let unknown = || LogError::UnknownTopic { topic: topic.to_string() };
        let found = self.log.topics(vec![Arc::clone(topic)]).await?;
        let info = found.into_iter().next().flatten().ok_or_else(unknown)?;
        let each = self.replica.partitions().iter().filter(|copy| copy.partition.partition < info.partitions);
        let of = each.map(|copy| (copy.partition.clone(), OffsetSpec::Latest)).collect();
        let ends = self.log.offsets(of, Isolation::ReadUncommitted).await?;
        Ok((info.partitions, ends))
    }
}
