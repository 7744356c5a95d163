//! Opening a store in files: whether what is on the disk can be used.
//!
//! A store that can't be read is wiped, for the changelog has it all. One that can be read but was written by something else is left
//! alone, for it may be wanted. One that can't be reached is an error that names the place.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::damage::{Cause, EngineError, guarded, is_marked, refused};
use super::metadata::Recorded;
use super::place::Place;
use super::state_dir::StateDir;
use crate::store::{Store, StoreError, StoreId};

/// How often, and how long between, a database that was just closed is asked for its lock.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A file or folder that only one database makes, and whose store it then is.
const OWNERS: [(&str, &str); 2] = [("db", "sled"), ("keyspaces", "fjall")];

/// A database that keeps the files of one store.
pub(in crate::store) trait Engine: Store + Sized {
    type Options: Clone + Debug + Send + Sync;
    type Error: EngineError;

    /// The name of the layout of the files: how keys are spelled, what the metadata looks like.
    const FORMAT: &'static str;
    /// Layouts of earlier versions, which can't be read any more.
    const FORMATS_BEFORE: &'static [&'static str];

    /// The options with a bound on the bytes of the cache.
    fn bounded(options: &Self::Options, cache: u64) -> Self::Options;

    /// Opens the files, or makes them. With it the damage that they have, if they are this group's and not new.
    fn open_files(place: Place, options: &Self::Options) -> Result<(Self, Option<&'static str>), Trouble>;

    /// The place of the open store.
    fn place(&self) -> &Place;

    /// The metadata that an earlier run left.
    fn recorded(&self) -> Result<Recorded, Self::Error>;

    /// Records what a new store is.
    fn record_fingerprint(&self) -> Result<(), Self::Error>;

    /// Removes what an earlier run left unfinished.
    fn sweep(&self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether another handle may be given out.
    fn share(&self, table: &str) -> Result<(), StoreError> {
        let expected = full_fingerprint::<Self>(table);
        if expected != self.place().fingerprint() {
            let (path, found) = (self.place().path().to_owned(), self.place().fingerprint().to_owned());
            return Err(StoreError::Fingerprint { path, found, expected });
        }
        self.place().usable()
    }
}

/// The trouble with a store that can't be given out as it is.
pub(in crate::store) enum Trouble {
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
pub(super) fn open<E: Engine>(
    dir: &Arc<StateDir>,
    id: &StoreId,
    table: &str,
    options: &E::Options,
) -> Result<E, StoreError> {
    let path = dir.store(id)?;
    let attempt = || try_open::<E>(dir, &path, table, options);
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
            tracing::warn!(store = %path.display(), format, now = E::FORMAT, "store has the layout of an earlier version: wiped, to be restored from its changelog");
        }
    }
    dir.remove(id)?;
    attempt().map_err(|trouble| match trouble {
        Trouble::Error(error) => error,
        Trouble::Damaged(reason) => StoreError::Failed { path: path.clone(), reason },
        Trouble::NeverCheckpointed | Trouble::OldFormat(_) => {
            StoreError::Failed { path: path.clone(), reason: "it is not empty just after it was wiped".into() }
        }
    })
}

fn try_open<E: Engine>(dir: &Arc<StateDir>, path: &Path, table: &str, options: &E::Options) -> Result<E, Trouble> {
    let place = Place::new(path.to_owned(), full_fingerprint::<E>(table), Arc::clone(dir));
    if is_marked(path) {
        return Err(Trouble::Damaged("it could not be read in an earlier run".into()));
    }
    let other = OWNERS.iter().find(|(file, owner)| *owner != E::Error::ENGINE && path.join(file).exists());
    if let Some((_, owner)) = other {
        return Err(Trouble::Error(place.is_of(format!("a store of {owner}"))));
    }
    let (store, damage) = E::open_files(place, options)?;
    let recorded = guarded(|| store.recorded()).map_err(|error| trouble(path, &error))?;
    match (recorded.fingerprint, damage) {
        (Some(found), _) if found != store.place().fingerprint() => Err(match old_format::<E>(&found, table) {
            Some(format) => Trouble::OldFormat(format),
            None => Trouble::Error(store.place().is_of(found)),
        }),
        (Some(_), _) if recorded.checkpoint.is_none() && recorded.has_keys => Err(Trouble::NeverCheckpointed),
        (Some(_), Some(damage)) => Err(Trouble::Damaged(damage.into())),
        (Some(_), None) => {
            guarded(|| store.sweep()).map_err(|error| trouble(path, &error))?;
            Ok(store)
        }
        (None, _) if recorded.checkpoint.is_some() || recorded.has_keys => {
            Err(Trouble::Damaged("it has lost its fingerprint".into()))
        }
        (None, _) => {
            guarded(|| store.record_fingerprint()).map_err(|error| trouble(path, &error))?;
            Ok(store)
        }
    }
}

/// A store's fingerprint as it is on the disk.
fn full_fingerprint<E: Engine>(table: &str) -> String {
    format!("{} {table}", E::FORMAT)
}

/// The earlier layout of a store that is the right one otherwise.
fn old_format<E: Engine>(found: &str, table: &str) -> Option<&'static str> {
    let (format, found_table) = found.split_once(' ')?;
    E::FORMATS_BEFORE.iter().copied().find(|before| *before == format && found_table == table)
}

/// Opens a database, which a thread of an earlier handle may be about to let go of: this process has the state directory.
pub(in crate::store) fn when_unlocked<T, E: EngineError>(
    path: &Path,
    open: impl Fn() -> Result<T, E>,
) -> Result<T, Trouble> {
    let mut tries = 0;
    loop {
        match guarded(&open) {
            Err(error) if matches!(error.cause(), Cause::Locked) && tries < LOCK_TRIES => {
                tries += 1;
                thread::sleep(LOCK_PAUSE);
            }
            opened => return opened.map_err(|error| trouble(path, &error)),
        }
    }
}

/// What an error at the opening means for the store.
pub(in crate::store) fn trouble(path: &Path, error: &impl EngineError) -> Trouble {
    Trouble::Error(match error.cause() {
        Cause::Damage => return Trouble::Damaged(error.to_string()),
        Cause::Locked => StoreError::Locked { path: path.to_owned() },
        Cause::Refused(reason) => refused(path, &reason),
        Cause::Other => StoreError::Failed { path: path.to_owned(), reason: error.to_string() },
    })
}
