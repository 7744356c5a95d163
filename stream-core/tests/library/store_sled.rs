//! What is peculiar to stores in files: damage, locks, directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use stream_core::store::{
    Checkpoint, Direction, KeyRange, SledOptions, SledStores, Store, StoreBackend, StoreError, StoreId,
};

use crate::store_support::{FINGERPRINT, Xorshift, all, at, delete, id, put};

const HOLD: &str = "STREAM_TEST_STORE_HOLD_DIR";

fn stores(dir: &Path) -> SledStores {
    SledStores::open_dir_with(dir, SledOptions::default().cache_bytes(8 << 20)).unwrap()
}

fn open(dir: &Path) -> Arc<dyn Store> {
    stores(dir).open(&id(), FINGERPRINT).unwrap()
}

/// Where sled's files are.
fn database(dir: &Path) -> PathBuf {
    dir.join("numbers-table/3")
}

/// The database without the store around it. sled lets go of a closed one only when its own threads have ended.
fn raw(dir: &Path) -> sled::Db {
    loop {
        match sled::open(database(dir)) {
            Err(error) if error.to_string().contains("acquire lock") => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

/// What to do to a store, and how it is called.
type Damage<'a> = (&'a str, &'a mut dyn FnMut(&Path));
type MetaDamage = (&'static str, fn(&sled::Tree));

/// Writes that can be told apart, with a checkpoint after every thousand.
struct History(BTreeMap<Vec<u8>, Vec<(i64, Vec<u8>)>>);

impl History {
    /// Writes it.
    fn write(dir: &Path) -> Self {
        let mut random = Xorshift(0xdead_beef_cafe_f00d);
        let mut history: BTreeMap<Vec<u8>, Vec<(i64, Vec<u8>)>> = BTreeMap::new();
        for n in 0..24_000_i64 {
            let key = (random.below(4000)).to_be_bytes();
            let mut value = vec![7; if n % 3_000 == 0 { 600_000 } else { random.below(400) }];
            value.extend_from_slice(&n.to_be_bytes());
            history.entry(key.to_vec()).or_default().push((n, value));
        }
        let mut in_order: Vec<(i64, &[u8], &[u8])> = history
            .iter()
            .flat_map(|(key, writes)| writes.iter().map(move |(n, value)| (*n, key.as_slice(), value.as_slice())))
            .collect();
        in_order.sort_unstable();
        // A little in sled's snapshot, most in the log that the next opening replays.
        let (first, rest) = in_order.split_at(2_000);
        for part in [first, rest] {
            let store = open(dir);
            for (n, key, value) in part {
                put(&*store, key, value);
                if n % 1_000 == 999 {
                    store.checkpoint(at(n + 1)).unwrap();
                }
            }
        }
        Self(history)
    }

    /// Whether these are the values at the checkpoint, or later ones.
    fn backs(&self, found: &BTreeMap<Vec<u8>, Vec<u8>>, checkpoint: Checkpoint) -> bool {
        self.0.iter().all(|(key, writes)| {
            let before = writes.partition_point(|(n, _)| *n < checkpoint.offset);
            match found.get(key) {
                None => before == 0,
                Some(value) => writes[before.saturating_sub(1)..].iter().any(|(_, written)| written == value),
            }
        })
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if from.is_dir() { copy(&from, &to) } else { assert!(fs::copy(from, to).is_ok()) }
    }
}

/// That a store is empty, and works.
fn assert_new(dir: &Path, what: &str) {
    let store = open(dir);
    assert_eq!(store.checkpointed().unwrap(), None, "{what}");
    assert_eq!(all(&*store), [], "{what}");
    put(&*store, b"a", b"1");
    store.checkpoint(at(1)).unwrap();
    drop(store);
    let store = open(dir);
    assert_eq!(store.get(b"a").unwrap(), Some(b"1".to_vec()), "{what}");
    assert_eq!(store.checkpointed().unwrap(), Some(at(1)), "{what}");
}

fn snapshot(dir: &Path) -> PathBuf {
    let files = fs::read_dir(database(dir)).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap.")).unwrap()
}

#[test]
fn a_damaged_store_comes_back_empty() {
    let sound = tempfile::tempdir().unwrap();
    History::write(sound.path());
    let mut random = Xorshift(1);
    let mut noise = |length: u64| -> Vec<u8> { (0..length).map(|_| random.next().to_le_bytes()[0]).collect() };
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let damages: [Damage<'_>; 8] = [
        ("the log is noise", &mut |dir| {
            let log = database(dir).join("db");
            fs::write(&log, noise(length(&log))).unwrap();
        }),
        ("the log is empty", &mut |dir| fs::write(database(dir).join("db"), "").unwrap()),
        ("the log is gone", &mut |dir| fs::remove_file(database(dir).join("db")).unwrap()),
        ("the log has holes", &mut |dir| {
            let log = database(dir).join("db");
            let mut bytes = fs::read(&log).unwrap();
            for hole in bytes.chunks_mut(90_000) {
                hole[..100].fill(0);
            }
            fs::write(&log, bytes).unwrap();
        }),
        ("the snapshot is noise", &mut |dir| fs::write(snapshot(dir), "noise, noise, noise").unwrap()),
        ("the snapshot is cut short", &mut |dir| {
            let bytes = fs::read(snapshot(dir)).unwrap();
            fs::write(snapshot(dir), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("the configuration is noise", &mut |dir| {
            fs::write(database(dir).join("conf"), "noise, noise, noise").unwrap();
        }),
        ("it was marked as damaged", &mut |dir| fs::write(database(dir).join("damaged"), "").unwrap()),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        copy(sound.path(), dir.path());
        damage(dir.path());
        assert_new(dir.path(), what);
    }
}

#[test]
fn whatever_is_damaged_a_checkpoint_is_backed_by_data() {
    let sound = tempfile::tempdir().unwrap();
    let history = History::write(sound.path());
    let mut random = Xorshift(0x0123_4567_89ab_cdef);
    let mut outcomes = BTreeMap::<&str, u32>::new();
    // The last copy is left as it is.
    for round in 0..61 {
        let dir = tempfile::tempdir().unwrap();
        copy(sound.path(), dir.path());
        // One flipped bit, a block of zeros or of noise, or the end cut off; mostly in the log.
        let file = if round % 8 == 7 { snapshot(dir.path()) } else { database(dir.path()).join("db") };
        let mut bytes = fs::read(&file).unwrap();
        let from = random.below(bytes.len());
        let to = bytes.len().min(from + random.below(20_000));
        let kind = round % 5;
        match kind {
            0 | 1 => bytes[from] ^= 1 << random.below(8),
            2 => bytes[from..to].fill(0),
            3 => bytes[from..to].fill_with(|| random.next().to_le_bytes()[0]),
            _ => bytes.truncate(from),
        }
        if round < 60 {
            fs::write(&file, bytes).unwrap();
        }

        let store = open(dir.path());
        let found: Result<BTreeMap<_, _>, StoreError> = store.range(KeyRange::ALL, Direction::Forward).collect();
        let outcome = match (found, store.checkpointed()) {
            (Ok(found), Ok(None)) if found.is_empty() => "wiped",
            (Ok(found), Ok(Some(checkpoint))) => {
                assert!(history.backs(&found, checkpoint), "round {round}, kind {kind} at {from}: {checkpoint:?}");
                "sound"
            }
            (Ok(found), other) => panic!("round {round}: {} keys, {other:?}", found.len()),
            (Err(_), _) => {
                // Found on reading: nothing can be written over it, and it is wiped the next time.
                assert!(store.write(&mut [(&b"a"[..], None)].into_iter()).is_err());
                assert!(store.checkpoint(at(99_999)).is_err());
                drop(store);
                assert_new(dir.path(), "found on reading");
                "found on reading"
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    // How much of the log a snapshot covers, and so how much damage is found at the opening, is a matter of sled's threads:
    // sometimes all of it.
    assert!(outcomes.contains_key("sound") && outcomes["wiped"] > 10, "the damage did too little: {outcomes:?}");
}

#[test]
fn damage_that_shows_on_reading_wipes_the_store_at_the_next_opening() {
    let sound = tempfile::tempdir().unwrap();
    let store = open(sound.path());
    for key in 0..20_000_u32 {
        put(&*store, &key.to_be_bytes(), &[7; 200]);
    }
    store.checkpoint(at(20_000)).unwrap();
    drop(store);
    // Opening covers all of the log by a snapshot, so that only the segment in use is looked through at the next one.
    drop(open(sound.path()));
    let log = fs::read(database(sound.path()).join("db")).unwrap();
    let mut found = 0;
    for place in (10_000..log.len()).step_by(200_000) {
        let dir = tempfile::tempdir().unwrap();
        copy(sound.path(), dir.path());
        let mut log = log.clone();
        log[place] ^= 1;
        fs::write(database(dir.path()).join("db"), log).unwrap();
        let store = open(dir.path());
        let Some(error) = store.range(KeyRange::ALL, Direction::Forward).find_map(Result::err) else { continue };
        found += 1;
        assert!(error.to_string().contains("numbers-table/3"), "{error}");
        let error = store.checkpoint(at(99_999)).unwrap_err();
        assert!(error.to_string().contains("opened again"), "{error}");
        drop(store);
        assert_new(dir.path(), "after a damaged page");
        if found == 3 {
            break;
        }
    }
    assert!(found > 0, "no damage was met by a read");
}

#[test]
fn metadata_that_can_not_be_read_wipes_the_store() {
    let damages: [MetaDamage; 4] = [
        ("no fingerprint", |meta| assert!(meta.remove("fingerprint").unwrap().is_some())),
        ("a fingerprint that is no text", |meta| assert!(meta.insert("fingerprint", &[0xff][..]).unwrap().is_some())),
        ("a short checkpoint", |meta| assert!(meta.insert("checkpoint", &[0; 15][..]).unwrap().is_some())),
        ("a long checkpoint", |meta| assert!(meta.insert("checkpoint", &[0; 17][..]).unwrap().is_some())),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        put(&*store, b"a", b"old");
        store.checkpoint(at(1)).unwrap();
        drop(store);
        let db = raw(dir.path());
        damage(&db.open_tree("meta").unwrap());
        db.flush().unwrap();
        drop(db);
        assert_new(dir.path(), what);
    }
    // A key that no key is stored as.
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.checkpoint(at(1)).unwrap();
    drop(store);
    let db = raw(dir.path());
    db.open_tree("keys").unwrap().insert([0xff], "x").unwrap();
    db.flush().unwrap();
    drop(db);
    let store = open(dir.path());
    let scan = store.range(KeyRange::ALL, Direction::Forward);
    assert_eq!(scan.filter(Result::is_err).count(), 1);
    drop(store);
    assert_new(dir.path(), "a key that no key is stored as");
}

#[test]
fn a_half_written_snapshot_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    History::write(dir.path());
    let before = open(dir.path()).checkpointed().unwrap();
    assert!(before.is_some());
    let half = database(dir.path()).join("snap.7FFFFFFFFFFFFFFF.generating");
    fs::write(&half, "half").unwrap();
    assert_eq!(open(dir.path()).checkpointed().unwrap(), before);
    assert!(!half.exists());
}

#[test]
fn a_directory_belongs_to_one_backend_and_its_stores() {
    let dir = tempfile::tempdir().unwrap();
    let first = stores(dir.path());
    let refused = || {
        let error = SledStores::open_dir(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    };
    refused();
    let store = first.open(&id(), FINGERPRINT).unwrap();
    drop(first);
    refused();
    drop(store);
    let again = stores(dir.path());
    assert_eq!(again.list().unwrap(), [id()]);
    // Another directory is another matter.
    assert!(SledStores::open_dir(dir.path().join("other")).is_ok());
}

/// Holds a directory until it is killed.
#[test]
#[ignore = "the child of another_process_has_the_directory, does nothing on its own"]
fn holder() {
    let Some(dir) = std::env::var_os(HOLD) else { return };
    let _held = stores(Path::new(&dir));
    println!("\nheld");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn another_process_has_the_directory() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_sled::holder", "--ignored", "--nocapture"])
        .env(HOLD, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"));
    assert!(matches!(SledStores::open_dir(dir.path()), Err(StoreError::Locked { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(stores(dir.path()).list().unwrap(), []);
}

#[test]
fn a_directory_that_can_not_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = SledStores::open_dir(&path).unwrap_err();
        assert!(matches!(error, StoreError::Directory { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
    // A file where a table's directory should be.
    let state = stores(&dir.path().join("state"));
    fs::write(state.dir().join("numbers-table"), "mine").unwrap();
    let error = state.open(&id(), FINGERPRINT).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    assert!(error.to_string().contains("numbers-table/3"), "{error}");
    assert_eq!(fs::read(state.dir().join("numbers-table")).unwrap(), b"mine");
}

#[cfg(unix)]
#[test]
fn a_directory_that_is_read_only_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(state.join("probe"), "").is_ok() {
        eprintln!("not tested: permissions do not apply to this user (root)");
        return;
    }
    let error = SledStores::open_dir(&state).unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    assert!(error.to_string().contains(state.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("denied"), "{error}");
}

#[test]
fn names_that_are_no_topics_never_reach_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let state = stores(&dir.path().join("state"));
    for bad in ["..", ".", "", "a/b", "/etc", "~lock", "a\0b"] {
        let id = StoreId::new(bad, 0);
        assert!(state.open(&id, FINGERPRINT).is_err(), "{bad:?}");
        assert!(state.destroy(&id).is_err(), "{bad:?}");
    }
    assert!(state.open(&StoreId::new("t", -1), FINGERPRINT).is_err());
    assert_eq!(state.list().unwrap(), []);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let files: Vec<_> = fs::read_dir(state.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["~lock"]);
}

#[test]
fn a_store_lies_at_its_table_and_partition_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = stores(dir.path());
    let store = state.open(&id(), FINGERPRINT).unwrap();
    assert!(database(dir.path()).join("db").is_file());
    put(&*store, b"a", b"1");
    delete(&*store, b"a");
    drop(store);
    state.destroy(&id()).unwrap();
    assert!(!dir.path().join("numbers-table").exists());
}

#[test]
fn databases_of_many_partitions_open_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let state = stores(dir.path());
    let partitions: Vec<_> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8)
            .map(|p| {
                let state = &state;
                scope.spawn(move || {
                    let store = state.open(&StoreId::new("t", p % 4), FINGERPRINT).unwrap();
                    put(&*store, &p.to_be_bytes(), b"x");
                    (p, store)
                })
            })
            .collect();
        opening.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (p, store) in partitions {
        assert_eq!(store.get(&p.to_be_bytes()).unwrap(), Some(b"x".to_vec()));
        assert_eq!(store.get(&((p + 4) % 8).to_be_bytes()).unwrap(), Some(b"x".to_vec()), "the same store");
        assert_eq!(store.get(&((p + 1) % 8).to_be_bytes()).unwrap(), None, "another one");
    }
    assert_eq!(state.list().unwrap().len(), 4);
}
