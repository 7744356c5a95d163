//! Simulated crashes of stores in memory: where a process dies, and what the next one finds.

use std::sync::{Arc, Mutex};

use stream_core::store::{
    CrashPoint, Direction, KeyRange, MemoryStores, Store, StoreBackend, StoreError, StoreId, Survivors,
};

use crate::store_support::{FINGERPRINT, all, at, delete, id, put};

fn open(stores: &MemoryStores) -> Arc<dyn Store> {
    stores.open(&id(), FINGERPRINT).unwrap()
}

/// Keys `a`, `b` and `c` of value 1 at a checkpoint, then `a` changed, `b` deleted, `d` new.
fn uncheckpointed(stores: &MemoryStores) -> Arc<dyn Store> {
    let store = open(stores);
    for key in [b"a", b"b", b"c"] {
        put(&*store, key, b"1");
    }
    store.checkpoint(at(3)).unwrap();
    put(&*store, b"a", b"2");
    put(&*store, b"a", b"3");
    delete(&*store, b"b");
    put(&*store, b"d", b"1");
    store
}

fn text(store: &dyn Store) -> String {
    let pairs = all(store).into_iter().map(|(key, value)| [key, value].concat());
    pairs.map(|pair| String::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_what_was_checkpointed_survives() {
    let stores = MemoryStores::crashable();
    uncheckpointed(&stores);
    stores.drop_uncheckpointed();
    let store = open(&stores);
    assert_eq!(text(&*store), "a1 b1 c1");
    assert_eq!(store.checkpointed().unwrap(), Some(at(3)));
    // And what was taken back stays so.
    stores.restart(Survivors::All);
    assert_eq!(text(&*open(&stores)), "a1 b1 c1");
}

#[test]
fn all_survives() {
    let stores = MemoryStores::crashable();
    uncheckpointed(&stores);
    stores.restart(Survivors::All);
    let store = open(&stores);
    assert_eq!(text(&*store), "a3 c1 d1");
    assert_eq!(store.checkpointed().unwrap(), Some(at(3)), "never ahead of what was recorded");
}

#[test]
fn a_part_survives_the_same_for_a_seed() {
    let outcome = |seed| {
        let stores = MemoryStores::crashable();
        uncheckpointed(&stores);
        stores.restart(Survivors::Some(seed));
        text(&*open(&stores))
    };
    let mut seen: Vec<String> = (0..64).map(outcome).collect();
    assert_eq!(seen, (0..64).map(outcome).collect::<Vec<_>>());
    seen.sort();
    seen.dedup();
    // Three keys were touched, each survives or not.
    assert_eq!(seen.len(), 8, "{seen:?}");
    assert!(seen.iter().all(|text| text.contains("c1")), "{seen:?}");
}

#[test]
fn without_any_checkpoint_nothing_survives() {
    let stores = MemoryStores::crashable();
    let store = open(&stores);
    put(&*store, b"a", b"1");
    stores.restart(Survivors::All);
    assert_eq!(all(&*open(&stores)), []);

    let store = uncheckpointed(&stores);
    store.clear().unwrap();
    put(&*store, b"e", b"1");
    stores.drop_uncheckpointed();
    let store = open(&stores);
    assert_eq!(all(&*store), []);
    assert_eq!(store.checkpointed().unwrap(), None);
}

#[test]
fn between_value_and_checkpoint() {
    let stores = MemoryStores::crashable();
    let store = uncheckpointed(&stores);
    stores.crash_when(|_, point| point == CrashPoint::BeforeCheckpoint(at(4)));
    let error = store.checkpoint(at(4)).unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }) && error.to_string().contains("died"), "{error}");
    // The process is gone: nothing of it works, in this store or another.
    assert!(store.get(b"a").is_err());
    assert!(store.write(&mut [(&b"x"[..], None)].into_iter()).is_err());
    assert!(store.checkpointed().is_err());
    assert!(store.clear().is_err());
    let mut scan = store.range(KeyRange::ALL, Direction::Forward);
    assert!(scan.next().unwrap().is_err());
    assert!(scan.next().is_none(), "an error ends a scan");
    drop(scan);
    assert!(stores.open(&StoreId::new("other", 0), FINGERPRINT).is_err());

    stores.restart(Survivors::All);
    let next = open(&stores);
    assert_eq!(text(&*next), "a3 c1 d1");
    assert_eq!(next.checkpointed().unwrap(), Some(at(3)));
    next.checkpoint(at(4)).unwrap();
    // A part of the dead process that still runs can't touch what its successor has.
    assert!(store.write(&mut [(&b"a"[..], None)].into_iter()).is_err());
    assert!(store.checkpoint(at(9)).is_err());
    assert!(store.get(b"a").is_err());
    drop(store);
    assert_eq!(text(&*next), "a3 c1 d1");
    assert_eq!(next.checkpointed().unwrap(), Some(at(4)));
}

