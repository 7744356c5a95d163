//! The derived entries of a table in its write buffer (see [`crate::store::Derive`]), and what its bound closes.
//!
//! Invariant: the buffer has a record with a value if and only if `entries` has the entry that is derived from it. So it goes
//! wherever the record goes: with a write, a rollback, an eviction. The store's derived entries are written with its records.
//! `bytes` is the sum of the entries' [`weight`]s: they take their part of the memory that the write buffer may have.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use crate::store::{DerivingStore, Layout, StoreError};

/// How many entries of the store a step of a checkpoint sweeps out.
const SWEEP: usize = 4096;

/// What an entry takes beside the bytes of its key: its place in the tree, with what of it is unused, and the allocation of the
/// key.
const ENTRY_BYTES: usize = 72;

#[derive(Debug)]
pub(super) struct Derived {
    pub(super) layout: Layout,
    store: DerivingStore,
    /// The entries of the buffer's records: the key, and that of the record.
    pub(super) entries: BTreeMap<Box<[u8]>, Rc<[u8]>>,
    /// The bound that the changelog has.
    pub(super) bound: Option<Vec<u8>>,
    /// Bytes of the entries, roughly.
    bytes: usize,
    spare: Vec<u8>,
}

impl Derived {
    pub(super) fn new(layout: Layout, store: DerivingStore, bound: Option<Vec<u8>>) -> Self {
        Self { layout, store, entries: BTreeMap::new(), bound, bytes: 0, spare: Vec::new() }
    }

    /// Bytes that the entries take, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The buffer has a write of this record.
    pub(super) fn written(&mut self, record: &Rc<[u8]>, has_value: bool) {
        if !self.layout.derived(record, &mut self.spare) {
            return;
        }
        if !has_value {
            if self.entries.remove(self.spare.as_slice()).is_some() {
                self.bytes = self.bytes.saturating_sub(weight(&self.spare));
            }
        } else if !self.entries.contains_key(self.spare.as_slice()) {
            self.bytes += weight(&self.spare);
            self.entries.insert(self.spare.as_slice().into(), Rc::clone(record));
        }
    }

    /// Keeps the entries of the records that the buffer still has.
    pub(super) fn retain(&mut self, has: impl Fn(&[u8]) -> bool) {
        let mut bytes = 0;
        self.entries.retain(|key, record| {
            let keep = has(record);
            if keep {
                bytes += weight(key);
            }
            keep
        });
        self.bytes = bytes;
    }

    /// The buffer's content is another one.
    pub(super) fn rebuild<'a>(&mut self, records: impl Iterator<Item = (&'a Rc<[u8]>, bool)>) {
        self.entries.clear();
        self.bytes = 0;
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

fn weight(key: &[u8]) -> usize {
    key.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use crate::store::{Derive, MemoryStores, StoreBackend, StoreId};
    use crate::table::TablePartition;

    /// A record `r` and a byte brings about `t` and that byte; what is below the bound's byte is closed.
    #[derive(Debug)]
    struct ByByte;

    fn respell(key: &[u8], from: u8, into: u8, to: &mut Vec<u8>) -> bool {
        to.clear();
        to.push(into);
        to.extend(key.iter().skip(1));
        key.first() == Some(&from) && key.len() == 2
    }

    impl Derive for ByByte {
        fn derived(&self, record: &[u8], to: &mut Vec<u8>) -> bool {
            respell(record, b'r', b't', to)
        }

        fn value(&self, _: &[u8]) -> &'static [u8] {
            b""
        }

        fn record(&self, derived: &[u8], to: &mut Vec<u8>) -> bool {
            respell(derived, b't', b'r', to)
        }

        fn mark(&self, _: &[u8], _: &mut Vec<u8>) -> bool {
            false
        }

        fn marked(&self, _: &[u8], _: &mut Vec<u8>) -> bool {
            false
        }

        fn bound(&self) -> &'static [u8] {
            b"b"
        }

        fn below(&self, bound: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
            vec![(b"t".to_vec(), [b"t", bound].concat())]
        }
    }

    #[test]
    fn derived_entries_count_in_the_bytes_of_the_buffer_as_long_as_they_are_in_it() {
        let store = MemoryStores::new().open(&StoreId::new("table", 0), "").unwrap();
        let mut table = TablePartition::deriving(store, &ByByte, 0).unwrap();
        let holds = |table: &TablePartition, records: usize| {
            let derived = table.derived.as_ref().unwrap();
            assert_eq!((derived.entries.len(), derived.bytes()), (records, records * super::weight(b"tx")));
            assert_eq!(table.buffered(), table.buffer.bytes() + derived.bytes());
        };
        for byte in [b'1', b'2', b'3', b'4', b'4'] {
            table.apply_acknowledged(&[b'r', byte], Some(b"value"));
        }
        holds(&table, 4);
        table.apply_acknowledged(b"r4", None);
        table.apply_acknowledged(b"r4", None);
        holds(&table, 3);
        // The bound closes the first.
        table.apply(b"b", Some(b"2"));
        table.hand_over(None);
        table.acknowledge(b"b", Some(b"2"));
        holds(&table, 2);
        // A write that fails goes back to what is acknowledged.
        table.apply(b"r5", Some(b"value"));
        holds(&table, 3);
        table.rollback();
        holds(&table, 2);
        table.checkpoint_begin();
        while !table.checkpoint_step(0, 10).unwrap() {}
        table.evict();
        holds(&table, 0);
    }
}
