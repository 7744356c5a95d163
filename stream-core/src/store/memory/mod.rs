//! Stores in memory, which a simulated crash can take part of.
//!
//! The contents live in the backend, not in the handles: what was checkpointed is found again by the next handle that opens the store
//! through the same [`MemoryStores`], as a restarted process finds its files.

mod contents;
mod crash;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use self::contents::{Contents, Cursor};
use self::crash::Crashes;
pub use self::crash::{CrashPoint, Survivors};
use super::{Checkpoint, Direction, KeyRange, Scan, Store, StoreBackend, StoreError, StoreId};

/// Entries that are written under one hold of the lock, at most.
const CHUNK: usize = 256;

/// Stores in memory. A clone is the same stores.
///
/// ```
/// use stream_core::store::{Checkpoint, MemoryStores, StoreBackend, StoreId};
///
/// let stores = MemoryStores::new();
/// let id = StoreId::new("user-clicks-table", 0);
/// let store = stores.open(&id, "user-clicks json")?;
/// store.write(&mut [(&b"alice"[..], Some(&b"7"[..]))].into_iter())?;
/// store.checkpoint(Checkpoint { offset: 1, at_ms: 0 })?;
/// drop(store);
/// assert_eq!(stores.open(&id, "user-clicks json")?.get(b"alice")?, Some(b"7".to_vec()));
/// # Ok::<(), stream_core::store::StoreError>(())
/// ```
///
/// # Crashes
///
/// [`MemoryStores::crashable`] makes stores that know what a crash would lose. [`crash_when`](Self::crash_when) decides
/// where the process dies; every call on every store is an error from there until [`restart`](Self::restart), which
/// also decides which of the writes after the last checkpoint are found again.
///
/// ```
/// # use stream_core::store::{Checkpoint, CrashPoint, MemoryStores, StoreBackend, StoreId, Survivors};
/// let stores = MemoryStores::crashable();
/// let id = StoreId::new("user-clicks-table", 0);
/// let store = stores.open(&id, "json")?;
/// store.write(&mut [(&b"alice"[..], Some(&b"7"[..]))].into_iter())?;
/// store.checkpoint(Checkpoint { offset: 1, at_ms: 0 })?;
///
/// stores.crash_when(|_, point| matches!(point, CrashPoint::BeforeCheckpoint(at) if at.offset == 2));
/// store.write(&mut [(&b"alice"[..], Some(&b"8"[..]))].into_iter())?;
/// assert!(store.checkpoint(Checkpoint { offset: 2, at_ms: 0 }).is_err());
///
/// stores.restart(Survivors::Checkpointed);
/// let store = stores.open(&id, "json")?;
/// assert_eq!(store.get(b"alice")?, Some(b"7".to_vec()));
/// assert_eq!(store.checkpointed()?.map(|at| at.offset), Some(1));
/// # Ok::<(), stream_core::store::StoreError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryStores {
    slots: Arc<Mutex<BTreeMap<StoreId, StoreEntry>>>,
    crashes: Arc<Crashes>,
    instance: Arc<OnceLock<String>>,
    /// Whether what a crash would lose is remembered.
    crashable: bool,
}

/// A store that exists.
#[derive(Debug)]
struct StoreEntry {
    fingerprint: String,
    contents: Arc<RwLock<Contents>>,
    open: Weak<MemoryStore>,
}

impl MemoryStores {
    /// Stores that live as long as this value and its clones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores that remember what a crash would lose, which takes memory for every write since the last checkpoint.
    pub fn crashable() -> Self {
        Self { crashable: true, ..Self::default() }
    }

    /// Gives the place its name, instead of a random one.
    #[cfg(feature = "testing")]
    pub(crate) fn named(self, instance: String) -> Self {
        // A name that was asked for before stays.
        _ = self.instance.set(instance);
        self
    }

    /// Forgets when to die.
    #[cfg(feature = "testing")]
    pub(crate) fn crash_never(&self) {
        self.crashes.set(None);
    }

    /// From now on the process dies where this says so, before anything else happens. It is asked at each point of each
    /// store, in the order in which they are passed.
    pub fn crash_when(&self, dies: impl FnMut(&StoreId, CrashPoint) -> bool + Send + 'static) {
        self.crashes.set(Some(Box::new(dies)));
    }

    /// The process ends, wherever it was, and another begins: handles of before are errors for good, the crash
    /// condition is forgotten, and each store has what survived.
    ///
    /// Only stores made by [`crashable`](Self::crashable) can lose anything: others keep every write.
    pub fn restart(&self, survivors: Survivors) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        self.crashes.set(None);
        self.crashes.next_life();
        let mut coin = survivors.coin();
        for slot in slots.values_mut() {
            slot.open = Weak::new();
            contents::write(&slot.contents).crash(&mut coin);
        }
    }

    /// [`restart`](Self::restart) with nothing but what was checkpointed.
    pub fn drop_uncheckpointed(&self) {
        self.restart(Survivors::Checkpointed);
    }
}

