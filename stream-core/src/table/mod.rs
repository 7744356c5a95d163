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
//! - `on_their_way` has a write for each record of the table in the batches that are released or handed over, in their
//!   order. An entry stays in its place as long as one of them is its own.

mod buffer;
mod bulk;
mod committed;
mod derived;
mod derived_reads;
mod follow;
mod restore;
mod restore_memory;

use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use self::buffer::Place;
use self::buffer::{Below, WriteBuffer, replace};
pub(crate) use self::committed::CommittedRows;
use self::derived::Derived;
pub(crate) use self::follow::{FollowError, Follower, Step};
pub(crate) use self::restore::{Goal, Known, Progress, Source, restore};
pub(crate) use self::restore_memory::RestoreMemory;
use crate::store::{Checkpoint, DerivingStore, Direction, KeyRange, Layout, Store, StoreError};

/// A partition of a table: the write buffer and the store under it. Lives on its task's thread.
#[derive(Debug)]
pub(crate) struct TablePartition {
    store: Arc<dyn Store>,
    buffer: WriteBuffer,
    /// The entries that are derived from its records, where it has such.
    derived: Option<Derived>,
    /// The places of the writes that are on their way to the changelog, in the order in which they are handed over.
    on_their_way: VecDeque<Option<Place>>,
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
            buffer: WriteBuffer::default(),
            derived: None,
            on_their_way: VecDeque::new(),
            next_offset,
            checkpointed: next_offset,
            pending: Vec::new(),
            pending_offset: next_offset,
            checkpointing: false,
        }
    }

    /// The same, and it can be asked for keys in order.
    pub(crate) fn ordered(store: Arc<dyn Store>, next_offset: i64) -> Self {
        Self { buffer: WriteBuffer::ordered(), ..Self::new(store, next_offset) }
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

    /// Takes a write in. It is seen from now on, and waits for its acknowledgement. Gives its place, for
    /// [`hand_over`](Self::hand_over).
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Place {
        let place = self.buffer.place(key);
        if let Some(entry) = self.buffer.at(place) {
            if entry.unacked == 0 {
                entry.below = if entry.dirty { Below::Value(entry.value.clone()) } else { Below::Store };
            }
            entry.unacked += 1;
        }
        if let (Some(derived), Some(entry)) = (&mut self.derived, self.buffer.at(place)) {
            derived.written(&entry.key, value.is_some());
        }
        self.buffer.set(place, value);
        place
    }

    /// A write is on its way to the changelog: the next one to be acknowledged after those that are on their way already.
    pub(crate) fn hand_over(&mut self, place: Option<Place>) {
        self.on_their_way.push_back(place);
    }

    /// The changelog has the write that was handed over next. Those of one key are handed over in the order in which they
    /// were applied.
    pub(crate) fn acknowledge(&mut self, key: &[u8], value: Option<&[u8]>) {
        let place = self.on_their_way.pop_front();
        debug_assert!(place.is_some(), "a write was acknowledged that was not handed over");
        let place = place.flatten();
        debug_assert!(place.is_none_or(|place| self.buffer.is_of(place, key)), "writes came in another order");
        self.acknowledge_at(place, key, value);
        if let (Some(derived), Some(bound)) = (&mut self.derived, value)
            && key == derived.layout.bound()
        {
            let closed = derived.close(bound);
            self.forget(&closed);
        }
    }

    /// Takes in a write that its changelog has already, or will have with what is acknowledged.
    pub(crate) fn apply_acknowledged(&mut self, key: &[u8], value: Option<&[u8]>) {
        let place = self.apply(key, value);
        self.acknowledge_at(Some(place), key, value);
    }

    fn acknowledge_at(&mut self, place: Option<Place>, key: &[u8], value: Option<&[u8]>) {
        let Some(entry) = self.buffer.get_mut(key, place) else { return };
        entry.unacked = entry.unacked.saturating_sub(1);
        if entry.unacked == 0 {
            entry.dirty = true;
            entry.below = Below::Store;
        } else if let Below::Value(old) = &mut entry.below {
            // Not counted in the buffer's bytes, as it is short-lived.
            replace(old, value);
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
        if let (Some(derived), Some(entry)) = (&mut self.derived, self.buffer.get(key)) {
            derived.written(&entry.key, false);
        }
        self.buffer.remove(key);
    }

    /// Everything in the changelog below `offset` is acknowledged.
    pub(crate) fn advance(&mut self, offset: i64) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// Goes back to what is acknowledged.
    pub(crate) fn rollback(&mut self) {
        self.on_their_way.clear();
        self.buffer.retain(|entry| {
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
        if let Some(derived) = &mut self.derived {
            derived.rebuild(self.buffer.iter().map(|entry| (&entry.key, entry.value.is_some())));
        }
    }

    /// The changelog offset up to which everything is acknowledged.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes that the buffer takes, roughly, with its derived entries.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.bytes() + self.derived.as_ref().map_or(0, Derived::bytes)
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
        self.pending = self.buffer.iter().filter(|e| e.unstored().is_some()).map(|e| Rc::clone(&e.key)).collect();
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
            if let Some(entry) = self.buffer.get_mut(key, None) {
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
        self.buffer.retain(|entry| entry.unacked > 0 || entry.dirty);
        if let Some(derived) = &mut self.derived {
            derived.retain(|record| self.buffer.get(record).is_some());
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
        let mut buffered = self.buffer.range(from, to).peekable();
        for pair in self.store.range(KeyRange { from, to }, Direction::Forward) {
            let (key, value) = pair?;
            while let Some((first, value)) = buffered.next_if(|(first, _)| **first < *key) {
                if each(first, value).is_break() {
                    return Ok(());
                }
            }
            // What the buffer has of a key is newer, and comes in its turn.
            if self.buffer.get(&key).is_none() && each(&key, &value).is_break() {
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
        let mut keys: Vec<_> = self.buffer.iter().map(|entry| Rc::clone(&entry.key)).collect();
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
            table.apply_acknowledged(key, Some(b"value"));
        }
        table.apply_acknowledged(b"a", None);
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
        assert_eq!(table.buffered(), buffer::weight(b"b", None));
    }
}
