//! Transactions: what is seen when, fencing, and offsets that commit with them.

use std::sync::Arc;
use std::time::Duration;

use stream_core::log::{ErrorClass, Fetched, Isolation, LogError, LogHandle, OffsetSpec, ProducerOptions};

use super::helper::{
    Client, batch, fetch_one, is_silent, member_options, offsets, open, producer, read_all, take, to_end, tp,
    transactional, values, write, write_numbers,
};
use super::{World, topic, unique, until};

const COMMITTED: Isolation = Isolation::ReadCommitted;
const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

async fn end(log: &LogHandle, name: &Arc<str>, isolation: Isolation) -> i64 {
    log.offsets(vec![(tp(name, 0), OffsetSpec::Latest)], isolation).await.unwrap()[0]
}

/// Waits until no transaction is open on a partition: Kafka answers an end of one before its markers are written.
async fn settled(log: &LogHandle, name: &Arc<str>, partition: i32) {
    let end = async |isolation| log.offsets(vec![(tp(name, partition), OffsetSpec::Latest)], isolation).await.unwrap();
    until("the markers are written", async || end(COMMITTED).await == end(UNCOMMITTED).await).await;
}

pub async fn committed_records_are_seen_and_aborted_ones_never(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), topic(world, 2).await);
    let writer = transactional(&log, &unique("x")).await;
    for (n, commit) in [(0, true), (10, false), (20, true)] {
        writer.begin_transaction().await.unwrap();
        write_numbers(&writer, &name, 0, n, 2).await;
        write_numbers(&writer, &name, 1, n, 1).await;
        if commit {
            writer.commit_transaction(Vec::new(), None).await.unwrap();
        } else {
            writer.abort_transaction().await.unwrap();
        }
    }
    settled(&log, &name, 0).await;
    assert_eq!(values(&read_all(&log, &name, 0, COMMITTED).await), ["0", "1", "20", "21"]);
    settled(&log, &name, 1).await;
    assert_eq!(values(&read_all(&log, &name, 1, COMMITTED).await), ["0", "20"]);
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["0", "1", "10", "11", "20", "21"]);
}

pub async fn open_transaction_pins_the_end(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    let (plain, writer) = (producer(&log).await, transactional(&log, &unique("x")).await);
    write(&plain, &name, 0, &[("a", "before")]).await;
    writer.begin_transaction().await.unwrap();
    write(&writer, &name, 0, &[("b", "within")]).await;
    write(&plain, &name, 0, &[("c", "after")]).await;
    assert_eq!((end(&log, &name, COMMITTED).await, end(&log, &name, UNCOMMITTED).await), (1, 3));
    let mut fetch = open(&log, &name, 0, 0, COMMITTED).await;
    assert_eq!(values(&to_end(&mut *fetch).await), ["before"]);
    assert!(is_silent(&mut *fetch).await, "saw behind an open transaction");
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["before", "within", "after"]);
    writer.commit_transaction(Vec::new(), None).await.unwrap();
    assert_eq!(values(&take(&mut *fetch, 2).await), ["within", "after"]);
    assert_eq!(end(&log, &name, COMMITTED).await, 4);
}

pub async fn markers_occupy_offsets_and_the_end_passes_them(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    for commit in [true, false] {
        let (log, name) = (world.log(), topic(world, 1).await);
        let writer = transactional(&log, &unique("x")).await;
        let mut fetch = open(&log, &name, 0, 0, COMMITTED).await;
        assert!(to_end(&mut *fetch).await.is_empty());
        writer.begin_transaction().await.unwrap();
        write_numbers(&writer, &name, 0, 0, 2).await;
        if commit {
            writer.commit_transaction(Vec::new(), None).await.unwrap();
            assert_eq!(offsets(&take(&mut *fetch, 2).await), [0, 1]);
        } else {
            writer.abort_transaction().await.unwrap();
        }
        // Two records and a marker, which the broker may write a moment after its answer; the end is reported behind it.
        until("the marker is there", async || end(&log, &name, COMMITTED).await == 3).await;
        assert_eq!(end(&log, &name, UNCOMMITTED).await, 3);
        assert_eq!(fetch_one(&mut *fetch).await.unwrap().0, Fetched::End(3));
        assert!(is_silent(&mut *fetch).await, "the end was reported twice");
        write(&producer(&log).await, &name, 0, &[("a", "1")]).await;
        assert_eq!(offsets(&take(&mut *fetch, 1).await), [3]);
        // A start on the marker is a position like any other.
        let mut fetch = open(&log, &name, 0, 2, COMMITTED).await;
        assert_eq!(offsets(&take(&mut *fetch, 1).await), [3]);
        assert_eq!(fetch_one(&mut *fetch).await.unwrap().0, Fetched::End(4));
    }
}

