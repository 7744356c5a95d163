//! The partitions of an instance: those with a task, those revoked, and those without a task.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::Shared;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::log::{Commits, Offsets, TopicPartition};
use crate::processor::error::ProcessorResult;
use crate::processor::standby::Standby;
use crate::processor::status::{TaskState, Waiting};
use crate::processor::task::{Orders, Positions};

/// A task as its instance knows it.
pub(super) struct LiveTask {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) state: TaskState,
    pub(super) waiting: Option<Waiting>,
    pub(super) orders: Orders,
    pub(super) positions: Arc<Positions>,
    /// The positions that were committed last; empty to commit them again.
    pub(super) committed: Commits,
    /// The positions up to which records are counted as done.
    pub(super) counted: Offsets,
    /// It is revoked already: resolves once the revocation is complete.
    pub(super) revoked: Option<Shared<oneshot::Receiver<()>>>,
}

/// Tasks that gave their partitions back.
pub(super) struct Revoked {
    pub(super) tasks: Vec<u64>,
    /// The positions of its last commit.
    pub(super) offsets: Commits,
    pub(super) result: ProcessorResult<()>,
}

/// A partition without a task here.
#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) standbys: BTreeMap<i32, Standby>,
    /// Since when stores have not been used; `None` once they are removed.
    pub(super) unused: BTreeMap<i32, Option<Instant>>,
}
