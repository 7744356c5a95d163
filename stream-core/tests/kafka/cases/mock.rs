//! librdkafka's mock cluster as a log, with what it lacks made up for: it knows no topics' settings, creates none by
//! request, and says nothing of other groups' members.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use stream_core::clock::Clock;
use stream_core::log::{
    GroupMember, Isolation, Log, LogError, LogHandle, LogResult, Member, MemberOptions, OffsetSpec, Offsets, Producer,
    ProducerOptions, Reader, TopicInfo, TopicPartition, TopicSpec,
};

pub type Mock = MockCluster<'static, DefaultProducerContext>;
type Job = Box<dyn FnOnce(&Mock) + Send>;

/// A mock cluster of its own, on a thread of its own because it can't be shared.
pub struct MockLog {
    kafka: LogHandle,
    jobs: mpsc::Sender<Job>,
    topics: Mutex<BTreeMap<Arc<str>, TopicInfo>>,
}

impl MockLog {
    pub fn start() -> Arc<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tx, brokers) = mpsc::channel();
        std::thread::spawn(move || {
            let mock = MockCluster::new(3).unwrap();
            tx.send(mock.bootstrap_servers()).unwrap();
            for job in queue {
                job(&mock);
            }
        });
        Arc::new(Self {
            kafka: crate::kafka_support::connect(&brokers.recv().unwrap()),
            jobs,
            topics: Mutex::default(),
        })
    }

    /// Does something to the cluster.
    pub fn mock(&self, run: impl FnOnce(&Mock) + Send + 'static) {
        let (tx, done) = mpsc::channel();
        let job = move |mock: &Mock| {
            run(mock);
            tx.send(()).unwrap();
        };
        self.jobs.send(Box::new(job)).unwrap();
        done.recv().unwrap();
    }

    pub fn down(&self) {
        self.mock(|mock| mock.broker_down(-1).unwrap());
    }

    pub fn up(&self) {
        self.mock(|mock| mock.broker_up(-1).unwrap());
    }
}

impl stream_core::log::Sealed for MockLog {}

impl Log for MockLog {
    fn name(&self) -> String {
        self.kafka.name()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.kafka.clock()
    }

    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>> {
        let topics = self.topics.lock().unwrap();
        ready(Ok(names.iter().map(|n| topics.get(n).cloned()).collect())).boxed()
    }

    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>> {
        self.kafka.topic_id(name)
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>> {
        let mut failed = Ok(());
        for spec in topics {
            let (name, partitions) = (Arc::clone(&spec.name), spec.partitions.unwrap_or(1));
            let info = TopicInfo::new(Arc::clone(&name), partitions, 1, spec.config);
            let mut known = self.topics.lock().unwrap();
            if known.contains_key(&name) {
                failed = Err(LogError::TopicExists { topic: name.to_string() });
                continue;
            }
            let made = Arc::clone(&name);
            self.mock(move |mock| mock.create_topic(&made, partitions, 1).unwrap());
            known.insert(name, info);
        }
        ready(failed).boxed()
    }

    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>> {
        self.kafka.delete_topics(names)
    }

    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>> {
        self.kafka.grow_topic(name, total)
    }

    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>> {
        self.kafka.delete_records(below)
    }

    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>> {
        self.kafka.offsets(of, isolation)
    }

    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>> {
        self.kafka.group_offsets(group, of)
    }

    fn group_members(&self, _: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>> {
        self.kafka.member(options)
    }

    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>> {
        self.kafka.producer(options)
    }

    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>> {
        self.kafka.reader(isolation)
    }
}
