//! Positions that a task publishes to its instance, which may commit them, and where the changelogs of its joins can be cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log::{Commits, Offsets, TopicPartition};

/// The positions of a task that may be committed. The instance reads them, and invalidates them when the partition is lost.
#[derive(Debug, Default)]
pub(in crate::processor) struct Positions {
    pub(super) of: Mutex<Commits>,
    pub(super) lost: AtomicBool,
    /// More is done than may be committed: the state's positions are to be written first.
    pub(super) ahead: AtomicBool,
    /// The first offsets that stay of changelogs that can be cut.
    pub(super) cuts: Mutex<BTreeMap<TopicPartition, i64>>,
}

impl Positions {
    /// The committed positions of partitions whose task has not started yet.
    pub(in crate::processor) fn new(committed: Commits) -> Self {
        Self { of: Mutex::new(committed), ..Self::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Commits> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::processor) fn get(&self) -> Commits {
        self.lock().clone()
    }

    pub(in crate::processor) fn is_ahead(&self) -> bool {
        self.ahead.load(Ordering::Acquire)
    }

    pub(super) fn set_ahead(&self, ahead: bool) {
        self.ahead.store(ahead, Ordering::Release);
    }

    /// The partition is lost: nothing of it may be committed any more, whatever still holds these.
    pub(in crate::processor) fn invalidate(&self) {
        let mut of = self.lock();
        self.lost.store(true, Ordering::Release);
        of.clear();
        self.lock_cuts().clear();
    }

    fn lock_cuts(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, i64>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is below this offset is not needed any more.
    pub(super) fn cut(&self, partition: TopicPartition, offset: i64) {
        if !self.lost.load(Ordering::Acquire) {
            self.lock_cuts().insert(partition, offset);
        }
    }

    pub(in crate::processor) fn cuts(&self) -> Offsets {
        self.lock_cuts().iter().map(|(partition, offset)| (partition.clone(), *offset)).collect()
    }

    /// The task starts here.
    pub(super) fn start(&self, at: Commits) {
        let mut of = self.lock();
        if !self.lost.load(Ordering::Acquire) {
            *of = at;
        }
    }

    pub(super) fn publish(&self, positions: impl Iterator<Item = i64>) {
        for ((_, at), position) in self.lock().iter_mut().zip(positions) {
            // What the stream time that is written covers may lie behind what was published since it was handed over.
            at.offset = position.max(at.offset);
        }
    }
}
