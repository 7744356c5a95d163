//! Members of groups, one at a time: assignment, commits, sessions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stream_core::log::{
    AutoOffsetReset, ErrorClass, LogError, MemberEvent, OffsetAndMetadata, ProducerOptions, TopicPartition,
};

use super::helper::{
    Client, Happened, member_options, offsets, producer, take, tp, transactional, values, write_numbers,
};
use super::{World, topic, unique, until};

/// The partitions `0..n` of a topic.
fn all(name: &Arc<str>, n: i32) -> BTreeSet<TopicPartition> {
    (0..n).map(|p| tp(name, p)).collect()
}

pub async fn single_member_gets_all_and_reads(world: &impl World) {
    let (log, a, b, group) = (world.log(), topic(world, 3).await, topic(world, 1).await, unique("g"));
    let writer = producer(&log).await;
    for partition in 0..3 {
        write_numbers(&writer, &a, partition, 10 * usize::try_from(partition).unwrap(), 5).await;
    }
    let client = Client::join(&log, member_options(&group, &[&a, &b]));
    let expected: BTreeSet<_> = all(&a, 3).into_iter().chain(all(&b, 1)).collect();
    assert_eq!(client.owns(4).await, expected);
    for partition in 0..3 {
        let mut assigned = client.take(&tp(&a, partition));
        assert_eq!((assigned.start, assigned.committed), (0, false));
        let got = take(&mut *assigned.fetch, 5).await;
        assert_eq!(values(&got), (0..5).map(|n| (10 * partition + n).to_string()).collect::<Vec<_>>());
        // A partition that is not read from holds back no other.
        write_numbers(&writer, &a, partition, 99, 1).await;
        assert_eq!(values(&take(&mut *assigned.fetch, 1).await), ["99"]);
    }
    client.close().await;
}

pub async fn a_member_without_partitions_is_notified_once(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 1).await, unique("g"));
    let one = Client::join(&log, member_options(&group, &[&name]));
    one.owns(1).await;
    let mut two = log.member(member_options(&group, &[&name])).unwrap();
    let MemberEvent::Assigned(none) = two.next().await.unwrap() else { panic!("not an assignment") };
    assert!(none.is_empty());
    // The next it hears of is what it really gets.
    let (next, ()) = tokio::join!(two.next(), one.close());
    let MemberEvent::Assigned(all) = next.unwrap() else { panic!("not an assignment") };
    assert_eq!(all.iter().map(|a| a.partition.clone()).collect::<Vec<_>>(), [tp(&name, 0)]);
    drop(all);
    two.close().await.unwrap();
}

pub async fn start_without_a_commit_is_explicit(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    let writer = producer(&log).await;
    write_numbers(&writer, &name, 0, 0, 5).await;
    for (reset, start) in [(AutoOffsetReset::Earliest, 0), (AutoOffsetReset::Latest, 5)] {
        let mut options = member_options(&unique("g"), &[&name]);
        options.reset = reset;
        let client = Client::join(&log, options);
        client.owns(1).await;
        let assigned = client.take(&tp(&name, 0));
        assert_eq!((assigned.start, assigned.committed), (start, false));
        client.close().await;
    }
    // What comes after the assignment is read, from the position that was given.
    let mut options = member_options(&unique("g"), &[&name]);
    options.reset = AutoOffsetReset::Latest;
    let client = Client::join(&log, options);
    client.owns(1).await;
    write_numbers(&writer, &name, 0, 5, 2).await;
    let mut assigned = client.take(&tp(&name, 0));
    assert_eq!(offsets(&take(&mut *assigned.fetch, 2).await), [5, 6]);
    client.close().await;
}

pub async fn committed_offsets_survive_close_and_rejoin(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    write_numbers(&producer(&log).await, &name, 0, 0, 5).await;
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(2).await;
    client.group.commit(vec![(tp(&name, 0), 3)]).await.unwrap();
    client.close().await;
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(2).await;
    let mut zero = client.take(&tp(&name, 0));
    assert_eq!((zero.start, zero.committed), (3, true));
    assert_eq!(offsets(&take(&mut *zero.fetch, 2).await), [3, 4]);
    let one = client.take(&tp(&name, 1));
    assert_eq!((one.start, one.committed), (0, false));
    client.close().await;
}

