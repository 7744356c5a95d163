//! One partition of a group's table.
//!
//! A write is seen by later records of the partition at once, from the **write buffer**. It goes to the changelog with
//! the record's other effects, and counts as *acknowledged* when the log says so (exactly-once: when the transaction
//! is committed). From time to time a **checkpoint** moves the acknowledged values to the store and records how much
//! of the changelog they cover (semantics D2).
//!
//! Invariants:
//! - The store never holds a value that the changelog did not acknowledge.
//! - The recorded offset never covers a value that the store lacks.
//! - `unacked` of an entry counts its writes between [`apply`](TablePartition::apply) and
//!   [`acknowledge`](TablePartition::acknowledge); while it is above 0, `below` has the acknowledged value.

mod committed;
mod derived;
mod derived_reads;
mod follow;
mod restore;

use std::collections::{BTreeSet, HashMap};
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use self::committed::CommittedRows;
use self::derived::Derived;
pub(crate) use self::follow::{FollowError, Follower, Step};
pub(crate) use self::restore::{Goal, Known, Progress, Source, restore};
use crate::store::{Checkpoint, DerivingStore, Direction, KeyRange, Layout, Store, StoreError};

/// The value below an entry's unacknowledged value.
#[derive(Debug, PartialEq, Eq)]
enum Below {
    /// Whatever the store has.
    Store,
    /// An acknowledged value (or deletion) that the store lacks.
    Value(Option<Vec<u8>>),
}

#[derive(Debug)]
struct Entry {
    /// The newest value; `None` is deleted.
    value: Option<Vec<u8>>,
    /// Writes not yet acknowledged.
    unacked: u32,
    /// With `unacked == 0`: the store lacks `value`.
    dirty: bool,
    /// With `unacked > 0`: what is acknowledged.
    below: Below,
}

impl Entry {
    fn clean() -> Self {
        Self { value: None, unacked: 0, dirty: false, below: Below::Store }
    }

    /// The acknowledged value that the store lacks.
    fn unstored(&self) -> Option<Option<&[u8]>> {
        match (&self.below, self.unacked) {
            (_, 0) => self.dirty.then_some(self.value.as_deref()),
            (Below::Value(value), _) => Some(value.as_deref()),
            (Below::Store, _) => None,
        }
    }

    fn stored(&mut self) {
        if self.unacked == 0 {
            self.dirty = false;
        } else {
            self.below = Below::Store;
        }
    }
}

/// A partition of a table: the write buffer and the store under it. Lives on its task's thread.
#[derive(Debug)]
pub(crate) struct TablePartition {
    store: Arc<dyn Store>,
    buffer: HashMap<Rc<[u8]>, Entry>,
    /// The buffer's keys in order, where they are asked for in order.
    order: Option<BTreeSet<Rc<[u8]>>>,
    /// The entries that are derived from its records, where it has such.
    derived: Option<Derived>,
    /// Bytes of keys and values in the buffer, roughly.
    bytes: usize,
    /// Changelog offset up to which everything is acknowledged.
    next_offset: i64,
    /// The last checkpoint's offset.
    checkpointed: i64,
    /// Keys that a checkpoint in progress has still to look at.
    pending: Vec<Rc<[u8]>>,
    pending_offset: i64,
    /// A checkpoint has begun and is not recorded yet.
    checkpointing: bool,
}

impl TablePartition {
    /// A table over a restored store, whose changelog was read up to `next_offset`.
    pub(crate) fn new(store: Arc<dyn Store>, next_offset: i64) -> Self {
        Self {
            store,
            buffer: HashMap::new(),
            order: None,
            derived: None,
            bytes: 0,
            next_offset,
            checkpointed: next_offset,
            pending: Vec::new(),
            pending_offset: next_offset,
            checkpointing: false,
        }
    }

