//! The Kafka adapter against librdkafka's mock cluster: what needs no Java, and faults that a real broker won't show.
//!
//! The mock makes no topics by itself, looks nothing up by time, knows nothing of topics' limits and of other groups'
//! members, and its transactions are not Kafka's: those cases of the suite run on a real Kafka only.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::future::BoxFuture;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{ErrorClass, Isolation, Log, LogError, LogHandle, OffsetSpec, ProducerOptions, TopicSpec};

use crate::log_suite::helper::{
    Client, all_arrived, batch, member_options, open, producer, read_all, take, tp, values, write_numbers,
};
use crate::log_suite::{Caps, World, bounded, topic, unique};

type Mock = MockCluster<'static, DefaultProducerContext>;
type Job = Box<dyn FnOnce(&Mock) + Send>;

/// A mock cluster of its own for each test, on a thread of its own because it can't be shared.
pub(super) struct MockWorld {
    pub(super) kafka: Arc<Kafka>,
    mock: mpsc::Sender<Job>,
}

impl MockWorld {
    pub(super) fn new() -> Self {
        Self::with(|options| options)
    }

    pub(super) fn with(set: impl FnOnce(KafkaOptions) -> KafkaOptions) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tx, brokers) = mpsc::channel();
        std::thread::spawn(move || {
            let mock = MockCluster::new(3).unwrap();
            tx.send(mock.bootstrap_servers()).unwrap();
            for job in queue {
                job(&mock);
            }
        });
        let options = KafkaOptions::new(brokers.recv().unwrap()).request_timeout(Duration::from_secs(10));
        Self { kafka: Kafka::connect(set(options)).unwrap(), mock: jobs }
    }

    /// Does something to the cluster.
    pub(super) fn mock(&self, run: impl FnOnce(&Mock) + Send + 'static) {
        let (tx, done) = mpsc::channel();
        let job = move |mock: &Mock| {
            run(mock);
            tx.send(()).unwrap();
        };
        self.mock.send(Box::new(job)).unwrap();
        done.recv().unwrap();
    }

    /// The next requests of a kind fail.
    pub(super) fn fail(&self, request: RDKafkaApiKey, errors: &'static [Code]) {
        self.mock(move |mock| mock.request_errors(request, errors));
    }

    fn down(&self) {
        self.mock(|mock| mock.broker_down(-1).unwrap());
    }

    fn up(&self) {
        self.mock(|mock| mock.broker_up(-1).unwrap());
    }
}

impl World for MockWorld {
    fn log(&self) -> LogHandle {
        Arc::clone(&self.kafka) as LogHandle
    }

    fn caps(&self) -> Caps {
        Caps {
            transactions: false,
            admin: false,
            times: false,
            topic_limits: false,
            refusals: false,
            group_admin: false,
            static_members: false,
            held_generations: false,
        }
    }

    fn make_topic(&self, spec: TopicSpec) -> BoxFuture<'static, ()> {
        self.mock(move |mock| mock.create_topic(&spec.name, spec.partitions.unwrap_or(1), 1).unwrap());
        Box::pin(std::future::ready(()))
    }
}

log_suite! { [#[tokio::test]] MockWorld::new(); produce_fetch groups group_moves }

/// A real cluster of one broker can't fall below `min.insync.replicas`: it counts a topic's replicas at most.
#[tokio::test]
async fn too_few_replicas_are_waited_for_until_the_delivery_time_out() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name) = (world.log(), topic(&world, 1).await);
        let mut options = ProducerOptions::default();
        options.delivery_timeout = Some(Duration::from_secs(3));
        let writer = log.producer(options).await.unwrap();
        write_numbers(&writer, &name, 0, 0, 1).await;
        world.fail(RDKafkaApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3]);
        write_numbers(&writer, &name, 0, 1, 1).await;
        world.fail(RDKafkaApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 1000]);
        let delivery = writer.send(batch(&name, 0, &[("k", "x")])).await;
        assert!(matches!(delivery.failed[0].error, LogError::Timeout { .. }), "{:?}", delivery.failed);
    })
    .await;
}

