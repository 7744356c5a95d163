//! One run of a group on the in-memory log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use stream_core::group::GroupGraph;
use stream_core::log::embedded::InMemory;
use stream_core::log::{Log as _, NewRecord, ProduceBatch, ProducerOptions, TopicSpec};
use stream_core::processor::Processor;
use stream_core::store::MemoryStores;
use stream_core::topics::TopicOptions;
use tokio::sync::Notify;

/// The first record's time, in milliseconds since the epoch.
const START_MS: i64 = 1_700_000_000_000;
/// Records that the producer sends together.
const SEND: usize = 1_000;

/// Measures the time from the first callback to the last. Clones share it.
#[derive(Clone)]
pub(crate) struct Stopwatch(Arc<Laps>);

struct Laps {
    seen: AtomicU64,
    expected: u64,
    began: OnceLock<Instant>,
    took: OnceLock<Duration>,
    done: Notify,
}

impl Stopwatch {
    pub(crate) fn new(expected: u64) -> Self {
        let (seen, began, took, done) = (AtomicU64::new(0), OnceLock::new(), OnceLock::new(), Notify::new());
        Self(Arc::new(Laps { seen, expected, began, took, done }))
    }

    /// Counts a callback and returns how many there were before it.
    pub(crate) fn lap(&self) -> u64 {
        let before = self.0.seen.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.0.began.get_or_init(Instant::now);
        }
        if before + 1 == self.0.expected {
            self.0.took.get_or_init(|| self.0.began.get_or_init(Instant::now).elapsed());
            self.0.done.notify_one();
        }
        before
    }
}

/// The records of one topic: keys in turn, and a fixed step of event time from each to the next.
pub(crate) struct Load {
    pub(crate) topic: &'static str,
    pub(crate) records: u64,
    pub(crate) keys: u64,
    pub(crate) step_ms: i64,
}

/// Fills an in-memory log, runs the group on it with one worker until the stopwatch has seen everything, and returns the
/// time that this took. To start and stop the processor is not part of it.
pub(crate) fn run(graph: Arc<GroupGraph>, watch: &Stopwatch, loads: &[Load]) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let until = watch.clone();
    runtime.block_on(async {
        let log = InMemory::new();
        let names = loads.iter().map(|load| load.topic).chain(["out"]);
        let specs = names.map(|name| TopicSpec::new(name).partitions(1)).collect();
        log.create_topics(specs).await.expect("the topics are new");
        for load in loads {
            fill(&log, load).await;
        }
        let mut topics = TopicOptions::default();
        topics.partitions = Some(1);
        let processor = Processor::new(graph, log).stores(Arc::new(MemoryStores::new())).topics(topics).workers(1);
        let done = async move { until.0.done.notified().await };
        processor.run_until(done).await.expect("the group runs");
    });
    *watch.0.took.get().expect("the stopwatch has seen everything")
}

async fn fill(log: &InMemory, load: &Load) {
    let topic: Arc<str> = load.topic.into();
    let producer = log.producer(ProducerOptions::default()).await.expect("a producer");
    for from in (0..load.records).step_by(SEND) {
        let mut batch = ProduceBatch::new();
        for number in from..load.records.min(from + SEND as u64) {
            let key = (number % load.keys).to_be_bytes();
            let timestamp = START_MS + i64::try_from(number).expect("few records") * load.step_ms;
            let record = NewRecord {
                topic: &topic,
                partition: Some(0),
                timestamp: Some(timestamp),
                key: Some(&key),
                value: Some(b"twenty-four bytes of it!"),
            };
            batch.push(record, std::iter::empty());
        }
        let delivery = producer.send(Arc::new(batch)).await;
        assert!(delivery.failed.is_empty(), "the log takes the records");
    }
}
