//! Many operations, compared with a model.

use std::collections::BTreeMap;
use std::ops::Bound;

use stream_core::store::{Direction, StoreId, prefix_scan};

use super::{World, check_range, open};
use crate::store_support::{FINGERPRINT, Xorshift, all, at, keys};

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
