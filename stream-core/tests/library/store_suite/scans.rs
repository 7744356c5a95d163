//! Scans: ranges and prefixes in both directions, while the store is written.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use stream_core::store::{Direction, KeyRange, prefix_end, prefix_scan};

use super::{World, check_range, open};
use crate::store_support::{all, delete, keys, put};

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
