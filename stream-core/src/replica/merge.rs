//! Scans across partitions: a k-way merge of the partitions' own scans, lazily.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;

use super::table::{PartitionReplica, ReplicaError, TableReplica};
use crate::store::{Direction, KeyRange, Pair, Scan, prefix_end};

impl TableReplica {
    /// The pairs of a range, of all partitions, in key order or its reverse. Nothing is read before the first is asked
    /// for.
    pub(crate) fn scan(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>, direction: Direction) -> Merge<'_> {
        Merge::new(self, from, to, direction)
    }
}

/// The pairs of a range in key order or its reverse, each key once. After an error it ends.
pub(crate) struct Merge<'a> {
    replica: &'a TableReplica,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    direction: Direction,
    /// Empty before the first pair is asked for.
    sources: Vec<PartitionScan<'a>>,
    heads: BinaryHeap<Head>,
    begun: bool,
    over: bool,
}

/// One partition's scan.
struct PartitionScan<'a> {
    copy: &'a PartitionReplica,
    generation: u64,
    scan: Scan<'a>,
}

impl PartitionScan<'_> {
    fn next(&mut self) -> Result<Option<Pair>, ReplicaError> {
        let pair = self.scan.next().transpose()?;
        self.copy.check(self.generation)?;
        Ok(pair)
    }
}

/// The next pair of one partition. The greatest in the heap is the one that comes next.
struct Head {
    key: Vec<u8>,
    value: Vec<u8>,
    partition: usize,
    direction: Direction,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = match self.direction {
            Direction::Forward => other.key.cmp(&self.key),
            Direction::Reverse => self.key.cmp(&other.key),
        };
        by_key.then_with(|| other.partition.cmp(&self.partition))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl<'a> Merge<'a> {
    pub(crate) fn new(
        replica: &'a TableReplica,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
        direction: Direction,
    ) -> Self {
        let (sources, heads) = (Vec::new(), BinaryHeap::new());
        Self { replica, from, to, direction, sources, heads, begun: false, over: false }
    }

    /// Turns it round. Only before the first pair was asked for.
    pub(crate) fn direct(&mut self, direction: Direction) {
        if !self.begun {
            self.direction = direction;
        }
    }

    fn begin(&mut self) -> Result<(), ReplicaError> {
        self.begun = true;
        self.replica.alive()?;
        let range = KeyRange { from: as_slice(&self.from), to: as_slice(&self.to) };
        for copy in self.replica.partitions() {
            let generation = copy.generation()?;
            self.sources.push(PartitionScan { copy, generation, scan: copy.store.range(range, self.direction) });
        }
        (0..self.sources.len()).try_for_each(|partition| self.advance(partition))
    }

    /// Puts the next pair of a partition, if it has one, among the heads.
    fn advance(&mut self, partition: usize) -> Result<(), ReplicaError> {
        let Some(source) = self.sources.get_mut(partition) else { return Ok(()) };
        if let Some((key, value)) = source.next()? {
            self.heads.push(Head { key, value, partition, direction: self.direction });
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Pair>, ReplicaError> {
        if !self.begun {
            self.begin()?;
        }
        self.replica.alive()?;
        let Some(mut best) = self.heads.pop() else { return Ok(None) };
        self.advance(best.partition)?;
        // A key may be in two partitions when its topic has grown: the one where writers put it now counts.
        while self.heads.peek().is_some_and(|head| head.key == best.key) {
            let Some(other) = self.heads.pop() else { break };
            self.advance(other.partition)?;
            let likely = self.replica.likely(&best.key);
            let rank = |partition: usize| (partition + self.sources.len() - likely) % self.sources.len();
            if rank(other.partition) < rank(best.partition) {
                best = other;
            }
        }
        Ok(Some((best.key, best.value)))
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<Pair, ReplicaError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.take().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// The bounds of all keys with a prefix.
pub(crate) fn prefix_bounds(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(prefix.to_vec()), prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded))
}