/// Brokers bound the text of an offset (`offset.metadata.max.bytes`, 4,096 by default), and go on refusing a longer one.
pub async fn metadata_above_the_limit_is_refused_for_good_and_the_limit_is_named(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let (log, name, group) = (world.log(), topic(world, 1).await, unique("g"));
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(1).await;
    let with = |bytes| vec![(tp(&name, 0), OffsetAndMetadata::new(1, "x".repeat(bytes)))];
    let refused = |error: LogError| {
        assert_eq!(error.class(), ErrorClass::Fatal, "{error}");
        assert!(format!("{error:?}").contains("offset.metadata.max.bytes"), "{error}");
    };
    refused(client.group.commit_with_metadata(with(4_097)).await.unwrap_err());
    client.group.commit_with_metadata(with(4_096)).await.unwrap();
    let writer = transactional(&log, &unique("id")).await;
    writer.begin_transaction().await.unwrap();
    refused(writer.commit_transaction_with_metadata(with(4_097), client.group.metadata()).await.unwrap_err());
    // The producer is still of use.
    writer.abort_transaction().await.unwrap();
    writer.begin_transaction().await.unwrap();
    writer.commit_transaction_with_metadata(with(4_096), client.group.metadata()).await.unwrap();
    client.close().await;
}

/// The text of a committed offset comes back with it, from a member's commit and from a transaction's.
pub async fn committed_metadata_comes_back(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(2).await;
    let with = |partition, offset, text: &str| (tp(&name, partition), OffsetAndMetadata::new(offset, text));
    client.group.commit_with_metadata(vec![with(0, 3, "topic=ü/x"), with(1, 4, "")]).await.unwrap();
    client.close().await;
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(2).await;
    let (zero, one) = (client.take(&tp(&name, 0)), client.take(&tp(&name, 1)));
    assert_eq!((zero.start, zero.committed, &*zero.metadata), (3, true, "topic=ü/x"));
    assert_eq!((one.start, one.committed, &*one.metadata), (4, true, ""));
    if world.caps().transactions {
        let mut options = ProducerOptions::default();
        options.transactional_id = Some(unique("id"));
        let writer = log.producer(options).await.unwrap();
        writer.begin_transaction().await.unwrap();
        let offsets = vec![with(0, 5, "by a transaction")];
        writer.commit_transaction_with_metadata(offsets, client.group.metadata()).await.unwrap();
    }
    // A commit without a text takes the old one away.
    client.group.commit(vec![(tp(&name, 1), 4)]).await.unwrap();
    client.close().await;
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(2).await;
    let zero = client.take(&tp(&name, 0));
    if world.caps().transactions {
        assert_eq!((zero.start, &*zero.metadata), (5, "by a transaction"));
    }
    client.close().await;
}

pub async fn offsets_of_a_group(world: &impl World) {
    if !world.caps().group_admin {
        return;
    }
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    write_numbers(&producer(&log).await, &name, 1, 0, 5).await;
    let of = || vec![tp(&name, 1), tp(&name, 0)];
    assert_eq!(log.group_offsets(Arc::clone(&group), of()).await.unwrap(), [None, None]);
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(2).await;
    client.group.commit(vec![(tp(&name, 1), 4)]).await.unwrap();
    assert_eq!(log.group_offsets(Arc::clone(&group), of()).await.unwrap(), [Some(4), None]);
    // Back, as a rewind by hand does.
    client.group.commit(vec![(tp(&name, 1), 2)]).await.unwrap();
    assert_eq!(log.group_offsets(Arc::clone(&group), of()).await.unwrap(), [Some(2), None]);
    client.close().await;
    assert_eq!(log.group_offsets(group, of()).await.unwrap(), [Some(2), None]);
}

pub async fn members_of_a_group(world: &impl World) {
    if !world.caps().group_admin {
        return;
    }
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    assert!(log.group_members(Arc::clone(&group)).await.unwrap().is_empty());
    let one = Client::join(&log, member_options(&group, &[&name]));
    one.owns(2).await;
    let two = Client::join(&world.log(), member_options(&group, &[&name]));
    two.owns(1).await;
    let mut members = Vec::new();
    until("both members are listed", async || {
        // While they rebalance, Kafka can't say what they subscribe to.
        members = log.group_members(Arc::clone(&group)).await.unwrap();
        members.len() == 2 && members.iter().all(|m| m.topics.is_some())
    })
    .await;
    assert_ne!(members[0].member_id, members[1].member_id);
    for member in &members {
        assert_eq!(member.topics.as_deref(), Some(&[Arc::clone(&name)][..]));
    }
    one.close().await;
    two.close().await;
    until("nobody is listed", async || log.group_members(Arc::clone(&group)).await.unwrap().is_empty()).await;
}

