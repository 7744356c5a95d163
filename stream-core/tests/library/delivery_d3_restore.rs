//! D3: the order of a restore, with transactions of others on the changelog.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{Log, NewRecord, ProduceBatch, Producer, ProducerOptions, TopicPartition};
use stream_core::processor::{Guarantee, State, Status, TaskState};
use stream_core::store::{StoreBackend, StoreId};
use stream_core::testing::Tester;

use crate::support::{Done, pairs, table};

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, _text| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

/// A tester whose group was started once and is stopped now.
fn stopped() -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add(counter())?;
    tester.input("in", Text).send("old", "x".to_owned())?;
    tester.stop("count")?;
    Ok(tester)
}

fn producer(tester: &Tester, transactional: bool) -> Arc<dyn Producer> {
    let mut options = ProducerOptions::default();
    options.transactional_id = transactional.then(|| "foreign".into());
    options.transaction_timeout = Some(Duration::from_secs(60));
    tester.block_on(tester.log().producer(options)).unwrap()
}

fn write(tester: &Tester, producer: &dyn Producer, pairs: &[(&str, &str)]) {
    let mut batch = ProduceBatch::new();
    let topic = "count-table".into();
    for (key, value) in pairs {
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        batch.push(NewRecord { topic: &topic, partition: Some(0), timestamp: None, key, value }, std::iter::empty());
    }
    assert!(tester.block_on(producer.send(Arc::new(batch))).failed.is_empty());
}

fn state(tester: &Tester) -> State {
    tester.handle("count", 0).unwrap().status().state
}

#[test]
fn a_restore_waits_for_an_open_transaction_and_sees_what_lies_behind_it() -> Done {
    for commit in [true, false] {
        let tester = stopped()?;
        let (open, plain) = (producer(&tester, true), producer(&tester, false));
        tester.block_on(open.begin_transaction())?;
        write(&tester, &*open, &[("in-it", "5"), ("old", "40")]);
        // Committed, but above the last stable offset as long as the transaction is open.
        write(&tester, &*plain, &[("behind", "7")]);

        let handle = tester.spawn_instance("count", 0)?;
        tester.run_for(Duration::from_secs(5));
        assert_eq!(state(&tester), State::Restoring);
        if commit {
            tester.block_on(open.commit_transaction(Vec::new(), None))?;
        } else {
            tester.block_on(open.abort_transaction())?;
        }
        tester.block_on(handle.running())?;
        let input = tester.input("in", Text);
        for key in ["in-it", "old", "behind"] {
            input.push(key, "x".to_owned())?;
        }
        tester.drain()?;
        let (in_it, old) = if commit { (6, 41) } else { (1, 2) };
        assert_eq!(table(&tester, "count", Int64), pairs([("in-it", in_it), ("old", old), ("behind", 8)]));
    }
    Ok(())
}

#[test]
fn a_restore_can_be_given_up_while_it_waits() -> Done {
    let tester = stopped()?;
    let open = producer(&tester, true);
    tester.block_on(open.begin_transaction())?;
    write(&tester, &*open, &[("in-it", "5")]);
    tester.spawn_instance("count", 0)?;
    tester.run_for(Duration::from_secs(1));
    assert_eq!(state(&tester), State::Restoring);
    tester.stop("count")?;
    assert_eq!(state(&tester), State::Stopped);
    assert_eq!(tester.committed("count", "in", 0)?, Some(1));
    Ok(())
}

#[test]
fn a_changelog_that_ends_in_a_marker_hangs_no_restore() -> Done {
    let tester = stopped()?;
    let foreign = producer(&tester, true);
    for _ in 0..2 {
        for commit in [true, false] {
            tester.block_on(foreign.begin_transaction())?;
            write(&tester, &*foreign, &[("k", "5")]);
            if commit {
                tester.block_on(foreign.commit_transaction(Vec::new(), None))?;
            } else {
                tester.block_on(foreign.abort_transaction())?;
            }
            tester.restart("count")?;
            assert_eq!(state(&tester), State::Running);
            // With nothing new, and with nothing in the store at all.
            tester.restart("count")?;
            tester.stop("count")?;
            tester.stores("count", 0)?.destroy(&StoreId::new("count-table", 0))?;
            tester.restart("count")?;
            tester.stop("count")?;
        }
    }
    tester.restart("count")?;
    tester.input("in", Text).send("k", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("old", 1), ("k", 6)]));
    Ok(())
}

