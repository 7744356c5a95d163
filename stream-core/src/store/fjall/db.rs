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
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::{Database, Error, Guard, Keyspace, PersistMode};

use super::damage::{guarded, is_damage, mark_damaged, too_long, unreadable};
use super::format::full_fingerprint;
use crate::store::state_dir::StateDir;
use crate::store::{Checkpoint, Direction, KeyRange, Pair, Scan, Store, StoreError};

const META: u8 = 0;
const USER: u8 = 1;
/// Above all keys of users.
const BEHIND: u8 = 2;

const CHECKPOINT: &str = "checkpoint";
const FINGERPRINT: &str = "fingerprint";
const ORIGIN: &str = "origin";

/// Bytes of the longest key that fjall takes, with the byte before it.
const LONGEST: usize = 65_535;

/// One partition of a table.
pub(super) struct FjallStore {
    /// Set by the first change that failed, or damage that was found. From then on nothing is written.
    failed: AtomicBool,
    fingerprint: String,
    path: PathBuf,
    tree: Keyspace,
    db: Database,
    /// Held, never read: the lock of the state directory must outlive the database.
    _dir: Arc<StateDir>,
}

/// The metadata of a store.
pub(super) struct Recorded {
    pub(super) fingerprint: Option<String>,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) has_keys: bool,
}

impl FjallStore {
    /// Wraps a database. [`recorded`](Self::recorded) has to be looked at before it is used.
    pub(super) fn new(db: Database, tree: Keyspace, path: PathBuf, fingerprint: String, dir: Arc<StateDir>) -> Self {
        Self { failed: AtomicBool::new(false), fingerprint, path, tree, db, _dir: dir }
    }

    /// The metadata that an earlier run left.
    pub(super) fn recorded(&self) -> Result<Recorded, Error> {
        let has_keys = self.tree.range(vec![USER]..vec![BEHIND]).next().map(Guard::into_inner).transpose()?.is_some();
        Ok(Recorded { fingerprint: self.read_text(FINGERPRINT)?, checkpoint: self.read_checkpoint()?, has_keys })
    }

    /// Records what the store is.
    pub(super) fn record_fingerprint(&self) -> Result<(), Error> {
        self.tree.insert(meta(FINGERPRINT), self.fingerprint.as_bytes())?;
        self.db.persist(PersistMode::SyncAll)
    }

    /// Whether another handle may be given out.
    pub(super) fn share(&self, fingerprint: &str) -> Result<(), StoreError> {
        let expected = full_fingerprint(fingerprint);
        if expected != self.fingerprint {
            return Err(StoreError::Fingerprint { path: self.path.clone(), found: self.fingerprint.clone(), expected });
        }
        self.usable()
    }

    fn read_text(&self, name: &'static str) -> Result<Option<String>, Error> {
        let Some(bytes) = self.tree.get(meta(name))? else { return Ok(None) };
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| unreadable(name))
    }

    fn read_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        let Some(bytes) = self.tree.get(meta(CHECKPOINT))? else { return Ok(None) };
        let Some((offset, at_ms)) = bytes
            .split_first_chunk()
            .and_then(|(offset, rest)| Some((i64::from_be_bytes(*offset), i64::from_be_bytes(rest.try_into().ok()?))))
        else {
            return Err(unreadable(CHECKPOINT));
        };
        Ok(Some(Checkpoint { offset, at_ms }))
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
        let mut value = [0; 16];
        let (offset, at_ms) = value.split_at_mut(8);
        offset.copy_from_slice(&at.offset.to_be_bytes());
        at_ms.copy_from_slice(&at.at_ms.to_be_bytes());
        self.tree.insert(meta(CHECKPOINT), value)?;
        self.db.persist(PersistMode::SyncAll)
    }

    fn clear_all(&self) -> Result<(), Error> {
        self.tree.remove(meta(CHECKPOINT))?;
        self.db.persist(PersistMode::SyncAll)?;
        // What a crash leaves of this is a store without a checkpoint, which is wiped when it is opened.
        self.tree.clear()?;
        self.record_fingerprint()
    }

    fn usable(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            let reason = "an earlier call failed; it must be closed and opened again".into();
            return Err(StoreError::Failed { path: self.path.clone(), reason });
        }
        Ok(())
    }

    /// Runs a call that changes the store, unless one failed before.
    fn change(&self, call: impl FnOnce() -> Result<(), Error>) -> Result<(), StoreError> {
        self.usable()?;
        call().map_err(|error| {
            self.failed.store(true, Ordering::Release);
            self.report(&error)
        })
    }

    /// Takes note of an error.
    fn report(&self, error: &Error) -> StoreError {
        if is_damage(error) {
            self.failed.store(true, Ordering::Release);
            mark_damaged(&self.path, error);
        }
        StoreError::Failed { path: self.path.clone(), reason: error.to_string() }
    }

    fn pair(&self, found: Guard) -> Result<Pair, StoreError> {
        let pair = guarded(|| {
            let (key, value) = found.into_inner()?;
            let (_, key) = key.split_first().ok_or_else(|| unreadable("key"))?;
            Ok((key.to_vec(), value.to_vec()))
        });
        pair.map_err(|error| self.report(&error))
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
        found.map(|value| value.map(|value| value.to_vec())).map_err(|error| self.report(&error))
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
            let next = guarded(|| {
                Ok(match direction {
                    Direction::Forward => pairs.next(),
                    Direction::Reverse => pairs.next_back(),
                })
            });
            let next = next.map_err(|error| self.report(&error)).transpose();
            let pair = next.map(|found| found.and_then(|found| self.pair(found)));
            over = !matches!(pair, Some(Ok(_)));
            pair
        }))
    }

    fn write(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), StoreError> {
        self.change(|| self.write_all(entries))
    }

    fn checkpoint(&self, at: Checkpoint) -> Result<(), StoreError> {
        self.change(|| guarded(|| self.checkpoint_now(at)))
    }

    fn checkpointed(&self) -> Result<Option<Checkpoint>, StoreError> {
        guarded(|| self.read_checkpoint()).map_err(|error| self.report(&error))
    }

    fn origin(&self) -> Result<Option<String>, StoreError> {
        guarded(|| self.read_text(ORIGIN)).map_err(|error| self.report(&error))
    }

    fn set_origin(&self, origin: &str) -> Result<(), StoreError> {
        self.change(|| {
            guarded(|| {
                self.tree.insert(meta(ORIGIN), origin.as_bytes())?;
                self.db.persist(PersistMode::SyncAll)
            })
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.change(|| guarded(|| self.clear_all()))
    }

    fn size(&self) -> u64 {
        // Its files, and what is in the journal only: the journal's own file has its full length from the beginning.
        self.tree.disk_space().saturating_add(self.db.write_buffer_size())
    }
}

impl Drop for FjallStore {
    /// Writes what is left; a checkpoint does not depend on it.
    fn drop(&mut self) {
        if !self.failed.load(Ordering::Acquire)
            && let Err(error) = guarded(|| self.db.persist(PersistMode::SyncAll))
        {
            tracing::debug!(store = %self.path.display(), %error, "what was written last is not on the disk");
        }
    }
}

impl fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallStore").field("path", &self.path).finish_non_exhaustive()
    }
}
