//! Opening a store: whether the files on the disk can be used.
//!
//! A store that can't be read is wiped, for the changelog has it all. One that can be read but was written by something else
//! is left alone, for it may be wanted. One that can't be reached is an error that names the place.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sled::{Config, Db, Error};

use super::damage::{DAMAGED, guarded, is_damage};
use super::db::SledStore;
use super::format::{FORMAT, FORMATS_BEFORE, full_fingerprint};
use super::length;
use super::log_check;
use super::options::SledOptions;
use crate::store::state_dir::StateDir;
use crate::store::{StoreError, StoreId};

/// How often, and how long between, a database that was just closed is asked for its lock.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The trouble with a store that can't be given out as it is.
enum Trouble {
    /// Wipe it. With the reason.
    Damaged(String),
    /// Wipe it: it has keys, but nothing says which part of the changelog they are.
    NeverCheckpointed,
    /// Wipe it: an earlier version of this library wrote it, with this layout.
    OldFormat(&'static str),
    /// Give up.
    Error(StoreError),
}

/// Opens a store that is not open.
pub(super) fn open(
    dir: &Arc<StateDir>,
    id: &StoreId,
    path: &Path,
    fingerprint: &str,
    options: &SledOptions,
) -> Result<SledStore, StoreError> {
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
        Err(Trouble::OldFormat(format)) => {
            tracing::warn!(store = %path.display(), format, now = FORMAT, "store has the layout of an earlier version: wiped, to be restored from its changelog");
        }
    }
    dir.remove(id)?;
    attempt().map_err(|trouble| match trouble {
        Trouble::Error(error) => error,
        Trouble::Damaged(reason) => StoreError::Failed { path: path.to_owned(), reason },
        Trouble::NeverCheckpointed | Trouble::OldFormat(_) => {
            StoreError::Failed { path: path.to_owned(), reason: "it is not empty just after it was wiped".into() }
        }
    })
}

/// The earlier layout of a store that is the right one otherwise.
fn old_format(found: &str, table: &str) -> Option<&'static str> {
    let (format, found_table) = found.split_once(' ')?;
    FORMATS_BEFORE.into_iter().find(|before| *before == format && found_table == table)
}

fn try_open(dir: &Arc<StateDir>, path: &Path, fingerprint: &str, options: &SledOptions) -> Result<SledStore, Trouble> {
    let trouble = |error: Error| classify(path, &error);
    let table = fingerprint;
    let fingerprint = full_fingerprint(table);
    if path.join(DAMAGED).exists() {
        return Err(Trouble::Damaged("a page could not be read in an earlier run".into()));
    }
    if path.join("keyspaces").is_dir() {
        let found = "a store of fjall".to_owned();
        return Err(Trouble::Error(StoreError::Fingerprint { path: path.to_owned(), found, expected: fingerprint }));
    }
    log_check::remove_half_snapshots(path).map_err(|error| trouble(error.into()))?;
    let log = log_check::look(path).map_err(|error| trouble(error.into()))?;
    if let Some(damage) = log.damage {
        return Err(Trouble::Damaged(damage.into()));
    }
    let db = open_db(path, options)?;
    // Only now: an earlier handle that was still closing has lowered it.
    let recorded_length = length::recorded(path);
    let store = guarded(|| SledStore::new(db, path.to_owned(), fingerprint.clone(), Arc::clone(dir)));
    let store = store.map_err(trouble)?;
    let recorded = guarded(|| store.recorded()).map_err(trouble)?;
    match recorded.fingerprint {
        Some(found) if found != fingerprint => Err(match old_format(&found, table) {
            Some(format) => Trouble::OldFormat(format),
            None => Trouble::Error(StoreError::Fingerprint { path: path.to_owned(), found, expected: fingerprint }),
        }),
        Some(_) if recorded.checkpoint.is_none() && recorded.has_keys => Err(Trouble::NeverCheckpointed),
        Some(_) if log.has_gaps && log.length < recorded_length => {
            Err(Trouble::Damaged("its log is shorter than at its checkpoint, and a part of it is missing".into()))
        }
        Some(_) => {
            guarded(|| store.sweep()).map_err(trouble)?;
            Ok(store)
        }
        None if recorded.checkpoint.is_some() || recorded.has_keys => {
            Err(Trouble::Damaged("it has lost its fingerprint".into()))
        }
        None => {
            guarded(|| store.record_fingerprint(&fingerprint)).map_err(trouble)?;
            Ok(store)
        }
    }
}

/// Opens the database.
fn open_db(path: &Path, options: &SledOptions) -> Result<Db, Trouble> {
    let config = Config::new().path(path).cache_capacity(options.cache_bytes).flush_every_ms(None);
    let mut tries = 0;
    loop {
        match guarded(|| config.open()) {
            Ok(db) => return Ok(db),
            // This process has the state directory, so it is sled's own thread that is about to let go of the file.
            Err(error) if is_lock(&error) && tries < LOCK_TRIES => {
                tries += 1;
                thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(classify(path, &error)),
        }
    }
}

fn is_lock(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::Other
        && error.to_string().starts_with("could not acquire lock"))
}

fn classify(path: &Path, error: &Error) -> Trouble {
    let path = path.to_owned();
    match error {
        _ if is_lock(error) => Trouble::Error(StoreError::Locked { path }),
        _ if is_damage(error) => Trouble::Damaged(error.to_string()),
        Error::Io(error) => Trouble::Error(StoreError::Directory { path, reason: error.to_string() }),
        _ => Trouble::Error(StoreError::Failed { path, reason: error.to_string() }),
    }
}
