//! Entries of a store that are derived from its records: they are in no changelog, and the store has one of each record.
//!
//! A table of a join keeps the records by key; the order by time is derived from them. All that writes records into such a
//! store writes through a [`DerivingStore`]: a task's checkpoints, a restore, a standby. So they build it by the same code.
//!
//! A table of this kind has a **bound**, too: one record that says which records mean nothing any more. They get no
//! deletions; each copy sweeps them out. A sweep finds them by their derived entries. So a derived entry is written before
//! its record and removed after it: a crash between the two leaves nothing that no sweep finds.

use std::fmt::Debug;
use std::ops::Bound;
use std::sync::Arc;

use super::{Checkpoint, Direction, KeyRange, Scan, Store, StoreError};

/// How many derived entries one step of a sweep looks at.
const SWEEP: usize = 1024;

/// The layout of a table with derived entries and a bound. Each method that writes a key clears `to` first.
pub(crate) trait Derive: Debug + Send + Sync + 'static {
    /// The key of the entry that a record of this key brings about; false if it brings about none.
    fn derived(&self, record: &[u8], to: &mut Vec<u8>) -> bool;

    /// The value of the entry that a record of this value brings about.
    fn value(&self, record: &[u8]) -> &'static [u8];

    /// The key of the record that a derived entry is of; false if it is none.
    fn record(&self, derived: &[u8], to: &mut Vec<u8>) -> bool;

    /// The key of the mark that may lie beside that record, and leaves with it.
    fn mark(&self, derived: &[u8], to: &mut Vec<u8>) -> bool;

    /// The key of the derived entry that a mark lies beside; false if it is no mark.
    fn marked(&self, mark: &[u8], to: &mut Vec<u8>) -> bool;

    /// The key of the bound.
    fn bound(&self) -> &'static [u8];

    /// The ranges of derived entries, each with its end, whose records mean nothing any more by this value of the bound.
    fn below(&self, bound: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)>;
}

/// A layout, where a table has one.
pub(crate) type Layout = &'static dyn Derive;

/// A store that writes the derived entries of what is written to it.
#[derive(Clone, Debug)]
pub(crate) struct DerivingStore {
    inner: Arc<dyn Store>,
    layout: Layout,
}

impl DerivingStore {
    pub(crate) fn new(inner: Arc<dyn Store>, layout: Layout) -> Self {
        Self { inner, layout }
    }

    /// A store as those that write it see it.
    pub(crate) fn over(inner: Arc<dyn Store>, layout: Option<Layout>) -> Arc<dyn Store> {
        match layout {
            Some(layout) => Arc::new(Self::new(inner, layout)),
            None => inner,
        }
    }

    /// Removes some of what lies below the bound; true if nothing is left there.
    pub(crate) fn sweep_some(&self, most: usize) -> Result<bool, StoreError> {
        let Some(bound) = self.inner.get(self.layout.bound())? else { return Ok(true) };
        let mut key = Vec::new();
        for (from, end) in self.layout.below(&bound) {
            let range = KeyRange { from: Bound::Included(&from), to: Bound::Excluded(&end) };
            let found = self.inner.range(range, Direction::Forward).take(most).map(|pair| pair.map(|(key, _)| key));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            let mut gone = Vec::with_capacity(found.len());
            for derived in &found {
                if self.layout.record(derived, &mut key) {
                    gone.push(key.clone());
                }
                if self.layout.mark(derived, &mut key) && self.inner.get(&key)?.is_some() {
                    gone.push(key.clone());
                }
            }
            gone.sort_unstable();
            self.inner.write(&mut gone.iter().chain(&found).map(|key| (key.as_slice(), None)))?;
            if found.len() >= most {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes all that lies below the bound.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        while !self.sweep_some(SWEEP)? {}
        Ok(())
    }
}

impl Store for DerivingStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(key)
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction) -> Scan<'_> {
        self.inner.range(range, direction)
    }

    fn write(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), StoreError> {
        let (mut set, mut removed, mut key) = (Vec::new(), Vec::new(), Vec::new());
        // What is below the bound already would be found by no sweep if its derived entry is gone: a mark.
        let below = self.inner.get(self.layout.bound())?.map(|bound| self.layout.below(&bound)).unwrap_or_default();
        let entries: Vec<_> = entries
            .filter(|(entry, value)| {
                let is_derived = self.layout.derived(entry, &mut key) || self.layout.marked(entry, &mut key);
                value.is_none() || !is_derived || !below.iter().any(|(from, end)| (from..end).contains(&&key))
            })
            .collect();
        for (record, value) in &entries {
            if !self.layout.derived(record, &mut key) {
                continue;
            }
            match value {
                Some(value) => set.push((key.clone(), self.layout.value(value))),
                None => removed.push(key.clone()),
            }
        }
        // Of one record only its last write counts; a value of the same record derives the same key. Stable, so that the last
        // one stays the last.
        set.sort_by(|(a, _), (b, _)| a.cmp(b));
        if !removed.is_empty() {
            // Both a write and a removal of one record: the last of them decides.
            let last = |derived: &Vec<u8>| {
                let mut of = Vec::new();
                self.layout.record(derived, &mut of);
                entries.iter().rev().find(|(record, _)| **record == *of).is_some_and(|(_, value)| value.is_some())
            };
            let both: Vec<_> =
                removed.iter().filter(|key| set.binary_search_by(|(set, _)| set.cmp(key)).is_ok()).cloned().collect();
            for key in both {
                if last(&key) {
                    removed.retain(|removed| *removed != key);
                } else {
                    set.retain(|(set, _)| *set != key);
                }
            }
            removed.sort_unstable();
        }
        if !set.is_empty() {
            self.inner.write(&mut set.iter().map(|(key, value)| (key.as_slice(), Some(*value))))?;
        }
        self.inner.write(&mut entries.iter().copied())?;
        if !removed.is_empty() {
            self.inner.write(&mut removed.iter().map(|key| (key.as_slice(), None)))?;
        }
        Ok(())
    }

    fn checkpoint(&self, at: Checkpoint) -> Result<(), StoreError> {
        self.sweep()?;
        self.inner.checkpoint(at)
    }

    fn checkpointed(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.checkpointed()
    }

    fn origin(&self) -> Result<Option<String>, StoreError> {
        self.inner.origin()
    }

    fn set_origin(&self, origin: &str) -> Result<(), StoreError> {
        self.inner.set_origin(origin)
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.inner.clear()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }
}
