//! Stores in files, by fjall 3: a log-structured tree.
//!
//! One database per partition, so that a partition can move, be wiped or be corrupt on its own.
//!
//! - `open` decides whether the files there can be used, and wipes them if not;
//! - `db` is an open store;
//! - `damage` distinguishes damage from other errors, `format` names the layout, `options` says what can be set.

mod damage;
mod db;
mod format;
mod open;
mod options;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use self::db::FjallStore;
pub use self::options::FjallOptions;
use super::state_dir::StateDir;
use super::{Store, StoreBackend, StoreError, StoreId};

/// Stores in files below a directory, by fjall, which belongs to one process at a time.
///
/// A store is at `<directory>/<table>/<partition>/`. Nothing else of value is in there: with every process stopped,
/// any of it may be removed, and is restored from Kafka. A directory of [`SledStores`](super::SledStores) is refused.
///
/// A checkpoint is on the disk when [`Store::checkpoint`] returns, and so is everything before it. Each store has one thread, which writes
/// files and merges them. Keys may have 65,534 bytes; a longer one is an error.
///
/// ```
/// use stream_core::store::{Checkpoint, FjallStores, StoreBackend, StoreId};
///
/// # let state = tempfile::tempdir().unwrap();
/// # let dir = state.path();
/// let stores = FjallStores::open_dir(dir.join("user-clicks"))?;
/// let store = stores.open(&StoreId::new("user-clicks-table", 0), "user-clicks json")?;
/// store.write(&mut [(&b"alice"[..], Some(&b"7"[..]))].into_iter())?;
/// store.checkpoint(Checkpoint { offset: 1, at_ms: 0 })?;
/// assert_eq!(store.get(b"alice")?, Some(b"7".to_vec()));
/// # Ok::<(), stream_core::store::StoreError>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "fjall")))]
#[derive(Debug)]
pub struct FjallStores {
    /// Shared with every open store: the lock must outlive them all.
    dir: Arc<StateDir>,
    options: FjallOptions,
    /// A bound on the cache of each store that is opened from now on.
    bound: AtomicU64,
    slots: Mutex<BTreeMap<StoreId, Arc<OpenStore>>>,
}

/// A store that is open, or was. Its mutex is held while it is opened or removed, which may take a while; the others'
/// are not.
type OpenStore = Mutex<Weak<FjallStore>>;

impl FjallStores {
    /// Takes a directory, made if need be, with the default options.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::Directory`] when it can't be used.
    pub fn open_dir(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_dir_with(dir, FjallOptions::default())
    }

    /// Takes a directory, made if need be.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::Directory`] when it can't be used.
    pub fn open_dir_with(dir: impl Into<PathBuf>, options: FjallOptions) -> Result<Self, StoreError> {
        let dir = Arc::new(StateDir::lock(dir.into())?);
        Ok(Self { dir, options, bound: AtomicU64::new(u64::MAX), slots: Mutex::default() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn slot(&self, id: &StoreId) -> Arc<OpenStore> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id.clone()).or_default())
    }
}

impl StoreBackend for FjallStores {
    fn open(&self, id: &StoreId, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError> {
        let path = self.dir.store(id)?;
        let slot = self.slot(id);
        let mut open = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.upgrade() {
            store.share(fingerprint)?;
            return Ok(store);
        }
        let cache = self.options.cache_bytes.min(self.bound.load(Ordering::Relaxed));
        let options = self.options.clone().cache_bytes(cache);
        let store = Arc::new(open::open(&self.dir, id, &path, fingerprint, &options)?);
        *open = Arc::downgrade(&store);
        Ok(store)
    }

    fn destroy(&self, id: &StoreId) -> Result<(), StoreError> {
        let path = self.dir.store(id)?;
        let slot = self.slot(id);
        let open = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if open.strong_count() > 0 {
            return Err(StoreError::Failed { path, reason: "still open, so it can't be removed".into() });
        }
        self.dir.remove(id)
    }

    fn bound_caches(&self, bytes: usize) {
        self.bound.store(bytes as u64, Ordering::Relaxed);
    }

    fn bytes_of_a_store(&self) -> usize {
        // One table of writes in memory, and one that is being written to a file.
        usize::try_from(self.options.memtable_bytes.saturating_mul(2)).unwrap_or(usize::MAX)
    }

    fn instance_id_place(&self) -> String {
        format!("the state directory {} (file ~instance-id)", self.dir.path().display())
    }

    fn instance_id(&self) -> Result<String, StoreError> {
        self.dir.instance_id()
    }

    fn list(&self) -> Result<Vec<StoreId>, StoreError> {
        self.dir.list()
    }
}
