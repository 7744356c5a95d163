//! Large values in stores in files: the disk that they take, and what a crash in the middle of one leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stream_core::store::{Direction, KeyRange, SledOptions, SledStores, Store, StoreBackend, StoreError};

use crate::store_support::{FINGERPRINT, all, at, delete, id, put};

/// Bytes of the largest value that is stored in one piece.
const INLINE: usize = 5 * 1024;

fn open(dir: &Path) -> Arc<dyn Store> {
    try_open(dir, FINGERPRINT).unwrap()
}

fn try_open(dir: &Path, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError> {
    let stores = SledStores::open_dir_with(dir, SledOptions::default().cache_bytes(8 << 20)).unwrap();
    stores.open(&id(), fingerprint)
}

fn database(dir: &Path) -> PathBuf {
    dir.join("numbers-table/3")
}

/// The database without the store around it.
fn raw(dir: &Path) -> sled::Db {
    loop {
        match sled::open(database(dir)) {
            Err(error) if error.to_string().contains("acquire lock") => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

/// Numbers of the large values of a closed store, those with an owner and those with parts.
fn numbers(dir: &Path) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
    let db = raw(dir);
    let of = |tree: &str| {
        let keys = db.open_tree(tree).unwrap().iter().keys();
        keys.map(|key| key.unwrap()[..8].to_vec()).collect::<BTreeSet<_>>()
    };
    (of("owners"), of("parts"))
}

/// That a closed store holds the parts of so many values and no others.
fn assert_large(dir: &Path, count: usize, what: &str) {
    let (owners, parts) = numbers(dir);
    assert_eq!(owners, parts, "{what}");
    assert_eq!(owners.len(), count, "{what}");
}

fn disk(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { disk(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if from.is_dir() { copy(&from, &to) } else { assert!(fs::copy(from, to).is_ok()) }
    }
}

#[test]
fn values_written_again_and_again_take_a_small_multiple_of_their_size() {
    // Length of a value, keys, writes of each key in a run, runs.
    for (length, keys, writes, runs) in
        [(200_000, 5, 40, 1), (150_000, 5, 5, 4), (60_000, 8, 4, 12), (9_000, 40, 3, 12)]
    {
        let dir = tempfile::tempdir().unwrap();
        for run in 0..runs {
            let store = open(dir.path());
            for n in 0..writes {
                for key in 0..keys {
                    put(&*store, &[key], &vec![n ^ key; length]);
                }
                store.checkpoint(at(i64::from(run) * 1000 + i64::from(n))).unwrap();
            }
            assert_eq!(store.get(&[1]).unwrap(), Some(vec![(writes - 1) ^ 1; length]));
        }
        // sled begins with some segments of 512 KiB and uses them again, once a thread in the background has cleared them.
        let (taken, live) = (disk(&database(dir.path())), length as u64 * u64::from(keys));
        assert!(taken <= 8 * live + (10 << 20), "{length} bytes by {keys} keys: {taken} bytes for {live}");
        let files = fs::read_dir(database(dir.path()).join("blobs")).unwrap().count();
        assert_eq!(files, 0, "{length} bytes by {keys} keys: no value gets a file of its own");
    }
}

#[test]
fn parts_go_with_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for key in 0..6_u8 {
        put(&*store, &[key], &vec![key; 40_000]);
        put(&*store, &[key], &vec![key; 70_000]);
    }
    put(&*store, &[0], &[9; INLINE]);
    put(&*store, &[1], b"small");
    delete(&*store, &[2]);
    put(&*store, &[3], &[9; INLINE + 1]);
    store.checkpoint(at(1)).unwrap();
    drop(store);
    assert_large(dir.path(), 3, "overwritten and deleted");
    let store = open(dir.path());
    store.clear().unwrap();
    put(&*store, b"a", &vec![1; 30_000]);
    store.checkpoint(at(2)).unwrap();
    drop(store);
    assert_large(dir.path(), 1, "cleared");
    let store = open(dir.path());
    delete(&*store, b"a");
    drop(store);
    assert_large(dir.path(), 0, "the last one deleted");
}

#[test]
fn a_log_cut_anywhere_gives_whole_values_and_no_parts_beside_them() {
    let sound = tempfile::tempdir().unwrap();
    // From every kind of value to every other; each write has a value of its own.
    let lengths = [60_000, 90_000, 10, 70_000, 0, 80_000, 30_000];
    let values: Vec<Vec<u8>> = (1..).zip(lengths).map(|(n, length)| vec![n; length]).collect();
    let store = open(sound.path());
    put(&*store, b"steady", &vec![7; 50_000]);
    put(&*store, b"a", &values[0]);
    store.checkpoint(at(1)).unwrap();
    for value in &values[1..] {
        if value.is_empty() { delete(&*store, b"a") } else { put(&*store, b"a", value) }
    }
    drop(store);
    let log = fs::read(database(sound.path()).join("db")).unwrap();
    let mut seen = BTreeSet::new();
    for cut in (0..log.len()).step_by(31_000) {
        let dir = tempfile::tempdir().unwrap();
        copy(sound.path(), dir.path());
        fs::write(database(dir.path()).join("db"), &log[..cut]).unwrap();
        let store = open(dir.path());
        if store.checkpointed().unwrap().is_none() {
            assert_eq!(all(&*store), [], "cut at {cut}");
            continue;
        }
        assert_eq!(store.get(b"steady").unwrap(), Some(vec![7; 50_000]), "cut at {cut}");
        let found = store.get(b"a").unwrap().unwrap_or_default();
        assert!(values.contains(&found), "cut at {cut}: {} bytes", found.len());
        assert_eq!(all(&*store).len(), if found.is_empty() { 1 } else { 2 }, "cut at {cut}");
        drop(store);
        assert_large(dir.path(), if found.len() > INLINE { 2 } else { 1 }, &format!("cut at {cut}"));
        seen.insert(found.len());
    }
    assert!(seen.len() >= 4, "the cuts were too alike: {seen:?}");
}

#[test]
fn a_half_written_value_is_removed_when_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for key in [b"a", b"b", b"c"] {
        put(&*store, key, &vec![key[0]; 40_000]);
    }
    store.checkpoint(at(3)).unwrap();
    drop(store);
    // `a` was about to be replaced, `b` to be deleted, when the process died.
    let db = raw(dir.path());
    db.open_tree("meta").unwrap().insert("unfinished", &[]).unwrap();
    db.open_tree("owners").unwrap().insert(9_u64.to_be_bytes(), b"a").unwrap();
    for n in 0..4_u64 {
        db.open_tree("parts").unwrap().insert([9_u64.to_be_bytes(), n.to_be_bytes()].concat(), "x").unwrap();
    }
    db.open_tree("keys").unwrap().remove("b").unwrap();
    db.flush().unwrap();
    drop(db);
    let store = open(dir.path());
    assert_eq!(all(&*store), [(b"a".to_vec(), vec![b'a'; 40_000]), (b"c".to_vec(), vec![b'c'; 40_000])]);
    put(&*store, b"a", &vec![1; 50_000]);
    assert_eq!(store.get(b"a").unwrap(), Some(vec![1; 50_000]));
    drop(store);
    assert_large(dir.path(), 2, "after the half-written one");
}

#[test]
fn a_value_whose_parts_are_missing_or_changed_is_damage() {
    type Damage = fn(&sled::Tree, &[u8]);
    let damages: [(&str, Damage); 3] = [
        ("missing", |parts, key| assert!(parts.remove(key).unwrap().is_some())),
        ("another's", |parts, key| assert!(parts.insert(key, vec![8; INLINE]).unwrap().is_some())),
        ("shorter", |parts, key| assert!(parts.insert(key, vec![7; 100]).unwrap().is_some())),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        put(&*store, b"a", &vec![7; 40_000]);
        store.checkpoint(at(1)).unwrap();
        drop(store);
        let db = raw(dir.path());
        let parts = db.open_tree("parts").unwrap();
        let second = parts.iter().keys().nth(1).unwrap().unwrap();
        damage(&parts, &second);
        db.flush().unwrap();
        drop((db, parts));
        let store = open(dir.path());
        assert!(store.get(b"a").is_err(), "{what}");
        assert!(store.range(KeyRange::ALL, Direction::Forward).next().unwrap().is_err(), "{what}");
        assert!(store.checkpoint(at(2)).is_err(), "{what}: nothing is written over it");
        drop(store);
        assert_eq!(open(dir.path()).checkpointed().unwrap(), None, "{what}: it is wiped");
    }
}

#[test]
fn reads_during_a_rewrite_see_one_value_or_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&*store, b"b", b"between");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..60_u8 {
                match n % 4 {
                    3 => delete(&*store, b"c"),
                    2 => put(&*store, b"c", &[n; 20]),
                    _ => put(&*store, b"c", &vec![n; 20_000 + 400 * usize::from(n)]),
                }
            }
        });
        let whole = |value: &[u8]| {
            let n = value[0];
            let length = if n % 4 == 2 { 20 } else { 20_000 + 400 * usize::from(n) };
            assert!(value.len() == length && value.iter().all(|byte| *byte == n), "{n}: {} bytes", value.len());
        };
        while !writer.is_finished() {
            if let Some(value) = store.get(b"c").unwrap() {
                whole(&value);
            }
            for direction in [Direction::Forward, Direction::Reverse] {
                for pair in store.range(KeyRange::ALL, direction) {
                    let (key, value) = pair.unwrap();
                    if key == b"c" { whole(&value) } else { assert_eq!(value, b"between") }
                }
            }
        }
    });
}

