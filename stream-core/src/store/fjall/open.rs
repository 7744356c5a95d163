//! Opening a store: whether the files on the disk can be used.
//!
//! A store that can't be read is wiped, for the changelog has it all. One that can be read but was written by something else is left
//! alone, for it may be wanted. One that can't be reached is an error that names the place.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fjall::{Database, Error, Keyspace, KeyspaceCreateOptions};

use super::damage::{DAMAGED, guarded, is_damage};
use super::db::FjallStore;
use super::format::full_fingerprint;
use super::options::FjallOptions;
use crate::store::state_dir::StateDir;
use crate::store::{StoreError, StoreId};

/// How often, and how long between, a database that was just closed is asked for its lock.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The smallest bound on its journals that fjall takes.
const JOURNALS: u64 = 64 << 20;

/// The trouble with a store that can't be given out as it is.
enum Trouble {
    /// Wipe it. With the reason.
    Damaged(String),
    /// Wipe it: it has keys, but nothing says which part of the changelog they are.
    NeverCheckpointed,
    /// Give up.
    Error(StoreError),
}

/// Opens a store that is not open.
pub(super) fn open(
    dir: &Arc<StateDir>,
    id: &StoreId,
    path: &Path,
    fingerprint: &str,
    options: &FjallOptions,
) -> Result<FjallStore, StoreError> {
    let attempt = || try_open(dir, path, fingerprint, options);
    match attempt() {
        Ok(store) => return Ok(store),
        Err(Trouble::Error(error)) => return Err(error),
        Err(Trouble::Damaged(reason)) => {
            tracing::warn!(store = %path.display(), reason, "store is damaged: wiped, to be restored from its changelog");
        }
        Err(Trouble::NeverCheckpointed) => {
            tracing::info!(store = %path.display(), "store has no checkpoint: wiped, to be restored from its changelog");
        }
    }
    dir.remove(id)?;
    attempt().map_err(|trouble| match trouble {
        Trouble::Error(error) => error,
        Trouble::Damaged(reason) => StoreError::Failed { path: path.to_owned(), reason },
        Trouble::NeverCheckpointed => {
            StoreError::Failed { path: path.to_owned(), reason: "it is not empty just after it was wiped".into() }
        }
    })
}

fn try_open(
    dir: &Arc<StateDir>,
    path: &Path,
    fingerprint: &str,
    options: &FjallOptions,
) -> Result<FjallStore, Trouble> {
    let trouble = |error: Error| classify(path, &error);
    let expected = full_fingerprint(fingerprint);
    if path.join(DAMAGED).exists() {
        return Err(Trouble::Damaged("it could not be read in an earlier run".into()));
    }
    if path.join("db").is_file() {
        let found = "a store of sled".to_owned();
        return Err(Trouble::Error(StoreError::Fingerprint { path: path.to_owned(), found, expected }));
    }
    let (db, tree) = open_db(path, options)?;
    let store = FjallStore::new(db, tree, path.to_owned(), expected.clone(), Arc::clone(dir));
    let recorded = guarded(|| store.recorded()).map_err(trouble)?;
    match recorded.fingerprint {
        Some(found) if found != expected => {
            Err(Trouble::Error(StoreError::Fingerprint { path: path.to_owned(), found, expected }))
        }
        Some(_) if recorded.checkpoint.is_none() && recorded.has_keys => Err(Trouble::NeverCheckpointed),
        Some(_) => Ok(store),
        None if recorded.checkpoint.is_some() || recorded.has_keys => {
            Err(Trouble::Damaged("it has lost its fingerprint".into()))
        }
        None => {
            guarded(|| store.record_fingerprint()).map_err(trouble)?;
            Ok(store)
        }
    }
}

/// Opens the database and its keyspace.
fn open_db(path: &Path, options: &FjallOptions) -> Result<(Database, Keyspace), Trouble> {
    let open = || {
        // One thread a store, and no write to the system for each record.
        let builder = Database::builder(path).worker_threads(1).manual_journal_persist(true);
        let db = builder.cache_size(options.cache_bytes).max_journaling_size(JOURNALS).open()?;
        let memtable = options.memtable_bytes;
        let tree = db.keyspace("table", || {
            KeyspaceCreateOptions::default().max_memtable_size(memtable).manual_journal_persist(true)
        })?;
        Ok((db, tree))
    };
    let mut tries = 0;
    loop {
        match guarded(open) {
            // This process has the state directory, so it is a thread of fjall that is about to let go of it.
            Err(Error::Locked) if tries < LOCK_TRIES => {
                tries += 1;
                thread::sleep(LOCK_PAUSE);
            }
            opened => return opened.map_err(|error| classify(path, &error)),
        }
    }
}

fn classify(path: &Path, error: &Error) -> Trouble {
    let path = path.to_owned();
    match error {
        Error::Locked => Trouble::Error(StoreError::Locked { path }),
        _ if is_damage(error) => Trouble::Damaged(error.to_string()),
        Error::Io(error) | Error::Storage(fjall::LsmError::Io(error)) => {
            Trouble::Error(StoreError::Directory { path, reason: error.to_string() })
        }
        _ => Trouble::Error(StoreError::Failed { path, reason: error.to_string() }),
    }
}
