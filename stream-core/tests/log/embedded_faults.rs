//! Faults of the embedded log, and what only it has: what the tests of everything above rely on.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use stream_core::clock::ManualClock;
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    Cleanup, Delivery, ErrorClass, Fetched, Isolation, LogError, LogHandle, ProduceBatch, ProducerOptions, TopicConfig,
    TopicSpec,
};

use crate::log_suite::bounded;
use crate::log_suite::helper::{
    Client, Happened, all_arrived, bare, batch, fetch_one, member_options, offsets, open, producer, read_all, record,
    take, to_end, tp, transactional, values, write, write_numbers,
};

const COMMITTED: Isolation = Isolation::ReadCommitted;
const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

pub(super) struct Here {
    pub(super) embedded: Arc<InMemory>,
    pub(super) log: LogHandle,
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
}

pub(super) async fn here(partitions: i32) -> Here {
    let embedded = InMemory::with_clock(Arc::new(ManualClock::new(1_700_000_000_000)));
    let log = Arc::clone(&embedded) as LogHandle;
    let topic: Arc<str> = "topic".into();
    log.create_topics(vec![TopicSpec::new(Arc::clone(&topic)).partitions(partitions)]).await.unwrap();
    Here { embedded, log, topic, group: "group".into() }
}

pub(super) fn injected() -> LogError {
    LogError::Retriable { what: "test".to_owned(), reason: "injected".to_owned() }
}

pub(super) fn failed(delivery: &Delivery) -> Vec<usize> {
    delivery.failed.iter().map(|f| f.index).collect()
}

