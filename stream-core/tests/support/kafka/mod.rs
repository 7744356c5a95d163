//! What the tests by force share: a log, topics, input, a processor under way, and what is found afterwards.
//!
//! Nothing here knows whether the log is a real Kafka or librdkafka's mock cluster; a test says where it runs by the
//! [`LogHandle`] that it makes.
#![allow(dead_code, unreachable_pub, unused_macros, reason = "each test binary uses a part")]

pub mod behind;
pub mod broker;
pub mod counting;
pub mod proxy;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{
    Delivery, FetchLimits, Fetched, Isolation, LogError, LogHandle, NewRecord, OffsetSpec, ProduceBatch, Producer,
    ProducerOptions, RecordBatch, TopicConfig, TopicPartition, TopicSpec,
};
use stream_core::processor::{Handle, Processor, ProcessorResult, State, Status};
use tokio::task::JoinHandle;

/// Tests on the real Kafka of a module's cases, each with both guarantees and a bound in seconds.
macro_rules! with_both {
    ($seconds:literal, $of:path: $($case:ident),* $(,)?) => {$(
        mod $case {
            use stream_core::processor::Guarantee::{AtLeastOnce, ExactlyOnce};

            use $of as cases;
            use crate::kafka_support::{bounded, kafka};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a real Kafka: make test starts one where Java is"]
            async fn at_least_once() {
                bounded($seconds, cases::$case(&kafka(), AtLeastOnce)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a real Kafka: make test starts one where Java is"]
            async fn exactly_once() {
                bounded($seconds, cases::$case(&kafka(), ExactlyOnce)).await;
            }
        }
    )*};
}

/// The real Kafka's addresses.
pub fn brokers() -> String {
    std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA must name the brokers (host:port) of a real Kafka")
}

/// A connection to the real Kafka.
pub fn kafka() -> LogHandle {
    connect(&brokers())
}

/// A connection to any Kafka.
pub fn connect(brokers: &str) -> LogHandle {
    log_lines();
    Kafka::connect(KafkaOptions::new(brokers).request_timeout(Duration::from_secs(15))).unwrap()
}

/// A failing test shows what was logged: what `RUST_LOG` says, else what explains a failure that does not come again.
pub fn log_lines() {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("stream_core=debug,kafka=debug,warn"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// A name that no other run has used.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    format!("{what}-{now:x}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Against hanging only: far more than any test takes, and three times that, for a machine that builds something else meanwhile.
pub async fn bounded<T>(seconds: u64, test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3 * seconds), test).await.expect("the test hangs")
}

/// How long a condition is waited for.
const WAIT: Duration = Duration::from_secs(300);

/// Waits for a condition that nothing announces.
pub async fn until(what: &str, mut test: impl AsyncFnMut() -> bool) {
    let ask = async {
        while !test().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(WAIT, ask).await.is_ok(), "waited in vain: {what}");
}

/// Makes a topic of a new name.
pub async fn topic(log: &LogHandle, what: &str, partitions: i32) -> Arc<str> {
    topic_with(log, what, partitions, TopicConfig::default()).await
}

/// Makes a topic of a new name with settings.
pub async fn topic_with(log: &LogHandle, what: &str, partitions: i32, config: TopicConfig) -> Arc<str> {
    let name: Arc<str> = unique(what).into();
    log.create_topics(vec![TopicSpec::new(Arc::clone(&name)).partitions(partitions).config(config)]).await.unwrap();
    name
}

/// The same few pseudo-random numbers at each run (xorshift).
pub struct Random(pub u64);

impl Random {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rec {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: BTreeMap<String, String>,
}

/// Writes input, some batches at a time.
pub struct Feed {
    producer: Arc<dyn Producer>,
    under_way: VecDeque<BoxFuture<'static, Delivery>>,
    stranded: bool,
}

impl Feed {
    pub async fn new(log: &LogHandle) -> Self {
        // Outlasts a broker that takes long to come back.
        let mut options = ProducerOptions::default();
        options.delivery_timeout = Some(Duration::from_secs(240));
        Self::with(log, options).await
    }

    pub async fn with(log: &LogHandle, options: ProducerOptions) -> Self {
        Self { producer: log.producer(options).await.unwrap(), under_way: VecDeque::new(), stranded: false }
    }

    /// Hands records over: topic, partition (else by the key), key, value.
    pub async fn send(&mut self, records: &[(&Arc<str>, Option<i32>, &str, &str)]) {
        let mut batch = ProduceBatch::new();
        for (topic, partition, key, value) in records {
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            let record = NewRecord { topic, partition: *partition, timestamp: None, key, value };
            batch.push(record, std::iter::empty());
        }
        self.under_way.push_back(self.producer.send(Arc::new(batch)));
        while self.under_way.len() > 50 {
            let delivery = self.under_way.pop_front().unwrap().await;
            self.arrived(&delivery);
        }
    }

    /// Waits until everything has arrived.
    pub async fn finish(&mut self) {
        self.settle().await;
        assert!(!self.stranded, "input was not delivered: the feeder's client lost all brokers for good");
    }

    /// Waits until everything has arrived, or is known not to.
    pub async fn settle(&mut self) {
        while let Some(delivery) = self.under_way.pop_front() {
            let delivery = delivery.await;
            self.arrived(&delivery);
        }
    }

    /// Its client lost all brokers for good: some records may not have been written.
    pub fn is_stranded(&self) -> bool {
        self.stranded
    }

    fn arrived(&mut self, delivery: &Delivery) {
        self.stranded |= delivery.failed.iter().any(|f| matches!(f.error, LogError::BrokersLost { .. }));
        assert!(self.stranded || delivery.failed.is_empty(), "input was not delivered: {:?}", delivery.failed);
    }
}

/// Writes a few records and waits for them: key, value.
pub async fn write(log: &LogHandle, topic: &Arc<str>, partition: Option<i32>, records: &[(&str, &str)]) {
    let mut feed = Feed::new(log).await;
    let records: Vec<_> = records.iter().map(|(k, v)| (topic, partition, *k, *v)).collect();
    feed.send(&records).await;
    feed.finish().await;
}

/// A processor under way.
pub struct Running {
    pub handle: Handle,
    pub task: JoinHandle<ProcessorResult<()>>,
}

impl Running {
    pub fn start(processor: Processor) -> Self {
        let handle = processor.handle();
        let run = async {
            let ended = processor.run().await;
            if let Err(error) = &ended {
                println!("a processor failed: {error}");
            }
            ended
        };
        Self { handle, task: tokio::spawn(run) }
    }

    /// Starts, and waits until all assigned partitions are processed.
    pub async fn up(processor: Processor) -> Self {
        let running = Self::start(processor);
        running.running().await;
        running
    }

    pub async fn running(&self) {
        let up = tokio::time::timeout(Duration::from_secs(90), self.handle.running()).await;
        if up.expect("it does not get to run").is_err() {
            until("its end", async || self.task.is_finished()).await;
            panic!("it ended before it ran");
        }
    }

    /// Waits until it has so many partitions and all are processed.
    pub async fn has(&self, partitions: usize) {
        let there = |s: &Status| s.state == State::Running && s.tasks.len() == partitions;
        let wait = self.handle.wait_for(|s| there(s) || matches!(s.state, State::Failed | State::Stopped));
        let got = tokio::time::timeout(Duration::from_secs(90), wait).await.map(|s| s.is_some_and(|s| there(&s)));
        assert_eq!(got, Ok(true), "never had {partitions} partitions, has {:?}", self.handle.status());
    }

    /// Stops gracefully.
    pub async fn stop(self) {
        self.handle.stop();
        self.end().await.unwrap();
    }

    /// What it ends with by itself.
    pub async fn end(self) -> ProcessorResult<()> {
        tokio::time::timeout(Duration::from_secs(120), self.task).await.expect("it does not end").unwrap()
    }

    /// The text of the error that it ends with.
    pub async fn failure(self) -> String {
        format!("{:?}", self.end().await.expect_err("it should fail"))
    }
}

fn all(topic: &str, partitions: i32) -> Vec<TopicPartition> {
    let topic: Arc<str> = topic.into();
    (0..partitions).map(|p| TopicPartition::new(Arc::clone(&topic), p)).collect()
}

/// The end of each partition, as a consumer of committed records sees it.
pub async fn ends(log: &LogHandle, topic: &str, partitions: i32) -> Vec<i64> {
    ends_of(log, topic, partitions, Isolation::ReadCommitted).await
}

/// The end of each partition, with what open transactions have written or without it.
pub async fn ends_of(log: &LogHandle, topic: &str, partitions: i32, isolation: Isolation) -> Vec<i64> {
    let of = all(topic, partitions).into_iter().map(|p| (p, OffsetSpec::Latest)).collect();
    log.offsets(of, isolation).await.unwrap()
}

/// What a group has committed.
pub async fn committed(log: &LogHandle, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    log.group_offsets(group.into(), all(topic, partitions)).await.unwrap()
}

/// Waits until a group has committed everything of its inputs.
pub async fn done(log: &LogHandle, group: &str, topics: &[(&Arc<str>, i32)]) {
    for (topic, partitions) in topics {
        let ends: Vec<_> = ends(log, topic, *partitions).await.into_iter().map(Some).collect();
        let what = format!("{group} is done with {topic} up to {ends:?}");
        until(&what, async || committed(log, group, topic, *partitions).await == ends).await;
    }
}

/// Everything in a topic now, by partition and offset, once the transactions that are open in it have ended: the offsets
/// of a transaction may be seen before its markers are in every topic. What is written meanwhile is left out: a reader
/// that runs after the end of a growing topic would never come back.
pub async fn read(log: &LogHandle, topic: &str, partitions: i32) -> Vec<Rec> {
    let ends = ends_of(log, topic, partitions, Isolation::ReadUncommitted).await;
    let began = std::time::Instant::now();
    while self::ends(log, topic, partitions).await.iter().zip(&ends).any(|(stable, end)| stable < end) {
        assert!(began.elapsed() < WAIT, "waited in vain: no transaction is open in {topic} below {ends:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reader = log.reader(Isolation::ReadCommitted).unwrap();
    let mut found = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (p, end) in all(topic, partitions).into_iter().zip(ends) {
        let partition = p.partition;
        let mut fetch = reader.read(p, 0).await.unwrap();
        let mut batch = RecordBatch::new();
        let mut next = 0;
        while next < end
            && std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await.unwrap()
                == Fetched::Records
        {
            next = batch.iter().last().map_or(next, |r| r.offset + 1);
            found.extend(batch.iter().filter(|r| r.offset < end).map(|r| Rec {
                partition,
                offset: r.offset,
                timestamp: r.timestamp,
                key: r.key.map(text),
                value: r.value.map(text),
                headers: r.headers.iter().map(|(k, v)| (k.to_owned(), v.map(text).unwrap_or_default())).collect(),
            }));
        }
    }
    found
}

/// The newest value of each key of a table's topic.
pub async fn table(log: &LogHandle, group: &str, partitions: i32) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for record in read(log, &stream_core::group::table_topic(group), partitions).await {
        let key = record.key.expect("a table's record has a key");
        match record.value {
            Some(value) => last.insert(key, value),
            None => last.remove(&key),
        };
    }
    last
}
