//! A bound on the memory of an instance: what is too little is refused, and what does not fit waits.

use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::{Codec, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::processor::{Guarantee, ProcessorError};
use stream_core::store::{Direction, KeyRange, MemoryStores, Store, StoreBackend, StoreId};
use stream_core::testing::Tester;

use crate::support::{Done, table};

const GUARANTEES: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];
const VALUE: usize = 1_000;
const KEYS: usize = 20_000;

/// Keeps the value of each key. Each record notes how many of the records before it are not in the store yet.
fn kept(store: &Arc<Mutex<Option<Arc<dyn Store>>>>, most: &Arc<AtomicUsize>) -> Arc<GroupGraph> {
    let (store, most, seen) = (Arc::clone(store), Arc::clone(most), AtomicUsize::new(0));
    let mut g = Group::define("kept").table(Text);
    g.input("in", Text, move |ctx, text: String| {
        let before = seen.fetch_add(1, Ordering::SeqCst);
        if before % 200 == 0
            && let Some(store) = &*store.lock().unwrap()
        {
            let all = KeyRange { from: Bound::Unbounded, to: Bound::Unbounded };
            let stored = store.range(all, Direction::Forward).count();
            most.fetch_max(before.saturating_sub(stored), Ordering::SeqCst);
        }
        ctx.set(&text)
    });
    g.build().unwrap()
}

/// The failure of a processor with so much memory, if it can't start.
fn failure(guarantee: Guarantee, memory: usize) -> Option<ProcessorError> {
    let tester = Tester::new();
    let graph = kept(&Arc::default(), &Arc::default());
    let added = tester.add_with(graph, move |p| p.guarantee(guarantee).memory(memory));
    tester.run_for(Duration::from_secs(5));
    let failure = tester.failure("kept");
    assert_eq!(added.is_err(), failure.is_some(), "{added:?}");
    failure
}

/// The least memory that the processor says it needs.
fn least(guarantee: Guarantee) -> usize {
    match failure(guarantee, 1_000) {
        Some(ProcessorError::Memory { bytes: 1_000, least, .. }) => least,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_memory_that_is_too_little_is_refused_and_the_least_is_named() {
    for guarantee in GUARANTEES {
        let least = least(guarantee);
        let error = failure(guarantee, least - 1).expect("it is too little").to_string();
        assert!(error.contains(&format!("give it {least} at least")), "{error}");
        assert!(failure(guarantee, least).is_none());
    }
}

#[test]
fn write_buffers_go_to_the_store_before_they_take_more_than_their_share() -> Done {
    for guarantee in GUARANTEES {
        let memory = least(guarantee);
        let (stores, store, most) = (MemoryStores::new(), Arc::default(), Arc::default());
        let tester = Tester::new();
        let mine = stores.clone();
        tester.add_with(kept(&store, &most), move |p| {
            let p = p.stores(Arc::new(mine.clone())).checkpoint_interval(Duration::from_secs(3600));
            p.guarantee(guarantee).memory(memory)
        })?;
        let input = tester.input("in", Text);
        input.send("first", "v".to_owned())?;
        *store.lock().unwrap() = Some(stores.open(&StoreId::new("kept-table", 0), Codec::<String>::name(&Text))?);
        let value = "v".repeat(VALUE);
        for n in 0..KEYS {
            input.push(n.to_string(), value.clone())?;
        }
        tester.drain()?;
        assert_eq!(table(&tester, "kept", Text).len(), KEYS + 1, "nothing is lost");
        // A quarter of the memory, and what one slice of work adds.
        let (most, bound) = (most.load(Ordering::SeqCst) * VALUE, memory / 4 + memory / 16);
        assert!(most <= bound, "{guarantee:?}: {most} of {bound}");
        assert!(most > bound / 8, "{guarantee:?}: {most} of {bound}: the buffers are used");
    }
    Ok(())
}
