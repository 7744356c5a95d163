//! A broker that restarts, is killed, or is away for long, while a processor works on it and a producer writes to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stream_core::group::GroupGraph;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{ErrorClass, LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicSpec};
use stream_core::processor::{Guarantee, OnFailure, Processor};

use crate::kafka_support::broker::Broker;
use crate::kafka_support::counting::{KEYS, PARTITIONS, check, feed, graph, graph_with};
use crate::kafka_support::{Feed, Running, bounded, connect, done, log_lines, topic, unique, until};

struct World {
    broker: Broker,
    log: LogHandle,
    group: String,
    input: Arc<str>,
    out: Arc<str>,
    state: tempfile::TempDir,
    guarantee: Guarantee,
}

impl World {
    async fn new(name: &str, guarantee: Guarantee) -> Self {
        log_lines();
        let broker = Broker::started().await;
        let log = connect(&broker.brokers());
        let (input, out) = (topic(&log, "in", PARTITIONS).await, topic(&log, "out", PARTITIONS).await);
        Self { broker, log, group: unique(name), input, out, state: tempfile::tempdir().unwrap(), guarantee }
    }

    fn processor(&self, graph: Arc<GroupGraph>) -> Processor {
        let processor = Processor::new(graph, Arc::clone(&self.log))
            .guarantee(self.guarantee)
            .state_dir(self.state.path())
            .commit_interval(Duration::from_millis(200))
            .checkpoint_interval(Duration::from_millis(300));
        match self.guarantee {
            // A broker that was away for longer than a transaction may take has given it up, and its producer with it: a
            // new start mends that.
            Guarantee::ExactlyOnce => {
                processor.on_failure(OnFailure::Restart { backoff: Duration::from_millis(100), attempts: 100 })
            }
            _ => processor,
        }
    }

    /// Waits until something goes out again, and has come to so much.
    async fn emitted(&self, n: u64) {
        until(&format!("{n} records are emitted"), async || {
            let of = (0..PARTITIONS).map(|p| stream_core::log::TopicPartition::new(Arc::clone(&self.out), p));
            let of = of.map(|p| (p, stream_core::log::OffsetSpec::Latest)).collect();
            let ends = self.log.offsets(of, stream_core::log::Isolation::ReadCommitted).await;
            ends.is_ok_and(|ends| u64::try_from(ends.iter().sum::<i64>()).unwrap() >= n)
        })
        .await;
    }
}

async fn a_broker_that_restarts_is_found_again(guarantee: Guarantee) {
    bounded(300, async {
        let world = World::new("restart", guarantee).await;
        let running = Running::up(world.processor(graph(&world.group, &world.input, &world.out))).await;
        let mut input = Feed::new(&world.log).await;
        feed(&mut input, &world.input, 0..100).await;
        world.emitted(50 * KEYS).await;
        // What is written meanwhile waits in the producer.
        let (writing, restarting) = (feed(&mut input, &world.input, 100..300), async {
            world.broker.stop().await;
            world.broker.start().await;
        });
        tokio::join!(writing, restarting);
        world.emitted(200 * KEYS).await;
        let (writing, restarting) = (feed(&mut input, &world.input, 300..500), async {
            world.broker.kill().await;
            world.broker.start().await;
        });
        tokio::join!(writing, restarting);
        done(&world.log, &world.group, &[(&world.input, PARTITIONS)]).await;
        running.stop().await;
        let again = check(&world.log, &world.group, &world.out, 500).await;
        println!("done again: {again:?}");
        again.suits(guarantee);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_broker_that_restarts_is_found_again_at_least_once() {
    a_broker_that_restarts_is_found_again(Guarantee::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_broker_that_restarts_is_found_again_exactly_once() {
    a_broker_that_restarts_is_found_again(Guarantee::ExactlyOnce).await;
}

async fn a_broker_away_for_longer_than_a_delivery_may_take(guarantee: Guarantee) {
    bounded(300, async {
        let world = World::new("away", guarantee).await;
        // Records are given up after two thirds of it.
        let session = Duration::from_secs(6);
        // Slow work, so that there is something to write while the broker is away.
        let calls = Arc::new(AtomicU64::new(0));
        let each = {
            let calls = Arc::clone(&calls);
            move || {
                calls.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let graph = graph_with(&world.group, &world.input, &world.out, each);
        let running = Running::up(world.processor(graph).session_timeout(session)).await;
        let mut input = Feed::new(&world.log).await;
        feed(&mut input, &world.input, 0..300).await;
        world.emitted(10 * KEYS).await;
        world.broker.stop().await;
        // A record of ours that may take longer than one of the processor is given up, too: then it is time.
        let mut options = ProducerOptions::default();
        options.delivery_timeout = Some(session * 3 / 2);
        let ours = world.log.producer(options).await.unwrap();
        let mut batch = ProduceBatch::new();
        let value = Some(b"never there".as_slice());
        let record = NewRecord { topic: &world.input, partition: Some(0), timestamp: None, key: Some(b"key-0"), value };
        batch.push(record, std::iter::empty());
        let delivery = ours.send(Arc::new(batch)).await;
        assert_eq!(delivery.failed.len(), 1);
        let error = &delivery.failed[0].error;
        assert_eq!(error.class(), ErrorClass::Retriable, "{error}");
        assert!(format!("{error:?}").contains(&world.broker.brokers()), "{error}");
        assert!(!running.task.is_finished(), "it waits for the broker");
        world.broker.start().await;
        feed(&mut input, &world.input, 300..400).await;
        done(&world.log, &world.group, &[(&world.input, PARTITIONS)]).await;
        running.stop().await;
        let again = check(&world.log, &world.group, &world.out, 400).await;
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls > 400 * KEYS, "it went back");
        println!("{calls} calls; done again after it had been written: {again:?}");
        again.suits(guarantee);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_broker_away_for_longer_than_a_delivery_may_take_at_least_once() {
    a_broker_away_for_longer_than_a_delivery_may_take(Guarantee::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_broker_away_for_longer_than_a_delivery_may_take_exactly_once() {
    a_broker_away_for_longer_than_a_delivery_may_take(Guarantee::ExactlyOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_broker_that_is_down_at_the_start() {
    bounded(300, async {
        log_lines();
        let broker = Broker::new();
        let options = KafkaOptions::new(broker.brokers()).request_timeout(Duration::from_secs(3));
        let log: LogHandle = Kafka::connect(options).unwrap();
        let (group, input, out) = (unique("later"), Arc::from(unique("in")), unique("out"));
        let state = tempfile::tempdir().unwrap();
        let processor = || Processor::new(graph(&group, &input, &out), Arc::clone(&log)).state_dir(state.path());

        let error = Running::start(processor()).failure().await;
        assert!(error.contains(&format!("no broker reached at {}", broker.brokers())), "{error}");
        assert!(error.contains(&group), "{error}");

        // One that may start again waits, and works once there is a broker.
        let then = OnFailure::Restart { backoff: Duration::from_millis(100), attempts: 1000 };
        let running = Running::start(processor().on_failure(then));
        broker.start().await;
        running.running().await;
        log.create_topics(vec![TopicSpec::new("unused")]).await.unwrap();
        let mut writer = Feed::new(&log).await;
        feed(&mut writer, &input, 0..10).await;
        let partitions = log.topics(vec![Arc::clone(&input)]).await.unwrap()[0].as_ref().unwrap().partitions;
        done(&log, &group, &[(&input, partitions)]).await;
        running.stop().await;
    })
    .await;
}
