//! The derived entries of a table in its write buffer (see [`crate::store::Derive`]), and what its bound closes.
//!
//! Invariant: the buffer has a record with a value if and only if `entries` has the entry that is derived from it. So it goes
//! wherever the record goes: with a write, a rollback, an eviction. The store's derived entries are written with its records.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;

use super::TablePartition;
use crate::store::{DerivingStore, Direction, KeyRange, Layout, StoreError};

/// How many entries of the store a step of a checkpoint sweeps out.
const SWEEP: usize = 4096;

#[derive(Debug)]
pub(super) struct Derived {
    pub(super) layout: Layout,
    store: DerivingStore,
    /// The entries of the buffer's records: the key, and that of the record.
    entries: BTreeMap<Box<[u8]>, Rc<[u8]>>,
    /// The bound that the changelog has.
    bound: Option<Vec<u8>>,
    spare: Vec<u8>,
}

impl Derived {
    pub(super) fn new(layout: Layout, store: DerivingStore, bound: Option<Vec<u8>>) -> Self {
        Self { layout, store, entries: BTreeMap::new(), bound, spare: Vec::new() }
    }

    /// The buffer has a write of this record.
    pub(super) fn written(&mut self, record: &Rc<[u8]>, has_value: bool) {
        if !self.layout.derived(record, &mut self.spare) {
            return;
        }
        if !has_value {
            self.entries.remove(self.spare.as_slice());
        } else if !self.entries.contains_key(self.spare.as_slice()) {
            self.entries.insert(self.spare.as_slice().into(), Rc::clone(record));
        }
    }

    /// Keeps the entries of the records that the buffer still has.
    pub(super) fn retain(&mut self, has: impl Fn(&[u8]) -> bool) {
        self.entries.retain(|_, record| has(record));
    }

    /// The buffer's content is another one.
    pub(super) fn rebuild<'a>(&mut self, records: impl Iterator<Item = (&'a Rc<[u8]>, bool)>) {
        self.entries.clear();
        for (record, has_value) in records {
            self.written(record, has_value);
        }
    }

    /// Takes over a bound that the changelog has; the records of the buffer that it closes, with their marks.
    pub(super) fn close(&mut self, bound: &[u8]) -> Vec<Rc<[u8]>> {
        let mut closed = Vec::new();
        for (from, end) in self.layout.below(bound) {
            let range = (Bound::Included(from.as_slice()), Bound::Excluded(end.as_slice()));
            for (derived, record) in self.entries.range::<[u8], _>(range) {
                closed.push(Rc::clone(record));
                if self.layout.mark(derived, &mut self.spare) {
                    closed.push(self.spare.as_slice().into());
                }
            }
        }
        self.bound = Some(bound.to_vec());
        closed
    }

    /// Removes some of what the store has below its bound; true if nothing is left.
    pub(super) fn sweep(&self) -> Result<bool, StoreError> {
        self.store.sweep_some(SWEEP)
    }
}

impl TablePartition {
    /// The bound that the changelog has.
    pub(crate) fn bound(&self) -> Option<&[u8]> {
        self.derived.as_ref()?.bound.as_deref()
    }

    /// Whether this is the key of its bound, which is no state.
    pub(crate) fn is_bound(&self, key: &[u8]) -> bool {
        self.derived.as_ref().is_some_and(|derived| derived.layout.bound() == key)
    }

    /// Shows `each` the derived entries from `from` up to `end`, those of unacknowledged records included, in order until it
    /// breaks.
    pub(crate) fn scan_derived(
        &self,
        from: &[u8],
        end: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let Some(derived) = &self.derived else { return Ok(()) };
        let (from, to) = (Bound::Included(from), Bound::Excluded(end));
        let range = KeyRange { from, to };
        if range.is_empty() {
            return Ok(());
        }
        let value = |record: &[u8]| Some(derived.layout.value(self.buffered_value(record)??));
        let buffered = derived.entries.range::<[u8], _>((from, to));
        let mut buffered = buffered.filter_map(|(key, record)| Some((&**key, value(record)?))).peekable();
        let mut record = Vec::new();
        for pair in self.store.range(range, Direction::Forward) {
            let (key, value) = pair?;
            while let Some((first, value)) = buffered.next_if(|(first, _)| **first < *key) {
                if each(first, value).is_break() {
                    return Ok(());
                }
            }
            // What the buffer has of a record is newer, and comes in its turn.
            let is_older = derived.layout.record(&key, &mut record) && self.buffered_value(&record).is_some();
            if !is_older && each(&key, &value).is_break() {
                return Ok(());
            }
        }
        for (key, value) in buffered {
            if each(key, value).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The last derived entry from `from` up to `end`.
    pub(crate) fn last_derived(&self, from: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(derived) = &self.derived else { return Ok(None) };
        let range = KeyRange { from: Bound::Included(from), to: Bound::Excluded(end) };
        if range.is_empty() {
            return Ok(None);
        }
        let mut last =
            derived.entries.range::<[u8], _>((range.from, range.to)).next_back().map(|(key, _)| key.to_vec());
        let mut record = Vec::new();
        for pair in self.store.range(range, Direction::Reverse) {
            let (key, _) = pair?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                break;
            }
            let is_older = derived.layout.record(&key, &mut record) && self.buffered_value(&record).is_some();
            if !is_older {
                last = Some(key);
                break;
            }
        }
        Ok(last)
    }
}
