//! What every store must do, whatever it is made of.
//!
//! A test here gets a [`World`]: a place for stores, which can be left and come back to as by another process. It must
//! not know which kind of store it has.
#![allow(unreachable_pub, dead_code, reason = "shared: not every test binary uses all of it")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use stream_core::store::{
    Checkpoint, Direction, KeyRange, Pair, Store, StoreBackend, StoreError, StoreId, prefix_end, prefix_scan,
};

use crate::store_support::{FINGERPRINT, Xorshift, all, at, delete, id, keys, pairs, put};

/// A place for stores.
pub trait World {
    /// The backend as it is.
    fn backend(&self) -> &dyn StoreBackend;
    /// Another process, after the first one ended.
    fn restart(&mut self);
}

/// Makes a test of each function of the suite.
macro_rules! store_suite {
    ($kind:ident, $world:expr) => {
        mod $kind {
            use super::*;
            store_suite!(@tests $world;
                reads_what_was_written
                empty_keys_and_values
                large_values
                values_of_every_length_replace_each_other
                keys_that_look_like_metadata
                ranges_of_every_kind
                ranges_that_end_before_they_begin
                prefixes
                scans_are_lazy
                scans_while_writing
                a_scan_of_a_store_can_be_written_into_it
                checkpoints_survive_with_their_data
                without_a_checkpoint_nothing_survives
                later_writes_never_move_the_checkpoint
                what_an_unfinished_checkpoint_left_is_deleted
                sorted_batches_with_deletions_match_a_model
                another_fingerprint_is_refused
                an_open_store_is_shared
                destroy_removes_closed_stores_only
                list_tells_the_stores
                clear_leaves_nothing
                size_grows
                random_operations_match_a_model
            );
        }
    };
    (@tests $world:expr; $($name:ident)*) => {
        $(#[test]
        fn $name() {
            crate::store_suite::$name(&mut $world);
        })*
    };
}

pub fn open(world: &dyn World) -> Arc<dyn Store> {
    world.backend().open(&id(), FINGERPRINT).unwrap()
}

