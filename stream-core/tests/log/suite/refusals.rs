//! What a broker refuses, and what becomes of the records beside it: a batch of a partition is refused as a whole. With
//! librdkafka, who is at fault can be said only where at least two are.

use std::sync::Arc;

use stream_core::log::{
    Cleanup, Delivery, ErrorClass, Isolation, LogError, LogHandle, NewRecord, OffsetSpec, ProduceBatch,
    ProducerOptions, TimestampType, TopicConfig,
};

use super::helper::{all_arrived, bare, batch, producer, read_all, tp, transactional, values, write, write_numbers};
use super::{World, topic_with, unique};

const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;
const HOUR: i64 = 3_600_000;

/// A topic whose records' times must be within a minute of the broker's clock.
fn timely() -> TopicConfig {
    TopicConfig::new().timestamp_before_max_ms(60_000).timestamp_after_max_ms(60_000)
}

/// Records for one partition with their times, counted from now.
fn at(log: &LogHandle, topic: &Arc<str>, records: &[(&str, i64)]) -> Arc<ProduceBatch> {
    let now = log.clock().now_ms();
    let mut batch = ProduceBatch::new();
    for (value, after) in records {
        let timestamp = Some(now + after);
        let value = Some(value.as_bytes());
        batch.push(NewRecord { topic, partition: Some(0), timestamp, key: Some(b"k"), value }, bare());
    }
    Arc::new(batch)
}

fn refused(error: &LogError) -> bool {
    matches!(error, LogError::Refused { .. }) && error.blames_record()
}

fn neighbour(error: &LogError) -> bool {
    matches!(error, LogError::Neighbour { .. }) && !error.blames_record() && error.class() != ErrorClass::Fatal
}

/// Which records were refused for themselves, and which for another one.
fn verdicts(delivery: &Delivery) -> (Vec<usize>, Vec<usize>) {
    let of = |kind: fn(&LogError) -> bool| {
        delivery.failed.iter().filter(|f| kind(&f.error)).map(|f| f.index).collect::<Vec<_>>()
    };
    assert_eq!(of(refused).len() + of(neighbour).len(), delivery.failed.len(), "{:?}", delivery.failed);
    (of(refused), of(neighbour))
}

async fn written(log: &LogHandle, topic: &Arc<str>) -> Vec<String> {
    values(&read_all(log, topic, 0, UNCOMMITTED).await)
}

pub async fn one_bad_record_gives_its_error_to_its_whole_batch(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let (log, name) = (world.log(), topic_with(world, 1, timely()).await);
    let writer = producer(&log).await;
    for bad in [HOUR, -HOUR] {
        let delivery = writer.send(at(&log, &name, &[("1", 0), ("2", bad), ("3", 10)])).await;
        assert_eq!(verdicts(&delivery), (vec![0, 1, 2], vec![]));
        assert_eq!(delivery.last_offsets, [None]);
    }
    assert!(written(&log, &name).await.is_empty());
    all_arrived(&writer.send(at(&log, &name, &[("1", 0), ("3", 10)])).await);
    assert_eq!(written(&log, &name).await, ["1", "3"]);
}

pub async fn several_bad_records_of_a_batch_are_distinguished_from_their_neighbours(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let config = timely().cleanup(Cleanup::Compact);
    let (log, name) = (world.log(), topic_with(world, 1, config).await);
    let writer = producer(&log).await;
    let mut out = ProduceBatch::new();
    let late = Some(log.clock().now_ms() - HOUR);
    for (key, timestamp) in [(Some(&b"a"[..]), None), (None, None), (Some(b"b"), None), (Some(b"c"), late)] {
        out.push(NewRecord { topic: &name, partition: Some(0), timestamp, key, value: Some(b"v") }, bare());
    }
    assert_eq!(verdicts(&writer.send(Arc::new(out)).await), (vec![1, 3], vec![0, 2]));
    assert!(written(&log, &name).await.is_empty());
}

