//! Checkpoints: what survives a restart, and what does not.

use std::collections::BTreeMap;

use stream_core::store::{Checkpoint, Direction, KeyRange};

use super::{World, open};
use crate::store_support::{all, at, delete, keys, put};

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
    // An offset may go back, when its table is created once more, and be anything.
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