pub fn reads_what_was_written(world: &mut dyn World) {
    let store = open(world);
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(all(&*store), []);
    // In order: the later one of two wins, a delete in between as well.
    let entries: [(&[u8], Option<&[u8]>); 5] =
        [(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3")), (b"b", None), (b"never", None)];
    store.write(&mut entries.into_iter()).unwrap();
    assert_eq!(store.get(b"a").unwrap(), Some(b"3".to_vec()));
    assert_eq!(store.get(b"b").unwrap(), None);
    assert_eq!(all(&*store), [(b"a".to_vec(), b"3".to_vec())]);
    // More than fits into any chunk.
    let many: Vec<[u8; 4]> = (0..3000_u32).map(u32::to_be_bytes).collect();
    store.write(&mut many.iter().map(|key| (&key[..], Some(&key[..])))).unwrap();
    delete(&*store, b"a");
    assert_eq!(keys(store.range(KeyRange::ALL, Direction::Forward)), many);
    assert_eq!(store.get(&2999_u32.to_be_bytes()).unwrap(), Some(2999_u32.to_be_bytes().to_vec()));
    store.write(&mut std::iter::empty()).unwrap();
}

pub fn empty_keys_and_values(world: &mut dyn World) {
    let store = open(world);
    put(&*store, b"", b"of no key");
    put(&*store, b"\0", b"");
    put(&*store, b"a", b"");
    for _ in 0..2 {
        assert_eq!(store.get(b"").unwrap(), Some(b"of no key".to_vec()));
        assert_eq!(store.get(b"a").unwrap(), Some(Vec::new()));
        let found = keys(store.range(KeyRange::ALL, Direction::Reverse));
        assert_eq!(found, [&b"a"[..], b"\0", b""]);
        let only_empty = KeyRange { from: Bound::Included(b""), to: Bound::Included(b"") };
        assert_eq!(keys(store.range(only_empty, Direction::Forward)), [b""]);
        let but_empty = KeyRange { from: Bound::Excluded(b""), to: Bound::Unbounded };
        assert_eq!(keys(store.range(but_empty, Direction::Reverse)), [&b"a"[..], b"\0"]);
        let below_empty = KeyRange { from: Bound::Unbounded, to: Bound::Excluded(b"") };
        assert_eq!(keys(store.range(below_empty, Direction::Forward)), Vec::<Vec<u8>>::new());
        store.checkpoint(at(1)).unwrap();
    }
    drop(store);
    world.restart();
    let store = open(world);
    assert_eq!(store.get(b"").unwrap(), Some(b"of no key".to_vec()));
    delete(&*store, b"");
    assert_eq!(store.get(b"").unwrap(), None);
    assert_eq!(all(&*store).len(), 2);
}

pub fn large_values(world: &mut dyn World) {
    let store = open(world);
    let value = |fill: u8| vec![fill; 1 << 20];
    for key in 0..8 {
        put(&*store, &[key], &value(key));
    }
    put(&*store, &[3], &value(33));
    delete(&*store, &[4]);
    store.checkpoint(at(10)).unwrap();
    drop(store);
    world.restart();
    let store = open(world);
    assert_eq!(store.get(&[3]).unwrap(), Some(value(33)));
    assert_eq!(store.get(&[4]).unwrap(), None);
    let found = store.range(KeyRange::ALL, Direction::Reverse).map(Result::unwrap);
    let found: Vec<(u8, u8, usize)> = found.map(|(key, value)| (key[0], value[0], value.len())).collect();
    let expected = [(7, 7), (6, 6), (5, 5), (3, 33), (2, 2), (1, 1), (0, 0)];
    assert_eq!(found, expected.map(|(key, fill)| (key, fill, 1 << 20)));
    let long_key = vec![0xff; 60_000];
    put(&*store, &long_key, b"long");
    assert_eq!(store.get(&long_key).unwrap(), Some(b"long".to_vec()));
}

pub fn values_of_every_length_replace_each_other(world: &mut dyn World) {
    // Around the lengths at which stores change how they store a value, and several times those.
    const LENGTHS: [usize; 15] =
        [0, 1, 5_119, 5_120, 5_121, 5_139, 5_140, 5_141, 10_239, 10_240, 10_241, 10_260, 20_480, 51_201, 140_000];
    let mut store = open(world);
    let mut model = BTreeMap::new();
    for (first, a) in (0_u8..).zip(LENGTHS) {
        for (second, b) in (0_u8..).zip(LENGTHS) {
            let key = [first, second];
            put(&*store, &key, &vec![first; a]);
            let value = vec![second ^ 0x80; b];
            put(&*store, &key, &value);
            assert_eq!(store.get(&key).unwrap().as_ref(), Some(&value), "{a} bytes, then {b}");
            model.insert(key.to_vec(), value);
            if (first + second) % 4 == 0 {
                delete(&*store, &key);
                model.remove(&key[..]);
                assert_eq!(store.get(&key).unwrap(), None, "{a} bytes, then {b}, then none");
            }
        }
    }
    for checkpoint in [1, 2] {
        check_range(&*store, &model, Bound::Unbounded, Bound::Unbounded);
        check_range(&*store, &model, Bound::Excluded(&[3, 4]), Bound::Included(&[9, 1]));
        store.checkpoint(at(checkpoint)).unwrap();
        drop(store);
        world.restart();
        store = open(world);
        assert_eq!(store.checkpointed().unwrap(), Some(at(checkpoint)));
    }
    check_range(&*store, &model, Bound::Unbounded, Bound::Unbounded);
}

pub fn keys_that_look_like_metadata(world: &mut dyn World) {
    let store = open(world);
    let suspects: [&[u8]; 8] =
        [b"", b"__sled__default", b"checkpoint", b"fingerprint", b"keys", b"meta", b"offset", b"\xff\xffmeta"];
    for key in suspects {
        put(&*store, key, b"mine");
    }
    assert_eq!(store.checkpointed().unwrap(), None);
    store.checkpoint(at(7)).unwrap();
    let theirs = || suspects.map(|key| (key.to_vec(), b"mine".to_vec())).to_vec();
    assert_eq!(all(&*store), theirs(), "no metadata among the keys");
    drop(store);
    world.restart();
    let store = open(world);
    assert_eq!(all(&*store), theirs());
    for key in suspects {
        delete(&*store, key);
    }
    assert_eq!(store.checkpointed().unwrap(), Some(at(7)));
    drop(store);
    assert!(matches!(world.backend().open(&id(), "other"), Err(StoreError::Fingerprint { .. })));
}

/// Compares a scan with the model's.
fn check_range(store: &dyn Store, model: &BTreeMap<Vec<u8>, Vec<u8>>, from: Bound<&[u8]>, to: Bound<&[u8]>) {
    let range = KeyRange { from, to };
    let mut expected: Vec<Pair> = if range.is_empty() {
        Vec::new()
    } else {
        model.range::<[u8], _>((from, to)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    assert_eq!(pairs(store.range(range, Direction::Forward)), expected, "forward {range:?}");
    expected.reverse();
    assert_eq!(pairs(store.range(range, Direction::Reverse)), expected, "reverse {range:?}");
}

pub fn ranges_of_every_kind(world: &mut dyn World) {
    let store = open(world);
    let mut model = BTreeMap::new();
    // Keys of even numbers, so that every bound is tried on a key and between two.
    for n in (0..600_u16).step_by(2) {
        put(&*store, &n.to_be_bytes(), &n.to_le_bytes());
        model.insert(n.to_be_bytes().to_vec(), n.to_le_bytes().to_vec());
    }
    let edges: Vec<[u8; 2]> = [0_u16, 1, 2, 255, 256, 257, 300, 301, 597, 598, 599, 700].map(u16::to_be_bytes).to_vec();
    let bounds = || {
        let of = |edge| [Bound::Included(edge), Bound::Excluded(edge)];
        edges.iter().flat_map(move |edge| of(&edge[..])).chain([Bound::Unbounded])
    };
    for from in bounds() {
        for to in bounds() {
            check_range(&*store, &model, from, to);
        }
    }
}

pub fn ranges_that_end_before_they_begin(world: &mut dyn World) {
    let store = open(world);
    for key in [b"a", b"b", b"c"] {
        put(&*store, key, b"");
    }
    let (a, c) = (&b"a"[..], &b"c"[..]);
    for (from, to) in [
        (Bound::Included(c), Bound::Included(a)),
        (Bound::Included(c), Bound::Excluded(a)),
        (Bound::Excluded(c), Bound::Included(a)),
        (Bound::Excluded(c), Bound::Excluded(a)),
        (Bound::Included(a), Bound::Excluded(a)),
        (Bound::Excluded(a), Bound::Included(a)),
        (Bound::Excluded(a), Bound::Excluded(a)),
    ] {
        for direction in [Direction::Forward, Direction::Reverse] {
            assert_eq!(store.range(KeyRange { from, to }, direction).count(), 0, "{from:?} {to:?} {direction:?}");
        }
    }
}

pub fn prefixes(world: &mut dyn World) {
    let store = open(world);
    let mut all: Vec<Vec<u8>> = [
        &b""[..],
        b"a",
        b"a\0",
        b"a\xff",
        b"a\xff\xff",
        b"a\xff\xff\x01",
        b"ab",
        b"b",
        b"\xfe",
        b"\xfe\xff",
        b"\xff",
        b"\xff\0",
        b"\xff\xff",
        b"\xff\xff\xff",
        b"\xff\xff\xff\x01",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    all.sort();
    for key in &all {
        put(&*store, key, key);
    }
    for prefix in all.iter().map(Vec::as_slice).chain([&b"zz"[..], b"a\xff\xff\xff"]) {
        let mut expected: Vec<Vec<u8>> = all.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        assert_eq!(keys(prefix_scan(&*store, prefix, Direction::Forward)), expected, "{prefix:?}");
        expected.reverse();
        assert_eq!(keys(prefix_scan(&*store, prefix, Direction::Reverse)), expected, "{prefix:?} reverse");
    }
    assert_eq!(prefix_end(b""), None);
    assert_eq!(prefix_end(b"\xff\xff"), None);
    assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
}

pub fn scans_are_lazy(world: &mut dyn World) {
    let store = open(world);
    for n in 0..2000_u32 {
        put(&*store, &n.to_be_bytes(), b"old");
    }
    let mut forward = store.range(KeyRange::ALL, Direction::Forward);
    let mut reverse = store.range(KeyRange::ALL, Direction::Reverse);
    assert_eq!(forward.next().unwrap().unwrap().0, 0_u32.to_be_bytes());
    assert_eq!(reverse.next().unwrap().unwrap().0, 1999_u32.to_be_bytes());
    // The other end has not been looked at, and writing is not held up by the scans.
    put(&*store, &1999_u32.to_be_bytes(), b"new");
    put(&*store, &0_u32.to_be_bytes(), b"new");
    assert_eq!(forward.last().unwrap().unwrap().1, b"new");
    assert_eq!(reverse.last().unwrap().unwrap().1, b"new");
}

pub fn scans_while_writing(world: &mut dyn World) {
    const STEADY: u32 = 500;
    let store = open(world);
    // Keys that stay, with others between them that come and go.
    let key = |n: u32, kind: u8| [&n.to_be_bytes()[..], &[kind]].concat();
    for n in 0..STEADY {
        put(&*store, &key(n, 0), b"steady");
    }
    // Up to three rounds of writes for each scan: a store that keeps all versions of a key has more to pass over with each.
    let (done, scans) = (AtomicBool::new(false), AtomicU32::new(1));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rounds = 0_u32;
            while !done.load(Ordering::Relaxed) || rounds < 2 {
                if rounds >= 3 * scans.load(Ordering::Relaxed) {
                    thread::yield_now();
                    continue;
                }
                for n in (0..STEADY).step_by(3) {
                    put(&*store, &key(n, 1), &rounds.to_be_bytes());
                    delete(&*store, &key(n + 1, 1));
                    put(&*store, &key(n + 1, 1), b"again");
                }
                rounds += 1;
            }
        });
        for round in 0..40 {
            let direction = if round % 2 == 0 { Direction::Forward } else { Direction::Reverse };
            let mut found = keys(store.range(KeyRange::ALL, direction));
            if direction == Direction::Reverse {
                found.reverse();
            }
            assert!(found.windows(2).all(|two| two[0] < two[1]), "each key once, in order");
            found.retain(|key| key[4] == 0);
            assert_eq!(found, (0..STEADY).map(|n| key(n, 0)).collect::<Vec<_>>());
            scans.fetch_add(1, Ordering::Relaxed);
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
}

pub fn a_scan_of_a_store_can_be_written_into_it(world: &mut dyn World) {
    let store = open(world);
    for n in 0..1000_u32 {
        put(&*store, &n.to_be_bytes(), &n.to_be_bytes());
    }
    let doomed: Vec<Vec<u8>> = keys(store.range(KeyRange::ALL, Direction::Forward));
    store
        .write(&mut doomed.iter().map(|key| {
            assert!(store.get(key).unwrap().is_some(), "reads are possible while entries are taken");
            (key.as_slice(), None)
        }))
        .unwrap();
    assert_eq!(all(&*store), []);
}

pub fn checkpoints_survive_with_their_data(world: &mut dyn World) {
    let mut model = BTreeMap::new();
    for round in 0..5_i64 {
        let store = open(world);
        let expected = (round > 0).then(|| at(round * 100));
        assert_eq!(store.checkpointed().unwrap(), expected);
        assert_eq!(all(&*store), model.clone().into_iter().collect::<Vec<_>>());
        for n in 0..200_i64 {
            let (key, value) = ((n * (round + 1) % 150).to_be_bytes(), (round * n).to_be_bytes());
            if (n + round) % 5 == 0 {
                delete(&*store, &key);
                model.remove(&key[..]);
            } else {
                put(&*store, &key, &value);
                model.insert(key.to_vec(), value.to_vec());
            }
        }
        store.checkpoint(at((round + 1) * 100)).unwrap();
        assert_eq!(store.checkpointed().unwrap(), Some(at((round + 1) * 100)));
        drop(store);
        world.restart();
    }
    // An offset may go back, when a table was created anew, and be anything.
    for checkpoint in [at(3), Checkpoint { offset: -1, at_ms: i64::MIN }, Checkpoint { offset: i64::MAX, at_ms: -1 }] {
        let store = open(world);
        store.checkpoint(checkpoint).unwrap();
        drop(store);
        world.restart();
        assert_eq!(open(world).checkpointed().unwrap(), Some(checkpoint));
    }
}

pub fn without_a_checkpoint_nothing_survives(world: &mut dyn World) {
    let store = open(world);
    put(&*store, b"a", b"1");
    drop(store);
    world.restart();
    let store = open(world);
    assert_eq!(store.checkpointed().unwrap(), None);
    assert_eq!(all(&*store), []);
    put(&*store, b"a", b"2");
    store.checkpoint(at(1)).unwrap();
    store.clear().unwrap();
    put(&*store, b"b", b"3");
    drop(store);
    world.restart();
    assert_eq!(all(&*open(world)), []);
}

pub fn later_writes_never_move_the_checkpoint(world: &mut dyn World) {
    let store = open(world);
    put(&*store, b"a", b"1");
    store.checkpoint(at(1)).unwrap();
    put(&*store, b"a", b"2");
    put(&*store, b"b", b"2");
    drop(store);
    world.restart();
    let store = open(world);
    assert_eq!(store.checkpointed().unwrap(), Some(at(1)));
    let a = store.get(b"a").unwrap();
    assert!(a == Some(b"1".to_vec()) || a == Some(b"2".to_vec()), "what was there, or what came later: {a:?}");
}

/// A checkpoint writes values and is then not recorded, as in a crash. Neither a batch that writes a key before it deletes it, nor a
/// process that never wrote it, may leave the deletion out.
pub fn what_an_unfinished_checkpoint_left_is_deleted(world: &mut dyn World) {
    for prior in [false, true] {
        let store = open(world);
        store.clear().unwrap();
        if prior {
            put(&*store, b"m", b"1");
        }
        store.checkpoint(at(1)).unwrap();
        let left: [(&[u8], Option<&[u8]>); 4] =
            [(b"b", Some(b"1")), (b"c", Some(b"1")), (b"n", Some(b"1")), (b"z", Some(b"1"))];
        store.write(&mut left.into_iter()).unwrap();
        drop(store);
        world.restart();

        let store = open(world);
        assert_eq!(store.checkpointed().unwrap(), Some(at(1)));
        assert_eq!(all(&*store).len(), 4 + usize::from(prior), "what the test is about");
        // The changelog again from there on: some keys are written and deleted in one buffer, and keys that never came are between.
        let again: [(&[u8], Option<&[u8]>); 10] = [
            (b"a", None),
            (b"b", Some(b"1")),
            (b"b", None),
            (b"bb", None),
            (b"c", None),
            (b"d", None),
            (b"e", None),
            (b"n", None),
            (b"o", None),
            (b"z", None),
        ];
        store.write(&mut again.into_iter()).unwrap();
        store.checkpoint(at(2)).unwrap();
        let left = keys(store.range(KeyRange::ALL, Direction::Forward));
        assert_eq!(left, if prior { vec![b"m".to_vec()] } else { vec![] });
        drop(store);
        world.restart();
        assert_eq!(keys(open(world).range(KeyRange::ALL, Direction::Forward)), left);
    }
}

/// As checkpoints and restores write: many deletions, in runs and between values, of keys that are there and of keys that are not.
pub fn sorted_batches_with_deletions_match_a_model(world: &mut dyn World) {
    let (mut random, mut model) = (Xorshift(11), BTreeMap::new());
    for round in 0..60_usize {
        let store = open(world);
        let written = 1 + round % 7;
        let mut batch: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for _ in 0..200 {
            let key = random.key(&[0, b'a', b'b', 0xfe, 0xff], 4);
            batch.push((key, (random.below(8) < written).then(|| random.next().to_be_bytes().to_vec())));
        }
        // Most are sorted, and of one key the later one counts.
        if round % 4 > 0 {
            batch.sort_by(|a, b| a.0.cmp(&b.0));
        }
        store.write(&mut batch.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))).unwrap();
        for (key, value) in batch {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        assert_eq!(all(&*store), model.clone().into_iter().collect::<Vec<_>>(), "round {round}");
        if round == 0 {
            store.checkpoint(at(1)).unwrap();
        }
        drop(store);
        if round % 10 == 9 {
            world.restart();
        }
    }
}

pub fn another_fingerprint_is_refused(world: &mut dyn World) {
    let store = open(world);
    put(&*store, b"a", b"1");
    store.checkpoint(at(1)).unwrap();
    let error = world.backend().open(&id(), "numbers avro v1").unwrap_err();
    let StoreError::Fingerprint { found, expected, .. } = &error else { panic!("{error}") };
    assert!(found.ends_with(FINGERPRINT), "{error}");
    assert!(expected.ends_with("numbers avro v1"), "{error}");
    assert!(error.to_string().contains("numbers-table"), "{error}");
    drop(store);
    world.restart();
    for _ in 0..2 {
        assert!(matches!(world.backend().open(&id(), "numbers avro v1"), Err(StoreError::Fingerprint { .. })));
    }
    let store = open(world);
    assert_eq!(store.get(b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.checkpointed().unwrap(), Some(at(1)));
}

pub fn an_open_store_is_shared(world: &mut dyn World) {
    let (one, two) = (open(world), open(world));
    put(&*one, b"a", b"1");
    assert_eq!(two.get(b"a").unwrap(), Some(b"1".to_vec()));
    drop(one);
    two.checkpoint(at(1)).unwrap();
    assert_eq!(open(world).checkpointed().unwrap(), Some(at(1)));
    // The partitions and tables are apart.
    for other in [StoreId::new("numbers-table", 4), StoreId::new("numbers", 3), StoreId::new("numbers-table", 0)] {
        let other = world.backend().open(&other, FINGERPRINT).unwrap();
        assert_eq!(all(&*other), []);
        assert_eq!(other.checkpointed().unwrap(), None);
    }
}

pub fn destroy_removes_closed_stores_only(world: &mut dyn World) {
    let store = open(world);
    put(&*store, b"a", b"1");
    store.checkpoint(at(1)).unwrap();
    let error = world.backend().destroy(&id()).unwrap_err();
    assert!(error.to_string().contains("still open"), "{error}");
    assert_eq!(store.get(b"a").unwrap(), Some(b"1".to_vec()));
    drop(store);
    world.backend().destroy(&id()).unwrap();
    world.backend().destroy(&id()).unwrap();
    assert_eq!(world.backend().list().unwrap(), []);
    // What comes back is new, and may be something else.
    let store = world.backend().open(&id(), "other").unwrap();
    assert_eq!(all(&*store), []);
    assert_eq!(store.checkpointed().unwrap(), None);
}

pub fn list_tells_the_stores(world: &mut dyn World) {
    assert_eq!(world.backend().list().unwrap(), []);
    let ids = [StoreId::new("a", 0), StoreId::new("a", 2), StoreId::new("a", 10), StoreId::new("b.c_d-e", 1)];
    for id in ids.iter().rev() {
        world.backend().open(id, FINGERPRINT).unwrap().checkpoint(at(1)).unwrap();
    }
    assert_eq!(world.backend().list().unwrap(), ids);
    world.restart();
    assert_eq!(world.backend().list().unwrap(), ids);
    world.backend().destroy(&ids[1]).unwrap();
    assert_eq!(world.backend().list().unwrap(), [ids[0].clone(), ids[2].clone(), ids[3].clone()]);
}

pub fn clear_leaves_nothing(world: &mut dyn World) {
    let store = open(world);
    for n in 0..500_u32 {
        put(&*store, &n.to_be_bytes(), b"x");
    }
    put(&*store, b"", b"x");
    store.checkpoint(at(500)).unwrap();
    assert_eq!(store.origin().unwrap(), None);
    store.set_origin("first").unwrap();
    store.clear().unwrap();
    assert_eq!(all(&*store), []);
    assert_eq!(store.checkpointed().unwrap(), None);
    assert_eq!(store.origin().unwrap(), None);
    store.set_origin("second").unwrap();
    put(&*store, b"a", b"1");
    store.checkpoint(at(1)).unwrap();
    drop(store);
    world.restart();
    let store = open(world);
    assert_eq!(all(&*store), [(b"a".to_vec(), b"1".to_vec())]);
    assert_eq!(store.checkpointed().unwrap(), Some(at(1)));
    assert_eq!(store.origin().unwrap().as_deref(), Some("second"));
    store.clear().unwrap();
    drop(store);
    world.restart();
    let store = open(world);
    assert_eq!(all(&*store), []);
    assert_eq!(store.checkpointed().unwrap(), None);
}

pub fn size_grows(world: &mut dyn World) {
    let store = open(world);
    let before = store.size();
    for n in 0..100_u8 {
        put(&*store, &[n], &vec![n; 100_000]);
    }
    store.checkpoint(at(1)).unwrap();
    assert!(store.size() >= before + 9_000_000, "{} after {before}", store.size());
}

pub fn random_operations_match_a_model(world: &mut dyn World) {
    // High bytes, zeros and short keys are where orders, prefixes and page boundaries go wrong.
    let alphabets: [&[u8]; 4] = [&[0, 1, 2, 3], &[0, 1, 0xfe, 0xff], &[4, 5, 0xff], &[0x7f, 0xfd, 0xfe]];
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    for (table, alphabet) in alphabets.into_iter().enumerate() {
        let id = StoreId::new(format!("random-{table}"), 0);
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let (mut checkpoint, mut largest) = (None, 0);
        let mut store = world.backend().open(&id, FINGERPRINT).unwrap();
        for step in 0..6000_i64 {
            largest = largest.max(model.len());
            match random.below(100) {
                0..60 => {
                    let entries: Vec<(Vec<u8>, Option<Vec<u8>>)> = (0..=random.below(4))
                        .map(|_| {
                            let large = random.below(60) == 0;
                            let value = (random.below(3) > 0).then(|| {
                                let mut value = random.key(alphabet, 40);
                                if large {
                                    value.resize(random.below(40_000), random.next().to_le_bytes()[0]);
                                }
                                value
                            });
                            (random.key(alphabet, 12), value)
                        })
                        .collect();
                    store.write(&mut entries.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))).unwrap();
                    for (key, value) in entries {
                        match value {
                            Some(value) => model.insert(key, value),
                            None => model.remove(&key),
                        };
                    }
                }
                60..80 => {
                    let key = random.key(alphabet, 12);
                    assert_eq!(store.get(&key).unwrap().as_ref(), model.get(&key), "{key:?}");
                }
                80..90 => {
                    let (from, to) = (random.key(alphabet, 12), random.key(alphabet, 12));
                    let from = [Bound::Included(&from[..]), Bound::Excluded(&from), Bound::Unbounded][random.below(3)];
                    let to = [Bound::Included(&to[..]), Bound::Excluded(&to), Bound::Unbounded][random.below(3)];
                    check_range(&*store, &model, from, to);
                }
                90..97 => {
                    let prefix = random.key(alphabet, 3);
                    let expected: Vec<_> = model.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
                    assert_eq!(keys(prefix_scan(&*store, &prefix, Direction::Forward)), expected, "{prefix:?}");
                }
                97..99 => {
                    checkpoint = Some(at(step));
                    store.checkpoint(at(step)).unwrap();
                }
                _ if random.below(5) == 0 => {
                    checkpoint = Some(at(step));
                    store.checkpoint(at(step)).unwrap();
                    drop(store);
                    world.restart();
                    store = world.backend().open(&id, FINGERPRINT).unwrap();
                }
                _ if random.below(10) == 0 => {
                    checkpoint = None;
                    store.clear().unwrap();
                    model.clear();
                }
                _ => assert_eq!(store.checkpointed().unwrap(), checkpoint),
            }
        }
        assert!(largest > 500, "{largest} keys test little");
        check_range(&*store, &model, Bound::Unbounded, Bound::Unbounded);
        assert_eq!(store.checkpointed().unwrap(), checkpoint);
    }
}