impl StoreBackend for MemoryStores {
    fn open(&self, id: &StoreId, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError> {
        let life = self.crashes.life();
        self.crashes.alive(life).map_err(|reason| failed(id, reason))?;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(id.clone()).or_insert_with(|| StoreEntry {
            fingerprint: fingerprint.to_owned(),
            contents: Arc::new(RwLock::new(Contents::new(self.crashable))),
            open: Weak::new(),
        });
        if slot.fingerprint != fingerprint {
            return Err(StoreError::Fingerprint {
                path: path(id),
                found: slot.fingerprint.clone(),
                expected: fingerprint.to_owned(),
            });
        }
        if let Some(store) = slot.open.upgrade() {
            return Ok(store);
        }
        contents::write(&slot.contents).reopen();
        let store = Arc::new(MemoryStore {
            id: id.clone(),
            contents: Arc::clone(&slot.contents),
            crashes: Arc::clone(&self.crashes),
            life,
        });
        slot.open = Arc::downgrade(&store);
        Ok(store)
    }

    fn destroy(&self, id: &StoreId) -> Result<(), StoreError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.get(id).is_some_and(|slot| slot.open.strong_count() > 0) {
            return Err(failed(id, "still open, so it can't be removed"));
        }
        slots.remove(id);
        Ok(())
    }

    fn instance_id(&self) -> Result<String, StoreError> {
        Ok(self.instance.get_or_init(crate::store::new_instance_id).clone())
    }

    fn list(&self) -> Result<Vec<StoreId>, StoreError> {
        Ok(self.slots.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
    }
}

/// An open store.
#[derive(Debug)]
struct MemoryStore {
    id: StoreId,
    contents: Arc<RwLock<Contents>>,
    crashes: Arc<Crashes>,
    /// The process that opened it, of the simulated ones.
    life: u64,
}

impl MemoryStore {
    fn alive(&self) -> Result<(), StoreError> {
        self.crashes.alive(self.life).map_err(|reason| failed(&self.id, reason))
    }

    fn pass(&self, point: CrashPoint) -> Result<(), StoreError> {
        self.crashes.pass(self.life, &self.id, point).map_err(|reason| failed(&self.id, reason))
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.alive()?;
        Ok(contents::read(&self.contents).get(key))
    }

    fn range(&self, range: KeyRange<'_>, direction: Direction) -> Scan<'_> {
        let mut cursor = Cursor::new(range, direction);
        Box::new(std::iter::from_fn(move || match self.alive() {
            Ok(()) => cursor.next(&self.contents).map(Ok),
            Err(error) => cursor.end().then_some(Err(error)),
        }))
    }

    fn write(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), StoreError> {
        self.alive()?;
        // Not under the lock: the entries may come out of a scan of this very store.
        let mut chunk: Vec<_> = (&mut *entries).take(CHUNK).collect();
        while !chunk.is_empty() {
            let mut contents = contents::write(&self.contents);
            for (key, value) in chunk {
                contents.put(key, value);
                self.pass(CrashPoint::Written)?;
            }
            drop(contents);
            chunk = (&mut *entries).take(CHUNK).collect();
        }
        Ok(())
    }

    fn checkpoint(&self, at: Checkpoint) -> Result<(), StoreError> {
        self.pass(CrashPoint::BeforeCheckpoint(at))?;
        contents::write(&self.contents).checkpoint(at);
        self.pass(CrashPoint::AfterCheckpoint(at))
    }

    fn checkpointed(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.alive()?;
        Ok(contents::read(&self.contents).checkpointed())
    }

    fn origin(&self) -> Result<Option<String>, StoreError> {
        self.alive()?;
        Ok(contents::read(&self.contents).origin())
    }

    fn set_origin(&self, origin: &str) -> Result<(), StoreError> {
        self.alive()?;
        contents::write(&self.contents).set_origin(origin);
        Ok(())
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.alive()?;
        contents::write(&self.contents).clear();
        Ok(())
    }

    fn size(&self) -> u64 {
        contents::read(&self.contents).size()
    }
}

fn path(id: &StoreId) -> PathBuf {
    PathBuf::from(format!("memory:{}/{}", id.table, id.partition))
}

fn failed(id: &StoreId, reason: &str) -> StoreError {
    StoreError::Failed { path: path(id), reason: reason.to_owned() }
}