#[tokio::test]
async fn passing_errors_of_the_broker_lose_and_double_nothing() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name) = (world.log(), topic(&world, 1).await);
        let writer = producer(&log).await;
        write_numbers(&writer, &name, 0, 0, 10).await;
        world.fail(
            RDKafkaApiKey::Produce,
            &[
                Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                Code::RD_KAFKA_RESP_ERR__TRANSPORT,
            ],
        );
        world.fail(
            RDKafkaApiKey::Fetch,
            &[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, Code::RD_KAFKA_RESP_ERR__TRANSPORT],
        );
        write_numbers(&writer, &name, 0, 10, 10).await;
        let got = read_all(&log, &name, 0, Isolation::ReadCommitted).await;
        assert_eq!(values(&got), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn brokers_that_come_back_are_found_again() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name, group) = (world.log(), topic(&world, 1).await, unique("g"));
        let writer = producer(&log).await;
        write_numbers(&writer, &name, 0, 0, 5).await;
        let client = Client::join(&log, member_options(&group, &[&name]));
        client.owns(1).await;
        let mut assigned = client.take(&tp(&name, 0));
        assert_eq!(values(&take(&mut *assigned.fetch, 5).await), ["0", "1", "2", "3", "4"]);
        world.down();
        let sent = writer.send(batch(&name, 0, &[("k", "5")]));
        world.up();
        all_arrived(&sent.await);
        assert_eq!(values(&take(&mut *assigned.fetch, 1).await), ["5"]);
        drop(assigned);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_purged_fails_and_what_comes_later_arrives() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name) = (world.log(), topic(&world, 1).await);
        let writer = producer(&log).await;
        write_numbers(&writer, &name, 0, 0, 1).await;
        world.down();
        let sent: Vec<_> = (0..3).map(|n| writer.send(batch(&name, 0, &[("k", &format!("purged {n}"))]))).collect();
        writer.purge();
        for delivery in sent {
            let delivery = delivery.await;
            assert_eq!(delivery.failed.iter().map(|f| f.error.clone()).collect::<Vec<_>>(), [LogError::Purged]);
        }
        writer.flush().await.unwrap();
        world.up();
        write_numbers(&writer, &name, 0, 1, 1).await;
        assert_eq!(values(&read_all(&log, &name, 0, Isolation::ReadCommitted).await), ["0", "1"]);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_producer_still_sends_what_it_was_given() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name) = (world.log(), topic(&world, 1).await);
        let writer = producer(&log).await;
        for n in 0..10 {
            drop(writer.send(batch(&name, 0, &[("k", &n.to_string())])));
        }
        drop(writer);
        let mut fetch = open(&log, &name, 0, 0, Isolation::ReadCommitted).await;
        assert_eq!(take(&mut *fetch, 10).await.len(), 10);
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_of_librdkafka_is_waited_for() {
    bounded(async {
        let world = MockWorld::with(|o| o.producer_property("queue.buffering.max.messages", "10"));
        let (log, name) = (world.log(), topic(&world, 1).await);
        let writer = producer(&log).await;
        write_numbers(&writer, &name, 0, 0, 500).await;
        let got = read_all(&log, &name, 0, Isolation::ReadCommitted).await;
        assert_eq!(values(&got), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn fetches_outlive_their_member_and_reader_harmlessly() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name, group) = (world.log(), topic(&world, 2).await, unique("g"));
        write_numbers(&producer(&log).await, &name, 0, 0, 5).await;
        let client = Client::join(&log, member_options(&group, &[&name]));
        client.owns(2).await;
        let mut kept = client.take(&tp(&name, 0)).fetch;
        client.close().await;
        assert!(crate::log_suite::helper::is_silent(&mut *kept).await);
        assert!(kept.seek(0).await.is_err());
        // Its successor is not disturbed.
        let client = Client::join(&log, member_options(&group, &[&name]));
        client.owns(2).await;
        let mut assigned = client.take(&tp(&name, 0));
        drop(kept);
        assert_eq!(take(&mut *assigned.fetch, 5).await.len(), 5);
        drop(client.freeze().await);
        drop(assigned);
        let reader = log.reader(Isolation::ReadCommitted).unwrap();
        let mut fetch = reader.read(tp(&name, 0), 0).await.unwrap();
        assert!(reader.read(tp(&name, 0), 0).await.is_err(), "two fetches of one partition");
        assert_eq!(take(&mut *fetch, 2).await.len(), 2);
        drop(fetch);
        // Again at once, from another place.
        let mut fetch = reader.read(tp(&name, 0), 1).await.unwrap();
        drop(reader);
        assert_eq!(values(&take(&mut *fetch, 4).await), ["1", "2", "3", "4"]);
    })
    .await;
}

