//! What the updater of a copy knows of its topic: a probe asks the log from time to time, and tells the partitions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::copies::Copies;
use super::updates::Updates;
use crate::log::{Isolation, LogError, LogHandle, OffsetSpec, Reader};

/// How often what is done for a copy.
#[derive(Clone, Debug)]
pub(crate) struct KeeperOptions {
    pub(crate) checkpoint: Duration,
    pub(crate) progress: Duration,
    pub(crate) probe: Duration,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self { checkpoint: Duration::from_secs(10), progress: Duration::from_secs(5), probe: Duration::from_secs(10) }
    }
}

/// What all lanes share.
pub(super) struct Keeping {
    pub(super) copies: Arc<Copies>,
    pub(super) log: LogHandle,
    pub(super) reader: Arc<dyn Reader>,
    pub(super) tombstone_retention_ms: Option<i64>,
    pub(super) updates: Option<Arc<dyn Updates>>,
    pub(super) options: KeeperOptions,
    /// The topic's partitions, of which the copies may be some.
    pub(super) count: i32,
    pub(super) probes: Vec<Probe>,
}

/// What the probe has found out about a partition, for its lane to look at.
#[derive(Debug, Default)]
pub(super) struct Probe {
    found: Mutex<Option<Found>>,
    pub(super) news: Notify,
}

impl Probe {
    fn tell(&self, found: Found) {
        let mut told = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        // That the topic was gone must not be missed, even if it is back by now.
        if !matches!(*told, Some(Found::Gone(_))) {
            *told = Some(found);
        }
        self.news.notify_one();
    }

    /// What there is to be told; it is told once.
    pub(super) fn take(&self) -> Option<Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The topic's end, and a moment before it was asked for.
    End { end: i64, at_ms: i64 },
    /// The topic is not there.
    Gone(LogError),
}

impl Keeping {
    /// Asks the log about the topic, again and again. Ends when the topic has changed so that the copy can't follow.
    pub(super) async fn probe(&self) -> String {
        let topic = self.copies.topic();
        let count = self.count;
        loop {
            sleep(self.options.probe).await;
            let at_ms = self.log.clock().now_ms();
            match self.ask().await {
                Ok((partitions, _)) if partitions != count => {
                    return format!(
                        "topic {topic} has changed from {count} to {partitions} partitions: open the view, or start the \
                         group, anew"
                    );
                }
                Ok((_, ends)) => {
                    self.copies.set_unreachable(None);
                    for ((copy, probe), end) in self.copies.partitions().iter().zip(&self.probes).zip(ends) {
                        copy.set_end(end);
                        probe.tell(Found::End { end, at_ms });
                    }
                }
                Err(error) => {
                    self.note_gone(&error);
                    self.copies.set_unreachable(Some(error.to_string()));
                }
            }
        }
    }

    /// One lane may see that the topic is gone, and another only its successor: so they tell each other.
    pub(super) fn note_gone(&self, error: &LogError) {
        if matches!(error, LogError::UnknownTopic { .. }) {
            self.probes.iter().for_each(|probe| probe.tell(Found::Gone(error.clone())));
        }
    }

    /// The topic's partition count, and the end of each partition.
    async fn ask(&self) -> Result<(i32, Vec<i64>), LogError> {
        let topic = self.copies.topic();
        let unknown = || LogError::UnknownTopic { topic: topic.to_string() };
        let found = self.log.topics(vec![Arc::clone(topic)]).await?;
        let info = found.into_iter().next().flatten().ok_or_else(unknown)?;
        let each = self.copies.partitions().iter().filter(|copy| copy.partition.partition < info.partitions);
        let of = each.map(|copy| (copy.partition.clone(), OffsetSpec::Latest)).collect();
        let ends = self.log.offsets(of, Isolation::ReadUncommitted).await?;
        Ok((info.partitions, ends))
    }
}
