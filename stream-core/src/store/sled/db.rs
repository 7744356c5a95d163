//! An open store: one sled database with the user's keys in one tree, the metadata in another, and the parts of large
//! values in two more.
//!
//! Invariant: the checkpoint on the disk never says more than the data on the disk. Hence the order in
//! [`checkpoint`](SledStore::checkpoint), and no checkpoint any more after a call that failed.

use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use sled::{Db, Error, IVec, Tree};

use super::absent::Absent;
use super::files::Files;
use super::key;
use super::large::{Head, INLINE, LargeValues};
use super::length::LogLength;
use crate::store::folder::{
    CHECKPOINT, EngineError, FINGERPRINT, ORIGIN, Place, Recorded, checkpoint_bytes, guarded, read_checkpoint,
    read_text,
};
use crate::store::{Checkpoint, Direction, KeyRange, Pair, Scan, Store, StoreError};

/// Present while a large value may be half written or half removed: from before the first such change until the next
/// checkpoint.
const UNFINISHED: &str = "unfinished";

/// One partition of a table.
pub(super) struct SledStore {
    keys: Tree,
    meta: Tree,
    large: LargeValues,
    /// Whether [`UNFINISHED`] is recorded.
    unfinished: AtomicBool,
    db: Db,
    files: Files,
    /// Dropped after the database, for sled may make its file shorter in its last moments.
    log_length: LogLength,
    /// Dropped last.
    place: Place,
}

