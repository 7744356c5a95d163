//! Partitions that move from one member of a group to another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stream_core::log::{Assigned, Fetched, LogError, Subscription, TopicPartition};

use super::helper::{
    Client, Happened, fetch_one, lead_options, member_options, producer, take, tp, values, write_numbers,
};
use super::{World, topic, unique, until};

fn all(name: &Arc<str>, n: i32) -> BTreeSet<TopicPartition> {
    (0..n).map(|p| tp(name, p)).collect()
}

pub async fn two_members_split_incrementally(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 4).await, unique("g"));
    let one = Client::join(&log, member_options(&group, &[&name]));
    assert_eq!(one.owns(4).await, all(&name, 4));
    let two = Client::join(&world.log(), member_options(&group, &[&name]));
    let theirs = two.owns(2).await;
    let mine = one.owns(2).await;
    assert!(mine.is_disjoint(&theirs));
    // What stayed was never taken away.
    let (revoked, lost) = one.gone();
    assert_eq!((revoked, lost), (theirs, BTreeSet::new()));
    one.close().await;
    two.close().await;
}

pub async fn graceful_move_reads_nothing_twice(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    let writer = producer(&log).await;
    for partition in 0..2 {
        write_numbers(&writer, &name, partition, 0, 100).await;
    }
    let one = Client::join(&log, member_options(&group, &[&name]));
    one.owns(2).await;
    let mut fetches: Vec<Assigned> = (0..2).map(|p| one.take(&tp(&name, p))).collect();
    let mut read: Vec<Vec<String>> = Vec::new();
    for (assigned, n) in fetches.iter_mut().zip([30, 40]) {
        read.push(values(&take(&mut *assigned.fetch, n).await));
    }
    one.hold();
    let two = Client::join(&world.log(), member_options(&group, &[&name]));
    until("one is asked to let go", async || !one.known().revoking.is_empty()).await;
    let (moving, token) = one.known().revoking.remove(0);
    assert_eq!(moving.len(), 1);
    let index = usize::try_from(moving[0].partition).unwrap();
    // It commits and lets go. (It need not get records meanwhile: librdkafka fetches nothing while a revocation is
    // held back.)
    let moved = fetches.swap_remove(index);
    let at = i64::try_from(read[index].len()).unwrap();
    let at = match one.group.commit(vec![(moving[0].clone(), at)]).await {
        // What it has done is done again.
        Err(LogError::NotMember { .. }) if !world.caps().held_generations => {
            read[index].clear();
            0
        }
        committed => committed.map(|()| at).unwrap(),
    };
    drop(moved);
    drop(token);
    two.owns(1).await;
    let mut taken = two.take(&moving[0]);
    assert_eq!((taken.start, taken.committed), (at, at > 0));
    let rest = 100 - read[index].len();
    read[index].extend(values(&take(&mut *taken.fetch, rest).await));
    // The other partition was not disturbed.
    let mut stayed = fetches.remove(0);
    let other = 1 - index;
    let rest = 100 - read[other].len();
    read[other].extend(values(&take(&mut *stayed.fetch, rest).await));
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(read, [expected.clone(), expected]);
    drop((stayed, taken));
    one.close().await;
    two.close().await;
}

pub async fn lead_co_partitions(world: &impl World) {
    let (log, group) = (world.log(), unique("g"));
    let (lead, a, b) = (topic(world, 3).await, topic(world, 3).await, topic(world, 3).await);
    let writer = producer(&log).await;
    for partition in 0..3 {
        write_numbers(&writer, &lead, partition, 0, 3).await;
        write_numbers(&writer, &a, partition, 0, 3).await;
    }
    let with = vec![Arc::clone(&a), Arc::clone(&b)];
    let options = || lead_options(&group, Subscription::CoPartitioned { lead: Arc::clone(&lead), with: with.clone() });
    let one = Client::join(&log, options());
    let expected: BTreeSet<_> = all(&a, 3).union(&all(&b, 3)).cloned().collect();
    assert_eq!(one.owns(6).await, expected);
    for partition in 0..3 {
        one.group.commit(vec![(tp(&a, partition), 1)]).await.unwrap();
    }
    let two = Client::join(&world.log(), options());
    until("both have a share", async || {
        let (one, two) = (one.owned(), two.owned());
        !one.is_empty() && !two.is_empty() && one.len() + two.len() == 6
    })
    .await;
    for owned in [one.owned(), two.owned()] {
        let of = |name: &Arc<str>| owned.iter().filter(|p| p.topic == *name).map(|p| p.partition).collect::<Vec<_>>();
        assert_eq!(of(&a), of(&b));
    }
    let (revoked, lost) = one.gone();
    assert_eq!((revoked, lost), (two.owned(), BTreeSet::new()));
    // Offsets of topics that are not subscribed belong to the group all the same.
    for partition in two.owned() {
        let mut assigned = two.take(&partition);
        if partition.topic == a {
            assert_eq!((assigned.start, assigned.committed), (1, true));
            assert_eq!(values(&take(&mut *assigned.fetch, 2).await), ["1", "2"]);
        } else {
            assert_eq!((assigned.start, assigned.committed), (0, false));
            assert!(matches!(fetch_one(&mut *assigned.fetch).await.unwrap().0, Fetched::End(_)));
        }
    }
    one.close().await;
    two.close().await;
}

