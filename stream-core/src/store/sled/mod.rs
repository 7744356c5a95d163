//! Stores in files, by sled 0.34.
//!
//! One database per partition, so that a partition can move, be wiped or be corrupt on its own. Values are plain
//! inserts: sled's batches cost twice the CPU and eight times the memory, and nothing needs them, for the checkpoint
//! says how far the data can be trusted. Trees are never dropped: sled 0.34 leaks their pages.
//!
//! What all stores in files have in common is in `folder`.
//!
//! - `open` opens the files, and names their layout;
//! - `log_check` finds damage that sled would pass over;
//! - `damage` distinguishes damage from other errors, `options` says what can be set;
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
mod key;
mod large;
mod length;
mod log_check;
mod open;
mod options;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::db::SledStore;
pub use self::options::SledOptions;
use super::folder::Folder;
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
pub struct SledStores(Folder<SledStore>);

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
        Folder::take(dir.into(), options).map(Self)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }
}

impl StoreBackend for SledStores {
    fn open(&self, id: &StoreId, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError> {
        self.0.open(id, fingerprint)
    }

    fn destroy(&self, id: &StoreId) -> Result<(), StoreError> {
        self.0.destroy(id)
    }

    fn bound_caches(&self, bytes: usize) {
        self.0.bound_caches(bytes);
    }

    fn bytes_of_a_store(&self) -> usize {
        // Two of the buffers that sled writes its log from, each of 512 KiB.
        1 << 20
    }

    fn instance_id_place(&self) -> String {
        self.0.instance_id_place()
    }

    fn instance_id(&self) -> Result<String, StoreError> {
        self.0.instance_id()
    }

    fn list(&self) -> Result<Vec<StoreId>, StoreError> {
        self.0.list()
    }
}