pub async fn other_partitions_and_topics_are_not_concerned(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let (log, name) = (world.log(), topic_with(world, 2, timely()).await);
    let other = topic_with(world, 1, TopicConfig::default()).await;
    let mut out = ProduceBatch::new();
    let bad = Some(log.clock().now_ms() - HOUR);
    for (topic, partition, timestamp) in [(&name, 0, bad), (&name, 1, None), (&other, 0, bad), (&name, 0, None)] {
        let record = NewRecord { topic, partition: Some(partition), timestamp, key: Some(b"k"), value: Some(b"v") };
        out.push(record, bare());
    }
    assert_eq!(verdicts(&producer(&log).await.send(Arc::new(out)).await), (vec![0, 3], vec![]));
    assert_eq!(read_all(&log, &name, 1, UNCOMMITTED).await.len(), 1);
    assert_eq!(read_all(&log, &other, 0, UNCOMMITTED).await.len(), 1);
}

pub async fn hand_overs_of_several_callers_share_a_batch(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let (log, name) = (world.log(), topic_with(world, 1, timely()).await);
    let writer = producer(&log).await;
    // They do if they come within moments, which a busy machine may not manage at once.
    for round in 0.. {
        assert!(round < 100, "never packed into one batch");
        let bad = writer.send(at(&log, &name, &[("bad", HOUR)]));
        let good = writer.send(at(&log, &name, &[("good", 0)]));
        assert_eq!(verdicts(&bad.await), (vec![0], vec![]));
        if verdicts(&good.await) == (vec![0], vec![]) {
            break;
        }
    }
}

pub async fn what_is_handed_over_behind_a_refused_batch_keeps_its_order(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let (log, name) = (world.log(), topic_with(world, 1, timely()).await);
    let mut options = ProducerOptions::default();
    options.max_batch_bytes = Some(2000);
    let writer = log.producer(options).await.unwrap();
    let mut under_way = Vec::new();
    for n in 0..200 {
        let value = format!("{n:0>400}");
        under_way.push((value.clone(), writer.send(at(&log, &name, &[(&value, if n % 40 == 7 { HOUR } else { 0 })]))));
    }
    let mut arrived = Vec::new();
    for (n, (value, delivery)) in under_way.into_iter().enumerate() {
        let (refused, neighbours) = verdicts(&delivery.await);
        assert!(neighbours.is_empty() && (n % 40 != 7 || !refused.is_empty()), "record {n}");
        if refused.is_empty() {
            arrived.push(value);
        }
    }
    // A batch has room for four of these, and five have a bad one.
    assert!(arrived.len() >= 200 - 5 * 4, "{} arrived", arrived.len());
    assert_eq!(written(&log, &name).await, arrived);
}

pub async fn a_batch_that_is_too_large_in_sum_names_nobody(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let config = TopicConfig::new().max_message_bytes(2000);
    let (log, name) = (world.log(), topic_with(world, 1, config).await);
    let large: Vec<String> = (0..4).map(|n| format!("{n:0>1200}")).collect();
    let records: Vec<_> = large.iter().map(|value| ("k", value.as_str())).collect();
    let writer = producer(&log).await;
    let delivery = writer.send(batch(&name, 0, &records)).await;
    assert_eq!(delivery.failed.iter().map(|f| f.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for failed in &delivery.failed {
        let LogError::TooLarge { topic, size, .. } = &failed.error else { panic!("{:?}", failed.error) };
        assert!(**topic == *name && (1200..1500).contains(size), "{:?}", failed.error);
    }
    assert!(written(&log, &name).await.is_empty());
    // Each alone is not too large; nor are all of them in batches that are small enough.
    for one in &records {
        write(&writer, &name, 0, &[*one]).await;
    }
    let mut options = ProducerOptions::default();
    options.max_batch_bytes = Some(2000);
    let writer = log.producer(options).await.unwrap();
    write(&writer, &name, 0, &records).await;
    assert_eq!(written(&log, &name).await, [large.clone(), large].concat());
}

pub async fn several_callers_batch_is_too_large_in_sum(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let config = TopicConfig::new().max_message_bytes(2000);
    let (log, name) = (world.log(), topic_with(world, 1, config).await);
    let (writer, large) = (producer(&log).await, "x".repeat(1200));
    for round in 0.. {
        assert!(round < 100, "never packed into one batch");
        let both = [(); 2].map(|()| writer.send(batch(&name, 0, &[("k", &large)])));
        let [one, two] = both;
        let (one, two) = (one.await.failed, two.await.failed);
        let too_large =
            |f: &[stream_core::log::FailedRecord]| matches!(f, [f] if matches!(f.error, LogError::TooLarge { .. }));
        assert_eq!(one.is_empty(), two.is_empty());
        if too_large(&one) && too_large(&two) {
            break;
        }
    }
}

pub async fn a_refusal_makes_its_transaction_abortable(world: &impl World) {
    if !world.caps().refusals || !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), topic_with(world, 2, timely()).await);
    let writer = transactional(&log, &unique("x")).await;
    writer.begin_transaction().await.unwrap();
    let delivery = writer.send(at(&log, &name, &[("1", 0), ("2", HOUR)])).await;
    assert_eq!(verdicts(&delivery), (vec![0, 1], vec![]));
    let error = writer.commit_transaction(Vec::new(), None).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Abortable, "{error:?}");
    writer.abort_transaction().await.unwrap();
    assert!(written(&log, &name).await.is_empty());
    // The partition is part of the transaction all the same: it has a marker.
    let end = log.offsets(vec![(tp(&name, 0), OffsetSpec::Latest)], UNCOMMITTED).await.unwrap();
    assert_eq!(end, [1]);
    writer.begin_transaction().await.unwrap();
    write(&writer, &name, 1, &[("k", "fine")]).await;
    writer.commit_transaction(Vec::new(), None).await.unwrap();
}

