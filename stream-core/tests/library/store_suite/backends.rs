//! Stores beside each other: which are open, shared, listed and removed.

use stream_core::store::{StoreError, StoreId};

use super::{World, open};
use crate::store_support::{FINGERPRINT, all, at, id, put};

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

pub fn lists_the_stores(world: &mut dyn World) {
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

pub fn size_grows(world: &mut dyn World) {
    let store = open(world);
    let before = store.size();
    for n in 0..100_u8 {
        put(&*store, &[n], &vec![n; 100_000]);
    }
    store.checkpoint(at(1)).unwrap();
    assert!(store.size() >= before + 9_000_000, "{} after {before}", store.size());
}
