//! Stores in files on a disk that is full: each write of theirs is once the first that does not fit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "fjall")]
use stream_core::store::{FjallOptions, FjallStores};
use stream_core::store::{SledOptions, SledStores, Store, StoreBackend, StoreError};

use super::disk::{Disk, Refuses, on_a_loaded_disk, on_a_mounted_disk};
use crate::store_support::{FINGERPRINT, all, at, id};

/// Records of the changelog.
const RECORDS: usize = 480;
const BATCH: usize = 20;
const CHECKPOINT_EVERY: usize = 60;
const KEYS: usize = 170;
/// More than what is written after the disk is full.
const MOST_ROOM: u32 = 1_300_000;

fn backend(kind: &str, dir: &Path) -> Result<Box<dyn StoreBackend>, StoreError> {
    match kind {
        "sled" => Ok(Box::new(SledStores::open_dir_with(dir, SledOptions::default().cache_bytes(8 << 20))?)),
        #[cfg(feature = "fjall")]
        "fjall" => {
            // So small that files are written, and merged, while the disk is full.
            let options = FjallOptions::default().cache_bytes(8 << 20).memtable_bytes(64 << 10);
            Ok(Box::new(FjallStores::open_dir_with(dir, options)?))
        }
        other => panic!("there is no backend {other}"),
    }
}

fn open(kind: &str, dir: &Path) -> Result<(Arc<dyn Store>, Box<dyn StoreBackend>), StoreError> {
    let backend = backend(kind, dir)?;
    Ok((backend.open(&id(), FINGERPRINT)?, backend))
}

/// A record of the changelog: its key, and its value if it is no deletion.
fn record(n: usize) -> (Vec<u8>, Option<Vec<u8>>) {
    let length = match n {
        _ if n % 7 == 3 => return ((n * 31 % KEYS).to_be_bytes().to_vec(), None),
        _ if n % 211 == 150 => 200_000,
        _ if n.is_multiple_of(61) => 20_000,
        _ => 8 + n * 13 % 300,
    };
    let mut value = vec![u8::try_from(n % 251).unwrap(); length];
    value[..8].copy_from_slice(&n.to_be_bytes());
    ((n * 31 % KEYS).to_be_bytes().to_vec(), Some(value))
}

/// The state after the first records.
fn model(records: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut model = BTreeMap::new();
    for (key, value) in (0..records).map(record) {
        match value {
            Some(value) => model.insert(key, value),
            None => model.remove(&key),
        };
    }
    model
}

/// How far a copy of the changelog is.
#[derive(Clone, Copy)]
struct Progress {
    written: usize,
    /// The last checkpoint that was acknowledged, and the last one that was begun.
    acknowledged: usize,
    begun: usize,
}

impl Progress {
    /// That of a store which is opened.
    fn of(store: &dyn Store) -> Self {
        let from = store.checkpointed().unwrap().map_or(0, |at| usize::try_from(at.offset).unwrap());
        Self { written: from, acknowledged: from, begun: from }
    }

    /// Goes on up to a record.
    fn go_on(&mut self, store: &dyn Store, to: usize) -> Result<(), StoreError> {
        self.go_on_with(store, to, || {})
    }

    /// The same, and does something before each checkpoint.
    fn go_on_with(&mut self, store: &dyn Store, to: usize, before: impl Fn()) -> Result<(), StoreError> {
        while self.written < to {
            let end = (self.written / BATCH + 1) * BATCH;
            let batch: Vec<_> = (self.written..end).map(record).collect();
            self.written = end;
            store.write(&mut batch.iter().map(|(key, value)| (key.as_slice(), value.as_deref())))?;
            if end.is_multiple_of(CHECKPOINT_EVERY) {
                self.begun = end;
                before();
                store.checkpoint(at(i64::try_from(end).unwrap()))?;
                self.acknowledged = end;
            }
        }
        Ok(())
    }

    /// What the store has is wiped, or the values at its checkpoint or later ones. Whether it is wiped.
    fn is_wiped(self, store: &dyn Store, case: &str) -> bool {
        let Self { written, acknowledged, begun } = self;
        let found: BTreeMap<_, _> = all(store).into_iter().collect();
        let Some(checkpoint) = store.checkpointed().unwrap() else {
            assert!(found.is_empty(), "{case}: {} keys without a checkpoint", found.len());
            return true;
        };
        let from = usize::try_from(checkpoint.offset).unwrap();
        let is_known = from == acknowledged || from == begun;
        assert!(is_known, "{case}: {checkpoint:?}, where {acknowledged} was acknowledged and {begun} begun");
        let before = model(from);
        for key in (0..KEYS).map(|key| key.to_be_bytes().to_vec()) {
            let found = found.get(&key);
            let later = || (from..written).map(record).any(|(of, value)| of == key && value.as_ref() == found);
            assert!(found == before.get(&key) || later(), "{case}: {key:?} is not as at {from} or later");
        }
        false
    }

