//! The stores, by the trait that tables use them by.

use std::cell::LazyCell;
use std::ops::Bound;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use stream_core::store::{
    Checkpoint, Direction, KeyRange, MemoryStores, SledOptions, SledStores, Store, StoreBackend, StoreId,
};

/// Keys in the store.
const KEYS: u64 = 100_000;
/// Keys that one call writes, or one scan reads.
const MANY: u64 = 1_000;
const VALUE: [u8; 100] = [7; 100];

pub(crate) fn benches(criterion: &mut Criterion) {
    bench(criterion, "memory", || Box::new(MemoryStores::new()));
    let dir = tempfile::tempdir().expect("a directory");
    let options = SledOptions::default().cache_bytes(64 << 20);
    bench(criterion, "sled", || {
        Box::new(SledStores::open_dir_with(dir.path().join("state"), options).expect("stores"))
    });
}

fn bench(criterion: &mut Criterion, name: &str, backend: impl FnOnce() -> Box<dyn StoreBackend>) {
    // Made by the first bench that the words on the command line select.
    let store = LazyCell::new(|| {
        let store = backend().open(&StoreId::new("bench-table", 0), "bench").expect("a store");
        for from in (0..KEYS).step_by(1_000) {
            write(&store, from..from + 1_000);
        }
        store.checkpoint(Checkpoint { offset: 0, at_ms: 0 }).expect("a checkpoint");
        store
    });
    let mut random = Random(1);

    let mut group = criterion.benchmark_group(format!("store/{name}"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("get", |b| {
        b.iter(|| store.get(&key(random.below(KEYS))).expect("a read").expect("a value"));
    });
    group.throughput(Throughput::Elements(MANY));
    group.bench_function("write 1,000 keys", |b| {
        b.iter(|| {
            let from = random.below(KEYS - MANY);
            write(&store, from..from + MANY);
        });
    });
    group.bench_function("scan 1,000 keys", |b| {
        b.iter(|| {
            let from = random.below(KEYS - MANY);
            let (from, to) = (key(from), key(from + MANY));
            let range = KeyRange { from: Bound::Included(&from), to: Bound::Excluded(&to) };
            assert_eq!(store.range(range, Direction::Forward).count() as u64, MANY);
        });
    });
    group.finish();
}

fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn write(store: &Arc<dyn Store>, numbers: std::ops::Range<u64>) {
    let keys: Vec<[u8; 8]> = numbers.map(key).collect();
    store.write(&mut keys.iter().map(|key| (key.as_slice(), Some(VALUE.as_slice())))).expect("a write");
}

/// The same numbers at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // A linear congruential generator, by Knuth's constants; its upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