pub async fn metadata_only_while_a_member(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 1).await, unique("g"));
    let member = log.member(member_options(&group, &[&name])).unwrap();
    assert!(member.group().metadata().is_none());
    let client = Client::run(member);
    client.owns(1).await;
    assert_eq!(client.group.metadata().unwrap().group, group);
    let handle = Arc::clone(&client.group);
    client.close().await;
    assert!(handle.metadata().is_none());
    assert!(handle.commit(vec![(tp(&name, 0), 0)]).await.is_err(), "a commit after close");
}

pub async fn commit_after_losing_the_membership(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 1).await, unique("g"));
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(1).await;
    client.group.commit(vec![(tp(&name, 0), 0)]).await.unwrap();
    let handle = Arc::clone(&client.group);
    let zombie = client.freeze().await;
    let other = Client::join(&world.log(), member_options(&group, &[&name]));
    other.owns(1).await;
    let error = handle.commit(vec![(tp(&name, 0), 1)]).await.unwrap_err();
    let LogError::NotMember { group: named, .. } = &error else { panic!("{error:?}") };
    assert_eq!(**named, *group);
    let start = other.take(&tp(&name, 0));
    assert_eq!((start.start, start.committed), (0, true));
    drop(zombie);
    other.close().await;
}

pub async fn a_member_that_comes_back_is_notified_of_what_it_lost(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    let client = Client::join(&log, member_options(&group, &[&name]));
    client.owns(2).await;
    let (member, known) = client.freeze().await;
    known.lock().unwrap().owned.clear();
    let other = Client::join(&world.log(), member_options(&group, &[&name]));
    other.owns(2).await;
    // Polled again: it lost both, then joins again and gets its share.
    let back = Client::run(member);
    back.owns(1).await;
    other.owns(1).await;
    // At once, or one by one if it was asked for one of them before, which comes as a revocation; in any case before
    // it gets something new.
    let history = back.history();
    let new = history.iter().position(|h| matches!(h, Happened::Assigned(_))).unwrap();
    assert!(history[..new].iter().any(|h| matches!(h, Happened::Lost(_))), "{history:?}");
    let gone = history[..new].iter().filter_map(|h| match h {
        Happened::Lost(gone) | Happened::Revoked(gone) => Some(gone),
        _ => None,
    });
    assert_eq!(gone.flatten().cloned().collect::<BTreeSet<_>>(), all(&name, 2), "{history:?}");
    let owned: BTreeSet<_> = back.owned().union(&other.owned()).cloned().collect();
    assert_eq!(owned, all(&name, 2));
    back.group.commit(vec![(back.owned().into_iter().next().unwrap(), 0)]).await.unwrap();
    back.close().await;
    other.close().await;
}

pub async fn static_member_returns_without_a_rebalance(world: &impl World) {
    if !world.caps().static_members {
        return;
    }
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    let options = |instance: &str| {
        let mut options = member_options(&group, &[&name]);
        options.instance_id = Some(instance.into());
        // Long, for the session must not end in between.
        options.session_timeout = Duration::from_secs(30);
        options
    };
    let one = Client::join(&log, options("one"));
    one.owns(2).await;
    let two = Client::join(&world.log(), options("two"));
    let mine = two.owns(1).await;
    let theirs = one.owns(1).await;
    let before = one.history();
    two.close().await;
    let two = Client::join(&world.log(), options("two"));
    assert_eq!(two.owns(1).await, mine);
    assert_eq!(one.owned(), theirs);
    assert_eq!(one.history(), before, "the return moved something");
    one.group.commit(vec![(theirs.into_iter().next().unwrap(), 0)]).await.unwrap();
    two.group.commit(vec![(mine.into_iter().next().unwrap(), 0)]).await.unwrap();
    one.close().await;
    two.close().await;
}
