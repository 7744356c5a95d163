//! The way of released records to the log: at once, or in transactions.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::gate::Gate;
use super::transactions::{How, Transactions};
use crate::log::{Commits, Delivery, LogResult, ProduceBatch, Producer, TopicPartition};

/// The way of released records to the log.
pub(super) enum Egress {
    /// At once; offsets are committed behind the acknowledgements.
    AtLeastOnce(Gate),
    /// In transactions, offsets included.
    ExactlyOnce(Arc<dyn Producer>, Transactions),
}

impl Egress {
    /// Takes a batch of a task, with the positions that it brings. Resolves once it counts: acknowledged, or committed.
    /// With at-least-once delivery, nothing else of the instance is on its way meanwhile if that is asked for.
    pub(super) fn send(
        &self,
        task: u64,
        epoch: u64,
        batch: Arc<ProduceBatch>,
        how: How,
        positions: impl FnOnce() -> Commits,
    ) -> BoxFuture<'static, Delivery> {
        match self {
            Self::AtLeastOnce(_) if batch.is_empty() => Box::pin(std::future::ready(Delivery::default())),
            Self::AtLeastOnce(gate) if how.alone => gate.send_alone(batch),
            Self::AtLeastOnce(gate) => gate.send(batch),
            Self::ExactlyOnce(_, transactions) => transactions.send(task, epoch, batch, positions(), how),
        }
    }

    /// Has no batch of several records sent that is larger.
    pub(super) fn limit_batches(&self, bytes: usize) -> BoxFuture<'static, LogResult<()>> {
        match self {
            Self::AtLeastOnce(gate) => gate.producer().limit_batches(bytes),
            Self::ExactlyOnce(_, transactions) => transactions.limit_batches(bytes),
        }
    }

    /// Fails all that is not acknowledged.
    pub(super) fn purge(&self) {
        match self {
            Self::AtLeastOnce(gate) => {
                gate.abandoned();
                gate.purge();
            }
            Self::ExactlyOnce(producer, _) => producer.purge(),
        }
    }

    /// Tasks are lost, of all that there are or of some.
    pub(super) fn lost(&self, tasks: Vec<u64>, all: bool) {
        match self {
            Self::AtLeastOnce(_) if all => self.purge(),
            Self::AtLeastOnce(gate) => gate.abandoned(),
            Self::ExactlyOnce(_, transactions) => transactions.lost(tasks),
        }
    }

    /// Waits for what a former task of this instance may still have on its way to a partition: it would land behind what is
    /// read there now. What was in a transaction is never seen.
    pub(super) async fn settled(&self, partition: TopicPartition) -> LogResult<()> {
        match self {
            Self::AtLeastOnce(gate) => gate.settled(partition).await,
            Self::ExactlyOnce(..) => Ok(()),
        }
    }

    /// Commits the records that the group sends to itself without waiting for the end of the commit interval.
    pub(super) fn hasten(&self) {
        if let Self::ExactlyOnce(_, transactions) = self {
            transactions.hasten();
        }
    }

    /// The most bytes that a task hands over at once.
    pub(super) fn batch_bytes(&self) -> usize {
        match self {
            Self::AtLeastOnce(_) => usize::MAX,
            Self::ExactlyOnce(_, transactions) => transactions.budget(),
        }
    }

    pub(super) fn producer(&self) -> &Arc<dyn Producer> {
        match self {
            Self::AtLeastOnce(gate) => gate.producer(),
            Self::ExactlyOnce(producer, _) => producer,
        }
    }

    pub(super) fn transactions(&self) -> Option<&Transactions> {
        match self {
            Self::AtLeastOnce(_) => None,
            Self::ExactlyOnce(_, transactions) => Some(transactions),
        }
    }
}
