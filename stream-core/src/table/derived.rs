//! The derived entries of a table in its write buffer (see [`crate::store::Derive`]), and what its bound closes.
//!
//! Invariant: the buffer has a record with a value if and only if `entries` has the entry that is derived from it. So it goes
//! wherever the record goes: with a write, a rollback, an eviction. The store's derived entries are written with its records.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use crate::store::{DerivingStore, Layout, StoreError};

/// How many entries of the store a step of a checkpoint sweeps out.
const SWEEP: usize = 4096;

#[derive(Debug)]
pub(super) struct Derived {
    pub(super) layout: Layout,
    store: DerivingStore,
    /// The entries of the buffer's records: the key, and that of the record.
    pub(super) entries: BTreeMap<Box<[u8]>, Rc<[u8]>>,
    /// The bound that the changelog has.
    pub(super) bound: Option<Vec<u8>>,
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