#[test]
fn after_a_checkpoint_that_nobody_heard_of() {
    let stores = MemoryStores::crashable();
    let store = uncheckpointed(&stores);
    stores.crash_when(|_, point| point == CrashPoint::AfterCheckpoint(at(4)));
    assert!(store.checkpoint(at(4)).is_err());
    stores.drop_uncheckpointed();
    let store = open(&stores);
    assert_eq!(text(&*store), "a3 c1 d1");
    assert_eq!(store.checkpointed().unwrap(), Some(at(4)));
}

#[test]
fn after_any_write_of_a_batch() {
    for died_after in 1..=600_usize {
        if died_after > 5 && died_after % 97 > 1 {
            continue;
        }
        let stores = MemoryStores::crashable();
        let store = open(&stores);
        store.checkpoint(at(0)).unwrap();
        let mut writes = 0;
        stores.crash_when(move |_, point| {
            writes += usize::from(point == CrashPoint::Written);
            writes == died_after
        });
        let keys: Vec<[u8; 4]> = (0..600_u32).map(u32::to_be_bytes).collect();
        let mut entries = keys.iter().map(|key| (&key[..], Some(&b"x"[..])));
        assert!(store.write(&mut entries).is_err(), "{died_after}");
        stores.restart(Survivors::All);
        let found: Vec<_> = all(&*open(&stores)).into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, keys[..died_after], "the first ones, no more");
    }
}

#[test]
fn the_points_are_passed_in_order_with_their_store() {
    let stores = MemoryStores::crashable();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    stores.crash_when(move |id, point| {
        log.lock().unwrap().push((id.clone(), point));
        false
    });
    let store = open(&stores);
    put(&*store, b"a", b"1");
    delete(&*store, b"never");
    store.checkpoint(at(2)).unwrap();
    let points = [
        CrashPoint::Written,
        CrashPoint::Written,
        CrashPoint::BeforeCheckpoint(at(2)),
        CrashPoint::AfterCheckpoint(at(2)),
    ];
    assert_eq!(*seen.lock().unwrap(), points.map(|point| (id(), point)));
    // The condition ends with the process it was made for.
    stores.restart(Survivors::All);
    put(&*open(&stores), b"b", b"1");
    assert_eq!(seen.lock().unwrap().len(), 4);
}

#[test]
fn a_clone_is_the_same_stores() {
    let stores = MemoryStores::crashable();
    let store = uncheckpointed(&stores);
    let twin = stores.clone();
    assert_eq!(text(&*open(&twin)), "a3 c1 d1");
    twin.drop_uncheckpointed();
    assert!(store.get(b"a").is_err());
    assert_eq!(text(&*open(&stores)), "a1 b1 c1");
}

#[test]
fn plain_stores_lose_nothing() {
    let stores = MemoryStores::new();
    uncheckpointed(&stores);
    stores.drop_uncheckpointed();
    assert_eq!(text(&*open(&stores)), "a3 c1 d1");
}