#[tokio::test(start_paused = true)]
async fn chosen_records_fail_and_are_not_written() {
    let h = here(2).await;
    let writer = producer(&h.log).await;
    let fault = h.embedded.faults().on(|r| r.topic == "topic" && r.key == Some(b"b")).times(2).fail(injected());
    let delivery = writer.send(batch(&h.topic, 0, &[("a", "1"), ("b", "2"), ("c", "3"), ("b", "4"), ("b", "5")])).await;
    assert_eq!((failed(&delivery), fault.hits()), (vec![1, 3], 2));
    assert_eq!(delivery.failed[0].error, injected());
    assert_eq!(delivery.last_offsets, [Some(2)]);
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, UNCOMMITTED).await), ["1", "3", "5"]);
    drop(fault);
    write(&writer, &h.topic, 0, &[("b", "6")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_record_spoils_its_transaction() {
    let h = here(1).await;
    let writer = transactional(&h.log, &"x".into()).await;
    for after in [false, true] {
        let on = h.embedded.faults().on(|r| r.transactional_id == Some("x")).times(1);
        let _fault = if after { on.fail_after_write(injected()) } else { on.fail(injected()) };
        writer.begin_transaction().await.unwrap();
        assert_eq!(failed(&writer.send(batch(&h.topic, 0, &[("a", "1"), ("b", "2")])).await), [0]);
        let error = writer.commit_transaction(Vec::new(), None).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Abortable, "{error:?}");
        writer.abort_transaction().await.unwrap();
    }
    // Written: "2", then "1" without its acknowledgement and "2"; two markers.
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, UNCOMMITTED).await), ["2", "1", "2"]);
    assert!(read_all(&h.log, &h.topic, 0, COMMITTED).await.is_empty());
    writer.begin_transaction().await.unwrap();
    write(&writer, &h.topic, 0, &[("a", "3")]).await;
    writer.commit_transaction(Vec::new(), None).await.unwrap();
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, COMMITTED).await), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn delayed_records_keep_their_order_and_need_no_waiting() {
    let h = here(2).await;
    let writer = producer(&h.log).await;
    let fault = h.embedded.faults().on(|r| r.partition == 0).times(1).delay(Duration::from_secs(5));
    let before = tokio::time::Instant::now();
    drop(writer.send(batch(&h.topic, 0, &[("a", "0"), ("a", "1")])));
    let second = writer.send(batch(&h.topic, 0, &[("a", "2")]));
    all_arrived(&writer.send(batch(&h.topic, 1, &[("b", "0")])).await);
    assert_eq!(read_all(&h.log, &h.topic, 0, UNCOMMITTED).await.len(), 0);
    let mut fetch = open(&h.log, &h.topic, 0, 0, UNCOMMITTED).await;
    assert_eq!(values(&take(&mut *fetch, 3).await), ["0", "1", "2"]);
    all_arrived(&second.await);
    assert_eq!(before.elapsed().as_secs(), 5);
    drop(fault);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_held_back() {
    let h = here(2).await;
    let writer = producer(&h.log).await;
    let fault = h.embedded.faults().on(|r| r.partition == 0).hold_acks();
    let mut held = writer.send(batch(&h.topic, 0, &[("a", "1")]));
    let mut flush = writer.flush();
    all_arrived(&writer.send(batch(&h.topic, 1, &[("b", "1")])).await);
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, UNCOMMITTED).await), ["1"]);
    assert!((&mut held).now_or_never().is_none() && (&mut flush).now_or_never().is_none());
    drop(fault);
    let delivery = held.await;
    assert_eq!((failed(&delivery), delivery.last_offsets), (vec![], vec![Some(0)]));
    flush.await.unwrap();
    // A late acknowledgement becomes a failure, though the record is there.
    let _fault = h.embedded.faults().on(|r| r.partition == 0).hold_acks();
    let delivery = writer.send(batch(&h.topic, 0, &[("a", "2")])).await;
    assert!(matches!(delivery.failed[0].error, LogError::Timeout { .. }), "{:?}", delivery.failed);
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, UNCOMMITTED).await), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn purge_fails_what_is_under_way() {
    let h = here(1).await;
    let writer = producer(&h.log).await;
    let _held = h.embedded.faults().on(|r| r.key == Some(b"held")).hold_acks();
    let _late = h.embedded.faults().on(|r| r.key == Some(b"late")).delay(Duration::from_secs(1));
    let sent = writer.send(batch(&h.topic, 0, &[("held", "1"), ("late", "2")]));
    writer.purge();
    let delivery = sent.await;
    assert_eq!(
        delivery.failed.iter().map(|f| f.error.clone()).collect::<Vec<_>>(),
        [LogError::Purged, LogError::Purged]
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, UNCOMMITTED).await), ["1"]);
    assert!(writer.flush().now_or_never().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn out_of_reach_and_back() {
    let h = here(1).await;
    let writer = producer(&h.log).await;
    write(&writer, &h.topic, 0, &[("a", "1")]).await;
    let client = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    client.owns(1).await;
    let mut assigned = client.take(&tp(&h.topic, 0));
    assert_eq!(values(&to_end(&mut *assigned.fetch).await), ["1"]);
    h.embedded.faults().set_available(false);
    let error = client.group.commit(vec![(tp(&h.topic, 0), 1)]).await.unwrap_err();
    assert!(matches!(error, LogError::Unreachable { .. }), "{error:?}");
    assert!(h.log.topics(vec![Arc::clone(&h.topic)]).await.is_err());
    assert!(h.log.producer(ProducerOptions::default()).await.is_err());
    let sent = writer.send(batch(&h.topic, 0, &[("a", "2")]));
    let waiting = tokio::spawn(async move { values(&take(&mut *assigned.fetch, 1).await) });
    // Longer than a session, shorter than the delivery time-out.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!waiting.is_finished());
    h.embedded.faults().set_available(true);
    all_arrived(&sent.await);
    assert_eq!(waiting.await.unwrap(), ["2"]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(client.history(), [Happened::Assigned(vec![tp(&h.topic, 0)])], "the outage cost the membership");
    client.group.commit(vec![(tp(&h.topic, 0), 2)]).await.unwrap();
    // Longer than the delivery time-out: given up, and never written.
    h.embedded.faults().set_available(false);
    let delivery = writer.send(batch(&h.topic, 0, &[("a", "3")])).await;
    assert!(matches!(delivery.failed[0].error, LogError::Timeout { .. }), "{:?}", delivery.failed);
    h.embedded.faults().set_available(true);
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, UNCOMMITTED).await), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn commits_of_transactions_fail_before_and_after() {
    let h = here(1).await;
    let writer = transactional(&h.log, &"x".into()).await;
    let faults = h.embedded.faults();
    writer.begin_transaction().await.unwrap();
    write(&writer, &h.topic, 0, &[("a", "1")]).await;
    faults.fail_commit(injected());
    assert_eq!(writer.commit_transaction(Vec::new(), None).await.unwrap_err(), injected());
    assert!(read_all(&h.log, &h.topic, 0, COMMITTED).await.is_empty());
    faults.fail_commit_after(injected());
    assert_eq!(writer.commit_transaction(Vec::new(), None).await.unwrap_err(), injected());
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, COMMITTED).await), ["1"]);
    let client = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    client.owns(1).await;
    faults.fail_offset_commit(injected());
    assert_eq!(client.group.commit(vec![(tp(&h.topic, 0), 1)]).await.unwrap_err(), injected());
    client.group.commit(vec![(tp(&h.topic, 0), 1)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_hangs_decides_for_the_successor() {
    for late in [false, true] {
        let h = here(1).await;
        let client = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
        client.owns(1).await;
        let out: Arc<str> = "out".into();
        h.log.create_topics(vec![TopicSpec::new(Arc::clone(&out))]).await.unwrap();
        let writer = transactional(&h.log, &"x".into()).await;
        let hold = h.embedded.faults().hold_commits();
        writer.begin_transaction().await.unwrap();
        write(&writer, &out, 0, &[("a", "1")]).await;
        let commit = tokio::spawn(writer.commit_transaction(vec![(tp(&h.topic, 0), 7)], client.group.metadata()));
        // Sent to the transaction before the member dies.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let zombie = client.freeze().await;
        let other = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
        // Its session (6 s) is over, the transaction's time-out (10 s) is not.
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(other.owned().is_empty());
        if late {
            // Nobody lets it go: the time-out aborts it.
            other.owns(1).await;
            drop(hold);
            assert!(matches!(commit.await.unwrap(), Err(LogError::Fenced { .. })));
        } else {
            drop(hold);
            commit.await.unwrap().unwrap();
            other.owns(1).await;
        }
        let start = other.take(&tp(&h.topic, 0)).start;
        let seen = read_all(&h.log, &out, 0, COMMITTED).await.len();
        assert_eq!((start, seen), if late { (0, 0) } else { (7, 1) });
        drop(zombie);
    }
}

#[tokio::test(start_paused = true)]
async fn topic_goes_with_an_open_transaction() {
    let h = here(1).await;
    let writer = transactional(&h.log, &"x".into()).await;
    writer.begin_transaction().await.unwrap();
    write(&writer, &h.topic, 0, &[("a", "1")]).await;
    h.log.delete_topics(vec![Arc::clone(&h.topic)]).await.unwrap();
    h.log.create_topics(vec![TopicSpec::new(Arc::clone(&h.topic))]).await.unwrap();
    write(&writer, &h.topic, 0, &[("a", "2")]).await;
    writer.commit_transaction(Vec::new(), None).await.unwrap();
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, COMMITTED).await), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn compaction_runs_by_itself_and_bounds_the_log() {
    let embedded = InMemory::with_clock(Arc::new(ManualClock::new(1_700_000_000_000)));
    let log = Arc::clone(&embedded) as LogHandle;
    let name: Arc<str> = "table".into();
    let config = TopicConfig::new().cleanup(Cleanup::Compact);
    log.create_topics(vec![TopicSpec::new(Arc::clone(&name)).config(config)]).await.unwrap();
    let writer = producer(&log).await;
    let large = "x".repeat(1000);
    for _ in 0..200 {
        let mut out = ProduceBatch::new();
        for n in 0..100u8 {
            out.push(record(&name, Some(0), Some(&[n]), Some(large.as_bytes())), bare());
        }
        all_arrived(&writer.send(Arc::new(out)).await);
    }
    // 20 MB were written for 0.1 MB of keys.
    let left = read_all(&log, &name, 0, COMMITTED).await;
    assert!(left.len() < 6000, "{} records are left", left.len());
    let mut last: Vec<_> = (0..100u8).map(|_| -1).collect();
    for rec in &left {
        last[usize::from(rec.key.as_ref().unwrap()[0])] = rec.offset;
    }
    assert_eq!(last, (19_900..20_000).collect::<Vec<i64>>());
}

/// A run with everything in it, as a list of what was seen.
async fn busy_run() -> Vec<String> {
    let h = here(3).await;
    let mut seen = Vec::new();
    let writer = producer(&h.log).await;
    let _fault = h.embedded.faults().on(|r| r.key.is_none()).times(5).delay(Duration::from_millis(3));
    for _ in 0..10 {
        let mut out = ProduceBatch::new();
        out.push(record(&h.topic, None, None, Some(b"v")), bare());
        out.push(record(&h.topic, None, Some(b"k"), Some(b"v")), bare());
        seen.push(format!("{:?}", writer.send(Arc::new(out)).await));
    }
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::join(&h.log, member_options(&h.group, &[&h.topic])));
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    clients.remove(0).close().await;
    tokio::time::sleep(Duration::from_millis(7)).await;
    seen.extend(clients.iter().map(|c| format!("{:?}", c.history())));
    for partition in 0..3 {
        seen.push(format!("{:?}", offsets(&read_all(&h.log, &h.topic, partition, COMMITTED).await)));
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn the_same_calls_do_the_same_things() {
    let first = busy_run().await;
    assert!(first.iter().any(|s| s.contains("Assigned")));
    assert_eq!(first, busy_run().await);
}

#[tokio::test(start_paused = true)]
async fn a_busy_reader_gives_way() {
    bounded(async {
        let h = here(1).await;
        let writer = producer(&h.log).await;
        write_numbers(&writer, &h.topic, 0, 0, 1).await;
        let other = tokio::spawn(async {});
        let mut fetch = open(&h.log, &h.topic, 0, 0, COMMITTED).await;
        // Without an end: every round has something to read.
        while !other.is_finished() {
            fetch.seek(0).await.unwrap();
            assert_eq!(fetch_one(&mut *fetch).await.unwrap().0, Fetched::Records);
        }
    })
    .await;
}
