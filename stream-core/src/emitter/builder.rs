//! Opening an emitter.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::EmitError;
use super::queue::{Bounds, Queue};
use super::{Emitter, Handle, sender};
use crate::codec::Codec;
use crate::log::{LogError, LogHandle, Partitioner, ProducerOptions, TopicInfo, TopicSpec};
use crate::topics::record_limit;
use crate::topics::wait;

/// An emitter to be opened. Made by [`Emitter::builder`].
#[must_use = "an emitter does nothing before open()"]
pub struct EmitterBuilder<M> {
    topic: Arc<str>,
    codec: Arc<dyn Codec<M>>,
    log: LogHandle,
    producer: ProducerOptions,
    bounds: Bounds,
    create: Option<i32>,
    wait_for_topic: Duration,
}

impl<M: 'static> EmitterBuilder<M> {
    pub(super) fn new(topic: Arc<str>, codec: Arc<dyn Codec<M>>, log: LogHandle) -> Self {
        let bounds = Bounds {
            batch_records: 2_000,
            batch_bytes: 256 << 10,
            in_flight_bytes: 8 << 20,
            linger: Duration::from_millis(1),
            record_bytes: usize::MAX,
        };
        let wait_for_topic = Duration::from_secs(30);
        Self { topic, codec, log, producer: ProducerOptions::default(), bounds, create: None, wait_for_topic }
    }

    /// How keys choose partitions; default as Java clients do.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.producer.partitioner = partitioner;
        self
    }

    /// How long a record may wait for its acknowledgement before it fails; default 30 s.
    pub fn delivery_timeout(mut self, bound: Duration) -> Self {
        self.producer.delivery_timeout = Some(bound);
        self
    }

    /// Bytes under way above which [`Emitter::emit`] waits; default 8 MiB.
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.bounds.in_flight_bytes = bytes;
        self
    }

    /// How long records wait for others to share a batch with, while earlier batches are under way; default 1 ms.
    pub fn linger(mut self, wait: Duration) -> Self {
        self.bounds.linger = wait;
        self
    }

    /// Makes the topic, with so many partitions, if it is missing.
    pub fn create(mut self, partitions: i32) -> Self {
        self.create = Some(partitions);
        self
    }

    /// How long to wait for a topic that is missing; default 30 s.
    pub fn wait_for_topic(mut self, bound: Duration) -> Self {
        self.wait_for_topic = bound;
        self
    }

    /// Opens the emitter. It sends from a task on the runtime that this is called on, which must live as long.
    ///
    /// # Errors
    /// When the topic does not exist, or the log can't be reached.
    pub async fn open(mut self) -> Result<Emitter<M>, EmitError> {
        let info = self.find_topic().await?;
        let prepared = self.codec.prepare(&self.topic).await;
        prepared.map_err(|error| EmitError::Codec { topic: Arc::clone(&self.topic), error })?;
        self.bounds.record_bytes = record_limit(&info);
        self.producer.max_batch_bytes = Some(self.bounds.record_bytes).filter(|n| *n < usize::MAX);
        let producer = self.log.producer(self.producer.clone()).await;
        let producer = producer.map_err(|e| self.failed("make a producer", e))?;
        let queue = Arc::new(Queue::new(self.topic, self.bounds));
        let (end, ended) = oneshot::channel();
        let (log, options) = (self.log, self.producer);
        let recreate = move || log.producer(options.clone());
        tokio::spawn(sender::run(Arc::clone(&queue), producer, recreate, end));
        let handle = Handle { queue, ended: std::sync::Mutex::new(Some(ended)) };
        Ok(Emitter { handle: Arc::new(handle), codec: self.codec })
    }

    fn failed(&self, doing: &'static str, error: LogError) -> EmitError {
        EmitError::Open { topic: Arc::clone(&self.topic), doing, error }
    }

    async fn find_topic(&self) -> Result<TopicInfo, EmitError> {
        let topic = &self.topic;
        if let Some(partitions) = self.create {
            let asked = self.log.topics(vec![Arc::clone(topic)]);
            let found = wait::answer(&self.log, "an emitter", |_| {}, asked).await;
            if found.map_err(|e| self.failed("look the topic up", e))?.iter().any(Option::is_none) {
                let spec = TopicSpec::new(Arc::clone(topic)).partitions(partitions);
                match self.log.create_topics(vec![spec]).await {
                    // Somebody else was faster.
                    Ok(()) | Err(LogError::TopicExists { .. }) => {}
                    Err(error) => return Err(self.failed("create the topic", error)),
                }
            }
        }
        let found = wait::for_topics(&self.log, std::slice::from_ref(topic), self.wait_for_topic, "an emitter").await;
        let found = found.map_err(|e| self.failed("look the topic up", e))?;
        found.ok().and_then(|found| found.into_iter().next()).ok_or_else(|| EmitError::Topic {
            topic: Arc::clone(topic),
            problem: format!("topic {topic} does not exist"),
            remedy: "start the group that reads it, which makes it, or make it here with create()".to_owned(),
        })
    }
}