pub async fn a_newer_producer_fences(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name, id) = (world.log(), topic(world, 1).await, unique("x"));
    let old = transactional(&log, &id).await;
    old.begin_transaction().await.unwrap();
    write(&old, &name, 0, &[("a", "old")]).await;
    assert_eq!(end(&log, &name, COMMITTED).await, 0);
    let new = transactional(&world.log(), &id).await;
    // The open transaction was aborted at once.
    assert_eq!((end(&log, &name, COMMITTED).await, end(&log, &name, UNCOMMITTED).await), (2, 2));
    let error = old.commit_transaction(Vec::new(), None).await.unwrap_err();
    assert!(matches!(error, LogError::Fenced { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Fatal);
    new.begin_transaction().await.unwrap();
    write(&new, &name, 0, &[("a", "new")]).await;
    new.commit_transaction(Vec::new(), None).await.unwrap();
    settled(&log, &name, 0).await;
    assert_eq!(values(&read_all(&log, &name, 0, COMMITTED).await), ["new"]);
    // A fenced producer writes nothing any more, whatever it tries.
    let _ = old.begin_transaction().await;
    assert_eq!(old.send(batch(&name, 0, &[("a", "zombie")])).await.failed.len(), 1);
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["old", "new"]);
}

pub async fn offsets_show_on_commit_only(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, input, out, group) = (world.log(), topic(world, 1).await, topic(world, 1).await, unique("g"));
    write_numbers(&producer(&log).await, &input, 0, 0, 5).await;
    let client = Client::join(&log, member_options(&group, &[&input]));
    client.owns(1).await;
    let writer = transactional(&log, &unique("x")).await;
    let committed = || log.group_offsets(Arc::clone(&group), vec![tp(&input, 0)]);
    writer.begin_transaction().await.unwrap();
    write(&writer, &out, 0, &[("a", "1")]).await;
    assert_eq!(committed().await.unwrap(), [None]);
    writer.commit_transaction(vec![(tp(&input, 0), 2)], client.group.metadata()).await.unwrap();
    until("the offset is committed", async || committed().await.unwrap() == [Some(2)]).await;
    // Without a record, and with the offset unchanged.
    writer.begin_transaction().await.unwrap();
    writer.commit_transaction(vec![(tp(&input, 0), 2)], client.group.metadata()).await.unwrap();
    // An abort brings none.
    writer.begin_transaction().await.unwrap();
    write(&writer, &out, 0, &[("a", "2")]).await;
    writer.abort_transaction().await.unwrap();
    assert_eq!(committed().await.unwrap(), [Some(2)]);
    settled(&log, &out, 0).await;
    assert_eq!(values(&read_all(&log, &out, 0, COMMITTED).await), ["1"]);
    client.close().await;
}

pub async fn offsets_of_a_stale_generation_abort(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, input, out, group) = (world.log(), topic(world, 2).await, topic(world, 1).await, unique("g"));
    let one = Client::join(&log, member_options(&group, &[&input]));
    one.owns(2).await;
    let stale = one.group.metadata();
    let two = Client::join(&world.log(), member_options(&group, &[&input]));
    let theirs = two.owns(1).await.pop_first().unwrap();
    let mine = one.owns(1).await.pop_first().unwrap();
    let writer = transactional(&log, &unique("x")).await;
    writer.begin_transaction().await.unwrap();
    write(&writer, &out, 0, &[("a", "stale")]).await;
    let error = writer.commit_transaction(vec![(theirs.clone(), 7)], stale).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Abortable, "{error:?}");
    writer.abort_transaction().await.unwrap();
    writer.begin_transaction().await.unwrap();
    write(&writer, &out, 0, &[("a", "fresh")]).await;
    writer.commit_transaction(vec![(mine.clone(), 3)], one.group.metadata()).await.unwrap();
    settled(&log, &out, 0).await;
    assert_eq!(values(&read_all(&log, &out, 0, COMMITTED).await), ["fresh"]);
    let committed = || log.group_offsets(Arc::clone(&group), vec![theirs.clone(), mine.clone()]);
    until("the offset is committed", async || committed().await.unwrap() == [None, Some(3)]).await;
    one.close().await;
    two.close().await;
}

