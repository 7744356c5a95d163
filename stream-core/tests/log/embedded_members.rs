//! Faults of the embedded log around members of a group: expiry, rebalances, revocations, coordinators.

use std::sync::Arc;
use std::time::Duration;

use stream_core::log::{ErrorClass, LogError, TopicSpec};

use crate::embedded_faults::{failed, here, injected};
use crate::log_suite::helper::{
    Client, batch, fetch_one, member_options, producer, take, to_end, tp, transactional, values, write,
};
use crate::log_suite::until;

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
