//! Stores in files, by sled 0.34.
//!
//! One database per partition, so that a partition can move, be wiped or be corrupt on its own. Values are plain
//! inserts: sled's batches cost twice the CPU and eight times the memory, and nothing needs them, for the checkpoint
//! says how far the data can be trusted. Trees are never dropped: sled 0.34 leaks their pages.
//!
//! - `open` decides whether the files there can be used, and wipes them if not;
//! - `log_check` finds damage that sled would pass over;
//! - `format` names the layout of the files, `damage` distinguishes damage from other errors, `options` says what can be set;
//! - `db` is an open store;
//! - `files` brings its files to the disk;
//! - `length` records how long its log is, so that one that was cut is found;
//! - `large` stores large values in parts;
//! - `key` spells keys so that sled can scan them;
//! - `absent` leaves out removals of keys that are not there.

mod absent;
mod damage;
mod db;
mod files;
mod format;
mod key;
mod large;
mod length;
mod log_check;
mod open;
mod options;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use self::db::SledStore;
pub use self::options::SledOptions;
use super::state_dir::StateDir;
use super::{Store, StoreBackend, StoreError, StoreId};

/// Stores in files below a directory, which belongs to one process at a time.
///
/// A store is at `<directory>/<table>/<partition>/`. Nothing else of value is in there: with every process stopped,
/// any of it may be removed, and is restored from Kafka.
///
/// A checkpoint is on the disk when [`Store::checkpoint`] returns, and so is everything before it. Dropping the last
/// handle of a store writes what is left and waits for it.
///
/// sled has its own threads, seven and under load more, shared by every store of the process. They write and read pages
/// only; they need no runtime and end with the process. Memory beyond the cache is about one buffer of 512 KiB or a few
/// per store.
///
/// Values above 5 KiB are stored in parts of that size, which takes three to six times the CPU; the disk stays at
/// a small multiple of what the store contains, however often values are replaced.
///
/// sled finds out about a damaged page only when it reads it. Then the call is an error, and the store is wiped
/// when it is next opened.
///
/// ```
/// use stream_core::store::{Checkpoint, SledStores, StoreBackend, StoreId};
///
/// # let state = tempfile::tempdir().unwrap();
/// # let dir = state.path();
/// let stores = SledStores::open_dir(dir.join("user-clicks"))?;
/// let store = stores.open(&StoreId::new("user-clicks-table", 0), "user-clicks json")?;
/// store.write(&mut [(&b"alice"[..], Some(&b"7"[..]))].into_iter())?;
/// store.checkpoint(Checkpoint { offset: 1, at_ms: 0 })?;
/// assert_eq!(store.get(b"alice")?, Some(b"7".to_vec()));
/// # Ok::<(), stream_core::store::StoreError>(())
/// ```
#[derive(Debug)]
pub struct SledStores {
    /// Shared with every open store: the lock must outlive them all.
    dir: Arc<StateDir>,
    options: SledOptions,
    /// A bound on the cache of each store that is opened from now on.
    bound: AtomicU64,
    slots: Mutex<BTreeMap<StoreId, Arc<OpenStore>>>,
}

/// A store that is open, or was. Its mutex is held while it is opened or removed, which may take a while; the others'
/// are not.
type OpenStore = Mutex<Weak<SledStore>>;

impl SledStores {
    /// Takes a directory, made if need be, with the default options.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::Directory`] when it can't be used.
    pub fn open_dir(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_dir_with(dir, SledOptions::default())
    }

    /// Takes a directory, made if need be.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::Directory`] when it can't be used.
    pub fn open_dir_with(dir: impl Into<PathBuf>, options: SledOptions) -> Result<Self, StoreError> {
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

impl StoreBackend for SledStores {
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
        // Two of the buffers that sled writes its log from, each of 512 KiB.
        1 << 20
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
