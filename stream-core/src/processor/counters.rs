//! Counters of a processor.

use std::sync::atomic::AtomicU64;

use super::left_out::LeftOuts;

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