#[tokio::test]
async fn what_was_given_up_while_it_was_begun_can_be_read_at_once() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name) = (world.log(), topic(&world, 1).await);
        write_numbers(&producer(&log).await, &name, 0, 0, 3).await;
        let reader = log.reader(Isolation::ReadCommitted).unwrap();
        for _ in 0..20 {
            let given_up = [reader.read(tp(&name, 0), 0), reader.read(tp(&name, 0), 1)];
            drop(given_up);
            let mut fetch = reader.read(tp(&name, 0), 1).await.unwrap();
            assert_eq!(values(&take(&mut *fetch, 2).await), ["1", "2"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_missing_topic_is_said() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name, none) = (world.log(), topic(&world, 1).await, unique("none"));
        let unknown = |e: &LogError| matches!(e, LogError::UnknownTopic { topic } if **topic == *none);
        let error = log.offsets(vec![(tp(&none, 0), OffsetSpec::Latest)], Isolation::ReadCommitted).await.unwrap_err();
        assert!(unknown(&error), "{error:?}");
        let error = log.offsets(vec![(tp(&name, 1), OffsetSpec::Latest)], Isolation::ReadCommitted).await.unwrap_err();
        assert_eq!(error, LogError::UnknownPartition { partition: tp(&name, 1) });
        let reader = log.reader(Isolation::ReadCommitted).unwrap();
        let Err(error) = reader.read(tp(&none, 0), 0).await else { panic!("read a topic that is not there") };
        assert!(unknown(&error), "{error:?}");
        let mut member = log.member(member_options(&unique("g"), &[&none])).unwrap();
        let Err(error) = member.next().await else { panic!("joined without the topic") };
        assert!(unknown(&error), "{error:?}");
        member.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn unreachable_brokers_are_named_within_a_bound() {
    bounded(async {
        // A port that was just free.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let brokers = format!("127.0.0.1:{port}");
        let options = KafkaOptions::new(&brokers).request_timeout(Duration::from_secs(2));
        let log = Kafka::connect(options).unwrap();
        let name: Arc<str> = "t".into();
        let check = |what: &str, error: LogError| {
            let LogError::Unreachable { brokers: named, reason, .. } = &error else { panic!("{what}: {error:?}") };
            assert_eq!((named, error.class()), (&brokers, ErrorClass::Retriable), "{what}");
            assert!(!reason.is_empty(), "{what}");
        };
        check("topics", log.topics(vec![Arc::clone(&name)]).await.unwrap_err());
        check("create", log.create_topics(vec![TopicSpec::new("t")]).await.unwrap_err());
        check("delete", log.delete_topics(vec![Arc::clone(&name)]).await.unwrap_err());
        check("grow", log.grow_topic(Arc::clone(&name), 2).await.unwrap_err());
        check("records", log.delete_records(vec![(tp(&name, 0), 1)]).await.unwrap_err());
        let of = vec![(tp(&name, 0), OffsetSpec::Latest)];
        check("offsets", log.offsets(of, Isolation::ReadCommitted).await.unwrap_err());
        check("group offsets", log.group_offsets("g".into(), vec![tp(&name, 0)]).await.unwrap_err());
        check("group members", log.group_members("g".into()).await.unwrap_err());
        let reader = log.reader(Isolation::ReadCommitted).unwrap();
        check("read", reader.read(tp(&name, 0), 0).await.map(drop).unwrap_err());
        let mut options = ProducerOptions::default();
        options.transactional_id = Some(unique("x"));
        check("transactional producer", log.producer(options).await.map(drop).unwrap_err());
        let mut options = ProducerOptions::default();
        options.delivery_timeout = Some(Duration::from_secs(2));
        let writer = log.producer(options).await.unwrap();
        let delivery = writer.send(batch(&name, 0, &[("a", "1")])).await;
        assert_eq!(delivery.failed.len(), 1);
        check("send", delivery.failed[0].error.clone());
        writer.flush().await.unwrap();
        // A member just goes on trying, and can be closed.
        let client = Client::join(&(Arc::clone(&log) as LogHandle), member_options(&unique("g"), &[&name]));
        assert!(client.group.metadata().is_none());
        assert_eq!(client.history(), []);
        client.close().await;
    })
    .await;
}
