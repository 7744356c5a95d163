use super::*;
use crate::log::embedded::Embedded;
use crate::log::{Log, MemberOptions, ProducerOptions, Subscription};

async fn work() -> (Transactions, Work) {
    let log = Embedded::new();
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
        work.gone_back.insert(task, 1);
    }
    work.forget();
    assert_eq!(work.lost, BTreeSet::from([3]));
    assert_eq!(work.over, BTreeSet::from([4]));
    assert_eq!(work.gone_back, BTreeMap::from([(3, 1), (4, 1)]));
}