impl SledStore {
    /// Wraps a database. [`recorded`](Self::recorded) has to be looked at before it is used.
    pub(super) fn new(db: Db, place: Place) -> Result<Self, Error> {
        let keys = db.open_tree("keys")?;
        let meta = db.open_tree("meta")?;
        let large = LargeValues::open(&db)?;
        let unfinished = AtomicBool::new(meta.contains_key(UNFINISHED)?);
        let files = Files::open(place.path())?;
        let log_length = LogLength::open(place.path())?;
        Ok(Self { keys, meta, large, unfinished, db, files, log_length, place })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The metadata that an earlier run left.
    pub(super) fn recorded(&self) -> Result<Recorded, Error> {
        let fingerprint = self.read_text(FINGERPRINT)?;
        let checkpoint = self.read_checkpoint()?;
        let has_keys = self.large.any() || self.keys.iter().next().transpose()?.is_some();
        Ok(Recorded { fingerprint, checkpoint, has_keys })
    }

    /// Records what the store is, once.
    pub(super) fn record_fingerprint(&self) -> Result<(), Error> {
        self.meta.insert(FINGERPRINT, self.place.fingerprint())?;
        self.db.flush()?;
        Ok(())
    }

    /// Removes what a process left that died while it wrote or removed a large value.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        if self.unfinished.load(Ordering::Acquire) {
            self.large.sweep(&self.keys)?;
        }
        Ok(())
    }

    fn read_text(&self, name: &str) -> Result<Option<String>, Error> {
        self.meta.get(name)?.map(|bytes| read_text(name, &bytes)).transpose()
    }

    fn read_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        self.meta.get(CHECKPOINT)?.map(|bytes| read_checkpoint(&bytes)).transpose()
    }

    fn write_all(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), Error> {
        if self.large.any() {
            guarded(|| self.begin())?;
        }
        let (mut scratch, mut head, mut absent) = (Vec::new(), Vec::new(), Absent::default());
        for (key, value) in entries {
            let key = key::encode(key, &mut scratch);
            guarded(|| match value {
                Some(value) => self.insert(key, value, &mut head, &mut absent),
                None => self.remove(key, &mut absent),
            })?;
        }
        Ok(())
    }

    fn insert(&self, key: &[u8], value: &[u8], head: &mut Vec<u8>, absent: &mut Absent) -> Result<(), Error> {
        absent.written(key);
        let old = if value.len() > INLINE {
            self.begin()?;
            self.large.write(key, value, head)?;
            self.keys.insert(key, head.as_slice())?
        } else {
            self.keys.insert(key, value)?
        };
        self.replaced(old.as_deref())
    }

    fn remove(&self, key: &[u8], absent: &mut Absent) -> Result<(), Error> {
        if absent.contains(key) {
            return Ok(());
        }
        match self.keys.remove(key)? {
            None => absent.found(&self.keys, key),
            old => self.replaced(old.as_deref()),
        }
    }

    /// Something is no longer stored: removes its parts, if it has any.
    fn replaced(&self, old: Option<&[u8]>) -> Result<(), Error> {
        let Some(old) = old else { return Ok(()) };
        Head::of(old)?.map_or(Ok(()), |head| self.large.remove(&head))
    }

    /// Records that large values are about to be written or removed.
    fn begin(&self) -> Result<(), Error> {
        if !self.unfinished.swap(true, Ordering::AcqRel) {
            self.meta.insert(UNFINISHED, &[])?;
        }
        Ok(())
    }

    /// The value that something stored at a key is or stands for; `None` when the key was removed meanwhile.
    fn value(&self, key: &[u8], stored: IVec) -> Result<Option<Vec<u8>>, Error> {
        let mut stored = stored;
        loop {
            let Some(head) = Head::of(&stored)? else { return Ok(Some(stored.to_vec())) };
            if let Some(value) = self.large.read(&head)? {
                return Ok(Some(value));
            }
            // The writer removes parts when their head is replaced: then the key has another value by now.
            let Some(now) = self.keys.get(key)? else { return Ok(None) };
            if Head::of(&now)?.is_some_and(|now| now.is(&head)) {
                return Err(Error::unreadable("large value"));
            }
            stored = now;
        }
    }

    fn checkpoint_now(&self, at: Checkpoint) -> Result<(), Error> {
        self.flush()?;
        self.meta.insert(CHECKPOINT, &checkpoint_bytes(at))?;
        if self.unfinished.swap(false, Ordering::AcqRel) {
            self.meta.remove(UNFINISHED)?;
        }
        self.flush()?;
        self.log_length.record();
        Ok(())
    }

    fn clear_all(&self) -> Result<(), Error> {
        self.meta.remove(CHECKPOINT)?;
        self.flush()?;
        self.keys.clear()?;
        self.large.clear()?;
        self.meta.remove(ORIGIN)?;
        self.flush()
    }

    /// Writes everything to the disk.
    fn flush(&self) -> Result<(), Error> {
        self.db.flush()?;
        self.files.sync()?;
        Ok(())
    }

    fn pair(&self, found: Result<(IVec, IVec), Error>) -> Result<Option<Pair>, StoreError> {
        let pair = found.and_then(|(stored_key, stored)| {
            let key = key::decode(&stored_key).ok_or_else(|| Error::unreadable("key"))?;
            Ok(guarded(|| self.value(&stored_key, stored))?.map(|value| (key, value)))
        });
        pair.map_err(|error| self.place.report(&error))
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut scratch = Vec::new();
        let key = key::encode(key, &mut scratch);
        let found = guarded(|| self.keys.get(key)?.map_or(Ok(None), |stored| self.value(key, stored)));
        found.map_err(|error| self.place.report(&error))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction) -> Scan<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let stored = |bound: Bound<&[u8]>| bound.map(|key| IVec::from(key::encode(key, &mut Vec::new())));
        // A cursor: it locks and copies one page at a time.
        let mut pairs = self.keys.range((stored(range.from), stored(range.to)));
        let mut over = false;
        Box::new(std::iter::from_fn(move || {
            loop {
                let next = match direction {
                    _ if over => return None,
                    Direction::Forward => guarded(|| pairs.next().transpose()),
                    Direction::Reverse => guarded(|| pairs.next_back().transpose()),
                };
                let found = next.transpose().map(|found| self.pair(found));
                over = !matches!(found, Some(Ok(_)));
                match found.map(Result::transpose) {
                    // Removed since the cursor read its page.
                    Some(None) => {}
                    Some(Some(pair)) => return Some(pair),
                    None => return None,
                }
            }
        }))
    }

    fn write(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), StoreError> {
        self.place.change(|| self.write_all(entries))
    }

    fn checkpoint(&self, at: Checkpoint) -> Result<(), StoreError> {
        self.place.change(|| guarded(|| self.checkpoint_now(at)))
    }

    fn checkpointed(&self) -> Result<Option<Checkpoint>, StoreError> {
        guarded(|| self.read_checkpoint()).map_err(|error| self.place.report(&error))
    }

    fn origin(&self) -> Result<Option<String>, StoreError> {
        guarded(|| self.read_text(ORIGIN)).map_err(|error| self.place.report(&error))
    }

    fn set_origin(&self, origin: &str) -> Result<(), StoreError> {
        self.place.change(|| {
            guarded(|| {
                self.meta.insert(ORIGIN, origin)?;
                self.flush()
            })
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.place.change(|| guarded(|| self.clear_all()))
    }

    fn size(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

impl fmt::Debug for SledStore {
    /// The place only: sled's own form prints every value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("path", &self.place.path()).finish_non_exhaustive()
    }
}