pub async fn lead_is_consumed_when_listed(world: &impl World) {
    let (log, group, lead, a) = (world.log(), unique("g"), topic(world, 2).await, topic(world, 2).await);
    let with = vec![Arc::clone(&a), Arc::clone(&lead)];
    let client =
        Client::join(&log, lead_options(&group, Subscription::CoPartitioned { lead: Arc::clone(&lead), with }));
    let expected: BTreeSet<_> = all(&a, 2).union(&all(&lead, 2)).cloned().collect();
    assert_eq!(client.owns(4).await, expected);
    write_numbers(&producer(&log).await, &lead, 1, 7, 1).await;
    assert_eq!(values(&take(&mut *client.take(&tp(&lead, 1)).fetch, 1).await), ["7"]);
    client.close().await;
}

pub async fn revoke_token_holds_the_move_back(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    let mut options = member_options(&group, &[&name]);
    options.revoke_timeout = Duration::from_secs(60);
    let one = Client::join(&log, options.clone());
    one.owns(2).await;
    one.hold();
    let two = Client::join(&world.log(), options);
    until("one is asked to let go", async || !one.known().revoking.is_empty()).await;
    let (moving, token) = one.known().revoking.remove(0);
    // Longer than a session: holding back is a sign of life, and commits go through.
    let mut last = None;
    for n in 0..8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match one.group.commit(vec![(moving[0].clone(), n)]).await {
            Err(LogError::NotMember { .. }) if !world.caps().held_generations => break,
            committed => committed.unwrap(),
        }
        last = Some(n);
        let moved = two.owned().contains(&moving[0]);
        assert!(!moved || !world.caps().held_generations, "moved while it was held back");
    }
    drop(token);
    two.owns(1).await;
    let taken = two.take(&moving[0]);
    assert_eq!((taken.start, taken.committed), (last.unwrap_or_default(), last.is_some()));
    if world.caps().held_generations {
        assert_eq!((last, one.gone().1), (Some(7), BTreeSet::new()));
    }
    one.close().await;
    two.close().await;
}

pub async fn past_the_bound_is_lost(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    let mut options = member_options(&group, &[&name]);
    options.revoke_timeout = Duration::from_secs(1);
    let one = Client::join(&log, options.clone());
    one.owns(2).await;
    one.hold();
    let two = Client::join(&world.log(), options);
    // Never let go: the token stays in `revoking` until the loss is known.
    let theirs = two.owns(1).await;
    until("one knows of the loss", async || one.history().iter().any(|h| matches!(h, Happened::Lost(_)))).await;
    assert_eq!(one.gone(), (theirs.clone(), theirs));
    // It goes on with the rest.
    let mine = one.owned();
    assert_eq!(mine.len(), 1);
    one.group.commit(vec![(mine.into_iter().next().unwrap(), 0)]).await.unwrap();
    one.close().await;
    two.close().await;
}

pub async fn leaving_hands_over(world: &impl World) {
    let (log, name, group) = (world.log(), topic(world, 2).await, unique("g"));
    let one = Client::join(&log, member_options(&group, &[&name]));
    one.owns(2).await;
    let two = Client::join(&world.log(), member_options(&group, &[&name]));
    let theirs = two.owns(1).await;
    let mine = one.owns(1).await;
    one.group.commit(vec![(mine.first().unwrap().clone(), 5)]).await.unwrap();
    one.close().await;
    assert_eq!(two.owns(2).await, all(&name, 2));
    assert_eq!(two.gone(), (BTreeSet::new(), BTreeSet::new()));
    assert_eq!(two.take(theirs.first().unwrap()).start, 0);
    assert_eq!(two.take(mine.first().unwrap()).start, 5);
    two.close().await;
}