    /// Opens the store with room again, reads the changelog on from its checkpoint, and compares. Whether it was wiped.
    fn made_good(self, kind: &str, dir: &Path, case: &str) -> bool {
        let (store, backend) = open(kind, dir).unwrap_or_else(|e| panic!("{case}: with room again: {e}"));
        let wiped = self.is_wiped(&*store, case);
        let again = Self::of(&*store).go_on(&*store, RECORDS);
        again.unwrap_or_else(|e| panic!("{case}: with room again: {e}"));
        drop((store, backend));
        let (store, _backend) = open(kind, dir).unwrap();
        assert_eq!(store.checkpointed().unwrap(), Some(at(RECORDS.try_into().unwrap())), "{case}");
        assert!(all(&*store).into_iter().collect::<BTreeMap<_, _>>() == model(RECORDS), "{case}: not exact at the end");
        wiped
    }
}

/// The error names the folder, and what to do.
fn check(error: &StoreError, dir: &Path, case: &str) {
    let text = error.to_string();
    assert!(text.contains(dir.to_str().unwrap()) && text.contains("has room"), "{case}: {text}");
}

/// The child: the disk, the store's kind, and what became of the stores, by how often.
struct Child {
    disk: Disk,
    kind: String,
    outcomes: BTreeMap<&'static str, u32>,
}

impl Child {
    fn count(&mut self, outcome: &'static str) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    fn dir(&self) -> tempfile::TempDir {
        self.disk.empty();
        tempfile::tempdir_in(self.disk.folder()).unwrap()
    }

    /// Opens the store on the full disk.
    fn open_on_full_disk(&mut self, dir: &Path, then: impl FnOnce(&dyn Store), case: &str) {
        match open(&self.kind, dir) {
            Ok((store, _backend)) => {
                then(&*store);
                self.count("opened while it is full");
            }
            Err(error) => {
                check(&error, dir, case);
                self.count("not opened while it is full");
            }
        }
    }

    /// The disk has room for so much after the first records are there; without any, it is a restore that is interrupted.
    fn fill_while_it_writes(&mut self, first: usize, room: u32, refuses: Refuses) {
        self.fill(first, room, refuses, false);
    }

    /// Finds the room in which the last byte of a checkpoint does not fit: what is before it is on the disk, and no more.
    fn fill_at_the_last_byte(&mut self, first: usize) {
        let (mut too_little, mut enough) = (0, MOST_ROOM);
        while enough - too_little > 1 {
            let room = too_little.midpoint(enough);
            if self.fill(first, room, Refuses::Writes, true) {
                enough = room;
            } else {
                too_little = room;
            }
        }
        // The store goes while the disk is full, or later.
        self.fill(first, too_little.saturating_sub(1), Refuses::Writes, true);
    }

    /// Whether the next checkpoint is acknowledged.
    fn fill(&mut self, first: usize, room: u32, refuses: Refuses, at_checkpoint: bool) -> bool {
        let when = if at_checkpoint { "at a checkpoint" } else { "while it writes" };
        let case = format!("{}, {first} records, then {room} bytes of room {when}, {refuses:?}", self.kind);
        let dir = self.dir();
        let dir = dir.path();
        let (store, backend) = open(&self.kind, dir).unwrap();
        let mut progress = Progress::of(&*store);
        progress.go_on(&*store, first).unwrap();
        if !at_checkpoint {
            self.disk.leave(room, refuses);
        }
        let (mut outcome, end) = (Ok(()), if at_checkpoint { first + CHECKPOINT_EVERY } else { RECORDS });
        while outcome.is_ok() && progress.acknowledged < end {
            let fill = || {
                if at_checkpoint {
                    self.disk.leave(room, refuses);
                }
            };
            outcome = progress.go_on_with(&*store, progress.acknowledged + CHECKPOINT_EVERY, fill);
            assert!(
                outcome.is_err() || !self.disk.owes(),
                "{case}: a checkpoint that is not on the disk is acknowledged"
            );
        }
        // The store goes while the disk is full, or when there is room again.
        let goes_late = room % 2 == 1;
        if goes_late {
            self.disk.empty();
        }
        match &outcome {
            Ok(()) => self.count("all of it fits"),
            Err(error) => {
                check(error, dir, &case);
                let at_checkpoint = progress.begun == progress.written;
                self.count(if at_checkpoint { "refused at a checkpoint" } else { "refused at a write" });
                for change in [store.write(&mut std::iter::empty()), store.checkpoint(at(1)), store.clear()] {
                    assert!(change.is_err(), "{case}: it goes on after what failed");
                }
            }
        }
        drop((store, backend));
        if outcome.is_err() && !goes_late {
            self.disk.leave(0, refuses);
            let then = |store: &dyn Store| _ = progress.is_wiped(store, &case);
            self.open_on_full_disk(dir, then, &case);
        }
        self.disk.empty();
        let wiped = progress.made_good(&self.kind, dir, &case);
        self.count(if wiped { "wiped" } else { "as at its checkpoint" });
        progress.acknowledged > first
    }

