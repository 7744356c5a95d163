//! Standbys: copies of partitions that others have, and what they are good for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::processor::{Guarantee, Processor, StandbyState, Standbys, State};
use stream_core::store::{Direction, KeyRange, MemoryStores, StoreBackend as _, StoreId};
use stream_core::testing::Tester;

use crate::support::{Done, ms, table};

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    g.input("words", Text, |ctx, _| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

/// Two instances that share four partitions, and what was counted.
struct Pair {
    tester: Tester,
    counts: BTreeMap<String, i64>,
}

impl Pair {
    fn new(set: impl Fn(Processor) -> Processor + 'static) -> Result<Self, Box<dyn std::error::Error>> {
        let tester = Tester::with_partitions(4);
        tester.add_with(counter(), set)?;
        tester.add_instance("count")?;
        let mut pair = Self { tester, counts: BTreeMap::new() };
        pair.wait("each has two partitions", |p| p.tasks(0) == 2 && p.tasks(1) == 2)?;
        pair.push(100)?;
        Ok(pair)
    }

    fn push(&mut self, n: usize) -> Done {
        for i in 0..n {
            let key = format!("k{}", i * 31 % 23);
            self.tester.input("words", Text).push(&key, String::new())?;
            *self.counts.entry(key).or_default() += 1;
        }
        self.tester.drain()?;
        Ok(())
    }

    fn tasks(&self, instance: usize) -> usize {
        self.tester.handle("count", instance).unwrap().status().tasks.len()
    }

    fn standbys(&self, instance: usize) -> Vec<StandbyState> {
        self.tester.handle("count", instance).unwrap().status().standbys.into_values().collect()
    }

    fn state(&self, instance: usize) -> State {
        self.tester.handle("count", instance).unwrap().status().state
    }

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Done {
        Ok(self.tester.wait_until(what, || holds(self))?)
    }

    /// Both follow what the other has, to its end.
    fn warm(&self) -> Done {
        self.wait("each has a standby of the rest", |p| (0..2).all(|i| p.standbys(i) == [StandbyState::Running; 2]))?;
        self.tester.run_for(ms(100));
        Ok(())
    }

    /// The table, once every instance that runs has all it can have.
    fn exact(&self) -> Done {
        self.tester.drain()?;
        assert_eq!(table(&self.tester, "count", Int64), self.counts);
        Ok(())
    }
}

fn warm(processor: Processor) -> Processor {
    processor.standbys(Standbys::All)
}

#[test]
fn a_standby_takes_over_without_reading_the_table() -> Done {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let mut pair = Pair::new(move |p| warm(p).guarantee(guarantee))?;
        pair.warm()?;
        // Past a checkpoint, so that transactions' markers count as read.
        pair.tester.run_for(Duration::from_secs(30));
        let slow = pair.tester.log().faults().hold_fetches("count-table");
        pair.tester.crash_instance("count", 0)?;
        pair.wait("the other has all", |p| p.tasks(1) == 4 && p.state(1) == State::Running)?;
        assert_eq!(pair.standbys(1), []);
        pair.push(100)?;
        drop(slow);
        pair.exact()?;
    }
    Ok(())
}

#[test]
fn without_a_standby_it_has_to_be_read() -> Done {
    let mut pair = Pair::new(|p| p)?;
    assert_eq!(pair.standbys(0), []);
    let slow = pair.tester.log().faults().hold_fetches("count-table");
    pair.tester.crash_instance("count", 0)?;
    pair.wait("the other has all", |p| p.tasks(1) == 4)?;
    pair.tester.run_for(Duration::from_secs(10));
    assert_eq!(pair.state(1), State::Restoring);
    drop(slow);
    pair.push(100)?;
    pair.exact()
}

#[test]
fn what_is_written_meanwhile_is_there_after_every_move() -> Done {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let mut pair = Pair::new(move |p| warm(p).guarantee(guarantee))?;
        for round in 0..6 {
            pair.push(50)?;
            pair.tester.stop_instance("count", round % 2)?;
            pair.push(50)?;
            pair.tester.start_instance("count", round % 2)?;
            pair.push(50)?;
            pair.tester.log().faults().rebalance("count");
        }
        pair.wait("both run", |p| p.tasks(0) == 2 && p.tasks(1) == 2)?;
        pair.warm()?;
        pair.exact()?;
        // Standbys and tables are the same.
        let stores = [pair.tester.stores("count", 0)?, pair.tester.stores("count", 1)?];
        let ids: Vec<_> = (0..4).map(|p| StoreId::new("count-table", p)).collect();
        let keys = |stores: &MemoryStores, id| {
            stores.open(id, "int64").unwrap().range(KeyRange::ALL, Direction::Forward).count()
        };
        let copies: Vec<usize> = stores.iter().map(|stores| ids.iter().map(|id| keys(stores, id)).sum()).collect();
        assert_eq!(copies, [23, 23]);
    }
    Ok(())
}