#[test]
fn a_store_of_the_layout_before_is_wiped_to_be_restored() {
    // As `sled-1` laid it out: values of every length whole, in `keys`.
    let before = |dir: &Path| {
        fs::create_dir_all(database(dir)).unwrap();
        let db = raw(dir);
        let (keys, meta) = (db.open_tree("keys").unwrap(), db.open_tree("meta").unwrap());
        meta.insert("fingerprint", format!("sled-1 {FINGERPRINT}").as_str()).unwrap();
        meta.insert("origin", "topic").unwrap();
        for key in 0..40_u8 {
            keys.insert([key], vec![key; 20_000]).unwrap();
        }
        keys.insert("large", vec![7; 600_000]).unwrap();
        let checkpoint = [41_i64.to_be_bytes(), 1_000_i64.to_be_bytes()].concat();
        meta.insert("checkpoint", checkpoint).unwrap();
        db.flush().unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    before(dir.path());
    let store = open(dir.path());
    assert_eq!(store.checkpointed().unwrap(), None);
    assert_eq!(store.origin().unwrap(), None);
    assert_eq!(all(&*store), []);
    put(&*store, b"large", &vec![8; 600_000]);
    store.checkpoint(at(1)).unwrap();
    drop(store);
    assert_eq!(fs::read_dir(database(dir.path()).join("blobs")).unwrap().count(), 0);
    assert_eq!(open(dir.path()).get(b"large").unwrap(), Some(vec![8; 600_000]));

    // Another table's, or one of a version to come, stays: it may be wanted.
    let dir = tempfile::tempdir().unwrap();
    before(dir.path());
    let error = try_open(dir.path(), "another table").unwrap_err();
    assert!(matches!(error, StoreError::Fingerprint { .. }), "{error}");
    let db = raw(dir.path());
    db.open_tree("meta").unwrap().insert("fingerprint", format!("sled-3 {FINGERPRINT}").as_str()).unwrap();
    db.flush().unwrap();
    drop(db);
    let error = try_open(dir.path(), FINGERPRINT).unwrap_err();
    assert!(matches!(error, StoreError::Fingerprint { .. }), "{error}");
    assert!(error.to_string().contains("sled-3"), "{error}");
    assert_eq!(raw(dir.path()).open_tree("keys").unwrap().get("large").unwrap().unwrap().len(), 600_000);
}