pub async fn after_a_refusal_the_next_transaction_of_its_partition_fails_once(world: &impl World) {
    if !world.caps().refusals || !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), topic_with(world, 1, timely()).await);
    let writer = transactional(&log, &unique("x")).await;
    writer.begin_transaction().await.unwrap();
    assert_eq!(verdicts(&writer.send(at(&log, &name, &[("1", HOUR)])).await), (vec![0], vec![]));
    assert!(writer.commit_transaction(Vec::new(), None).await.is_err());
    writer.abort_transaction().await.unwrap();
    // librdkafka counts on from the refused records, which the broker does not know of.
    writer.begin_transaction().await.unwrap();
    let delivery = writer.send(batch(&name, 0, &[("k", "2")])).await;
    assert_eq!(delivery.failed.iter().map(|f| &f.error).collect::<Vec<_>>(), [&LogError::Purged]);
    let error = writer.commit_transaction(Vec::new(), None).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Abortable, "{error:?}");
    writer.abort_transaction().await.unwrap();
    for value in ["3", "4"] {
        writer.begin_transaction().await.unwrap();
        write(&writer, &name, 0, &[("k", value)]).await;
        writer.commit_transaction(Vec::new(), None).await.unwrap();
    }
    assert_eq!(values(&read_all(&log, &name, 0, Isolation::ReadCommitted).await), ["3", "4"]);
}

pub async fn append_time_overwrites_the_records_time(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let config = timely().timestamp_type(TimestampType::LogAppendTime);
    let (log, name) = (world.log(), topic_with(world, 1, config).await);
    let before = log.clock().now_ms();
    // Nor is any time refused.
    all_arrived(&producer(&log).await.send(at(&log, &name, &[("1", -HOUR), ("2", HOUR)])).await);
    let after = log.clock().now_ms();
    let times: Vec<_> = read_all(&log, &name, 0, UNCOMMITTED).await.iter().map(|r| r.timestamp).collect();
    assert!(times.len() == 2 && times.iter().all(|t| (before..=after).contains(t)), "{times:?} in {before}..={after}");
}

pub async fn times_far_ahead_are_refused_by_default(world: &impl World) {
    if !world.caps().refusals {
        return;
    }
    let (log, name) = (world.log(), topic_with(world, 1, TopicConfig::default()).await);
    let writer = producer(&log).await;
    let limit = log.topics(vec![Arc::clone(&name)]).await.unwrap()[0].as_ref().unwrap().config.timestamp_after_max_ms;
    if limit == Some(i64::MAX) {
        // Before Kafka 4.0.
        return all_arrived(&writer.send(at(&log, &name, &[("1", 10_000 * HOUR)])).await);
    }
    assert_eq!(verdicts(&writer.send(at(&log, &name, &[("1", 2 * HOUR)])).await), (vec![0], vec![]));
    all_arrived(&writer.send(at(&log, &name, &[("2", HOUR / 2), ("3", -10_000 * HOUR)])).await);
    write_numbers(&writer, &name, 0, 4, 1).await;
    assert_eq!(written(&log, &name).await, ["2", "3", "4"]);
}
