//! A process that uses a store in files is killed while it writes, again and again. What it knew to be durable must be there.
//!
//! The child is this test binary once more; an environment variable says where to write.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

#[cfg(feature = "fjall")]
use stream_core::store::{FjallOptions, FjallStores};
use stream_core::store::{SledOptions, SledStores, Store, StoreBackend};

use crate::store_support::{FINGERPRINT, Xorshift, at, id, put};

const DIR: &str = "STREAM_TEST_STORE_KILL_DIR";
/// The backend that the child is to use.
const KIND: &str = "STREAM_TEST_STORE_KILL_KIND";
const KEYS: u64 = 700;
const CHECKPOINT_EVERY: u64 = 300;
const ROUNDS: usize = 12;

/// The write with this number: its key, and a value that has the number. Some are too large for sled's log.
fn write(n: u64) -> ([u8; 8], Vec<u8>) {
    let length = match n % 211 {
        0 => 600_000,
        1..=3 => 20_000,
        short => 8 + usize::try_from(short).unwrap(),
    };
    let mut value = vec![u8::try_from(n % 251).unwrap(); length];
    value[..8].copy_from_slice(&n.to_be_bytes());
    ((n % KEYS).to_be_bytes(), value)
}

fn open(kind: &str, dir: &Path) -> Arc<dyn Store> {
    let stores: Arc<dyn StoreBackend> = match kind {
        "sled" => Arc::new(SledStores::open_dir_with(dir, SledOptions::default().cache_bytes(8 << 20)).unwrap()),
        #[cfg(feature = "fjall")]
        "fjall" => {
            let options = FjallOptions::default().cache_bytes(8 << 20).memtable_bytes(4 << 20);
            Arc::new(FjallStores::open_dir_with(dir, options).unwrap())
        }
        other => panic!("there is no backend {other}"),
    };
    stores.open(&id(), FINGERPRINT).unwrap()
}

/// Writes for ever, and says after each checkpoint how far it is.
#[test]
#[ignore = "the child of killed_at_any_moment_a_checkpoint_has_its_data, does nothing on its own"]
fn child() {
    let (Some(dir), Ok(kind)) = (std::env::var_os(DIR), std::env::var(KIND)) else { return };
    let store = open(&kind, Path::new(&dir));
    let from = store.checkpointed().unwrap().map_or(0, |at| u64::try_from(at.offset).unwrap());
    let mut out = std::io::stdout();
    for n in from.. {
        let (key, value) = write(n);
        put(&*store, &key, &value);
        if (n + 1) % CHECKPOINT_EVERY == 0 {
            store.checkpoint(at(i64::try_from(n + 1).unwrap())).unwrap();
            writeln!(out, "\ndone {}", n + 1).unwrap();
        }
    }
}

/// Reads how far the child is, up to `count` times; the last of it.
fn progress(child: &mut Child, count: usize) -> u64 {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let done = lines.filter_map(|line| line.strip_prefix("done ").map(|n| n.parse().unwrap()));
    done.take(count).last().expect("the child says something")
}

#[test]
fn killed_at_any_moment_a_checkpoint_has_its_data() {
    kill("sled");
}

#[cfg(feature = "fjall")]
#[test]
fn killed_at_any_moment_a_checkpoint_of_fjall_has_its_data() {
    kill("fjall");
}

fn kill(kind: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut last = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store_kill::child", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .env(KIND, kind)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let durable = progress(&mut child, 1 + random.below(8));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(durable > last, "the child goes on where the last one was");

        let store = open(kind, dir.path());
        let checkpoint = store.checkpointed().unwrap().map_or(0, |at| u64::try_from(at.offset).unwrap());
        assert!(
            checkpoint >= durable,
            "round {round}: checkpoint {checkpoint} was {durable} when the child heard of it"
        );
        for key in 0..KEYS {
            let bytes = store.get(&key.to_be_bytes()).unwrap();
            // The last write of this key before the checkpoint, if any, or one after it.
            let since = (0..checkpoint).rev().take(KEYS.try_into().unwrap()).find(|n| n % KEYS == key);
            let found = bytes.as_ref().map(|value| u64::from_be_bytes(value[..8].try_into().unwrap()));
            assert!(found >= since, "round {round}, key {key}: {found:?} is older than {since:?}, before {checkpoint}");
            if let Some(n) = found {
                assert_eq!(bytes, Some(write(n).1), "round {round}: the value is as it was written");
            }
        }
        last = checkpoint;
        if kind != "sled" {
            continue;
        }
        // Nothing of a value that was half written or half removed stays.
        let live = (0..KEYS).filter_map(|key| store.get(&key.to_be_bytes()).unwrap());
        let live = live.filter(|value| value.len() > 5 * 1024).count();
        drop(store);
        assert_eq!(large_values(dir.path()), live, "round {round}");
    }
}

/// How many large values have parts in a closed store.
fn large_values(dir: &Path) -> usize {
    let db = loop {
        match sled::open(dir.join("numbers-table/3")) {
            Err(error) if error.to_string().contains("acquire lock") => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    let parts = db.open_tree("parts").unwrap().iter().keys();
    // The number of a part is 8 bytes long, that of its value may be longer: the store writes 254 and 255 as two bytes each.
    let values = parts.map(|key| key.unwrap()).map(|key| key[..key.len() - 8].to_vec());
    values.collect::<BTreeSet<_>>().len()
}
