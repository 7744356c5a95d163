//! What a restore leaves wherever it ends: the store goes on from its checkpoint to exactly what the changelog says.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;

use super::*;
use crate::clock::SystemClock;
use crate::log::{LogResult, TopicPartition};
use crate::store::{Direction, KeyRange, MemoryStores, StoreBackend as _, StoreId, Survivors};
use crate::table::{Goal, restore};

type Write = (String, Option<String>);

/// A changelog that gives seven records at a time.
struct Changelog {
    records: Vec<Write>,
    at: usize,
}

impl crate::log::Sealed for Changelog {}

impl Fetch for Changelog {
    fn poll_fetch(&mut self, _: &mut Context<'_>, into: &mut RecordBatch, _: FetchLimits) -> Poll<LogResult<Fetched>> {
        into.clear();
        for (key, value) in self.records.iter().skip(self.at).take(7) {
            let value = value.as_ref().map(String::as_bytes);
            into.push(offset(self.at), 0, Some(key.as_bytes()), value, std::iter::empty());
            self.at += 1;
        }
        Poll::Ready(Ok(if into.is_empty() { Fetched::End(offset(self.at)) } else { Fetched::Records }))
    }

    fn seek(&mut self, offset: i64) -> BoxFuture<'_, LogResult<()>> {
        self.at = usize::try_from(offset).unwrap();
        Box::pin(async { Ok(()) })
    }
}

fn offset(n: usize) -> i64 {
    i64::try_from(n).unwrap()
}

/// Writes of forty keys, a third of them deletions.
fn records() -> Vec<Write> {
    let mut seed = 3_u32;
    let write = |n: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (format!("key-{}", (seed >> 9) % 40), (seed >> 20).checked_rem(3).filter(|n| *n > 0).map(|_| n.to_string()))
    };
    (0..300).map(write).collect()
}

fn expected(records: &[Write]) -> Vec<Write> {
    let map: BTreeMap<_, _> = records.iter().cloned().collect();
    map.into_iter().filter(|(_, value)| value.is_some()).collect()
}

fn contents(stores: &MemoryStores) -> Vec<Write> {
    let store = stores.open(&StoreId::new("t", 0), "").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let pairs = store.range(KeyRange::ALL, Direction::Forward).map(Result::unwrap);
    pairs.map(|(key, value)| (text(key), Some(text(value)))).collect()
}

/// Restores the store up to the end of the records, with a checkpoint after each step. Ends early after so many steps. Returns
/// whether all is done.
fn go_on(stores: &MemoryStores, records: &[Write], memory: &RestoreMemory, steps: usize) -> Result<bool, FollowError> {
    let store = stores.open(&StoreId::new("t", 0), "")?;
    let from = store.checkpointed()?.map_or(0, |at| at.offset);
    let changelog = Changelog { records: records.to_vec(), at: usize::try_from(from).unwrap() };
    let mut follower = Follower::new(Box::new(changelog), store, from);
    follower.hold_back(memory);
    let (partition, goal) = (TopicPartition::new("t", 0), Goal::Offset(offset(records.len())));
    let restored = {
        let mut restoring = pin!(restore(&mut follower, &partition, goal, Duration::ZERO, &SystemClock));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Each step ends with a pause, and none of them has anything to wait for.
        (0..steps).find_map(|_| match restoring.as_mut().poll(&mut cx) {
            Poll::Ready(restored) => Some(restored),
            Poll::Pending => None,
        })
    };
    restored.transpose()?;
    let done = follower.stored() == offset(records.len()) && follower.held.is_none();
    if done {
        follower.checkpoint(0)?;
    }
    Ok(done)
}

/// Room for about twenty of the records, so that they are written in many parts.
fn little() -> RestoreMemory {
    RestoreMemory::new(500, 1)
}

/// Stores that have a third of the records from an earlier run.
fn begun(stores: MemoryStores, records: &[Write]) -> MemoryStores {
    assert!(go_on(&stores, &records[..100], &RestoreMemory::default(), usize::MAX).unwrap());
    stores
}

#[test]
fn a_restore_goes_on_wherever_the_process_died() {
    let records = records();
    let mut deaths = 0;
    for survivors in [Survivors::All, Survivors::Checkpointed, Survivors::Some(7), Survivors::Some(8)] {
        for dies_at in 0.. {
            let stores = begun(MemoryStores::crashable(), &records);
            let mut passed = 0;
            stores.crash_when(move |_, _| {
                passed += 1;
                passed > dies_at
            });
            if go_on(&stores, &records, &little(), usize::MAX).is_ok() {
                break;
            }
            deaths += 1;
            stores.restart(survivors);
            // With other bounds, so that a key may be written and deleted in one part, which were in two.
            assert!(go_on(&stores, &records, &RestoreMemory::default(), usize::MAX).unwrap());
            assert_eq!(contents(&stores), expected(&records), "{survivors:?}, died at point {dies_at}");
        }
    }
    assert!(deaths > 400, "{deaths}");
}

#[test]
fn a_restore_goes_on_wherever_it_was_given_up() {
    let records = records();
    for steps in 0.. {
        let stores = begun(MemoryStores::new(), &records);
        if go_on(&stores, &records, &little(), steps).unwrap() {
            assert!(steps > 30, "{steps}");
            break;
        }
        assert!(go_on(&stores, &records, &RestoreMemory::default(), usize::MAX).unwrap());
        assert_eq!(contents(&stores), expected(&records), "given up after {steps} steps");
    }
}

#[test]
fn a_checkpoint_names_what_is_stored_and_not_what_was_read() {
    let records = records();
    let stores = MemoryStores::new();
    let store = stores.open(&StoreId::new("t", 0), "").unwrap();
    let mut follower = Follower::new(Box::new(Changelog { records: records.clone(), at: 0 }), Arc::clone(&store), 0);
    follower.hold_back(&RestoreMemory::default());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut step = |follower: &mut Follower| follower.poll_step(&mut cx, &mut |_, _| panic!("it is not stored"));
    assert!(matches!(step(&mut follower), Poll::Ready(Ok(Step::Applied(7)))));
    follower.checkpoint(0).unwrap();
    assert_eq!((follower.position(), follower.stored(), store.checkpointed().unwrap()), (7, 0, None));
    loop {
        match step(&mut follower) {
            Poll::Ready(Ok(Step::Applied(_))) => assert_eq!(contents(&stores), []),
            Poll::Ready(Ok(Step::CaughtUp(end))) => break assert_eq!(end, 300),
            other => panic!("{other:?}"),
        }
    }
    follower.checkpoint(0).unwrap();
    assert_eq!((follower.stored(), store.checkpointed().unwrap().map(|at| at.offset)), (300, Some(300)));
    assert_eq!(contents(&stores), expected(&records));
}