#[test]
fn committed_offsets_are_asked_for_once_they_are_decided() -> Done {
    let tester = stopped()?;
    tester.input("in", Text).push("old", "x".to_owned())?;
    // A predecessor died in the middle of its commit, which then turns out to have been decided.
    let pending = tester.log().faults().pending_offsets("count", vec![(TopicPartition::new("in", 0), 2)]);
    let handle = tester.spawn_instance("count", 0)?;
    tester.run_for(Duration::from_secs(5));
    assert_eq!(state(&tester), State::Starting);
    pending.commit();
    tester.block_on(handle.running())?;
    tester.run_for(Duration::from_secs(1));
    assert_eq!(table(&tester, "count", Int64), pairs([("old", 1)]), "the record was done by the predecessor");
    tester.input("in", Text).send("old", "x".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("old", 2)]));
    Ok(())
}

/// A task that still restores, and is to commit its positions again (semantics D9), goes on restoring.
#[test]
fn a_restore_that_takes_longer_than_positions_are_kept_goes_on() -> Done {
    let tester = Tester::new();
    tester.add_with(counter(), |p| p.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::from_secs(1)))?;
    tester.input("in", Text).send("old", "x".to_owned())?;
    tester.stop("count")?;
    tester.stores("count", 0)?.destroy(&StoreId::new("count-table", 0))?;
    let slow = tester.log().faults().hold_fetches("count-table");
    let handle = tester.spawn_instance("count", 0)?;
    tester.run_for(Duration::from_secs(1900));
    assert_eq!(handle.status().state, State::Restoring);
    drop(slow);
    tester.input("in", Text).push("old", "x".to_owned())?;
    tester.drain()?;
    assert_eq!(table(&tester, "count", Int64), pairs([("old", 2)]));
    Ok(())
}

/// A task that still restores has nothing to finish: that its partition goes is no trouble for the others' writes.
#[test]
fn a_partition_that_goes_before_it_is_restored_disturbs_no_other() -> Done {
    let tester = Tester::with_partitions(2);
    tester.add(counter())?;
    tester.add_instance("count")?;
    let of = |status: &Status, p: i32| status.tasks.get(&TopicPartition::new("in", p)).copied();
    let handle = |instance| tester.handle("count", instance).unwrap();
    tester.wait_until("each has one", || (0..2).all(|i| handle(i).status().tasks.len() == 1))?;
    let stays = (0..2).find(|p| of(&handle(0).status(), *p).is_some()).unwrap();
    let input = tester.input("in", Text);
    for p in 0..2 {
        input.push_at(["zero", "one"][p], Some(&"x".to_owned()), None, Some(i32::try_from(p)?))?;
    }
    tester.drain()?;
    let slow = tester.log().faults().hold_fetches("count-table");
    tester.stop_instance("count", 1)?;
    tester.wait_until("it restores", || of(&handle(0).status(), 1 - stays) == Some(TaskState::Restoring))?;
    let held = tester.log().faults().on(|r| r.topic == "count-table").hold_acks();
    input.push_at(["zero", "one"][usize::try_from(stays)?], Some(&"x".to_owned()), None, Some(stays))?;
    tester.wait_until("it is on its way", || held.hits() == 1)?;
    tester.spawn_instance("count", 1)?;
    tester.run_for(Duration::from_secs(20));
    assert_eq!((of(&handle(0).status(), stays), of(&handle(0).status(), 1 - stays)), (Some(TaskState::Running), None));
    assert_eq!(held.hits(), 1, "it is not written again");
    drop((slow, held));
    tester.drain()?;
    assert_eq!(tester.output("count-table", Int64).read()?.len(), 3);
    Ok(())
}
