//! D10: a store that can't be trusted is wiped and restored.

use std::sync::Arc;
use std::time::Duration;

use stream_core::clock::{Clock, ManualClock};
use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::embedded::InMemory;
use stream_core::log::{FetchLimits, Log, NewRecord, ProduceBatch, ProducerOptions};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::{Checkpoint, MemoryStores, Store, StoreBackend, StoreId};
use stream_core::testing::Tester;

use crate::strict_log::Strict;
use crate::support::{Done, pairs, table};

const HOUR: Duration = Duration::from_secs(3600);

/// Counts its keys; `delete` deletes.
fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, text: String| {
        if text == "delete" {
            return ctx.delete();
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

fn open(tester: &Tester, instance: usize) -> Arc<dyn Store> {
    let stores = tester.stores("count", instance).unwrap();
    stores.open(&StoreId::new("count-table", 0), Codec::<i64>::name(&Int64)).unwrap()
}

/// A group whose store has a key that its changelog does not know, so that it shows whether the store is kept.
fn with_ghost() -> Result<Tester, Box<dyn std::error::Error>> {
    with_ghost_of(Guarantee::AtLeastOnce)
}

fn with_ghost_of(guarantee: Guarantee) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add_with(counter(), move |p| p.guarantee(guarantee))?;
    let input = tester.input("in", Text);
    input.send("a", "x".to_owned())?;
    input.send("b", "x".to_owned())?;
    tester.stop("count")?;
    open(&tester, 0).write(&mut [(&b"ghost"[..], Some(&b"1"[..]))].into_iter())?;
    Ok(tester)
}

/// Something new on the changelog that the stopped instance does not have.
fn another_writes(tester: &Tester) -> Done {
    let other = tester.add_instance("count")?;
    tester.input("in", Text).send("a", "x".to_owned())?;
    tester.stop_instance("count", other)?;
    Ok(())
}

fn has_ghost(tester: &Tester) -> bool {
    open(tester, 0).get(b"ghost").unwrap().is_some()
}

#[test]
fn a_store_that_was_away_for_a_short_time_is_kept() -> Done {
    let tester = with_ghost()?;
    another_writes(&tester)?;
    tester.advance(11 * HOUR)?;
    tester.start_instance("count", 0)?;
    assert!(has_ghost(&tester));
    tester.input("in", Text).send("a", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 3), ("b", 1)]));
    Ok(())
}

/// An age below zero is no age: nothing says how long the store was away.
#[test]
fn a_store_whose_last_checkpoint_lies_in_the_future_is_wiped_and_restored() -> Done {
    let tester = with_ghost()?;
    let checkpoint = open(&tester, 0).checkpointed()?.expect("a checkpoint");
    // The wall clock was 30 h ahead.
    let at_ms = tester.now_ms() + 30 * 3_600_000;
    open(&tester, 0).checkpoint(Checkpoint { at_ms, ..checkpoint })?;
    another_writes(&tester)?;
    tester.advance(20 * HOUR)?;
    tester.start_instance("count", 0)?;
    assert!(!has_ghost(&tester));
    tester.input("in", Text).send("a", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 3), ("b", 1)]));
    Ok(())
}

#[test]
fn a_store_that_was_away_for_too_long_is_wiped_and_restored() -> Done {
    let tester = with_ghost()?;
    another_writes(&tester)?;
    // Half of delete.retention.ms, which is a day.
    tester.advance(13 * HOUR)?;
    tester.start_instance("count", 0)?;
    assert!(!has_ghost(&tester));
    tester.input("in", Text).send("a", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 3), ("b", 1)]));
    Ok(())
}

#[test]
fn a_store_that_missed_nothing_is_kept_however_long_it_was_away() -> Done {
    // With transactions the changelog ends with a marker, which is no change that was missed.
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let tester = with_ghost_of(guarantee)?;
        tester.advance(1000 * HOUR)?;
        tester.start_instance("count", 0)?;
        assert!(has_ghost(&tester), "{guarantee:?}");
    }
    Ok(())
}

/// Neither a marker in the middle nor several batches of one transaction let anything be taken for known that is not.
#[test]
fn a_crash_at_any_moment_of_exactly_once_misses_nothing() -> Done {
    for wait in 0..40 {
        let tester = Tester::new();
        let often = |p: Processor| {
            let p = p.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::from_millis(7));
            let p = p.session_timeout(Duration::from_secs(1));
            p.checkpoint_interval(Duration::from_millis(1)).fetch_limits(FetchLimits::new(1, 1000))
        };
        tester.add_with(counter(), often)?;
        let input = tester.input("in", Text);
        for i in 0..20 {
            input.push(["a", "b", "c"][i % 3], "x".to_owned())?;
            tester.run_for(Duration::from_millis(1));
        }
        tester.run_for(Duration::from_millis(wait));
        tester.crash("count")?;
        tester.restart("count")?;
        tester.drain()?;
        let counts = pairs([("a", 7), ("b", 7), ("c", 6)]);
        assert_eq!(table(&tester, "count", Int64), counts, "{wait}");
        for (key, n) in counts {
            let value = open(&tester, 0).get(key.as_bytes())?.map(|v| Int64.decode(&v)).transpose()?;
            assert!(value.is_none_or(|v: i64| v <= n));
        }
    }
    Ok(())
}

