//! Stores in files, by fjall 3: a log-structured tree.
//!
//! One database per partition, so that a partition can move, be wiped or be corrupt on its own.
//!
//! What all stores in files have in common is in `folder`.
//!
//! - `open` opens the files, and names their layout;
//! - `db` is an open store;
//! - `damage` distinguishes damage from other errors, `options` says what can be set.

mod damage;
mod db;
mod open;
mod options;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::db::FjallStore;
pub use self::options::FjallOptions;
use super::folder::Folder;
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
pub struct FjallStores(Folder<FjallStore>);

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
        Folder::take(dir.into(), options).map(Self)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }
}

impl StoreBackend for FjallStores {
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
        // One table of writes in memory, and one that is being written to a file.
        usize::try_from(self.0.options().memtable_bytes.saturating_mul(2)).unwrap_or(usize::MAX)
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
