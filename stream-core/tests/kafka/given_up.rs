//! A request that its client has given up, and that reaches the broker after all: on a slow link, long after what was sent
//! again has landed.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::Text;
use stream_core::group::Group;
use stream_core::log::{LogError, NewRecord, ProduceBatch, ProducerOptions, TopicPartition};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;

use crate::kafka_support::broker::Broker;
use crate::kafka_support::proxy::Proxy;
use crate::kafka_support::{Running, bounded, connect, done, ends, read, table, topic, unique, until, write};

/// librdkafka goes on with the next epoch of its producer id, and the broker refuses what is of an earlier one than it has
/// seen in that partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_write_that_was_given_up_does_not_land_behind_what_was_sent_again() {
    bounded(240, async {
        let proxy = Proxy::new(1).await;
        let (broker, listener) = Broker::new().proxied(proxy.port());
        proxy.lead_to(listener);
        broker.start().await;
        let (log, through) = (connect(&broker.brokers()), connect(&proxy.address()));
        let (group, input) = (unique("late"), topic(&log, "in", 1).await);
        let mut g = Group::define(group.as_str()).table(Text);
        g.input(&*input, Text, |ctx, text| ctx.set(text));
        let start = Processor::new(g.build().unwrap(), through).stores(Arc::new(MemoryStores::new())).workers(1);
        // Writes are given up after four seconds.
        let start = start.commit_interval(Duration::from_millis(100)).session_timeout(Duration::from_secs(6));
        let running = Running::up(start.guarantee(Guarantee::AtLeastOnce)).await;
        let say = async |text: &str| {
            write(&log, &input, Some(0), &[("k", text)]).await;
        };
        say("first").await;
        done(&log, &group, &[(&input, 1)]).await;
        proxy.hold();
        say("second").await;
        until("its write is held back", async || proxy.held().0 > 0).await;
        // It is given up, sent again on another connection, and followed by a later one.
        done(&log, &group, &[(&input, 1)]).await;
        say("third").await;
        done(&log, &group, &[(&input, 1)]).await;
        let changelog = async || {
            let records = read(&log, &format!("{group}-table"), 1).await;
            records.into_iter().filter_map(|r| r.value).collect::<Vec<_>>()
        };
        let before = changelog().await;
        assert_eq!(before.last().map(String::as_str), Some("third"));
        proxy.release();
        until("the broker has answered", async || proxy.held().0 == proxy.held().1).await;
        running.stop().await;
        assert_eq!(table(&log, &group, 1).await.get("k").map(String::as_str), Some("third"));
        assert_eq!(changelog().await, before, "nothing more was written");
    })
    .await;
}

/// An instance that loses a partition, and gets it back at once, must not read its changelog before its own last write is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn what_was_purged_on_its_way_has_arrived_once_its_partition_is_settled() {
    bounded(120, async {
        let proxy = Proxy::new(1).await;
        let (broker, listener) = Broker::new().proxied(proxy.port());
        proxy.lead_to(listener);
        broker.start().await;
        let (log, through) = (connect(&broker.brokers()), connect(&proxy.address()));
        let topic = topic(&log, "out", 1).await;
        let producer = through.producer(ProducerOptions::default()).await.unwrap();
        let send = |value: &[u8]| {
            let record =
                NewRecord { topic: &topic, partition: Some(0), timestamp: None, key: None, value: Some(value) };
            let mut batch = ProduceBatch::new();
            batch.push(record, std::iter::empty());
            producer.send(Arc::new(batch))
        };
        let partition = TopicPartition::new(Arc::clone(&topic), 0);
        producer.settled(partition.clone()).await.unwrap();
        assert_eq!(send(b"first").await.last_offsets, [Some(0)]);
        let carried = proxy.carried();
        proxy.limit(100_000);
        let second = send(&vec![0; 400_000]);
        until("it is on its way", async || proxy.carried() > carried + 300_000).await;
        producer.purge();
        assert!(matches!(second.await.failed[..], [ref failed] if failed.error == LogError::Purged));
        assert_eq!(ends(&log, &topic, 1).await, [1], "it is still on its way");
        producer.settled(partition).await.unwrap();
        assert_eq!(ends(&log, &topic, 1).await, [2]);
        proxy.limit(0);
        assert_eq!(send(b"third").await.last_offsets, [Some(2)]);
    })
    .await;
}
