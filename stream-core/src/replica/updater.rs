//! Keeps a full copy of a table up to date: restores it, follows its topic, heals. Views and lookups alike.
//!
//! One future drives all partitions, each on its own (a *follower*), so that they restore at once and one that is in trouble
//! holds no other up. Beside them a *probe* asks the log from time to time what the topic is like, for a fetch hides
//! an outage from its reader: that is how an outage becomes visible, and how a copy that was cut off so long that it may
//! have missed deletions is found out (semantics D10).

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{oneshot, watch};

use super::partition::PartitionFollower;
use super::probe::{Probe, UpdaterContext, UpdaterOptions};
use super::table::{Ended, TableReplica};
use super::updates::Updates;
use crate::log::{LogHandle, Reader, TopicInfo};
use crate::topics::tombstone_retention_ms;

/// A copy and who keeps it. Dropping it ends the keeping, with a last checkpoint.
#[derive(Debug)]
pub(crate) struct ReplicaUpdater {
    replica: Arc<TableReplica>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl ReplicaUpdater {
    /// A updater, and the future that does the work; it must be polled until it ends. The reader is one of committed
    /// records, and may serve others, too.
    pub(crate) fn new(
        replica: Arc<TableReplica>,
        log: &LogHandle,
        reader: Arc<dyn Reader>,
        info: &TopicInfo,
        updates: Option<Arc<dyn Updates>>,
        options: UpdaterOptions,
    ) -> (Self, BoxFuture<'static, ()>) {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let context = UpdaterContext {
            count: info.partitions,
            probes: replica.partitions().iter().map(|_| Probe::default()).collect(),
            replica: Arc::clone(&replica),
            log: Arc::clone(log),
            reader,
            tombstone_retention_ms: Some(tombstone_retention_ms(info)),
            updates,
            options,
        };
        // Not made by the work's first step: a runtime may end before that.
        let end_on_drop = EndOnDrop(Arc::clone(&context.replica));
        let work = Box::pin(async move {
            context.run(stopped).await;
            // The stores are released before the end is reported.
            drop((context, end_on_drop));
            _ = end.send(());
        });
        (Self { replica, stop, ended }, work)
    }

    /// Resolves once the last checkpoint is recorded and the updater has ended. No reads are answered from now on.
    pub(crate) async fn close(self) {
        self.replica.end(Ended::Closed);
        self.stop.send_replace(true);
        // An error means the same: the work was dropped.
        _ = self.ended.await;
    }
}

/// Marks the replica failed when the work ends before it was asked to, as when its runtime is shut down.
struct EndOnDrop(Arc<TableReplica>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(Ended::Failed("the runtime that kept it up to date has ended".into()));
    }
}

impl UpdaterContext {
    async fn run(&self, stop: watch::Receiver<bool>) {
        let followers = self.replica.partitions().iter().zip(&self.probes).enumerate();
        let mut followers: FuturesUnordered<_> = followers
            .map(|(index, (copy, probe))| PartitionFollower::new(self, index, copy, probe).run(stop.clone()))
            .collect();
        let all = async {
            while let Some(ended) = followers.next().await {
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
            tracing::error!(table = %self.replica.topic(), reason, "the copy of a table can't be kept up to date");
            self.replica.end(Ended::Failed(reason.into()));
            // The other followers end in good order once they are asked to.
            while followers.next().await.is_some() {}
        }
    }
}
