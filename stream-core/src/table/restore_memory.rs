//! The memory of restores: what all restores of an instance or a view may hold back together, in bytes.
//!
//! Each restore has an equal share, but never less than [`FLOOR`]. A share gets smaller when another restore begins, so a restore
//! asks after each batch whether it is [`full`](Lease::is_full). Together they hold the total at most, and above it a floor and a
//! batch each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The default total. A store's tree takes sorted writes the more cheaply the more of them lie beside each other: sled needs 15 µs
/// of CPU for a key in the order of the changelog, 8 µs with 16 MiB a partition and 5 µs with 64 MiB (2M keys of 200 bytes in four
/// partitions). It is held only as long as something is restored.
const TOTAL: usize = 256 << 20;

/// Bytes that a restore may hold however many others there are.
const FLOOR: usize = 1 << 20;

/// What restores may hold together. A clone is the same memory.
#[derive(Clone, Debug)]
pub(crate) struct RestoreMemory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    floor: usize,
    restores: AtomicUsize,
    held: AtomicUsize,
}

impl Default for RestoreMemory {
    fn default() -> Self {
        Self::new(TOTAL, FLOOR)
    }
}

impl RestoreMemory {
    /// So many bytes, which are enough for so many restores at once.
    pub(crate) fn divided(bytes: usize, restores: usize) -> Self {
        Self::new(bytes / 2, (bytes / 4 / restores.max(1)).min(FLOOR))
    }

    /// Bytes that so many restores hold at most: the total, and a floor and a batch each.
    #[cfg(test)]
    pub(crate) fn most(&self, restores: usize) -> usize {
        self.0.total + 2 * restores * self.0.floor
    }

    /// Bytes that a restore may read at once.
    pub(super) fn batch(&self) -> usize {
        self.0.floor
    }

    pub(super) fn new(total: usize, floor: usize) -> Self {
        Self(Arc::new(Shared { total, floor, restores: AtomicUsize::new(0), held: AtomicUsize::new(0) }))
    }

    /// Takes part, until the lease is dropped.
    pub(super) fn lease(&self) -> Lease {
        self.0.restores.fetch_add(1, Ordering::Relaxed);
        Lease { shared: Arc::clone(&self.0), held: 0 }
    }
}

/// The part of one restore.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    held: usize,
}

impl Lease {
    /// It holds so many bytes now.
    pub(super) fn hold(&mut self, bytes: usize) {
        let others = &self.shared.held;
        if bytes >= self.held {
            others.fetch_add(bytes - self.held, Ordering::Relaxed);
        } else {
            others.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
    }

    /// Whether it has to give back what it holds.
    pub(super) fn is_full(&self) -> bool {
        let Shared { total, floor, restores, held } = &*self.shared;
        let share = total / restores.load(Ordering::Relaxed).max(1);
        self.held >= share.max(*floor) || (self.held >= *floor && held.load(Ordering::Relaxed) >= *total)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.hold(0);
        self.shared.restores.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restores_share_the_total_and_each_has_its_floor() {
        let memory = RestoreMemory::new(100, 10);
        let mut first = memory.lease();
        first.hold(99);
        assert!(!first.is_full());
        let mut second = memory.lease();
        assert!(first.is_full(), "its share is half now");
        second.hold(9);
        assert!(!second.is_full(), "below its floor, though together they are above the total");
        second.hold(10);
        assert!(second.is_full());
        first.hold(0);
        assert!(!second.is_full());
        second.hold(50);
        assert!(second.is_full());
        drop(first);
        assert!(!second.is_full(), "the whole is its again");
        let many: Vec<_> = (0..50).map(|_| memory.lease()).collect();
        second.hold(9);
        assert!(!second.is_full());
        drop(many);
        second.hold(100);
        assert!(second.is_full());
        drop(second);
        assert_eq!(memory.0.held.load(Ordering::Relaxed), 0);
        assert_eq!(memory.0.restores.load(Ordering::Relaxed), 0);
    }
}
