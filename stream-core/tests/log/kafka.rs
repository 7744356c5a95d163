//! The conformance suite on a real Kafka.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{LogError, LogHandle, Offsets, Subscription};

use crate::log_suite::helper::{
    Client, Happened, lead_options, member_options, producer, take, tp, transactional, values, write_numbers,
};
use crate::log_suite::{PendingOffsets, World, bounded, topic, unique, until};

fn brokers() -> String {
    std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA must name the brokers (host:port) of a real Kafka")
}

struct KafkaWorld(Arc<Kafka>);

impl KafkaWorld {
    fn new() -> Self {
        log_lines();
        let options = KafkaOptions::new(brokers()).request_timeout(Duration::from_secs(15));
        Self(Kafka::connect(options).unwrap())
    }
}

/// With `RUST_LOG` set, a failing test shows what the adapter logged.
fn log_lines() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

impl World for KafkaWorld {
    fn log(&self) -> LogHandle {
        Arc::clone(&self.0) as LogHandle
    }

    fn compact(&self, _topic: Arc<str>) -> BoxFuture<'static, bool> {
        // The broker's cleaner comes round by itself, every 15 s by default.
        Box::pin(std::future::ready(true))
    }

    fn apply_retention(&self) -> BoxFuture<'static, bool> {
        // Only on a broker that looks more often than every five minutes: it then says so.
        Box::pin(std::future::ready(std::env::var_os("STREAM_TEST_KAFKA_RETAINS").is_some()))
    }

    fn forget_offsets(&self, group: Arc<str>) -> BoxFuture<'static, bool> {
        Box::pin(async move {
            let admin: AdminClient<DefaultClientContext> =
                ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
            // A group that has just been left may have its last member for another moment.
            for _ in 0..100 {
                let names = [&*group];
                if admin.delete_groups(&names, &AdminOptions::new()).await.unwrap()[0].is_ok() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!("the group is not deleted");
        })
    }

    fn expire_transactional_id(&self, _id: Arc<str>) -> BoxFuture<'static, bool> {
        // Only on a broker that forgets ids after less than a week: this says after how many seconds.
        let after = std::env::var("STREAM_TEST_KAFKA_EXPIRES").ok().and_then(|s| s.parse().ok());
        Box::pin(async move {
            if let Some(after) = after {
                tokio::time::sleep(Duration::from_secs(after)).await;
            }
            after.is_some()
        })
    }

    fn pending_offsets(
        &self,
        group: Arc<str>,
        offsets: Offsets,
    ) -> BoxFuture<'static, Option<Box<dyn PendingOffsets>>> {
        let brokers = brokers();
        let pending = blocking(move || {
            let consumer: BaseConsumer =
                ClientConfig::new().set("bootstrap.servers", &brokers).set("group.id", &*group).create().unwrap();
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", &brokers)
                .set("transactional.id", &*unique("pending"))
                .create()
                .unwrap();
            let mut list = TopicPartitionList::new();
            for (tp, offset) in offsets {
                list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(offset)).unwrap();
            }
            let time = Duration::from_secs(30);
            producer.init_transactions(time).unwrap();
            producer.begin_transaction().unwrap();
            // Nobody is a member: Kafka takes offsets without a generation then.
            producer.send_offsets_to_transaction(&list, &consumer.group_metadata().unwrap(), time).unwrap();
            Undecided(producer)
        });
        Box::pin(async move { Some(Box::new(pending.await) as Box<dyn PendingOffsets>) })
    }
}

fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> BoxFuture<'static, T> {
    Box::pin(async move { tokio::task::spawn_blocking(run).await.unwrap() })
}

struct Undecided(BaseProducer);

impl PendingOffsets for Undecided {
    fn commit(self: Box<Self>) -> BoxFuture<'static, ()> {
        blocking(move || self.0.commit_transaction(Duration::from_secs(30)).unwrap())
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        blocking(move || self.0.abort_transaction(Duration::from_secs(30)).unwrap())
    }
}

