//! Keeps a full copy of a table up to date: restores it, follows its topic, heals. Views and lookups alike.
//!
//! One future drives all partitions, each on its own (a *lane*), so that they restore at once and one that is in trouble
//! holds no other up. Beside them a *probe* asks the log from time to time what the topic is like, for a fetch hides
//! an outage from its reader: that is how an outage becomes visible, and how a copy that was cut off so long that it may
//! have missed deletions is found out (semantics D10).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

use super::copies::{Copies, Ended};
use super::partition::Lane;
use super::updates::Updates;
use crate::log::{Isolation, LogError, LogHandle, OffsetSpec, Reader, TopicInfo};
use crate::topics::tombstone_retention_ms;

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

/// A copy and who keeps it. Dropping it ends the keeping, with a last checkpoint.
#[derive(Debug)]
pub(crate) struct Keeper {
    copies: Arc<Copies>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Keeper {
    /// A keeper, and the future that does the work; it must be polled until it ends. The reader is one of committed
    /// records, and may serve others, too.
    pub(crate) fn new(
        copies: Arc<Copies>,
        log: &LogHandle,
        reader: Arc<dyn Reader>,
        info: &TopicInfo,
        updates: Option<Arc<dyn Updates>>,
        options: KeeperOptions,
    ) -> (Self, BoxFuture<'static, ()>) {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let keeping = Keeping {
            count: info.partitions,
            probes: copies.partitions().iter().map(|_| Probe::default()).collect(),
            copies: Arc::clone(&copies),
            log: Arc::clone(log),
            reader,
            tombstone_retention_ms: Some(tombstone_retention_ms(info)),
            updates,
            options,
        };
        // Not made by the work's first step: a runtime may end before that.
        let gone = Gone(Arc::clone(&keeping.copies));
        let work = Box::pin(async move {
            keeping.run(stopped).await;
            // The stores are this future's no more before it is told.
            drop((keeping, gone));
            _ = end.send(());
        });
        (Self { copies, stop, ended }, work)
    }

    /// Resolves once the last checkpoint is recorded and the keeper is gone. No reads are answered from now on.
    pub(crate) async fn close(self) {
        self.copies.end(Ended::Closed);
        self.stop.send_replace(true);
        // An error means the same: the work was dropped.
        _ = self.ended.await;
    }
}

/// Says so when the work ends before it was told to, as when its runtime is shut down.
struct Gone(Arc<Copies>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.end(Ended::Failed("the runtime that kept it up to date has ended".into()));
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
    count: i32,
    probes: Vec<Probe>,
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
    async fn run(&self, stop: watch::Receiver<bool>) {
        let lanes = self.copies.partitions().iter().zip(&self.probes).enumerate();
        let mut lanes: FuturesUnordered<_> =
            lanes.map(|(index, (copy, probe))| Lane::new(self, index, copy, probe).run(stop.clone())).collect();
        let all = async {
            while let Some(ended) = lanes.next().await {
                ended?;
            }
            Ok(())
        };
        let ended: Result<(), String> = tokio::select! {
            biased;
            ended = all => ended,
            problem = self.probe() => Err(problem),
        };
        if let Err(reason) = ended {
            tracing::error!(table = %self.copies.topic(), reason, "the copy of a table can't be kept up to date");
            self.copies.end(Ended::Failed(reason.into()));
            // The other lanes end in good order once they are told to.
            while lanes.next().await.is_some() {}
        }
    }

    /// Asks the log about the topic, again and again. Ends when the topic has changed so that the copy can't follow.
    async fn probe(&self) -> String {
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
