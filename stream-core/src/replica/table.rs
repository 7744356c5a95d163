//! A copy of a table: one store a partition, all of them on this machine, and how complete each is. Standbys of a
//! processor are copies of one partition.
//!
//! Read by anyone, written by its [`ReplicaUpdater`](super::updater::ReplicaUpdater) only.
//!
//! Invariant: a read never takes a store that is being filled for the whole partition. `generation` of a partition is odd
//! while its store is complete; it is made even before a store is emptied and odd again once the store has caught up. A
//! read that sees the same odd number before and after has seen a complete store all the while.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use super::status::{Phase, ViewState, ViewStatus};
use crate::log::{Partitioner, TopicPartition};
use crate::store::{Store, StoreError};

/// The copies of all partitions of a table.
#[derive(Debug)]
pub(crate) struct TableReplica {
    topic: Arc<str>,
    partitions: Vec<PartitionReplica>,
    partitioner: Partitioner,
    health: Mutex<Health>,
    status: watch::Sender<ViewStatus>,
    ended: OnceLock<Ended>,
}

/// One partition's copy.
#[derive(Debug)]
pub(crate) struct PartitionReplica {
    pub(crate) partition: TopicPartition,
    pub(crate) store: Arc<dyn Store>,
    generation: AtomicU64,
    /// The next offset to apply; what is below is in the store.
    position: AtomicI64,
    /// The topic's end when it was last asked for; -1 if it never was.
    end: AtomicI64,
}

/// The parts that the published state is computed from.
#[derive(Debug)]
struct Health {
    phases: Vec<Phase>,
    /// Why the log can't be asked at present.
    unreachable: Option<Arc<str>>,
    reason: Option<Arc<str>>,
}

/// Why no reads are answered any more.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Failed(Arc<str>),
    Closed,
}

/// Why a read is not answered.
#[derive(Clone, thiserror::Error)]
pub(crate) enum ReplicaError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} is being restored")]
    Restoring(TopicPartition),
    #[error("the copy is closed")]
    Closed,
    #[error("{0}")]
    Failed(Arc<str>),
}

crate::chain::debug_as_chain!(ReplicaError);

impl PartitionReplica {
    fn new(partition: TopicPartition, store: Arc<dyn Store>) -> Self {
        Self { partition, store, generation: AtomicU64::new(0), position: AtomicI64::new(-1), end: AtomicI64::new(-1) }
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.generation.load(Ordering::Acquire).is_multiple_of(2)
    }

    /// The generation of the store; an error if it is not complete.
    pub(super) fn generation(&self) -> Result<u64, ReplicaError> {
        let generation = self.generation.load(Ordering::Acquire);
        if generation.is_multiple_of(2) { Err(ReplicaError::Restoring(self.partition.clone())) } else { Ok(generation) }
    }

    /// Whether the store has been complete ever since `generation`.
    pub(super) fn check(&self, generation: u64) -> Result<(), ReplicaError> {
        if self.generation.load(Ordering::Acquire) == generation {
            Ok(())
        } else {
            Err(ReplicaError::Restoring(self.partition.clone()))
        }
    }

