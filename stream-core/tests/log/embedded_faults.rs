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

use crate::log_suite::helper::{
    Client, Happened, all_arrived, bare, batch, fetch_one, member_options, offsets, open, producer, read_all, record,
    take, to_end, tp, transactional, values, write, write_numbers,
};
use crate::log_suite::{bounded, until};

const COMMITTED: Isolation = Isolation::ReadCommitted;
const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

struct Here {
    embedded: Arc<InMemory>,
    log: LogHandle,
    topic: Arc<str>,
    group: Arc<str>,
}

async fn here(partitions: i32) -> Here {
    let embedded = InMemory::with_clock(Arc::new(ManualClock::new(1_700_000_000_000)));
    let log = Arc::clone(&embedded) as LogHandle;
    let topic: Arc<str> = "topic".into();
    log.create_topics(vec![TopicSpec::new(Arc::clone(&topic)).partitions(partitions)]).await.unwrap();
    Here { embedded, log, topic, group: "group".into() }
}

fn injected() -> LogError {
    LogError::Retriable { what: "test".to_owned(), reason: "injected".to_owned() }
}

fn failed(delivery: &Delivery) -> Vec<usize> {
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
async fn members_are_expired_and_rebalanced_on_demand() {
    let h = here(4).await;
    let one = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    one.owns(4).await;
    let faults = h.embedded.faults();
    // Alone: everything is given up and comes back.
    faults.rebalance(&h.group);
    until("all came back", async || one.history().len() == 3).await;
    assert_eq!((one.owned().len(), one.gone().0.len(), one.gone().1.len()), (4, 4, 0));
    let two = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    let theirs = two.owns(2).await;
    let mine = one.owns(2).await;
    faults.rebalance(&h.group);
    until("they have changed places", async || one.owned() == theirs && two.owned() == mine).await;
    let metadata = one.group.metadata();
    let id = h.log.group_members(Arc::clone(&h.group)).await.unwrap()[0].member_id.clone();
    assert!(faults.expire_member(&h.group, &id));
    assert!(!faults.expire_member(&h.group, &id));
    until("it lost all, and is back", async || !one.gone().1.is_empty() && one.owned().len() == 2).await;
    assert_eq!(one.gone().1, theirs);
    two.owns(2).await;
    // What it knew of itself before is worth nothing now.
    let writer = transactional(&h.log, &"x".into()).await;
    writer.begin_transaction().await.unwrap();
    let error = writer.commit_transaction(vec![(tp(&h.topic, 0), 1)], metadata).await.unwrap_err();
    assert!(matches!(error, LogError::NotMember { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn topics_change_under_living_members() {
    let h = here(2).await;
    let one = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    let two = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    one.owns(1).await;
    two.owns(1).await;
    h.log.grow_topic(Arc::clone(&h.topic), 6).await.unwrap();
    one.owns(3).await;
    two.owns(3).await;
    let partition = one.owned().into_iter().next().unwrap();
    let mut assigned = one.take(&partition);
    assert!(to_end(&mut *assigned.fetch).await.is_empty());
    let waiting = tokio::spawn(async move { fetch_one(&mut *assigned.fetch).await });
    let writer = producer(&h.log).await;
    h.log.delete_topics(vec![Arc::clone(&h.topic)]).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err(), LogError::UnknownTopic { topic: h.topic.to_string() });
    one.owns(0).await;
    two.owns(0).await;
    assert_eq!(failed(&writer.send(batch(&h.topic, 0, &[("a", "1")])).await), [0]);
    assert!(one.group.commit(vec![(partition, 1)]).await.is_err());
    h.log.create_topics(vec![TopicSpec::new(Arc::clone(&h.topic)).partitions(2)]).await.unwrap();
    one.owns(1).await;
    two.owns(1).await;
    write(&writer, &h.topic, 0, &[("a", "1")]).await;
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

/// A member is frozen while it is to let go, and another takes over; what it commits then is refused. `left` members are
/// in the group by then.
async fn commits_nothing_that_sleeps_through_a_revocation(bound: Duration, session: Option<Duration>, left: usize) {
    let h = here(1).await;
    let mut options = member_options(&h.group, &[&h.topic]);
    options.revoke_timeout = bound;
    options.session_timeout = session.unwrap_or(options.session_timeout);
    let one = Client::join(&h.log, options);
    one.owns(1).await;
    one.hold();
    let two = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    until("both are in", async || h.log.group_members(Arc::clone(&h.group)).await.unwrap().len() == 2).await;
    two.owns(0).await;
    h.embedded.faults().rebalance(&h.group);
    until("it knows of the revocation", async || !one.known().revoking.is_empty()).await;
    let group = Arc::clone(&one.group);
    let frozen = one.freeze().await;
    two.owns(1).await;
    assert_eq!(h.log.group_members(Arc::clone(&h.group)).await.unwrap().len(), left);
    let error = group.commit(vec![(tp(&h.topic, 0), 1)]).await.unwrap_err();
    assert!(matches!(error, LogError::NotMember { .. }), "{error:?}");
    drop(frozen);
}

/// As in Kafka, where nobody has a place in the group without heartbeats, whatever it was to give up.
#[tokio::test(start_paused = true)]
async fn who_sleeps_through_a_revocation_is_out_and_commits_nothing() {
    commits_nothing_that_sleeps_through_a_revocation(Duration::from_secs(10), None, 1).await;
}

/// Its session is not over, yet it took no part in the rebalance.
#[tokio::test(start_paused = true)]
async fn who_has_yet_to_hear_of_a_loss_commits_nothing() {
    commits_nothing_that_sleeps_through_a_revocation(Duration::from_secs(4), Some(Duration::from_secs(60)), 2).await;
}

#[tokio::test(start_paused = true)]
async fn coordinators_go_away_and_come_back() {
    let h = here(1).await;
    let (one, writer) = (Client::join(&h.log, member_options(&h.group, &[&h.topic])), producer(&h.log).await);
    one.owns(1).await;
    let faults = h.embedded.faults();
    faults.set_coordinating(false);
    // Records flow, and nobody is taken for dead.
    write(&writer, &h.topic, 0, &[("a", "1")]).await;
    assert_eq!(values(&take(&mut *one.take(&tp(&h.topic, 0)).fetch, 1).await), ["1"]);
    let commit = async || one.group.commit(vec![(tp(&h.topic, 0), 1)]).await;
    assert_eq!(commit().await.unwrap_err().class(), ErrorClass::Retriable);
    let look = h.log.group_offsets(Arc::clone(&h.group), vec![tp(&h.topic, 0)]).await;
    assert_eq!(look.unwrap_err().class(), ErrorClass::Retriable);
    tokio::time::advance(Duration::from_secs(60)).await;
    faults.set_coordinating(true);
    commit().await.unwrap();
    assert_eq!(one.gone().1.len(), 0);
    // An answer that is lost leaves the commit in effect.
    faults.fail_offset_commit_after(injected());
    let later = one.group.commit(vec![(tp(&h.topic, 0), 2)]).await;
    assert_eq!(later.unwrap_err(), injected());
    let look = h.log.group_offsets(Arc::clone(&h.group), vec![tp(&h.topic, 0)]).await;
    assert_eq!(look.unwrap(), [Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn taken_away_partitions_fall_silent_and_zombies_read_on() {
    let h = here(1).await;
    let writer = producer(&h.log).await;
    let client = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    client.owns(1).await;
    let mut assigned = client.take(&tp(&h.topic, 0));
    let (member, known) = client.freeze().await;
    let other = Client::join(&h.log, member_options(&h.group, &[&h.topic]));
    other.owns(1).await;
    write(&writer, &h.topic, 0, &[("a", "1")]).await;
    // It does not know yet.
    assert_eq!(values(&take(&mut *assigned.fetch, 1).await), ["1"]);
    assert!(member.group().metadata().is_some());
    drop(known);
    let back = Client::run(member);
    until("it gets its assignment", async || !back.history().is_empty()).await;
    write(&writer, &h.topic, 0, &[("a", "2")]).await;
    let silent = tokio::time::timeout(Duration::from_secs(60), fetch_one(&mut *assigned.fetch)).await;
    assert!(silent.is_err());
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
