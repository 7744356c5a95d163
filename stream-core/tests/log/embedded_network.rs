//! What is between a producer and the embedded log: replicas that are missing, a slow link, a quota, batches on their way.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use stream_core::clock::ManualClock;
use stream_core::log::embedded::{InMemory, Network};
use stream_core::log::{
    Cleanup, ErrorClass, Isolation, LogError, LogHandle, NewRecord, ProduceBatch, Producer, ProducerOptions,
    TimestampType, TopicConfig, TopicSpec,
};
use tokio::time::Instant;

use crate::log_suite::helper::{
    all_arrived, bare, batch, offsets, producer, read_all, tp, transactional, values, write, write_numbers,
};

const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

struct Here {
    embedded: Arc<InMemory>,
    log: LogHandle,
    topic: Arc<str>,
}

async fn here() -> Here {
    here_with(TopicConfig::default()).await
}

async fn here_with(config: TopicConfig) -> Here {
    let embedded = InMemory::with_clock(Arc::new(ManualClock::new(1_700_000_000_000)));
    let (log, topic): (LogHandle, Arc<str>) = (Arc::clone(&embedded) as LogHandle, "topic".into());
    log.create_topics(vec![TopicSpec::new(Arc::clone(&topic)).partitions(4).config(config)]).await.unwrap();
    Here { embedded, log, topic }
}

impl Here {
    async fn written(&self) -> Vec<String> {
        values(&read_all(&self.log, &self.topic, 0, UNCOMMITTED).await)
    }

    /// A network that differs from none by this.
    fn network(&self, set: impl FnOnce(&mut Network)) {
        let mut network = Network::default();
        set(&mut network);
        self.embedded.faults().set_network(network);
    }

    fn bad(&self) -> Arc<ProduceBatch> {
        let mut batch = ProduceBatch::new();
        let timestamp = Some(self.log.clock().now_ms() + 7_200_000);
        let (topic, partition) = (&self.topic, Some(0));
        batch.push(NewRecord { topic, partition, timestamp, key: Some(b"k"), value: Some(b"bad") }, bare());
        Arc::new(batch)
    }
}

