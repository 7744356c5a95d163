//! Batches and positions of a transaction, and their outcome.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::message::{HandedOver, failed};
use crate::log::{Delivery, LogError, LogResult, OffsetAndMetadata, TopicPartition};

/// A batch in the open transaction.
pub(super) struct Sent {
    pub(super) what: HandedOver,
    pub(super) delivery: BoxFuture<'static, Delivery>,
}

/// An open transaction that nothing more goes into.
pub(super) struct Filled {
    pub(super) sent: Vec<Sent>,
    pub(super) bytes: usize,
    pub(super) begun: Instant,
    /// When it is given up.
    pub(super) deadline: Instant,
}

/// A transaction whose records are waited for.
pub(super) struct Ending {
    pub(super) bytes: usize,
    pub(super) begun: Instant,
    /// When it is given up.
    pub(super) deadline: Instant,
    /// The first error.
    pub(super) error: Option<LogError>,
    /// It was aborted, because its records took too long.
    pub(super) aborted: Option<LogResult<()>>,
}

/// Positions of a task in the open transaction.
pub(super) struct SentPositions {
    /// The index of the batch that brought them.
    pub(super) index: usize,
    pub(super) moved: Vec<((u64, TopicPartition), OffsetAndMetadata)>,
    pub(super) delivery: BoxFuture<'static, Delivery>,
}

/// The transaction's marker is the next record of each partition that was written to, behind the last one of the task:
/// a position below it would look as if something were missing (semantics D10).
pub(super) fn count_markers(done: &mut [(HandedOver, Delivery)]) {
    let mut counted: BTreeSet<(u64, Arc<str>)> = BTreeSet::new();
    for (what, delivery) in done.iter_mut().rev() {
        for (topic, last) in what.batch.topics().iter().zip(&mut delivery.last_offsets) {
            if let Some(last) = last
                && counted.insert((what.task, Arc::clone(topic)))
            {
                *last += 1;
            }
        }
    }
}

pub(super) fn refuse(what: HandedOver) {
    let reason = "an earlier batch of this partition was aborted, or the partition is lost".to_owned();
    _ = what.done.send(aborted(&LogError::Abortable { what: "commit".to_owned(), reason }));
}

/// Says of a batch that it was not committed.
pub(super) fn aborted(error: &LogError) -> Delivery {
    // Not the batch's fault: it is simply done again.
    failed(LogError::Abortable { what: "transaction".to_owned(), reason: error.to_string() })
}
