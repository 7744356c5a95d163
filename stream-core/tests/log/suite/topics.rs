//! Topics: made, looked up, grown, emptied and deleted.

use std::sync::Arc;

use stream_core::log::{Cleanup, Fetched, Isolation, LogError, OffsetSpec, TimestampType, TopicConfig, TopicSpec};

use super::helper::{fetch_one, offsets, open, producer, read_all, tp, write};
use super::{World, topic, unique, until};

pub async fn create_and_look_up(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name) = (world.log(), unique("t"));
    let config = TopicConfig::new()
        .cleanup(Cleanup::Compact)
        .retention_ms(-1)
        .delete_retention_ms(5000)
        .max_message_bytes(4321)
        .retention_bytes(1 << 30)
        .timestamp_type(TimestampType::LogAppendTime)
        .timestamp_before_max_ms(86_400_000)
        .timestamp_after_max_ms(60_000)
        .min_insync_replicas(1)
        .compression_type("lz4");
    let asked = config.clone().other("segment.bytes", "1048576");
    log.create_topics(vec![TopicSpec::new(Arc::clone(&name)).partitions(3).config(asked)]).await.unwrap();
    let found = log.topics(vec![unique("none"), Arc::clone(&name)]).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0].is_none());
    let info = found[1].as_ref().unwrap();
    assert_eq!((&info.name, info.partitions, info.replication), (&name, 3, 1));
    assert_eq!(info.config, config);
    // Looking up creates nothing.
    let none = unique("none");
    for _ in 0..2 {
        assert!(log.topics(vec![Arc::clone(&none)]).await.unwrap()[0].is_none());
    }
}

pub async fn existing_topic_is_an_error_and_the_others_are_made(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, old, new) = (world.log(), topic(world, 1).await, unique("t"));
    let specs = vec![TopicSpec::new(Arc::clone(&old)).partitions(2), TopicSpec::new(Arc::clone(&new)).partitions(2)];
    let error = log.create_topics(specs).await.unwrap_err();
    assert_eq!(error, LogError::TopicExists { topic: old.to_string() });
    let found = log.topics(vec![old, new]).await.unwrap();
    let partitions: Vec<_> = found.iter().map(|t| t.as_ref().unwrap().partitions).collect();
    assert_eq!(partitions, [1, 2]);
}

pub async fn broker_defaults_are_filled_in(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name) = (world.log(), unique("t"));
    log.create_topics(vec![TopicSpec::new(Arc::clone(&name))]).await.unwrap();
    let info = log.topics(vec![name]).await.unwrap().remove(0).unwrap();
    assert!(info.partitions >= 1);
    assert_eq!(info.config.cleanup, Some(Cleanup::Delete));
    assert_eq!(info.config.retention_ms, Some(7 * 24 * 3_600_000));
    assert_eq!(info.config.delete_retention_ms, Some(24 * 3_600_000));
    assert_eq!(info.config.max_message_bytes, Some(1_048_588));
    assert_eq!(info.config.retention_bytes, Some(-1));
    assert_eq!(info.config.timestamp_type, Some(TimestampType::CreateTime));
    assert_eq!(info.config.timestamp_before_max_ms, Some(i64::MAX));
    // An hour since Kafka 4.0 (KIP-1030), no limit before.
    assert!(matches!(info.config.timestamp_after_max_ms, Some(3_600_000 | i64::MAX)), "{info:?}");
    assert_eq!(info.config.min_insync_replicas, Some(1));
}

pub async fn delete_and_make_again(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name) = (world.log(), topic(world, 2).await);
    write(&producer(&log).await, &name, 0, &[("a", "1")]).await;
    log.delete_topics(vec![Arc::clone(&name)]).await.unwrap();
    until("the topic is gone", async || log.topics(vec![Arc::clone(&name)]).await.unwrap()[0].is_none()).await;
    let again = log.delete_topics(vec![Arc::clone(&name)]).await.unwrap_err();
    assert_eq!(again, LogError::UnknownTopic { topic: name.to_string() });
    log.create_topics(vec![TopicSpec::new(Arc::clone(&name)).partitions(1)]).await.unwrap();
    assert_eq!(log.topics(vec![Arc::clone(&name)]).await.unwrap()[0].as_ref().unwrap().partitions, 1);
    assert!(read_all(&log, &name, 0, Isolation::ReadUncommitted).await.is_empty());
}