#[tokio::test(start_paused = true)]
async fn with_too_few_replicas_records_wait_and_keep_their_order() {
    let h = here().await;
    let writer = producer(&h.log).await;
    h.network(|n| n.round_trip = Duration::from_millis(30));
    let short = h.embedded.faults().lose_replicas("topic");
    let mut under_way = Vec::new();
    for n in 0..20 {
        under_way.push(writer.send(batch(&h.topic, 0, &[("k", &n.to_string())])));
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(h.written().await.is_empty());
    drop(short);
    for delivery in under_way {
        all_arrived(&delivery.await);
    }
    assert_eq!(h.written().await, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn with_too_few_replicas_for_long_records_time_out() {
    let h = here().await;
    let writer = transactional(&h.log, &"x".into()).await;
    writer.begin_transaction().await.unwrap();
    let short = h.embedded.faults().lose_replicas("topic");
    let delivery = writer.send(batch(&h.topic, 0, &[("k", "1")])).await;
    assert!(matches!(delivery.failed[0].error, LogError::Timeout { .. }), "{:?}", delivery.failed);
    drop(short);
    let error = writer.commit_transaction(Vec::new(), None).await.unwrap_err();
    assert_ne!(error.class(), ErrorClass::Retriable, "{error:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(h.written().await.is_empty(), "what timed out while it waited is never written");
}

async fn seconds_for(h: &Here, writer: &Arc<dyn Producer>, batches: i32) -> f64 {
    let began = Instant::now();
    let sent: Vec<_> = (0..batches).map(|n| writer.send(batch(&h.topic, n % 4, &[("k", &"x".repeat(1000))]))).collect();
    for delivery in sent {
        all_arrived(&delivery.await);
    }
    began.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_carries_so_many_bytes_a_second() {
    let h = here().await;
    let writer = producer(&h.log).await;
    assert!(seconds_for(&h, &writer, 40).await < 0.001);
    h.network(|n| n.bytes_per_second = Some(10_000));
    let took = seconds_for(&h, &writer, 40).await;
    assert!((4.0..5.0).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_quota_makes_the_next_batch_wait() {
    let h = here().await;
    let writer = producer(&h.log).await;
    h.network(|n| n.quota = Some(1000));
    assert!(seconds_for(&h, &writer, 1).await < 0.001);
    let took = seconds_for(&h, &writer, 1).await;
    assert!((0.9..1.2).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn later_batches_are_written_before_a_refusal_is_known() {
    let h = here().await;
    let writer = producer(&h.log).await;
    h.network(|n| n.round_trip = Duration::from_secs(1));
    let mut refused = writer.send(h.bad());
    let mut under_way = Vec::new();
    for n in 0..6 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        under_way.push(writer.send(batch(&h.topic, 0, &[("k", &n.to_string())])));
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    // Five are on their way, the refused one is one of them.
    assert_eq!(h.written().await, ["0", "1", "2", "3"]);
    assert!((&mut refused).now_or_never().is_none());
    assert!(matches!(refused.await.failed[0].error, LogError::Refused { .. }));
    for delivery in under_way {
        all_arrived(&delivery.await);
    }
    assert_eq!(h.written().await, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_packed_is_cut_at_the_batch_size() {
    let h = here_with(TopicConfig::new().max_message_bytes(5000)).await;
    let large: Vec<String> = (0..16).map(|n| format!("{n:0>1000}")).collect();
    for (most, arrive) in [(20_000, false), (5000, true)] {
        let mut options = ProducerOptions::default();
        options.max_batch_bytes = Some(most);
        let writer = h.log.producer(options).await.unwrap();
        let sent: Vec<_> = large.iter().map(|v| writer.send(batch(&h.topic, 0, &[("k", v)]))).collect();
        for delivery in sent {
            assert_eq!(delivery.await.failed.is_empty(), arrive, "{most}");
        }
    }
    assert_eq!(h.written().await, large);
}

#[tokio::test(start_paused = true)]
async fn the_clusters_defaults_hold_where_a_topic_says_nothing() {
    let h = here().await;
    let own: Arc<str> = "own".into();
    let config = TopicConfig::new().timestamp_type(TimestampType::CreateTime);
    h.log.create_topics(vec![TopicSpec::new(Arc::clone(&own)).config(config)]).await.unwrap();
    let defaults = TopicConfig::new()
        .timestamp_type(TimestampType::LogAppendTime)
        .timestamp_before_max_ms(1000)
        .cleanup(Cleanup::CompactDelete);
    h.embedded.set_topic_defaults(&defaults);
    let shown = async |name: &Arc<str>| h.log.topics(vec![Arc::clone(name)]).await.unwrap().remove(0).unwrap().config;
    let (here, there) = (shown(&h.topic).await, shown(&own).await);
    assert_eq!(here.timestamp_type, Some(TimestampType::LogAppendTime));
    assert_eq!(there.timestamp_type, Some(TimestampType::CreateTime));
    assert_eq!((here.timestamp_before_max_ms, there.timestamp_before_max_ms), (Some(1000), Some(1000)));
    assert_eq!((here.cleanup, here.retention_ms), (Some(Cleanup::CompactDelete), Some(7 * 24 * 3_600_000)));
    h.embedded.alter_topic("own", &TopicConfig::new().retention_ms(1)).unwrap();
    h.embedded.set_topic_defaults(&TopicConfig::default());
    let there = shown(&own).await;
    assert_eq!((there.retention_ms, there.timestamp_before_max_ms), (Some(1), Some(i64::MAX)));
    assert!(h.embedded.alter_topic("none", &TopicConfig::default()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_counts_at_once() {
    let h = here().await;
    let writer = producer(&h.log).await;
    let large = "x".repeat(3000);
    write(&writer, &h.topic, 0, &[("k", &large)]).await;
    let limit = |bytes| TopicConfig::new().max_message_bytes(bytes);
    h.embedded.alter_topic("topic", &limit(2000)).unwrap();
    let delivery = writer.send(batch(&h.topic, 0, &[("k", &large)])).await;
    assert!(matches!(delivery.failed[0].error, LogError::TooLarge { .. }), "{:?}", delivery.failed);
    h.embedded.alter_topic("topic", &limit(4000)).unwrap();
    write(&writer, &h.topic, 0, &[("k", &large)]).await;
}

#[tokio::test(start_paused = true)]
async fn settings_that_may_not_be_seen_are_unknown() {
    let h = here().await;
    let denied = h.embedded.faults().deny_describe_configs();
    let look = async || h.log.topics(vec![Arc::clone(&h.topic)]).await.unwrap().remove(0).unwrap();
    assert_eq!((look().await.partitions, look().await.config), (4, TopicConfig::default()));
    drop(denied);
    assert_eq!(look().await.config.retention_bytes, Some(-1));
}

#[tokio::test(start_paused = true)]
async fn retention_deletes_by_time_and_by_size() {
    let config = TopicConfig::new().retention_ms(1000).retention_bytes(2500);
    let h = here_with(config).await;
    let writer = producer(&h.log).await;
    let now = h.log.clock().now_ms();
    let mut out = ProduceBatch::new();
    for (n, ago) in [5000, 2000, 500, 3000, 0, 0, 0].into_iter().enumerate() {
        let (timestamp, value) = (Some(now - ago), "x".repeat(999));
        let partition = Some(i32::from(n == 6));
        out.push(
            NewRecord { topic: &h.topic, partition, timestamp, key: Some(b"k"), value: Some(value.as_bytes()) },
            bare(),
        );
    }
    all_arrived(&writer.send(Arc::new(out)).await);
    h.embedded.alter_topic("topic", &TopicConfig::new().retention_bytes(-1)).unwrap();
    let left = async || offsets(&super::log_suite::helper::to_end(&mut *start_of(&h).await).await);
    h.embedded.apply_retention();
    // The third is young enough, and what comes after it stays for now.
    assert_eq!(left().await, [2, 3, 4, 5]);
    h.embedded.alter_topic("topic", &TopicConfig::new().retention_bytes(2500)).unwrap();
    h.embedded.apply_retention();
    assert_eq!(left().await, [4, 5]);
    assert_eq!(read_all(&h.log, &h.topic, 1, UNCOMMITTED).await.len(), 1);
    let compacted = TopicConfig::new().cleanup(Cleanup::Compact);
    h.embedded.alter_topic("topic", &compacted.retention_ms(0)).unwrap();
    h.embedded.apply_retention();
    assert_eq!(left().await, [4, 5]);
}

async fn start_of(h: &Here) -> Box<dyn stream_core::log::Fetch> {
    let of = vec![(tp(&h.topic, 0), stream_core::log::OffsetSpec::Earliest)];
    let start = h.log.offsets(of, UNCOMMITTED).await.unwrap()[0];
    crate::log_suite::helper::open(&h.log, &h.topic, 0, start, UNCOMMITTED).await
}

#[tokio::test(start_paused = true)]
async fn one_that_is_given_up_is_not_written_in_the_next_transaction() {
    let h = here().await;
    let writer = transactional(&h.log, &"x".into()).await;
    h.network(|n| n.bytes_per_second = Some(1000));
    writer.begin_transaction().await.unwrap();
    let sent = writer.send(batch(&h.topic, 0, &[("k", &"x".repeat(5000))]));
    writer.abort_transaction().await.unwrap();
    assert_eq!(sent.await.failed[0].error, LogError::Purged);
    writer.begin_transaction().await.unwrap();
    write_numbers(&writer, &h.topic, 0, 1, 1).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    writer.commit_transaction(Vec::new(), None).await.unwrap();
    assert_eq!(values(&read_all(&h.log, &h.topic, 0, Isolation::ReadCommitted).await), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_takes_its_time_each_time() {
    let h = here().await;
    let writer = producer(&h.log).await;
    let _fault = h.embedded.faults().on(|r| r.partition == 0).refuse();
    let began = Instant::now();
    for _ in 0..10 {
        let delivery = writer.send(batch(&h.topic, 0, &[("k", "1"), ("l", "2")])).await;
        assert_eq!(delivery.failed.len(), 2);
        write(&writer, &h.topic, 1, &[("k", "1")]).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn answers_keep_the_order_of_the_requests_when_the_way_becomes_shorter() {
    let h = here().await;
    let writer = producer(&h.log).await;
    h.network(|n| n.round_trip = Duration::from_millis(200));
    let first = writer.send(batch(&h.topic, 0, &[("k", "1")]));
    h.network(|n| n.round_trip = Duration::from_millis(1));
    let second = writer.send(batch(&h.topic, 1, &[("k", "2")]));
    let began = Instant::now();
    all_arrived(&second.await);
    assert_eq!(began.elapsed().as_millis(), 200);
    all_arrived(&first.now_or_never().unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_on_its_way_has_arrived_once_its_partition_is_settled() {
    let h = here().await;
    let writer = producer(&h.log).await;
    h.network(|n| n.bytes_per_second = Some(1000));
    let sent = writer.send(batch(&h.topic, 0, &[("k", &"x".repeat(5000))]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    writer.purge();
    assert_eq!(sent.await.failed[0].error, LogError::Purged);
    assert_eq!(h.written().await, Vec::<String>::new());
    writer.settled(tp(&h.topic, 1)).now_or_never().unwrap().unwrap();
    writer.settled(tp(&h.topic, 0)).await.unwrap();
    assert_eq!(h.written().await.len(), 1);
}
