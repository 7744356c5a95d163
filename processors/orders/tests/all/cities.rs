//! Which cities have a topic, as several processes see it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use orders::Cities;
use orders::cities::CityTopics;
use orders::topics::TopicNames;
use stream_core::log::LogHandle;
use stream_core::log::embedded::InMemory;

async fn open(log: &LogHandle, max: usize) -> Arc<Cities> {
    let topics = CityTopics { max, ..CityTopics::default() };
    Cities::open(Arc::clone(log), &TopicNames::default(), topics).await.unwrap()
}

#[tokio::test]
async fn instances_that_claim_at_once_agree_and_keep_the_limit() {
    let log: LogHandle = InMemory::new();
    let instances = [open(&log, 5).await, open(&log, 5).await, open(&log, 5).await];
    let names: Vec<String> = (0..20).map(|n| format!("City {n}")).collect();
    // Each begins with another city.
    let ask = |at: usize| {
        let (cities, names) = (&instances[at], &names);
        async move {
            let mut topics = vec![None; names.len()];
            for n in 0..names.len() {
                let n = (n + at * 7) % names.len();
                topics[n] = Some(cities.topic(&names[n]).await);
            }
            topics.into_iter().map(Option::unwrap).collect::<Vec<_>>()
        }
    };
    let all = join_all((0..3).map(ask)).await;
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    let different: BTreeSet<_> = all[0].iter().collect();
    assert_eq!(different.len(), 6, "five and the one that is shared: {different:?}");
    assert!(different.contains(instances[0].other()));

    // A later one learns the same.
    let later = open(&log, 5).await;
    for (name, topic) in names.iter().zip(&all[0]) {
        assert_eq!(&later.topic(name).await, topic);
    }
    let found = log.topics(different.iter().map(|t| Arc::clone(t)).collect()).await.unwrap();
    let missing = different.iter().zip(found).filter(|(_, found)| found.is_none()).count();
    assert_eq!(missing, 1, "the shared one is the group's to make");
}

#[tokio::test]
async fn no_city_has_a_topic_if_none_may() {
    let log: LogHandle = InMemory::new();
    let cities = open(&log, 0).await;
    assert_eq!(&cities.topic("Oslo").await, cities.other());
}

#[tokio::test]
async fn a_log_that_is_away_is_waited_for() {
    let embedded = InMemory::new();
    let log: LogHandle = Arc::clone(&embedded) as _;
    let cities = open(&log, 5).await;
    embedded.faults().set_available(false);
    let asked = tokio::spawn(async move { cities.topic("Oslo").await });
    tokio::task::yield_now().await;
    embedded.faults().set_available(true);
    assert_eq!(&*asked.await.unwrap(), "orders_city_oslo");
}