pub async fn unknown_topics_are_errors(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, none, some) = (world.log(), unique("none"), topic(world, 1).await);
    let unknown = LogError::UnknownTopic { topic: none.to_string() };
    assert_eq!(log.delete_topics(vec![Arc::clone(&none)]).await.unwrap_err(), unknown);
    assert_eq!(log.grow_topic(Arc::clone(&none), 3).await.unwrap_err(), unknown);
    let ask = |p| log.offsets(vec![(p, OffsetSpec::Latest)], Isolation::ReadUncommitted);
    assert_eq!(ask(tp(&none, 0)).await.unwrap_err(), unknown);
    let partition = tp(&some, 1);
    assert_eq!(ask(partition.clone()).await.unwrap_err(), LogError::UnknownPartition { partition });
}

pub async fn grow(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    let writer = producer(&log).await;
    write(&writer, &name, 0, &[("a", "1")]).await;
    log.grow_topic(Arc::clone(&name), 3).await.unwrap();
    let info = log.topics(vec![Arc::clone(&name)]).await.unwrap().remove(0).unwrap();
    assert_eq!(info.partitions, 3);
    write(&producer(&log).await, &name, 2, &[("b", "2")]).await;
    assert_eq!(read_all(&log, &name, 2, Isolation::ReadCommitted).await.len(), 1);
    assert_eq!(read_all(&log, &name, 0, Isolation::ReadCommitted).await.len(), 1);
    assert!(log.grow_topic(Arc::clone(&name), 2).await.is_err(), "a topic never shrinks");
    assert_eq!(log.topics(vec![name]).await.unwrap()[0].as_ref().unwrap().partitions, 3);
}

pub async fn delete_records(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    let writer = producer(&log).await;
    write(&writer, &name, 0, &[("a", "0"), ("b", "1"), ("c", "2"), ("d", "3")]).await;
    log.delete_records(vec![(tp(&name, 0), 3)]).await.unwrap();
    let spec = |s| (tp(&name, 0), s);
    let ends = log.offsets(vec![spec(OffsetSpec::Earliest), spec(OffsetSpec::Latest)], Isolation::ReadUncommitted);
    assert_eq!(ends.await.unwrap(), [3, 4]);
    let mut fetch = open(&log, &name, 0, 0, Isolation::ReadUncommitted).await;
    let error = fetch_one(&mut *fetch).await.unwrap_err();
    assert_eq!(error, LogError::OffsetOutOfRange { partition: tp(&name, 0), offset: 0, start: 3, end: 4 });
    fetch.seek(3).await.unwrap();
    let (fetched, records) = fetch_one(&mut *fetch).await.unwrap();
    assert_eq!((fetched, offsets(&records)), (Fetched::Records, vec![3]));
    // Everything: the end stays.
    log.delete_records(vec![(tp(&name, 0), 4)]).await.unwrap();
    let ends = log.offsets(vec![spec(OffsetSpec::Earliest), spec(OffsetSpec::Latest)], Isolation::ReadUncommitted);
    assert_eq!(ends.await.unwrap(), [4, 4]);
}

pub async fn a_topic_made_anew_has_another_id(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name, other) = (world.log(), topic(world, 2).await, topic(world, 2).await);
    let id = |name: &Arc<str>| log.topic_id(Arc::clone(name));
    let first = id(&name).await.unwrap().expect("a topic has an id");
    assert_eq!(id(&name).await.unwrap().as_ref(), Some(&first));
    assert_ne!(id(&other).await.unwrap(), Some(Arc::clone(&first)));
    assert_eq!(id(&unique("none")).await.unwrap(), None);
    // While somebody else asks, too.
    let asking = futures::future::join_all((0..20).map(|_| id(&other)));
    let anew = async {
        log.delete_topics(vec![Arc::clone(&name)]).await.unwrap();
        log.create_topics(vec![TopicSpec::new(Arc::clone(&name)).partitions(2)]).await.unwrap();
        id(&name).await.unwrap()
    };
    let (asked, second) = futures::future::join(asking, anew).await;
    let asked: std::collections::BTreeSet<_> = asked.into_iter().map(|id| id.unwrap().unwrap()).collect();
    assert_eq!(asked.len(), 1);
    assert!(second.is_some_and(|second| second != first));
}