#[test]
fn a_key_whose_deletion_was_compacted_away_meanwhile_is_not_alive_again() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let input = tester.input("in", Text);
    for key in ["a", "b", "gone"] {
        input.send(key, "x".to_owned())?;
    }
    tester.stop("count")?;
    let other = tester.add_instance("count")?;
    input.send("gone", "delete".to_owned())?;
    input.send("a", "x".to_owned())?;
    tester.stop_instance("count", other)?;
    tester.log().compact_now();
    tester.advance(25 * HOUR)?;
    tester.log().compact_now();
    tester.log().compact_now();
    assert!(tester.output("count-table", Int64).read()?.iter().all(|r| r.key_text() != "gone"), "no tombstone is left");

    tester.start_instance("count", 0)?;
    assert_eq!(open(&tester, 0).get(b"gone")?, None);
    for key in ["a", "b", "gone"] {
        input.send(key, "x".to_owned())?;
    }
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 3), ("b", 2), ("gone", 1)]));
    Ok(())
}

#[test]
fn a_store_ahead_of_its_changelog_is_wiped_and_restored() -> Done {
    let tester = with_ghost()?;
    open(&tester, 0).checkpoint(Checkpoint { offset: 50, at_ms: tester.now_ms() })?;
    tester.start_instance("count", 0)?;
    assert!(!has_ghost(&tester));
    tester.input("in", Text).send("a", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 2), ("b", 1)]));
    Ok(())
}

#[test]
fn a_changelog_that_was_made_anew_begins_an_empty_table() -> Done {
    let tester = with_ghost()?;
    tester.block_on(tester.log().delete_topics(vec!["count-table".into()]))?;
    tester.start_instance("count", 0)?;
    assert!(!has_ghost(&tester));
    tester.input("in", Text).send("a", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 1)]));
    Ok(())
}

#[test]
fn a_changelog_that_was_made_anew_and_has_grown_past_the_store_is_read_from_its_beginning() -> Done {
    let tester = with_ghost()?;
    tester.block_on(tester.log().delete_topics(vec!["count-table".into()]))?;
    let other = tester.add_instance("count")?;
    for key in ["c", "d", "e"] {
        tester.input("in", Text).send(key, "x".to_owned())?;
    }
    tester.stop_instance("count", other)?;
    tester.start_instance("count", 0)?;
    assert!(!has_ghost(&tester));
    tester.input("in", Text).send("a", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 1), ("c", 1), ("d", 1), ("e", 1)]));
    Ok(())
}

#[test]
fn a_store_that_was_away_for_too_long_is_wiped_too_where_the_topics_settings_are_hidden() {
    let clock = Arc::new(ManualClock::new(1_704_067_200_000));
    // The embedded log lives on the runtime of its first use.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = Strict::over(InMemory::with_clock(Arc::clone(&clock) as _), &[], true);
    let stores = Arc::new(MemoryStores::new());
    let run = || {
        let processor = Processor::new(counter(), Arc::clone(&log) as _).stores(Arc::clone(&stores) as _).workers(1);
        let handle = processor.handle();
        let caught_up = async move {
            handle.running().await.unwrap();
            handle.caught_up().await.unwrap();
        };
        runtime.block_on(processor.run_until(caught_up)).unwrap();
    };
    let write = |topic: &str, key: &[u8], value: &[u8]| {
        runtime.block_on(async {
            let mut batch = ProduceBatch::new();
            let (topic, partition) = (Arc::from(topic), Some(0));
            let (key, value, timestamp) = (Some(key), Some(value), Some(clock.now_ms()));
            batch.push(NewRecord { topic: &topic, partition, timestamp, key, value }, std::iter::empty());
            let producer = log.producer(ProducerOptions::default()).await.unwrap();
            let failed = producer.send(Arc::new(batch)).await.failed;
            assert!(failed.is_empty(), "{failed:?}");
        });
    };
    run();
    write("in", b"a", b"x");
    run();
    let open = || stores.open(&StoreId::new("count-table", 0), Codec::<i64>::name(&Int64)).unwrap();
    open().write(&mut [(&b"ghost"[..], Some(&b"1"[..]))].into_iter()).unwrap();
    // Something that the store does not have, and more than half of Kafka's default, which is a day.
    write("count-table", b"b", b"7");
    clock.advance(13 * HOUR);
    run();
    assert!(open().get(b"ghost").unwrap().is_none(), "the default is assumed");
    assert!(open().get(b"b").unwrap().is_some());
}
