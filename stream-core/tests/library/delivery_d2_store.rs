//! D2: the store holds what the changelog acknowledged, callbacks see what was written before.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{Isolation, Log, OffsetSpec, TopicPartition};
use stream_core::processor::Processor;
use stream_core::store::{MemoryStores, Store, StoreBackend, StoreId, Survivors};
use stream_core::testing::Tester;

use crate::support::{Done, Notes, ms, pairs, table};

/// Counts its keys, and notes what each callback found.
fn counter(found: &Notes<(String, i64)>) -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    let found = found.clone();
    g.input("in", Text, move |ctx, _text| {
        let n = ctx.value()?.unwrap_or(0);
        found.add((ctx.key_text()?.to_owned(), n));
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

fn open(stores: &MemoryStores) -> Arc<dyn Store> {
    stores.open(&StoreId::new("count-table", 0), Codec::<i64>::name(&Int64)).unwrap()
}

fn stored(store: &dyn Store, key: &str) -> Option<i64> {
    store.get(key.as_bytes()).unwrap().map(|bytes| Int64.decode(&bytes).unwrap())
}

fn often(processor: Processor) -> Processor {
    processor.checkpoint_interval(ms(20))
}

#[test]
fn a_write_is_seen_at_once_and_stored_when_it_is_acknowledged() -> Done {
    let found = Notes::new();
    let tester = Tester::new();
    tester.add_with(counter(&found), often)?;
    let store = open(&*tester.stores("count", 0)?);
    let input = tester.input("in", Text);
    input.send("k", "x".to_owned())?;
    tester.run_for(ms(100));
    assert_eq!(stored(&*store, "k"), Some(1));

    let hold = tester.log().faults().on(|r| r.topic == "count-table").hold_acks();
    for key in ["k", "k", "other"] {
        input.push(key, "x".to_owned())?;
        tester.run_for(ms(100));
    }
    let seen = [("k", 0), ("k", 1), ("k", 2), ("other", 0)].map(|(key, n)| (key.to_owned(), n));
    assert_eq!(found.all(), seen);
    assert_eq!((stored(&*store, "k"), stored(&*store, "other")), (Some(1), None));
    assert_eq!(store.checkpointed()?.unwrap().offset, 1);

    drop(hold);
    tester.drain()?;
    tester.run_for(ms(100));
    assert_eq!((stored(&*store, "k"), stored(&*store, "other")), (Some(3), Some(1)));
    assert_eq!(store.checkpointed()?.unwrap().offset, 4);
    Ok(())
}

#[test]
fn a_delivery_that_fails_leaves_the_store_at_what_was_acknowledged() -> Done {
    let found = Notes::new();
    let tester = Tester::new();
    tester.add_with(counter(&found), often)?;
    let store = open(&*tester.stores("count", 0)?);
    let input = tester.input("in", Text);
    input.send("k", "x".to_owned())?;
    let fault = tester.log().faults().on(|r| r.topic == "count-table").fail(crate::support::passing());
    input.push("k", "x".to_owned())?;
    tester.run_for(Duration::from_secs(1));
    assert!(fault.hits() > 1);
    assert_eq!(stored(&*store, "k"), Some(1));
    drop(fault);
    tester.drain()?;
    tester.run_for(ms(100));
    assert_eq!(stored(&*store, "k"), Some(2));
    // Each time it was done again, it found what was acknowledged.
    assert!(found.all().iter().skip(1).all(|(_, n)| *n == 1), "{:?}", found.all());
    Ok(())
}

#[test]
fn a_crash_between_the_changelog_and_the_commit_does_it_again_and_loses_nothing() -> Done {
    let tester = Tester::new();
    tester.add_with(counter(&Notes::new()), |p| p.commit_interval(Duration::from_secs(3600)))?;
    let input = tester.input("in", Text);
    for key in ["a", "b", "a"] {
        input.push(key, "x".to_owned())?;
    }
    let counts = || table(&tester, "count", Int64);
    tester.wait_until("the changelog has all", || counts() == pairs([("a", 2), ("b", 1)]))?;
    assert_eq!(tester.committed("count", "in", 0)?, Some(0));
    tester.crash("count")?;
    tester.restart("count")?;
    // At least once: what was not committed is counted again.
    tester.wait_until("all is done again", || counts() == pairs([("a", 4), ("b", 2)]))?;
    tester.stop("count")?;
    assert_eq!(tester.committed("count", "in", 0)?, Some(3));
    tester.restart("count")?;
    tester.run_for(Duration::from_secs(1));
    assert_eq!(counts(), pairs([("a", 4), ("b", 2)]), "a graceful stop leaves nothing to be done again");
    Ok(())
}

#[test]
fn a_crash_that_takes_the_store_back_to_any_point_is_made_good_from_the_changelog() -> Done {
    for survivors in [Survivors::All, Survivors::Checkpointed, Survivors::Some(1), Survivors::Some(2)] {
        let (stores, found) = (MemoryStores::crashable(), Notes::new());
        let tester = Tester::new();
        let mine = stores.clone();
        tester.add_with(counter(&found), move |p| p.stores(Arc::new(mine.clone())).checkpoint_interval(ms(200)))?;
        let input = tester.input("in", Text);
        for i in 0..40 {
            input.send(format!("k{}", i % 7), "x".to_owned())?;
            tester.run_for(ms(30));
        }
        tester.crash("count")?;
        stores.restart(survivors);
        tester.restart("count")?;
        found.take();
        for i in 0..7 {
            input.send(format!("k{i}"), "x".to_owned())?;
        }
        let expected = [6, 6, 6, 6, 6, 5, 5];
        let seen: Vec<i64> = found.all().iter().map(|(_, n)| *n).collect();
        assert_eq!(seen, expected, "{survivors:?}");
    }
    Ok(())
}

#[test]
fn the_checkpoint_covers_what_it_says_while_the_buffer_is_small() -> Done {
    let tester = Tester::new();
    tester.add_with(counter(&Notes::new()), |p| p.buffer_bytes(500).checkpoint_interval(Duration::from_secs(3600)))?;
    let input = tester.input("in", Text);
    for round in 0..3 {
        for i in 0..50 {
            input.push(format!("k{i}"), format!("{round}"))?;
        }
        tester.drain()?;
    }
    let store = open(&*tester.stores("count", 0)?);
    let at = store.checkpointed()?.expect("a full buffer is written early").offset;
    let end = tester.block_on(
        tester
            .log()
            .offsets(vec![(TopicPartition::new("count-table", 0), OffsetSpec::Latest)], Isolation::ReadUncommitted),
    )?[0];
    assert!(at > 0 && at <= end);
    tester.restart("count")?;
    for i in 0..50 {
        input.push(format!("k{i}"), "again".to_owned())?;
    }
    tester.drain()?;
    assert!(table(&tester, "count", Int64).values().all(|n| *n == 4));
    Ok(())
}
