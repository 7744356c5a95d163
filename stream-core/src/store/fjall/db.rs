//! An open store: one fjall database with one keyspace, in which the user's keys and the metadata lie side by side, each under a byte
//! that tells them apart.
//!
//! ```text
//! 0 <name>   the metadata: fingerprint, checkpoint, origin
//! 1 <key>    the value of a key
//! ```
//!
//! One keyspace has one order of writes, so that what a crash leaves is a state that was. Invariant: the checkpoint on the disk never says
//! more than the data on the disk. Hence the order in [`checkpoint`](FjallStore::checkpoint), and no checkpoint any more after a call
//! that failed.

use std::fmt;
use std::ops::Bound;

use fjall::{Database, Error, Guard, Keyspace, PersistMode};

use super::damage::too_long;
use crate::store::folder::{
    CHECKPOINT, EngineError, FINGERPRINT, ORIGIN, Place, Recorded, checkpoint_bytes, guarded, read_checkpoint,
    read_text,
};
use crate::store::{Checkpoint, Direction, KeyRange, Pair, Scan, Store, StoreError};

const META: u8 = 0;
const USER: u8 = 1;
/// Above all keys of users.
const BEHIND: u8 = 2;

/// Bytes of the longest key that fjall takes, with the byte before it.
const LONGEST: usize = 65_535;

/// One partition of a table.
pub(super) struct FjallStore {
    tree: Keyspace,
    db: Database,
    /// Dropped last.
    place: Place,
}

impl FjallStore {
    /// Wraps a database. [`recorded`](Self::recorded) has to be looked at before it is used.
    pub(super) fn new(db: Database, tree: Keyspace, place: Place) -> Self {
        Self { tree, db, place }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The metadata that an earlier run left.
    pub(super) fn recorded(&self) -> Result<Recorded, Error> {
        let has_keys = self.tree.range(vec![USER]..vec![BEHIND]).next().map(Guard::into_inner).transpose()?.is_some();
        Ok(Recorded { fingerprint: self.read_text(FINGERPRINT)?, checkpoint: self.read_checkpoint()?, has_keys })
    }

    /// Records what the store is.
    pub(super) fn record_fingerprint(&self) -> Result<(), Error> {
        self.tree.insert(meta(FINGERPRINT), self.place.fingerprint().as_bytes())?;
        self.db.persist(PersistMode::SyncAll)
    }

    fn read_text(&self, name: &str) -> Result<Option<String>, Error> {
        self.tree.get(meta(name))?.map(|bytes| read_text(name, &bytes)).transpose()
    }

    fn read_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        self.tree.get(meta(CHECKPOINT))?.map(|bytes| read_checkpoint(&bytes)).transpose()
    }

    fn write_all(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), Error> {
        // Not a batch of fjall's: all its writes have one number, so that the later of two writes of a key would not count.
        for (key, value) in entries {
            let spelled = user(key);
            if spelled.len() > LONGEST {
                return Err(too_long(key.len(), LONGEST - 1));
            }
            guarded(|| match value {
                Some(value) => self.tree.insert(spelled, value),
                None => self.tree.remove(spelled),
            })?;
        }
        guarded(|| self.db.persist(PersistMode::Buffer))
    }

    fn checkpoint_now(&self, at: Checkpoint) -> Result<(), Error> {
        self.db.persist(PersistMode::SyncAll)?;
        self.tree.insert(meta(CHECKPOINT), checkpoint_bytes(at))?;
        self.db.persist(PersistMode::SyncAll)
    }

    fn clear_all(&self) -> Result<(), Error> {
        self.tree.remove(meta(CHECKPOINT))?;
        self.db.persist(PersistMode::SyncAll)?;
        // What a crash leaves of this is a store without a checkpoint, which is wiped when it is opened.
        self.tree.clear()?;
        self.record_fingerprint()
    }

    fn pair(&self, found: Guard) -> Result<Pair, StoreError> {
        let pair = guarded(|| -> Result<Pair, Error> {
            let (key, value) = found.into_inner()?;
            let (_, key) = key.split_first().ok_or_else(|| Error::unreadable("key"))?;
            Ok((key.to_vec(), value.to_vec()))
        });
        pair.map_err(|error| self.place.report(&error))
    }
}

fn spell(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut spelled = Vec::with_capacity(1 + name.len());
    spelled.push(kind);
    spelled.extend_from_slice(name);
    spelled
}

fn user(key: &[u8]) -> Vec<u8> {
    spell(USER, key)
}

fn meta(name: &str) -> Vec<u8> {
    spell(META, name.as_bytes())
}

impl Store for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key.len() >= LONGEST {
            return Ok(None);
        }
        let found = guarded(|| self.tree.get(user(key)));
        found.map(|value| value.map(|value| value.to_vec())).map_err(|error| self.place.report(&error))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction) -> Scan<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let from = match range.from {
            Bound::Unbounded => Bound::Included(vec![USER]),
            bound => bound.map(user),
        };
        let to = match range.to {
            Bound::Unbounded => Bound::Excluded(vec![BEHIND]),
            bound => bound.map(user),
        };
        // It sees the store as it is now.
        let mut pairs = self.tree.range((from, to));
        let mut over = false;
        Box::new(std::iter::from_fn(move || {
            if over {
                return None;
            }
            let next = guarded(|| -> Result<_, Error> {
                Ok(match direction {
                    Direction::Forward => pairs.next(),
                    Direction::Reverse => pairs.next_back(),
                })
            });
            let next = next.map_err(|error| self.place.report(&error)).transpose();
            let pair = next.map(|found| found.and_then(|found| self.pair(found)));
            over = !matches!(pair, Some(Ok(_)));
            pair
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
                self.tree.insert(meta(ORIGIN), origin.as_bytes())?;
                self.db.persist(PersistMode::SyncAll)
            })
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.place.change(|| guarded(|| self.clear_all()))
    }

    fn size(&self) -> u64 {
        // Its files, and what is in the journal only: the journal's own file has its full length from the beginning.
        self.tree.disk_space().saturating_add(self.db.write_buffer_size())
    }
}

impl Drop for FjallStore {
    /// Writes what is left; a checkpoint does not depend on it.
    fn drop(&mut self) {
        if !self.place.has_failed()
            && let Err(error) = guarded(|| self.db.persist(PersistMode::SyncAll))
        {
            tracing::debug!(store = %self.place.path().display(), %error, "what was written last is not on the disk");
        }
    }
}

impl fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallStore").field("path", &self.place.path()).finish_non_exhaustive()
    }
}