#[test]
fn a_standby_survives_an_outage_of_the_log() -> Done {
    let mut pair = Pair::new(|p| warm(p).topic_check_interval(Duration::from_secs(1)))?;
    pair.warm()?;
    pair.tester.log().faults().set_available(false);
    pair.wait("they notice", |p| p.standbys(0).contains(&StandbyState::Reconnecting))?;
    pair.tester.log().faults().set_available(true);
    pair.wait("both run", |p| p.tasks(0) == 2 && p.tasks(1) == 2)?;
    pair.warm()?;
    pair.push(100)?;
    pair.tester.crash_instance("count", 1)?;
    pair.push(100)?;
    pair.exact()
}

/// The log's side of a store: which of them exist.
fn stores(pair: &Pair, instance: usize) -> Vec<i32> {
    let ids = pair.tester.stores("count", instance).unwrap().list().unwrap();
    ids.into_iter().map(|id| id.partition).collect()
}

#[test]
fn the_store_of_a_partition_that_moved_stays_for_a_while() -> Done {
    let mut pair = Pair::new(|p| p.state_cleanup_delay(Duration::from_secs(60)))?;
    // The first instance had all four before the other came.
    assert_eq!(stores(&pair, 0), [0, 1, 2, 3]);
    pair.tester.stop_instance("count", 1)?;
    pair.wait("all are back", |p| p.tasks(0) == 4)?;
    pair.push(50)?;
    pair.tester.start_instance("count", 1)?;
    pair.wait("they part again", |p| p.tasks(0) == 2 && p.tasks(1) == 2)?;
    pair.tester.run_for(Duration::from_secs(50));
    assert_eq!(stores(&pair, 0), [0, 1, 2, 3]);
    pair.tester.run_for(Duration::from_secs(70));
    assert_eq!(stores(&pair, 0).len(), 2, "those of its own stay");
    pair.push(50)?;
    pair.tester.stop_instance("count", 1)?;
    pair.wait("all are back", |p| p.tasks(0) == 4)?;
    pair.push(50)?;
    pair.exact()
}

#[test]
fn a_partition_that_comes_back_needs_only_what_is_new() -> Done {
    let tester = Tester::with_partitions(4);
    tester.add(counter())?;
    let mut pair = Pair { tester, counts: BTreeMap::new() };
    pair.push(100)?;
    pair.tester.add_instance("count")?;
    pair.wait("each has two partitions", |p| p.tasks(0) == 2 && p.tasks(1) == 2)?;
    // Nothing is new: nothing has to be read.
    let slow = pair.tester.log().faults().hold_fetches("count-table");
    pair.tester.stop_instance("count", 1)?;
    pair.wait("all are back", |p| p.tasks(0) == 4 && p.state(0) == State::Running)?;
    drop(slow);
    pair.push(50)?;
    pair.exact()
}

#[test]
fn a_partition_that_restores_does_not_stop_the_others() -> Done {
    let tester = Tester::with_partitions(2);
    tester.add(counter())?;
    let input = tester.input("words", Text);
    for partition in 0..2 {
        input.push_at("k", Some(&String::new()), None, Some(partition))?;
    }
    tester.drain()?;
    tester.stop("count")?;
    tester.stores("count", 0)?.destroy(&StoreId::new("count-table", 1))?;
    let slow = tester.log().faults().hold_fetches("count-table");
    let handle = tester.spawn_instance("count", 0)?;
    for partition in 0..2 {
        input.push_at("k", Some(&String::new()), None, Some(partition))?;
    }
    tester.wait_until("the whole one goes on", || tester.committed("count", "words", 0).unwrap() == Some(2))?;
    assert_eq!(tester.committed("count", "words", 1)?, Some(1));
    assert_eq!(handle.status().state, State::Restoring);
    drop(slow);
    tester.drain()?;
    assert_eq!(tester.committed("count", "words", 1)?, Some(2));
    Ok(())
}
