//! Values: what is written is read.

use std::collections::BTreeMap;
use std::ops::Bound;

use stream_core::store::{Direction, KeyRange, StoreError};

use super::{World, check_range, open};
use crate::store_support::{all, at, delete, id, keys, put};

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
