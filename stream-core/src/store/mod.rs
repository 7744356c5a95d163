//! Stores: the local copy of one partition of a table.
//!
//! A [`Store`] holds bytes, and beside them one [`Checkpoint`]: how much of the table's changelog it contains. It is a
//! prefix of the changelog, never more, and may always be thrown away: the changelog is the truth. A store must never
//! mix its own metadata with the user's keys, and never give out a checkpoint that its data does not back.
//!
//! | store | where | for |
//! |---|---|---|
//! | [`SledStores`] | files under a directory | running; survives restarts, so that only the changelog's tail is read |
//! | `FjallStores` | files under a directory; feature `fjall` | large tables: less disk and CPU than sled |
//! | [`MemoryStores`] | this process | tests, simulations, tables small enough to restore at every start |
//!
//! One conformance suite, `tests/library/store_conformance.rs`, holds for all of them.
//!
//! Stores block: a call may wait for the disk. They know nothing of time, so that a checkpoint's time is the caller's.

mod derive;
#[cfg(feature = "fjall")]
mod fjall;
mod folder;
mod memory;
mod sled;

pub(crate) use self::derive::{Derive, DerivingStore, Layout};
#[cfg(feature = "fjall")]
pub use self::fjall::{FjallOptions, FjallStores};
pub use self::memory::{CrashPoint, MemoryStores, Survivors};
pub use self::sled::{SledOptions, SledStores};

use std::fmt::Debug;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

/// Opens the stores of one group on this machine.
pub trait StoreBackend: Debug + Send + Sync + 'static {
    /// Opens a store, or makes it. A store that is corrupt is wiped and comes back empty, which is logged; one whose
    /// fingerprint differs is [`StoreError::Fingerprint`], and stays as it is.
    ///
    /// A store that was never checkpointed comes back empty, too: nothing says what it contains, and to restore over
    /// it could leave keys alive that were deleted long ago. A store that is still open is shared: it is one state,
    /// with one writer.
    ///
    /// # Errors
    /// When the place can't be written, or is in use by another process.
    fn open(&self, id: &StoreId, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError>;

    /// Removes a closed store and everything in it. One that does not exist is no error.
    ///
    /// # Errors
    /// When it can't be removed, or is still open.
    fn destroy(&self, id: &StoreId) -> Result<(), StoreError>;

    /// A name of this place that no other has, kept with it: it distinguishes an instance's transactions from those of
    /// others, and stays the same when the instance is started again.
    ///
    /// # Errors
    /// When the place can't be read or written.
    fn instance_id(&self) -> Result<String, StoreError>;

    /// Where the [`instance_id`](Self::instance_id) is kept, for messages: a directory, and the file in it.
    fn instance_id_place(&self) -> String {
        "its stores".to_owned()
    }

    /// The bytes of memory that each store opened from now on may keep of what it has read, if that can be bounded.
    fn bound_caches(&self, _bytes: usize) {}

    /// About how many bytes of memory an open store takes besides.
    fn bytes_of_a_store(&self) -> usize {
        0
    }

    /// The stores that exist, in order.
    ///
    /// # Errors
    /// When the place can't be read.
    fn list(&self) -> Result<Vec<StoreId>, StoreError>;
}

/// Names a store: a partition of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId {
    /// The table's topic.
    pub table: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl StoreId {
    /// Names a store.
    pub fn new(table: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { table: table.into(), partition }
    }
}

/// How much of the changelog a store contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The next changelog offset to apply.
    pub offset: i64,
    /// When that was recorded, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// Order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the smallest key up.
    #[default]
    Forward,
    /// From the largest key down.
    Reverse,
}

/// Bounds of a scan, in byte order of the keys.
#[derive(Clone, Copy, Debug)]
pub struct KeyRange<'a> {
    /// Lower bound.
    pub from: Bound<&'a [u8]>,
    /// Upper bound.
    pub to: Bound<&'a [u8]>,
}

impl KeyRange<'_> {
    /// Every key.
    pub const ALL: KeyRange<'static> = KeyRange { from: Bound::Unbounded, to: Bound::Unbounded };

    /// Whether it ends before it begins, so that no key can be in it.
    pub fn is_empty(&self) -> bool {
        match (self.from, self.to) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        }
    }
}

/// The smallest key above every key with this prefix; `None` when there is none (the prefix is empty or all `0xff`).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An iterator over the pairs of a scan.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a>;

/// One partition of a table. Reads may come from any thread while one thread writes.
///
/// A scan sees each key at most once, in order; keys written while it runs may or may not be seen.
pub trait Store: Debug + Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The pairs of a range, in key order or its reverse. A range that ends before it begins is empty.
    fn range(&self, range: KeyRange<'_>, direction: Direction) -> Scan<'_>;

    /// Writes (`Some`) and deletes (`None`) keys, in order. Not atomic: a crash may keep any part, which does no harm,
    /// for the checkpoint then stays behind and the changelog is replayed over it.
    ///
    /// # Errors
    /// When the store fails; then it must not be used further, and its checkpoint stays where it was.
    fn write(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), StoreError>;

    /// Makes everything written so far durable, then records the checkpoint, durably too.
    ///
    /// # Errors
    /// When the store fails.
    fn checkpoint(&self, at: Checkpoint) -> Result<(), StoreError>;

    /// The checkpoint recorded last; `None` for a new store, which is empty when it is opened.
    ///
    /// # Errors
    /// When the store fails.
    fn checkpointed(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// The origin of its content, as [`set_origin`](Self::set_origin) recorded it; `None` if it never did.
    ///
    /// # Errors
    /// When the store fails.
    fn origin(&self) -> Result<Option<String>, StoreError>;

    /// Records, durably, the origin of the content: the id of the topic that it is a copy of.
    ///
    /// # Errors
    /// When the store fails.
    fn set_origin(&self, origin: &str) -> Result<(), StoreError>;

    /// Removes every key, the checkpoint and the origin; the checkpoint first.
    ///
    /// # Errors
    /// When the store fails.
    fn clear(&self) -> Result<(), StoreError>;

    /// Bytes that it takes, roughly.
    fn size(&self) -> u64;
}

/// Pairs whose key begins with a prefix.
pub fn prefix_scan<'s>(store: &'s dyn Store, prefix: &[u8], direction: Direction) -> Scan<'s> {
    let end = prefix_end(prefix);
    let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    store.range(KeyRange { from: Bound::Included(prefix), to }, direction)
}

/// An error of a store.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum StoreError {
    /// The directory can't be used.
    #[error("state directory {path}: {reason}; check that it exists, is writable and has room")]
    Directory { path: PathBuf, reason: String },
    /// Another process uses it.
    #[error("state directory {path} is in use by another process: give each instance its own --state-dir")]
    Locked { path: PathBuf },
    /// It was written by another table, codec or version.
    #[error(
        "store {path} was written as {found:?}, this group expects {expected:?}: remove it, or point to another state directory"
    )]
    Fingerprint { path: PathBuf, found: String, expected: String },
    /// The store itself failed.
    #[error("store {path}: {reason}")]
    Failed { path: PathBuf, reason: String },
}

crate::chain::debug_as_chain!(StoreError);

/// A name that nothing else has: 128 bits from the process's random hash keys.
fn new_instance_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let (a, b) = (RandomState::new().hash_one(0), RandomState::new().hash_one(1));
    format!("{a:016x}{b:016x}")
}