    /// A store is made, or one that was left in the middle is opened.
    fn fill_while_it_opens(&mut self, first: usize, room: u32, refuses: Refuses) {
        let case = format!("{}, {room} bytes of room to open {first} records, {refuses:?}", self.kind);
        let dir = self.dir();
        let dir = dir.path();
        let mut progress = Progress { written: 0, acknowledged: 0, begun: 0 };
        if first > 0 {
            let (store, _backend) = open(&self.kind, dir).unwrap();
            progress.go_on(&*store, first).unwrap();
        }
        self.disk.leave(room, refuses);
        let then = |store: &dyn Store| _ = progress.is_wiped(store, &case);
        self.open_on_full_disk(dir, then, &case);
        self.disk.empty();
        let wiped = progress.made_good(&self.kind, dir, &case);
        assert_eq!(wiped, first == 0, "{case}: what was not written to is not wiped");
    }

    /// The store is emptied, as for a topic that was recreated: nothing of it is left, or all, but no part.
    fn fill_while_it_clears(&mut self, room: u32, refuses: Refuses) {
        let case = format!("{}, {room} bytes of room to clear it, {refuses:?}", self.kind);
        let dir = self.dir();
        let dir = dir.path();
        let (store, backend) = open(&self.kind, dir).unwrap();
        let mut progress = Progress::of(&*store);
        progress.go_on(&*store, 240).unwrap();
        store.set_origin("first").unwrap();
        self.disk.leave(room, refuses);
        let cleared = store.clear().and_then(|()| store.set_origin("second"));
        if let Err(error) = &cleared {
            check(error, dir, &case);
            self.count("not cleared");
        }
        drop((store, backend));
        self.disk.empty();
        let (store, backend) = open(&self.kind, dir).unwrap();
        let (wiped, origin) = (progress.is_wiped(&*store, &case), store.origin().unwrap());
        match origin.as_deref() {
            Some("first") => assert!(cleared.is_err() && !wiped, "{case}"),
            Some("second") => assert!(wiped, "{case}"),
            _ => assert!(wiped && cleared.is_err(), "{case}: {origin:?}"),
        }
        drop((store, backend));
        progress.made_good(&self.kind, dir, &case);
    }

    /// The name of the instance is there whole, or not.
    fn fill_while_it_is_named(&mut self, room: u32, refuses: Refuses) {
        let case = format!("{}, {room} bytes of room for its name, {refuses:?}", self.kind);
        let dir = self.dir();
        let stores = backend(&self.kind, dir.path()).unwrap();
        self.disk.leave(room, refuses);
        let name = stores.instance_id();
        if let Err(error) = &name {
            check(error, dir.path(), &case);
            self.count("not named");
        }
        self.disk.empty();
        let later = stores.instance_id().unwrap();
        assert_eq!(later.len(), 32, "{case}: {later}");
        assert!(name.is_err() || name.unwrap() == later, "{case}");
    }
}

#[test]
#[ignore = "the child of the tests below, does nothing on its own"]
fn child() {
    let Some((disk, kind)) = Disk::of_child() else { return };
    // One that waits for ever is an error, too.
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(400));
        eprintln!("it takes too long");
        std::process::exit(3);
    });
    let mut child = Child { disk, kind, outcomes: BTreeMap::new() };
    // fjall takes half a second to open a store, and to close it. Odd, for the sake of what a case takes from the room.
    let steps = if child.kind == "sled" { (47_017, 3_557) } else { (161_009, 9_001) };
    for &refuses in child.disk.ways() {
        for room in (0..MOST_ROOM).step_by(steps.0) {
            for first in [0, 240] {
                child.fill_while_it_writes(first, room, refuses);
            }
        }
        for room in (0..40_000).step_by(steps.1) {
            for first in [0, 240] {
                child.fill_while_it_opens(first, room, refuses);
            }
            child.fill_while_it_clears(room, refuses);
        }
        for room in [0, 10, 31] {
            child.fill_while_it_is_named(room, refuses);
        }
    }
    for first in [0, 240] {
        child.fill_at_the_last_byte(first);
    }
    println!("{}: {:?}", child.kind, child.outcomes);
    for outcome in ["all of it fits", "refused at a checkpoint", "as at its checkpoint", "not opened while it is full"]
    {
        assert!(child.outcomes.contains_key(outcome), "what the test is about: {outcome}: {:?}", child.outcomes);
    }
}

const CHILD: &str = "disk_full::stores::child";

#[test]
fn a_full_disk_takes_nothing_from_a_store_of_sled() {
    on_a_loaded_disk(CHILD, "sled");
}

#[test]
fn a_full_file_system_takes_nothing_from_a_store_of_sled() {
    on_a_mounted_disk(CHILD, "sled");
}

#[cfg(feature = "fjall")]
#[test]
fn a_full_disk_takes_nothing_from_a_store_of_fjall() {
    on_a_loaded_disk(CHILD, "fjall");
}

#[cfg(feature = "fjall")]
#[test]
fn a_full_file_system_takes_nothing_from_a_store_of_fjall() {
    on_a_mounted_disk(CHILD, "fjall");
}