pub async fn offsets_of_a_lost_membership_abort(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, input, out, group) = (world.log(), topic(world, 1).await, topic(world, 1).await, unique("g"));
    let client = Client::join(&log, member_options(&group, &[&input]));
    client.owns(1).await;
    let writer = transactional(&log, &unique("x")).await;
    writer.begin_transaction().await.unwrap();
    write(&writer, &out, 0, &[("a", "zombie")]).await;
    let metadata = client.group.metadata();
    let zombie = client.freeze().await;
    let other = Client::join(&world.log(), member_options(&group, &[&input]));
    other.owns(1).await;
    // Kafka may have ended the transaction by its time-out meanwhile: an error of another class, an abort all the same.
    assert!(writer.commit_transaction(vec![(tp(&input, 0), 7)], metadata).await.is_err());
    assert_eq!(other.take(&tp(&input, 0)).start, 0);
    drop((writer.abort_transaction().await, writer));
    until("the transaction is over", async || end(&log, &out, COMMITTED).await == 2).await;
    assert!(read_all(&log, &out, 0, COMMITTED).await.is_empty());
    assert_eq!(log.group_offsets(group, vec![tp(&input, 0)]).await.unwrap(), [None]);
    drop(zombie);
    other.close().await;
}

pub async fn takeover_waits_for_pending_offsets(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    for (commit, start) in [(true, 4), (false, 2)] {
        let (log, input, group) = (world.log(), topic(world, 1).await, unique("g"));
        write_numbers(&producer(&log).await, &input, 0, 0, 5).await;
        let client = Client::join(&log, member_options(&group, &[&input]));
        client.owns(1).await;
        client.group.commit(vec![(tp(&input, 0), 2)]).await.unwrap();
        client.close().await;
        let Some(pending) = world.pending_offsets(Arc::clone(&group), vec![(tp(&input, 0), 4)]).await else { return };
        let other = Client::join(&log, member_options(&group, &[&input]));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(other.owned().is_empty(), "took over while the offsets were undecided");
        if commit {
            pending.commit().await;
        } else {
            pending.abort().await;
        }
        other.owns(1).await;
        let taken = other.take(&tp(&input, 0));
        assert_eq!((taken.start, taken.committed), (start, true));
        other.close().await;
    }
}

pub async fn time_out_aborts(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    let mut options = ProducerOptions::default();
    options.transactional_id = Some(unique("x"));
    options.transaction_timeout = Some(Duration::from_secs(1));
    let writer = log.producer(options).await.unwrap();
    let mut fetch = open(&log, &name, 0, 0, COMMITTED).await;
    assert!(to_end(&mut *fetch).await.is_empty());
    writer.begin_transaction().await.unwrap();
    write(&writer, &name, 0, &[("a", "late")]).await;
    // A fetch that waits at the pinned end is woken by the time-out itself.
    assert!(matches!(fetch_one(&mut *fetch).await.unwrap().0, Fetched::End(_)));
    assert_eq!((end(&log, &name, COMMITTED).await, end(&log, &name, UNCOMMITTED).await), (2, 2));
    assert!(writer.commit_transaction(Vec::new(), None).await.is_err());
    assert!(read_all(&log, &name, 0, COMMITTED).await.is_empty());
}

pub async fn sending_outside_a_transaction_fails(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    let writer = transactional(&log, &unique("x")).await;
    assert_eq!(writer.send(batch(&name, 0, &[("a", "1"), ("b", "2")])).await.failed.len(), 2);
    assert!(writer.commit_transaction(Vec::new(), None).await.is_err(), "no transaction is open");
    writer.begin_transaction().await.unwrap();
    assert!(writer.begin_transaction().await.is_err(), "one is open already");
    write(&writer, &name, 0, &[("c", "3")]).await;
    writer.commit_transaction(Vec::new(), None).await.unwrap();
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["3"]);
}

pub async fn interleaved_transactions(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    let (one, two) = (transactional(&log, &unique("x")).await, transactional(&log, &unique("y")).await);
    one.begin_transaction().await.unwrap();
    two.begin_transaction().await.unwrap();
    for n in 0..3 {
        write_numbers(&one, &name, 0, 10 + n, 1).await;
        write_numbers(&two, &name, 0, 20 + n, 1).await;
    }
    two.commit_transaction(Vec::new(), None).await.unwrap();
    assert!(read_all(&log, &name, 0, COMMITTED).await.is_empty(), "the older one still pins the end");
    one.abort_transaction().await.unwrap();
    settled(&log, &name, 0).await;
    assert_eq!(values(&read_all(&log, &name, 0, COMMITTED).await), ["20", "21", "22"]);
    assert_eq!(end(&log, &name, COMMITTED).await, 8);
}