    /// Everything is in the store. Of the updater only.
    pub(super) fn completed(&self) {
        if !self.is_complete() {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The store is about to be emptied. Of the updater only.
    pub(super) fn emptied(&self) {
        if self.is_complete() {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) -> i64 {
        self.end.load(Ordering::Relaxed)
    }

    pub(super) fn set_position(&self, offset: i64) {
        self.position.store(offset, Ordering::Relaxed);
    }

    pub(super) fn set_end(&self, offset: i64) {
        self.end.store(offset, Ordering::Relaxed);
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReplicaError> {
        let generation = self.generation()?;
        let value = self.store.get(key)?;
        self.check(generation)?;
        Ok(value)
    }
}

impl TableReplica {
    pub(crate) fn new(topic: Arc<str>, stores: Vec<Arc<dyn Store>>, partitioner: Partitioner) -> Self {
        let numbered = (0..).zip(stores);
        let partitions = numbered
            .map(|(p, store)| PartitionReplica::new(TopicPartition::new(Arc::clone(&topic), p), store))
            .collect();
        Self::with(topic, partitions, partitioner)
    }

    /// The copy of one partition, whichever.
    pub(crate) fn of_one(partition: TopicPartition, store: Arc<dyn Store>, partitioner: Partitioner) -> Self {
        let topic = Arc::clone(&partition.topic);
        Self::with(topic, vec![PartitionReplica::new(partition, store)], partitioner)
    }

    fn with(topic: Arc<str>, partitions: Vec<PartitionReplica>, partitioner: Partitioner) -> Self {
        let phases = vec![Phase::Restoring; partitions.len()];
        let health = Mutex::new(Health { phases, unreachable: None, reason: None });
        let status = watch::Sender::new(ViewStatus { state: ViewState::Restoring, reason: None });
        Self { topic, partitions, partitioner, health, status, ended: OnceLock::new() }
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(crate) fn partitions(&self) -> &[PartitionReplica] {
        &self.partitions
    }

    pub(crate) fn status(&self) -> watch::Receiver<ViewStatus> {
        self.status.subscribe()
    }

    /// Resolves once reads may be answered again, or will never be.
    pub(crate) async fn readable(&self) {
        let mut status = self.status();
        while self.alive().is_ok() && !self.partitions.iter().all(PartitionReplica::is_complete) {
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn alive(&self) -> Result<(), ReplicaError> {
        match self.ended.get() {
            None => Ok(()),
            Some(Ended::Closed) => Err(ReplicaError::Closed),
            Some(Ended::Failed(reason)) => Err(ReplicaError::Failed(Arc::clone(reason))),
        }
    }

    /// The value of a key. Its partition by the partitioner is asked first, then the others: who wrote the table may
    /// have chosen partitions in another way.
    pub(crate) fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReplicaError> {
        self.alive()?;
        let likely_first = self.partitions.iter().cycle().skip(self.likely(key)).take(self.partitions.len());
        for copy in likely_first {
            if let Some(value) = copy.get(key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The partition that a key should be in.
    pub(super) fn likely(&self, key: &[u8]) -> usize {
        let count = i32::try_from(self.partitions.len()).unwrap_or(i32::MAX);
        usize::try_from(self.partitioner.partition(key, count)).unwrap_or_default()
    }

    /// Sets the phase of one partition's updater.
    pub(super) fn set_phase(&self, index: usize, phase: Phase, reason: Option<String>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = match health.phases.get_mut(index) {
            Some(old) => std::mem::replace(old, phase) != phase,
            None => false,
        };
        if let Some(reason) = reason {
            health.reason = Some(reason.into());
        }
        self.show(&health, moved);
    }

    /// Whether the log answers.
    pub(super) fn set_unreachable(&self, why: Option<String>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.unreachable = why.map(Into::into);
        self.show(&health, false);
    }

    /// No more reads.
    pub(super) fn end(&self, how: Ended) {
        // The first end is kept.
        _ = self.ended.set(how);
        self.show(&self.health.lock().unwrap_or_else(PoisonError::into_inner), true);
    }

    /// Publishes the state; wakes those that wait for it if it changed, or if `look` asks them to look again.
    fn show(&self, health: &Health, look: bool) {
        let status = match self.ended.get() {
            Some(Ended::Closed) => ViewStatus { state: ViewState::Closed, reason: None },
            Some(Ended::Failed(reason)) => ViewStatus { state: ViewState::Failed, reason: Some(Arc::clone(reason)) },
            None => {
                let waiting = health.phases.contains(&Phase::Waiting);
                if waiting || health.unreachable.is_some() {
                    let reason = health.unreachable.as_ref().or(health.reason.as_ref());
                    ViewStatus { state: ViewState::Reconnecting, reason: reason.cloned() }
                } else if health.phases.contains(&Phase::Restoring) {
                    ViewStatus { state: ViewState::Restoring, reason: None }
                } else {
                    ViewStatus { state: ViewState::Running, reason: None }
                }
            }
        };
        let changed = self.status.send_if_modified(|old| {
            let changed = *old != status;
            old.clone_from(&status);
            changed || look
        });
        if changed {
            tracing::debug!(table = %self.topic, state = ?status.state, reason = status.reason.as_deref(), "state of a copy");
        }
    }
}
