//! Messages of tasks to the future that runs the transactions.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::log::{Commits, Delivery, FailedRecord, LogError, LogResult, ProduceBatch};

/// A batch of a task, with the positions that it brings.
pub(super) struct HandedOver {
    pub(super) task: u64,
    pub(super) epoch: u64,
    pub(super) batch: Arc<ProduceBatch>,
    pub(super) positions: Commits,
    pub(super) how: How,
    pub(super) done: oneshot::Sender<Delivery>,
}

/// The demands of a batch on its transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::processor) struct How {
    /// Nothing else may be in it, and it ends with the batch.
    pub(in crate::processor) alone: bool,
    /// The group itself reads something of the batch.
    pub(in crate::processor) to_own_topics: bool,
}

pub(super) enum Message {
    HandOver(HandedOver),
    /// Nothing of these tasks may be committed any more.
    Lost(Vec<u64>),
    /// These tasks end: what they hand over is not to wait for the interval's end.
    Hurry(Vec<u64>),
    /// Commit the records that the group sends to itself without waiting for the interval's end.
    Hasten,
    /// Nothing comes of this task any more.
    Over(u64),
    /// No batch of several records may be larger.
    LimitBatches(usize, oneshot::Sender<LogResult<()>>),
}

/// The index is of no meaning: the whole batch is meant.
pub(super) fn failed(error: LogError) -> Delivery {
    Delivery { last_offsets: Vec::new(), failed: vec![FailedRecord { index: 0, error }] }
}
