//! Commands to the sender.

use std::sync::Arc;
use std::time::Instant;

use futures::channel::oneshot;

use crate::log::{Commits, Delivery, FailedRecord, GroupMetadata, LogError, LogResult, ProduceBatch, TopicPartition};

/// A command to the sender.
pub(super) enum Command {
    Send { batch: Arc<ProduceBatch>, seq: u64, epoch: u64, at: Instant, done: oneshot::Sender<Delivery> },
    Begin { before: u64, done: oneshot::Sender<LogResult<()>> },
    Commit { before: u64, offsets: Commits, member: Option<GroupMetadata>, done: oneshot::Sender<LogResult<()>> },
    Abort { before: u64, done: oneshot::Sender<LogResult<()>> },
    LimitBatches { before: u64, bytes: usize, done: oneshot::Sender<LogResult<()>> },
    Settle { partition: TopicPartition, done: oneshot::Sender<LogResult<()>> },
    Purge,
}

/// Every record of a batch failed for the same reason.
pub(super) fn all_failed(batch: &ProduceBatch, error: &LogError) -> Delivery {
    let failed = (0..batch.len()).map(|index| FailedRecord { index, error: error.clone() }).collect();
    Delivery { last_offsets: vec![None; batch.topics().len()], failed }
}
