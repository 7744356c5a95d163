//! Stores by fjall: files that are damaged or another's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stream_core::store::{
    Checkpoint, Direction, FjallOptions, FjallStores, KeyRange, SledStores, Store, StoreBackend, StoreError,
};

use crate::store_support::{FINGERPRINT, Xorshift, all, at, id, put};

/// One handle; the directory is free again when it is dropped.
fn open(dir: &Path) -> Arc<dyn Store> {
    let options = FjallOptions::default().cache_bytes(8 << 20).memtable_bytes(1 << 20);
    FjallStores::open_dir_with(dir, options).unwrap().open(&id(), FINGERPRINT).unwrap()
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if from.is_dir() { copy(&from, &to) } else { assert!(fs::copy(from, to).is_ok()) }
    }
}

/// Writes that can be told apart, with a checkpoint after every thousand.
struct History(BTreeMap<Vec<u8>, Vec<(i64, Vec<u8>)>>);

impl History {
    fn write(dir: &Path) -> Self {
        let mut random = Xorshift(0xdead_beef_cafe_f00d);
        let mut history: BTreeMap<Vec<u8>, Vec<(i64, Vec<u8>)>> = BTreeMap::new();
        let mut store = open(dir);
        for n in 0..24_000_i64 {
            if n == 2_000 {
                drop(store);
                store = open(dir);
            }
            let key = random.below(4000).to_be_bytes();
            let mut value = vec![7; if n % 3_000 == 0 { 600_000 } else { random.below(400) }];
            value.extend_from_slice(&n.to_be_bytes());
            put(&*store, &key, &value);
            history.entry(key.to_vec()).or_default().push((n, value));
            if n % 1_000 == 999 {
                store.checkpoint(at(n + 1)).unwrap();
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

#[test]
fn whatever_is_damaged_a_checkpoint_is_backed_by_data() {
    let sound = tempfile::tempdir().unwrap();
    let history = History::write(sound.path());
    let database = sound.path().join(&*id().table).join(id().partition.to_string());
    let names: Vec<PathBuf> =
        files(&database).iter().map(|path| path.strip_prefix(sound.path()).unwrap().to_owned()).collect();
    let mut random = Xorshift(0x0123_4567_89ab_cdef);
    let mut outcomes = BTreeMap::<&str, u32>::new();
    // The last copy is left as it is.
    for round in 0..121 {
        let dir = tempfile::tempdir().unwrap();
        copy(sound.path(), dir.path());
        let name = &names[round % names.len()];
        let file = dir.path().join(name);
        let mut bytes = fs::read(&file).unwrap();
        let from = if bytes.is_empty() { 0 } else { random.below(bytes.len()) };
        let to = bytes.len().min(from + random.below(20_000));
        let kind = random.below(6);
        match kind {
            0 | 1 if !bytes.is_empty() => bytes[from] ^= 1 << random.below(8),
            2 => bytes[from..to].fill(0),
            3 => bytes[from..to].fill_with(|| random.next().to_le_bytes()[0]),
            _ => bytes.truncate(from),
        }
        match round {
            120 => {}
            _ if kind == 5 => fs::remove_file(&file).unwrap(),
            _ => fs::write(&file, bytes).unwrap(),
        }
        let what = format!("round {round}, kind {kind}, {} at {from}", name.display());

        let store = open(dir.path());
        let found: Result<BTreeMap<_, _>, StoreError> = store.range(KeyRange::ALL, Direction::Forward).collect();
        let outcome = match (found, store.checkpointed()) {
            (Ok(found), Ok(None)) if found.is_empty() => "wiped",
            (Ok(found), Ok(Some(checkpoint))) => {
                assert!(history.backs(&found, checkpoint), "{what}: {checkpoint:?}");
                "sound"
            }
            (Ok(found), other) => panic!("{what}: {} keys, {other:?}", found.len()),
            (Err(_), _) => {
                // Found on reading: nothing can be written over it, and it is wiped the next time.
                assert!(store.write(&mut [(&b"a"[..], None)].into_iter()).is_err(), "{what}");
                drop(store);
                let store = open(dir.path());
                assert_eq!((store.checkpointed().unwrap(), all(&*store)), (None, vec![]), "{what}");
                "found on reading"
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    assert!(outcomes.len() > 1, "the damage did too little: {outcomes:?}");
}

#[test]
fn a_store_of_another_backend_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&*store, b"a", b"1");
    store.checkpoint(at(1)).unwrap();
    drop(store);
    let error = SledStores::open_dir(dir.path()).unwrap().open(&id(), FINGERPRINT).unwrap_err();
    assert!(
        matches!(&error, StoreError::Fingerprint { .. }) && error.to_string().contains("a store of fjall"),
        "{error}"
    );
    assert_eq!(open(dir.path()).get(b"a").unwrap(), Some(b"1".to_vec()));

    let dir = tempfile::tempdir().unwrap();
    drop(SledStores::open_dir(dir.path()).unwrap().open(&id(), FINGERPRINT).unwrap());
    let error = FjallStores::open_dir(dir.path()).unwrap().open(&id(), FINGERPRINT).unwrap_err();
    assert!(
        matches!(&error, StoreError::Fingerprint { .. }) && error.to_string().contains("a store of sled"),
        "{error}"
    );
}

#[test]
fn a_key_that_is_too_long_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&*store, &vec![1; 65_534], b"1");
    let error = store.write(&mut [(&vec![1; 65_535][..], Some(&b"1"[..]))].into_iter()).unwrap_err();
    assert!(error.to_string().contains("65534"), "{error}");
    assert_eq!(store.get(&vec![1; 65_534]).unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.get(&vec![1; 65_535]).unwrap(), None);
}