log_suite! {
    [#[tokio::test] #[ignore = "needs a real Kafka: make test starts one where Java is"]]
    KafkaWorld::new()
}

/// The suite's cases go by the classic protocol; the new one has rebalances of another kind.
#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn the_new_group_protocol_moves_co_partitioned_topics() {
    bounded(async {
        let world = KafkaWorld::new();
        let (log, group) = (world.log(), unique("g"));
        let (lead, a, b) = (topic(&world, 4).await, topic(&world, 4).await, topic(&world, 4).await);
        let writer = producer(&log).await;
        for partition in 0..4 {
            write_numbers(&writer, &a, partition, 0, 5).await;
        }
        let with = vec![Arc::clone(&a), Arc::clone(&b)];
        let options = || {
            let subscription = Subscription::CoPartitioned { lead: Arc::clone(&lead), with: with.clone() };
            let mut options = lead_options(&group, subscription);
            options.new_protocol = true;
            options
        };
        let one = Client::join(&log, options());
        assert_eq!(one.owns(8).await.len(), 8);
        for partition in 0..4 {
            one.group.commit(vec![(tp(&a, partition), 2)]).await.unwrap();
        }
        let two = Client::join(&log, options());
        let theirs = two.owns(4).await;
        until("one gave up its half", async || one.owned().len() == 4).await;
        assert_eq!(one.gone(), (theirs.clone(), std::collections::BTreeSet::new()));
        for partition in theirs.iter().filter(|p| p.topic == a) {
            let mut assigned = two.take(partition);
            assert_eq!((assigned.start, assigned.committed), (2, true));
            assert_eq!(values(&take(&mut *assigned.fetch, 3).await), ["2", "3", "4"]);
        }
        // Offsets in a transaction, under the member's epoch.
        let writer = transactional(&log, &unique("x")).await;
        let mine = one.owned().into_iter().find(|p| p.topic == a).unwrap();
        writer.begin_transaction().await.unwrap();
        writer.commit_transaction(vec![(mine.clone(), 4)], one.group.metadata()).await.unwrap();
        one.close().await;
        two.owns(4 + 4 - 2).await;
        let assigned = two.take(&mine);
        assert_eq!((assigned.start, assigned.committed), (4, true));
        drop(assigned);
        two.close().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn two_members_of_one_instance_id_are_said() {
    bounded(async {
        let world = KafkaWorld::new();
        let (log, name, group) = (world.log(), topic(&world, 1).await, unique("g"));
        let options = || {
            let mut options = member_options(&group, &[&name]);
            options.instance_id = Some("same".into());
            options
        };
        let one = Client::join(&log, options());
        one.owns(1).await;
        let two = Client::join(&log, options());
        two.owns(1).await;
        let fenced = |h: &Happened| matches!(h, Happened::Failed(LogError::Fenced { .. }));
        until("the older one is fenced", async || one.history().iter().any(fenced)).await;
        assert!(one.group.commit(vec![(tp(&name, 0), 1)]).await.is_err());
        two.group.commit(vec![(tp(&name, 0), 1)]).await.unwrap();
        drop(one);
        two.close().await;
    })
    .await;
}

/// TLS and SASL against the listeners of `TLS=1 docker/kafka.sh up`.
#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;
    use std::time::Duration;

    use stream_core::log::kafka::{Kafka, KafkaOptions, Sasl, SaslMechanism, Security, Tls};
    use stream_core::log::{Log, LogError, TopicSpec};

    use crate::log_suite::helper::{producer, read_all, write};
    use crate::log_suite::unique;

    fn variable(name: &str) -> String {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set: eval it from TLS=1 docker/kafka.sh env"))
    }

    fn tls() -> Tls {
        let mut tls = Tls::default();
        tls.ca = Some(variable("STREAM_TEST_KAFKA_CA").into());
        tls
    }

    fn connect(brokers: String, security: Security) -> Arc<Kafka> {
        let options = KafkaOptions::new(brokers).security(security).request_timeout(Duration::from_secs(5));
        Kafka::connect(options).unwrap()
    }

    async fn works(kafka: Arc<Kafka>) {
        let name = unique("t");
        kafka.create_topics(vec![TopicSpec::new(Arc::clone(&name)).partitions(1)]).await.unwrap();
        let log = kafka as stream_core::log::LogHandle;
        write(&producer(&log).await, &name, 0, &[("a", "1")]).await;
        assert_eq!(read_all(&log, &name, 0, stream_core::log::Isolation::ReadCommitted).await.len(), 1);
    }

    fn sasl(mechanism: SaslMechanism, password: &str) -> Security {
        let user = variable("STREAM_TEST_KAFKA_USER");
        Security::Sasl(Sasl::new(mechanism, user, password).tls(tls()))
    }

    fn password() -> String {
        variable("STREAM_TEST_KAFKA_PASSWORD")
    }

    #[tokio::test]
    #[ignore = "needs a real Kafka: make test starts one where Java is"]
    async fn encrypted() {
        works(connect(variable("STREAM_TEST_KAFKA_SSL"), Security::Tls(tls()))).await;
    }

    #[tokio::test]
    #[ignore = "needs a real Kafka: make test starts one where Java is"]
    async fn with_a_password() {
        for mechanism in [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512, SaslMechanism::Plain] {
            works(connect(variable("STREAM_TEST_KAFKA_SASL_SSL"), sasl(mechanism, &password()))).await;
        }
    }

    #[tokio::test]
    #[ignore = "needs a real Kafka: make test starts one where Java is"]
    async fn a_wrong_password_is_said() {
        let security = sasl(SaslMechanism::ScramSha512, "wrong-secret");
        let kafka = connect(variable("STREAM_TEST_KAFKA_SASL_SSL"), security);
        let error = kafka.topics(vec![unique("t")]).await.unwrap_err();
        assert!(matches!(error, LogError::Auth { .. }), "{error:?}");
        assert!(!format!("{error:?} {kafka:?}").contains("wrong-secret"));
    }

    #[tokio::test]
    #[ignore = "needs a real Kafka: make test starts one where Java is"]
    async fn an_unknown_authority_is_said() {
        let kafka = connect(variable("STREAM_TEST_KAFKA_SSL"), Security::Tls(Tls::default()));
        let error = kafka.topics(vec![unique("t")]).await.unwrap_err();
        let LogError::Unreachable { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    }
}
