//! The write buffer of a table: keys with their newest values, and what of them is acknowledged.
//!
//! An entry has a place, which stays its own until the entry leaves the buffer. So a key is looked up once: what applies
//! a write remembers the place for its acknowledgement.
//!
//! Invariants:
//! - `places` has each entry once, under the hash of its key; `order`, if there is one, has each key.
//! - `bytes` is the sum of the entries' [`weight`]s.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

/// The value below an entry's unacknowledged value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// Whatever the store has.
    Store,
    /// An acknowledged value (or deletion) that the store lacks.
    Value(Option<Vec<u8>>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Rc<[u8]>,
    hash: u64,
    /// The newest value; `None` is deleted.
    pub(super) value: Option<Vec<u8>>,
    /// Writes not yet acknowledged.
    pub(super) unacked: u32,
    /// With `unacked == 0`: the store lacks `value`.
    pub(super) dirty: bool,
    /// With `unacked > 0`: what is acknowledged.
    pub(super) below: Below,
}

impl Entry {
    /// The acknowledged value that the store lacks.
    pub(super) fn unstored(&self) -> Option<Option<&[u8]>> {
        match (&self.below, self.unacked) {
            (_, 0) => self.dirty.then_some(self.value.as_deref()),
            (Below::Value(value), _) => Some(value.as_deref()),
            (Below::Store, _) => None,
        }
    }

    /// The store has what [`unstored`](Self::unstored) gave.
    pub(super) fn stored(&mut self) {
        if self.unacked == 0 {
            self.dirty = false;
        } else {
            self.below = Below::Store;
        }
    }

    fn weight(&self) -> usize {
        weight(&self.key, self.value.as_ref())
    }
}

/// The place of an entry. It is good as long as the entry has a write that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    entries: Slab<Entry>,
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
    /// The entry that was found last: the key that a callback reads is mostly the one that it writes next.
    last: Cell<usize>,
    /// The keys in order, where they are asked for in order.
    order: Option<BTreeSet<Rc<[u8]>>>,
    /// Bytes of keys and values, roughly.
    bytes: usize,
}

impl WriteBuffer {
    /// A buffer that can be asked for keys in order.
    pub(super) fn ordered() -> Self {
        Self { order: Some(BTreeSet::new()), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(self.find(key)?)
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let last = self.last.get();
        if self.is_at(last, key) {
            return Some(last);
        }
        let place = *self.places.find(self.hasher.hash_one(key), |place| self.is_at(*place, key))?;
        self.last.set(place);
        Some(place)
    }

    /// Whether a place is that of a key.
    pub(super) fn is_of(&self, Place(place): Place, key: &[u8]) -> bool {
        self.is_at(place, key)
    }

    fn is_at(&self, place: usize, key: &[u8]) -> bool {
        self.entries.get(place).is_some_and(|entry| *entry.key == *key)
    }

    /// The place of a key; an entry without a value is made if there is none.
    pub(super) fn place(&mut self, key: &[u8]) -> Place {
        Place(self.find(key).unwrap_or_else(|| self.insert(key)))
    }

    fn insert(&mut self, key: &[u8]) -> usize {
        let (key, hash): (Rc<[u8]>, _) = (key.into(), self.hasher.hash_one(key));
        if let Some(order) = &mut self.order {
            order.insert(Rc::clone(&key));
        }
        let entry = Entry { key, hash, value: None, unacked: 0, dirty: false, below: Below::Store };
        self.bytes += entry.weight();
        let place = self.entries.insert(entry);
        let entries = &self.entries;
        self.places.insert_unique(hash, place, |place| entries.get(*place).map_or(0, |entry| entry.hash));
        self.last.set(place);
        place
    }

    pub(super) fn at(&mut self, Place(place): Place) -> Option<&mut Entry> {
        self.entries.get_mut(place)
    }

    /// The entry of a key, which is mostly at a place.
    pub(super) fn get_mut(&mut self, key: &[u8], mostly: Option<Place>) -> Option<&mut Entry> {
        let place = match mostly {
            Some(Place(place)) if self.is_at(place, key) => place,
            _ => self.find(key)?,
        };
        self.entries.get_mut(place)
    }

    /// Replaces the newest value of an entry, in place, so that its memory is used again.
    pub(super) fn set(&mut self, Place(place): Place, value: Option<&[u8]>) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        let before = len(entry.value.as_ref());
        replace(&mut entry.value, value);
        self.bytes = self.bytes.saturating_sub(before) + len(entry.value.as_ref());
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let Ok(found) = self.places.find_entry(self.hasher.hash_one(key), |place| {
            self.entries.get(*place).is_some_and(|entry| *entry.key == *key)
        }) else {
            return;
        };
        let (place, _) = found.remove();
        let entry = self.entries.remove(place);
        self.bytes = self.bytes.saturating_sub(entry.weight());
        if let Some(order) = &mut self.order {
            order.remove(key);
        }
    }

    /// Keeps the entries that `keep` says so of, which may change their values.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Entry) -> bool) {
        let (before, mut bytes) = (self.entries.len(), 0);
        self.entries.retain(|_, entry| {
            let keep = keep(entry);
            if keep {
                bytes += entry.weight();
            }
            keep
        });
        self.bytes = bytes;
        if self.entries.len() == before {
            return;
        }
        let entries = &self.entries;
        self.places.retain(|place| entries.contains(*place));
        if let Some(order) = &mut self.order {
            // The keys that are left; what is looked up is the same tree's.
            *order = entries.iter().map(|(_, entry)| Rc::clone(&entry.key)).collect();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// Keys and values between two bounds, in order, where there is an order.
    pub(super) fn range<'b>(
        &'b self,
        from: Bound<&'b [u8]>,
        to: Bound<&'b [u8]>,
    ) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        let keys = self.order.iter().flat_map(move |order| order.range::<[u8], _>((from, to)));
        keys.filter_map(|key| Some((&**key, self.get(key)?.value.as_deref()?)))
    }
}

/// Replaces a value, so that its memory is used again.
pub(super) fn replace(place: &mut Option<Vec<u8>>, value: Option<&[u8]>) {
    match (place, value) {
        (Some(old), Some(new)) => {
            old.clear();
            old.extend_from_slice(new);
        }
        (place, new) => *place = new.map(<[u8]>::to_vec),
    }
}

/// Bytes that an entry takes, with what the maps and the allocator add.
pub(super) fn weight(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    key.len() + len(value) + size_of::<Entry>() + 72
}

fn len(value: Option<&Vec<u8>>) -> usize {
    value.map_or(0, Vec::len)
}
