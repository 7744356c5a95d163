//! What all tasks of an instance share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use super::batch_limits::BatchLimits;
use super::gate::Gate;
use super::left_out::LeftOuts;
use super::options::Options;
use super::pace::Pace;
use super::placement::Placement;
use super::transactions::{How, Transactions};
use crate::group::{CallbackError, GroupGraph};
use crate::log::{Commits, Delivery, LogHandle, LogResult, ProduceBatch, Producer, Reader, TopicPartition};
use crate::store::StoreBackend;
use crate::view::Copies;

/// Made anew at each start of an instance; read-only from then on but for the counters.
pub(super) struct Env {
    pub(super) graph: Arc<GroupGraph>,
    pub(super) log: LogHandle,
    pub(super) options: Options,
    pub(super) egress: Egress,
    /// Reads changelogs and joined tables.
    pub(super) reader: Arc<dyn Reader>,
    pub(super) stores: Arc<dyn StoreBackend>,
    pub(super) lookups: Vec<Arc<Copies>>,
    /// Largest record that each output takes.
    pub(super) limits: Vec<usize>,
    pub(super) table_limit: usize,
    /// Largest record that each topic of `GroupGraph::state` takes.
    pub(super) state_limits: Vec<usize>,
    /// How long each table's topic keeps tombstones.
    pub(super) tombstones: BTreeMap<Arc<str>, i64>,
    /// Whether the keys of each input are where they should be, for inputs of which it matters.
    pub(super) placements: Vec<Option<Placement>>,
    /// Where something is re-keyed.
    pub(super) pace: Option<Arc<Pace>>,
    pub(super) batches: Arc<BatchLimits>,
    pub(super) counters: Arc<Counters>,
    pub(super) faults: CallbackFaults,
    /// Brokers without topic ids were met, and that was logged.
    pub(super) no_ids: AtomicBool,
}

impl Env {
    pub(super) fn tombstone_retention_ms(&self, topic: &str) -> Option<i64> {
        self.tombstones.get(topic).copied()
    }
}

/// How what tasks release reaches the log.
pub(super) enum Egress {
    /// At once; offsets are committed behind the acknowledgements.
    AtLeastOnce(Gate),
    /// In transactions, offsets included.
    ExactlyOnce(Arc<dyn Producer>, Transactions),
}

impl Egress {
    /// Takes a batch of a task, with the positions that it brings. Resolves once it counts: acknowledged, or committed.
    /// With at-least-once delivery, nothing else of the instance is on its way meanwhile if that is asked for.
    pub(super) fn hand_over(
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
            Self::ExactlyOnce(_, transactions) => transactions.hand_over(task, epoch, batch, positions(), how),
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

    /// What the group sends to itself is not to wait for the end of a commit interval: somebody waits for it.
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

/// Counts since the processor was made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Records whose work is acknowledged.
    pub(crate) done: AtomicU64,
    pub(crate) left_out: LeftOuts,
    /// Records looked at whose key another partitioner has put where it is.
    pub(crate) misplaced: AtomicU64,
    /// Instances that began to join their group.
    pub(crate) starts: AtomicU64,
    /// Transactions.
    pub(crate) committed: AtomicU64,
    pub(crate) aborted: AtomicU64,
    /// How often a producer of the same transactional id took over, as far as no time-out of a transaction explains it.
    pub(crate) taken_over: AtomicU64,
    /// How often the membership was lost, with partitions.
    pub(crate) losses: AtomicU64,
}

/// Where a callback is, when it is asked whether it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It has done nothing yet.
    Before,
    /// It has done everything, and nothing of it is released.
    After,
}

type Fault = Box<dyn FnMut(&str, Moment) -> Option<CallbackError> + Send>;

/// Lets callbacks fail on purpose: asked with the input's topic before and after each call. Costs a load where it is
/// not set.
#[derive(Clone, Default)]
pub(crate) struct CallbackFaults(Option<Arc<Mutex<Option<Fault>>>>);

impl CallbackFaults {
    #[cfg(feature = "testing")]
    pub(crate) fn settable() -> Self {
        Self(Some(Arc::default()))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn set(&self, fault: impl FnMut(&str, Moment) -> Option<CallbackError> + Send + 'static) {
        if let Some(slot) = &self.0 {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(fault));
        }
    }

    /// The error that a callback for this topic is to fail with, if any.
    pub(super) fn check(&self, topic: &str, moment: Moment) -> Result<(), CallbackError> {
        let Some(slot) = &self.0 else { return Ok(()) };
        let mut fault = slot.lock().unwrap_or_else(PoisonError::into_inner);
        fault.as_mut().and_then(|fault| fault(topic, moment)).map_or(Ok(()), Err)
    }
}
