//! The contents of one store, and the cursor that scans it.
//!
//! Invariant: the checkpoint, together with what `undo` would put back, is exactly a state that was checkpointed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::store::{Checkpoint, Direction, KeyRange, Pair};

/// The contents of a store.
pub(super) struct Contents {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    checkpoint: Option<Checkpoint>,
    origin: Option<String>,
    /// For each key written since the checkpoint: what it was then. Only where crashes are simulated.
    undo: Option<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    bytes: usize,
}

impl Contents {
    pub(super) fn new(crashable: bool) -> Self {
        Self { pairs: BTreeMap::new(), checkpoint: None, origin: None, undo: crashable.then(BTreeMap::new), bytes: 0 }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.pairs.get(key).cloned()
    }

    /// Writes or deletes a key.
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let old = self.replace(key, value.map(<[u8]>::to_vec));
        if let Some(undo) = &mut self.undo
            && let Entry::Vacant(first) = undo.entry(key.to_vec())
        {
            first.insert(old);
        }
    }

    fn replace(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let added = value.as_ref().map_or(0, |value| key.len() + value.len());
        let old = match value {
            None => self.pairs.remove(key),
            Some(value) => match self.pairs.get_mut(key) {
                Some(present) => Some(std::mem::replace(present, value)),
                None => self.pairs.insert(key.to_vec(), value),
            },
        };
        self.bytes = self.bytes + added - old.as_ref().map_or(0, |old| key.len() + old.len());
        old
    }

    pub(super) fn checkpoint(&mut self, at: Checkpoint) {
        self.checkpoint = Some(at);
        self.undo.iter_mut().for_each(BTreeMap::clear);
    }

    pub(super) fn checkpointed(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    pub(super) fn origin(&self) -> Option<String> {
        self.origin.clone()
    }

    pub(super) fn set_origin(&mut self, origin: &str) {
        self.origin = Some(origin.to_owned());
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.undo.is_some());
    }

    /// Prepares the contents as opening does: keys without a checkpoint are of no use.
    pub(super) fn reopen(&mut self) {
        if self.checkpoint.is_none() {
            self.clear();
        }
    }

    /// Takes back what a crash loses.
    pub(super) fn crash(&mut self, survives: &mut impl FnMut() -> bool) {
        let undo = self.undo.as_mut().map(std::mem::take).unwrap_or_default();
        for (key, old) in undo {
            if !survives() {
                self.replace(&key, old);
            }
        }
        self.reopen();
    }

    pub(super) fn size(&self) -> u64 {
        self.bytes as u64
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.pairs.len();
        f.debug_struct("Contents").field("keys", &keys).field("checkpoint", &self.checkpoint).finish_non_exhaustive()
    }
}

/// Pairs, and bytes of them, that a cursor reads ahead at most.
const AHEAD: usize = 256;
const AHEAD_BYTES: usize = 256 << 10;

/// Bounds of what is left of a scan.
type Rest = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A place in a scan. It reads ahead by chunks, each larger than the one before, and holds the lock only meanwhile.
pub(super) struct Cursor {
    /// The rest, not read yet; `None` at the end.
    rest: Option<Rest>,
    direction: Direction,
    ahead: VecDeque<Pair>,
    chunk: usize,
}

impl Cursor {
    pub(super) fn new(range: KeyRange<'_>, direction: Direction) -> Self {
        let rest = (!range.is_empty()).then(|| (range.from.map(<[u8]>::to_vec), range.to.map(<[u8]>::to_vec)));
        Self { rest, direction, ahead: VecDeque::new(), chunk: 4 }
    }

    /// The next pair.
    pub(super) fn next(&mut self, contents: &RwLock<Contents>) -> Option<Pair> {
        if self.ahead.is_empty()
            && let Some(bounds) = self.rest.take()
        {
            self.rest = self.read_ahead(&read(contents), bounds);
        }
        self.ahead.pop_front()
    }

    /// Stops. Whether it was not over yet.
    pub(super) fn end(&mut self) -> bool {
        let more = self.rest.take().is_some() || !self.ahead.is_empty();
        self.ahead.clear();
        more
    }

    /// Reads a chunk; what is left then, if anything.
    fn read_ahead(&mut self, contents: &Contents, (from, to): Rest) -> Option<Rest> {
        let range = contents.pairs.range::<Vec<u8>, _>((from.as_ref(), to.as_ref()));
        let full = match self.direction {
            Direction::Forward => self.fill(range),
            Direction::Reverse => self.fill(range.rev()),
        };
        self.chunk = (self.chunk * 2).min(AHEAD);
        let last = self.ahead.back().filter(|_| full)?.0.clone();
        let (from, to) = match self.direction {
            Direction::Forward => (Bound::Excluded(last), to),
            Direction::Reverse => (from, Bound::Excluded(last)),
        };
        let left = KeyRange { from: from.as_ref().map(Vec::as_slice), to: to.as_ref().map(Vec::as_slice) };
        (!left.is_empty()).then_some((from, to))
    }

    /// Whether there may be more.
    fn fill<'c>(&mut self, pairs: impl Iterator<Item = (&'c Vec<u8>, &'c Vec<u8>)>) -> bool {
        let mut bytes = 0;
        for (key, value) in pairs {
            bytes += key.len() + value.len();
            self.ahead.push_back((key.clone(), value.clone()));
            if self.ahead.len() >= self.chunk || bytes >= AHEAD_BYTES {
                return true;
            }
        }
        false
    }
}

/// The lock. A writer that panicked left whole entries behind, so its poison means nothing.
pub(super) fn read(contents: &RwLock<Contents>) -> RwLockReadGuard<'_, Contents> {
    contents.read().unwrap_or_else(PoisonError::into_inner)
}

/// The lock, to write.
pub(super) fn write(contents: &RwLock<Contents>) -> RwLockWriteGuard<'_, Contents> {
    contents.write().unwrap_or_else(PoisonError::into_inner)
}
