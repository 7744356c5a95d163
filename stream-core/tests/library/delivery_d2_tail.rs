//! D2, D3: a restart reads the changelog's tail only, and what it had checkpointed stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::store::{
    Checkpoint, Direction, KeyRange, MemoryStores, Scan, Store, StoreBackend, StoreError, StoreId,
};
use stream_core::testing::Tester;

use crate::support::{Done, table};

/// Counts the entries that are written to its stores.
#[derive(Clone, Debug, Default)]
struct Counting {
    inner: MemoryStores,
    writes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct CountingStore {
    inner: Arc<dyn Store>,
    writes: Arc<AtomicUsize>,
}

impl StoreBackend for Counting {
    fn open(&self, id: &StoreId, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError> {
        let inner = self.inner.open(id, fingerprint)?;
        Ok(Arc::new(CountingStore { inner, writes: Arc::clone(&self.writes) }))
    }
    fn destroy(&self, id: &StoreId) -> Result<(), StoreError> {
        self.inner.destroy(id)
    }
    fn instance_id(&self) -> Result<String, StoreError> {
        self.inner.instance_id()
    }
    fn list(&self) -> Result<Vec<StoreId>, StoreError> {
        self.inner.list()
    }
}

impl Store for CountingStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(key)
    }
    fn range(&self, range: KeyRange<'_>, direction: Direction) -> Scan<'_> {
        self.inner.range(range, direction)
    }
    fn write(&self, entries: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>) -> Result<(), StoreError> {
        let mut counted = entries.inspect(|_| _ = self.writes.fetch_add(1, Ordering::Relaxed));
        self.inner.write(&mut counted)
    }
    fn checkpoint(&self, at: Checkpoint) -> Result<(), StoreError> {
        self.inner.checkpoint(at)
    }
    fn checkpointed(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.checkpointed()
    }
    fn origin(&self) -> Result<Option<String>, StoreError> {
        self.inner.origin()
    }
    fn set_origin(&self, origin: &str) -> Result<(), StoreError> {
        self.inner.set_origin(origin)
    }
    fn clear(&self) -> Result<(), StoreError> {
        self.inner.clear()
    }
    fn size(&self) -> u64 {
        self.inner.size()
    }
}

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, _text| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

#[test]
fn a_restart_reads_the_tail_only() -> Done {
    let stores = Counting::default();
    let writes = || stores.writes.swap(0, Ordering::Relaxed);
    let mine = stores.clone();
    let tester = Tester::new();
    tester
        .add_with(counter(), move |p| p.stores(Arc::new(mine.clone())).checkpoint_interval(Duration::from_secs(10)))?;
    let input = tester.input("in", Text);
    for i in 0..100 {
        input.push(format!("k{}", i % 20), "x".to_owned())?;
    }
    tester.drain()?;
    assert_eq!(writes(), 0, "nothing goes to the store before its time");
    tester.run_for(Duration::from_secs(11));
    assert_eq!(writes(), 20, "one write a key, however often it changed");

    // A crash: five records of three keys came since.
    for key in ["k1", "k2", "k1", "k3", "k1"] {
        input.send(key, "x".to_owned())?;
    }
    tester.crash("count")?;
    tester.restart("count")?;
    assert_eq!(writes(), 3, "the changelog's tail, one write a key");
    assert_eq!(table(&tester, "count", Int64)["k1"], 8);

    // A graceful stop: all of it is in the store.
    input.send("k1", "x".to_owned())?;
    tester.stop("count")?;
    writes();
    tester.restart("count")?;
    assert_eq!(writes(), 0);
    input.send("k1", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64)["k1"], 10);
    Ok(())
}
