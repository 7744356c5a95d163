use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::work::GATHER;
use super::*;
use crate::log::embedded::InMemory;
use crate::log::{Log, MemberOptions, ProducerOptions, Subscription};

async fn work() -> (Transactions, Work) {
    let log = InMemory::new();
    let member = log.member(MemberOptions::new("g", Subscription::Topics(vec!["in".into()]))).unwrap();
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    Transactions::apart(
        producer,
        member.group(),
        Duration::from_millis(1),
        Budget::new(Duration::from_secs(10)),
        Arc::default(),
    )
}

#[tokio::test]
async fn tasks_that_are_over_are_forgotten_and_no_sooner() {
    let (tasks, mut work) = work().await;
    // One that is lost before it ends, one the other way round, one that is lost and goes on, one that just ended.
    let guard = tasks.guard(1);
    tasks.lost(vec![1, 3]);
    drop((guard, tasks.guard(2)));
    tasks.lost(vec![2]);
    drop(tasks.guard(4));
    while let Ok(message) = work.inbox.try_recv() {
        work.take(message);
    }
    for task in 1..=4 {
        work.rolled_back.insert(task, 1);
    }
    work.forget();
    assert_eq!(work.lost, BTreeSet::from([3]));
    assert_eq!(work.over, BTreeSet::from([4]));
    assert_eq!(work.rolled_back, BTreeMap::from([(3, 1), (4, 1)]));
}

fn sent(tasks: &Transactions, task: u64, to_own_topics: bool) -> BoxFuture<'static, Delivery> {
    let how = How { alone: false, to_own_topics };
    tasks.send(task, 0, Arc::new(ProduceBatch::new()), Commits::new(), how)
}

#[tokio::test(start_paused = true)]
async fn what_goes_back_to_the_group_is_committed_at_once_and_together_where_somebody_waits_for_it() {
    let (tasks, mut work) = work().await;
    work.interval = Duration::from_secs(1);
    let began = Instant::now();
    let (first, second) = (sent(&tasks, 1, true), sent(&tasks, 2, false));
    tasks.hasten();
    let third = async {
        tokio::time::sleep(GATHER / 2).await;
        drop(sent(&tasks, 3, true));
    };
    let (filled, ()) = tokio::join!(work.fill(began + work.interval), third);
    assert_eq!((filled.sent.len(), began.elapsed()), (3, GATHER * 3 / 2));
    drop((first, second, filled));
    // Nobody waits any more.
    let began = Instant::now();
    let fourth = sent(&tasks, 1, true);
    let filled = work.fill(began + work.interval).await;
    assert_eq!((filled.sent.len(), began.elapsed()), (1, work.interval));
    drop((fourth, filled));
    // What nobody waits for does not end a transaction early.
    let began = Instant::now();
    let fifth = sent(&tasks, 1, false);
    tasks.hasten();
    let filled = work.fill(began + work.interval).await;
    assert_eq!((filled.sent.len(), began.elapsed()), (1, work.interval));
    drop(fifth);
}