    /// The same, and it can be asked for keys in order.
    pub(crate) fn ordered(store: Arc<dyn Store>, next_offset: i64) -> Self {
        Self { order: Some(BTreeSet::new()), ..Self::new(store, next_offset) }
    }

    /// The same, and it has derived entries and a bound. The store is one that such records were restored into.
    pub(crate) fn deriving(store: Arc<dyn Store>, layout: Layout, next_offset: i64) -> Result<Self, StoreError> {
        let (bound, writes) = (store.get(layout.bound())?, DerivingStore::new(store, layout));
        let derived = Some(Derived::new(layout, writes.clone(), bound));
        Ok(Self { derived, ..Self::ordered(Arc::new(writes), next_offset) })
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The newest value of a key, unacknowledged ones included.
    pub(crate) fn with_value<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, StoreError> {
        match self.buffer.get(key) {
            Some(entry) => Ok(read(entry.value.as_deref())),
            None => Ok(read(self.store.get(key)?.as_deref())),
        }
    }

    /// The value of a key that the write buffer has; `Some(None)` for one that is deleted.
    fn buffered_value(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.buffer.get(key).map(|entry| entry.value.as_deref())
    }

    /// Takes a write in. It is seen from now on, and waits for its acknowledgement.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        let entry = if let Some(entry) = self.buffer.get_mut(key) {
            entry
        } else {
            let key: Rc<[u8]> = key.into();
            self.bytes += weight(&key, None);
            if let Some(order) = &mut self.order {
                order.insert(Rc::clone(&key));
            }
            self.buffer.entry(key).or_insert_with(Entry::clean)
        };
        if entry.unacked == 0 {
            entry.below = if entry.dirty { Below::Value(entry.value.clone()) } else { Below::Store };
        }
        entry.unacked += 1;
        set(&mut entry.value, value, &mut self.bytes);
        if let Some(derived) = &mut self.derived
            && let Some((key, _)) = self.buffer.get_key_value(key)
        {
            derived.written(key, value.is_some());
        }
    }

    /// The changelog has a write; those of one key are acknowledged in the order in which they were applied.
    pub(crate) fn acknowledge(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let (Some(derived), Some(bound)) = (&mut self.derived, value)
            && key == derived.layout.bound()
        {
            let closed = derived.close(bound);
            self.forget(&closed);
        }
        let Some(entry) = self.buffer.get_mut(key) else { return };
        entry.unacked = entry.unacked.saturating_sub(1);
        if entry.unacked == 0 {
            entry.dirty = true;
            entry.below = Below::Store;
        } else if let Below::Value(old) = &mut entry.below {
            // Not counted in `bytes`, as it is short-lived.
            set(old, value, &mut 0);
        } else {
            entry.below = Below::Value(value.map(<[u8]>::to_vec));
        }
    }

    /// Drops from the buffer what the bound closes. What the store has of it, a checkpoint sweeps out.
    fn forget(&mut self, closed: &[Rc<[u8]>]) {
        for key in closed {
            // One that is on its way, or is to be deleted from the store, stays until then.
            if self.buffer.get(key).is_some_and(|entry| entry.unacked == 0 && entry.value.is_some()) {
                self.remove(key);
            }
        }
    }

    /// Takes a key out of the buffer.
    fn remove(&mut self, key: &[u8]) {
        let Some((key, entry)) = self.buffer.remove_entry(key) else { return };
        self.bytes = self.bytes.saturating_sub(weight(&key, entry.value.as_ref()));
        if let Some(order) = &mut self.order {
            order.remove(&key);
        }
        if let Some(derived) = &mut self.derived {
            derived.written(&key, false);
        }
    }

    /// Everything in the changelog below `offset` is acknowledged.
    pub(crate) fn advance(&mut self, offset: i64) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// Goes back to what is acknowledged.
    pub(crate) fn rollback(&mut self) {
        self.buffer.retain(|_, entry| {
            if entry.unacked == 0 {
                return true;
            }
            entry.unacked = 0;
            match std::mem::replace(&mut entry.below, Below::Store) {
                Below::Store => false,
                Below::Value(value) => {
                    entry.value = value;
                    entry.dirty = true;
                    true
                }
            }
        });
        self.keep_order();
        if let Some(derived) = &mut self.derived {
            derived.rebuild(self.buffer.iter().map(|(key, entry)| (key, entry.value.is_some())));
        }
        self.bytes = self.buffer.iter().map(|(key, entry)| weight(key, entry.value.as_ref())).sum();
    }

    /// The changelog offset up to which everything is acknowledged.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes that the buffer takes, roughly.
    pub(crate) fn buffered(&self) -> usize {
        self.bytes
    }

    /// Whether a checkpoint would record anything new.
    pub(crate) fn behind(&self) -> bool {
        self.checkpointed < self.next_offset
    }

    /// Whether a checkpoint is under way.
    pub(crate) fn is_checkpointing(&self) -> bool {
        self.checkpointing
    }

    /// Begins a checkpoint at what is acknowledged now; [`checkpoint_step`](Self::checkpoint_step) carries it out.
    pub(crate) fn checkpoint_begin(&mut self) {
        self.pending = self.buffer.iter().filter(|(_, e)| e.unstored().is_some()).map(|(k, _)| k.clone()).collect();
        // Neighbours together: sorted writes are much cheaper for a tree.
        self.pending.sort_unstable_by(|a, b| b.cmp(a));
        self.pending_offset = self.next_offset;
        self.checkpointing = true;
    }

    /// Writes a part, of so many values at most; true once the checkpoint is recorded. Values acknowledged since it began may be written too:
    /// the changelog after the recorded offset is replayed over them, which does no harm.
    pub(crate) fn checkpoint_step(&mut self, at_ms: i64, most: usize) -> Result<bool, StoreError> {
        let from = self.pending.len().saturating_sub(most.max(1));
        let chunk = self.pending.split_off(from);
        let mut writes = chunk.iter().rev().filter_map(|key| {
            let value = self.buffer.get(key)?.unstored()?;
            Some((&**key, value))
        });
        self.store.write(&mut writes)?;
        for key in &chunk {
            if let Some(entry) = self.buffer.get_mut(key) {
                entry.stored();
                // What is deleted in the store, too, need not be remembered, and may be most of what was written.
                if entry.unacked == 0 && entry.value.is_none() {
                    self.remove(key);
                }
            }
        }
        if !self.pending.is_empty() {
            return Ok(false);
        }
        if let Some(derived) = &self.derived
            && !derived.sweep()?
        {
            return Ok(false);
        }
        self.store.checkpoint(Checkpoint { offset: self.pending_offset, at_ms })?;
        self.checkpointed = self.pending_offset;
        self.checkpointing = false;
        Ok(true)
    }

    /// Drops from the buffer what the store has too.
    pub(crate) fn evict(&mut self) {
        let bytes = &mut self.bytes;
        self.buffer.retain(|key, entry| {
            let keep = entry.unacked > 0 || entry.dirty;
            if !keep {
                *bytes = bytes.saturating_sub(weight(key, entry.value.as_ref()));
            }
            keep
        });
        self.keep_order();
    }

    /// After keys have left the buffer.
    fn keep_order(&mut self) {
        if let Some(derived) = &mut self.derived {
            derived.retain(|record| self.buffer.contains_key(record));
        }
        if let Some(order) = &mut self.order {
            order.retain(|key| self.buffer.contains_key(key));
        }
    }

    /// The first key from `from` up to `end` that has a value and is not passed over. The table must be an
    /// [ordered](Self::ordered) one.
    pub(crate) fn first(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        pass: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut first = None;
        self.scan(from, end, |key, _| {
            if pass(key) {
                return ControlFlow::Continue(());
            }
            first = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// Shows `each` the pairs from `from` up to `end`, unacknowledged ones included, in the order of their keys until it
    /// breaks. The table must be an [ordered](Self::ordered) one.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (from, to) = (Bound::Included(from), end.map_or(Bound::Unbounded, Bound::Excluded));
        let buffered = self.order.iter().flat_map(|order| order.range::<[u8], _>((from, to)));
        let value = |key: &[u8]| self.buffer.get(key)?.value.as_deref();
        let mut buffered = buffered.filter_map(|key| Some((&**key, value(key)?))).peekable();
        for pair in self.store.range(KeyRange { from, to }, Direction::Forward) {
            let (key, value) = pair?;
            while let Some((first, value)) = buffered.next_if(|(first, _)| **first < *key) {
                if each(first, value).is_break() {
                    return Ok(());
                }
            }
            // What the buffer has of a key is newer, and comes in its turn.
            if !self.buffer.contains_key(&*key) && each(&key, &value).is_break() {
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

    /// The keys of the write buffer, the smallest last.
    pub(crate) fn buffered_keys(&self) -> Vec<Rc<[u8]>> {
        let mut keys: Vec<_> = self.buffer.keys().cloned().collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys
    }

    /// Up to `n` keys above `after`, in order: of the store, and of `buffered`, which has the smallest last and from which
    /// they are taken. Some may be deleted by now. Fewer than `n` are the last ones.
    pub(crate) fn keys_after(
        &self,
        after: Option<&[u8]>,
        buffered: &mut Vec<Rc<[u8]>>,
        n: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        while buffered.last().is_some_and(|k| after.is_some_and(|a| &**k <= a)) {
            buffered.pop();
        }
        let mut keys: Vec<Vec<u8>> = buffered.iter().rev().take(n).map(|k| k.to_vec()).collect();
        for pair in self.store.range(KeyRange { from, to: Bound::Unbounded }, Direction::Forward).take(n) {
            keys.push(pair?.0);
        }
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(n);
        Ok(keys)
    }
}

/// Replaces a value in place, so that its memory is used again.
fn set(place: &mut Option<Vec<u8>>, value: Option<&[u8]>, bytes: &mut usize) {
    *bytes = bytes.saturating_sub(len(place.as_ref())) + value.map_or(0, <[u8]>::len);
    match (place, value) {
        (Some(old), Some(new)) => {
            old.clear();
            old.extend_from_slice(new);
        }
        (place, new) => *place = new.map(<[u8]>::to_vec),
    }
}

/// Bytes that an entry takes, with what the maps and the allocator add.
fn weight(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    key.len() + len(value) + size_of::<Entry>() + 96
}

fn len(value: Option<&Vec<u8>>) -> usize {
    value.map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStores, StoreBackend, StoreId};

    fn table() -> TablePartition {
        let store = MemoryStores::new().open(&StoreId::new("table", 0), "").unwrap();
        TablePartition::ordered(store, 0)
    }

    /// Entries of a join are mostly deleted again soon.
    #[test]
    fn what_is_deleted_leaves_the_buffer_once_it_is_stored() {
        let mut table = table();
        for key in [b"a", b"b", b"c"] {
            table.apply(key, Some(b"value"));
            table.acknowledge(key, Some(b"value"));
        }
        table.apply(b"a", None);
        table.acknowledge(b"a", None);
        table.apply(b"b", None);
        table.advance(4);
        table.checkpoint_begin();
        assert!(table.checkpoint_step(0, 10).unwrap());
        // The deletion of `b` is not acknowledged yet.
        assert_eq!(table.buffered_keys().iter().map(|k| &**k).collect::<Vec<_>>(), [b"c", b"b"]);
        assert_eq!(table.store().get(b"a").unwrap(), None);
        assert!(!table.with_value(b"b", |value| value.is_some()).unwrap());
        assert_eq!(table.first(b"", None, |_| false).unwrap().as_deref(), Some(&b"c"[..]));
        table.evict();
        assert_eq!(table.buffered(), weight(b"b", None));
    }
}
