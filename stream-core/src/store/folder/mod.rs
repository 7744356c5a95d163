//! Stores in files, as far as all databases have it in common.
//!
//! - `state_dir` is the state directory, and who may use it;
//! - `open` decides whether the files of a store can be used, and wipes them if not;
//! - `place` is an open store's folder, and whether the store may still be written;
//! - `metadata` is what a store records beside its keys;
//! - `damage` distinguishes damage from other errors, and marks it.
//!
//! A folder is opened once in a process: [`Folder`] knows which stores are open.

mod damage;
mod metadata;
mod open;
mod place;
mod state_dir;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(super) use self::damage::{Cause, EngineError, guarded};
pub(super) use self::metadata::{
    CHECKPOINT, FINGERPRINT, ORIGIN, Recorded, checkpoint_bytes, read_checkpoint, read_text,
};
pub(super) use self::open::{Engine, Trouble, trouble, when_unlocked};
pub(super) use self::place::Place;
use self::state_dir::StateDir;
use super::{Store, StoreError, StoreId};

/// The stores of one database below a state directory.
#[derive(Debug)]
pub(super) struct Folder<E: Engine> {
    /// Shared with every open store: the lock must outlive them all.
    dir: Arc<StateDir>,
    options: E::Options,
    /// A bound on the cache of each store that is opened from now on.
    bound: AtomicU64,
    slots: Mutex<BTreeMap<StoreId, Arc<OpenStore<E>>>>,
}

/// A store that is open, or was. Its mutex is held while it is opened or removed, which may take a while; the others'
/// are not.
type OpenStore<E> = Mutex<Weak<E>>;

impl<E: Engine> Folder<E> {
    /// Takes a directory, made if need be.
    pub(super) fn take(dir: PathBuf, options: E::Options) -> Result<Self, StoreError> {
        let dir = Arc::new(StateDir::lock(dir)?);
        Ok(Self { dir, options, bound: AtomicU64::new(u64::MAX), slots: Mutex::default() })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    #[cfg(feature = "fjall")]
    pub(super) fn options(&self) -> &E::Options {
        &self.options
    }

    fn slot(&self, id: &StoreId) -> Arc<OpenStore<E>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id.clone()).or_default())
    }

    /// The store, opened or made if it is not open.
    pub(super) fn open(&self, id: &StoreId, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError> {
        // First, so that a name that is no topic's gets no entry.
        self.dir.store(id)?;
        let slot = self.slot(id);
        let mut open = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.upgrade() {
            store.share(fingerprint)?;
            return Ok(store);
        }
        let options = E::bounded(&self.options, self.bound.load(Ordering::Relaxed));
        let store = Arc::new(open::open::<E>(&self.dir, id, fingerprint, &options)?);
        *open = Arc::downgrade(&store);
        Ok(store)
    }

    /// Removes a closed store.
    pub(super) fn destroy(&self, id: &StoreId) -> Result<(), StoreError> {
        let path = self.dir.store(id)?;
        let slot = self.slot(id);
        let open = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if open.strong_count() > 0 {
            return Err(StoreError::Failed { path, reason: "still open, so it can't be removed".into() });
        }
        self.dir.remove(id)
    }

    /// Bounds the cache of each store that is opened from now on.
    pub(super) fn bound_caches(&self, bytes: usize) {
        self.bound.store(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn instance_id(&self) -> Result<String, StoreError> {
        self.dir.instance_id()
    }

    /// Where the instance's name is kept, for messages.
    pub(super) fn instance_id_place(&self) -> String {
        format!("the state directory {} (file ~instance-id)", self.dir.path().display())
    }

    /// The stores that exist, in order.
    pub(super) fn list(&self) -> Result<Vec<StoreId>, StoreError> {
        self.dir.list()
    }
}
