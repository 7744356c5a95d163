//! Keeps a full copy of a table up to date: restores it, follows its topic, heals. Views and lookups alike.
//!
//! One future drives all partitions, each on its own (a *lane*), so that they restore at once and one that is in trouble
//! holds no other up. Beside them a *probe* asks the log from time to time what the topic is like, for a fetch hides
//! an outage from its reader: that is how an outage becomes visible, and how a copy that was cut off so long that it may
//! have missed deletions is found out (semantics D10).

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{oneshot, watch};

use super::copies::{Copies, Ended};
use super::partition::Lane;
use super::probe::{KeeperOptions, Keeping, Probe};
use super::updates::Updates;
use crate::log::{LogHandle, Reader, TopicInfo};
use crate::topics::tombstone_retention_ms;

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
}
