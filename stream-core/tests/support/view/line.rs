//! A line to a log that can be cut: for one client, while others go on. It also remembers what went over it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use stream_core::clock::Clock;
use stream_core::log::{
    Commits, Delivery, Fetch, FetchLimits, Fetched, GroupMember, GroupMetadata, Isolation, Log, LogError, LogHandle,
    LogResult, Member, MemberOptions, OffsetSpec, Offsets, ProduceBatch, Producer, ProducerOptions, Reader,
    RecordBatch, TopicInfo, TopicPartition, TopicSpec,
};

/// A log at the end of a line.
pub(crate) struct Line {
    log: LogHandle,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    /// The topic whose fetches wait, though questions are answered.
    held: Option<String>,
    /// Errors of the next fetches, by topic.
    errors: VecDeque<(String, LogError)>,
    waiting: Vec<Waker>,
    /// Where reads began.
    begun: Vec<(TopicPartition, i64)>,
    /// Questions about offsets so far.
    asked: usize,
    /// The sizes of the batches that were sent.
    sent: Vec<usize>,
}

impl Line {
    pub(crate) fn to(log: &LogHandle) -> Arc<Self> {
        Arc::new(Self { log: Arc::clone(log), state: Arc::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Fetches wait and questions fail, or no longer.
    pub(crate) fn cut(&self, cut: bool) {
        let mut state = self.state();
        state.cut = cut;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// The fetches of a topic wait, or no longer.
    pub(crate) fn hold(&self, topic: Option<&str>) {
        let mut state = self.state();
        state.held = topic.map(str::to_owned);
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// The next fetch of a topic fails.
    pub(crate) fn fail_fetch(&self, topic: &str, error: LogError) {
        let mut state = self.state();
        state.errors.push_back((topic.to_owned(), error));
        state.waiting.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn errors_left(&self) -> usize {
        self.state().errors.len()
    }

    /// Where reads began so far, in order.
    pub(crate) fn begun(&self) -> Vec<(TopicPartition, i64)> {
        self.state().begun.clone()
    }

    /// Resolves once so many more questions about offsets were asked.
    pub(crate) async fn asks(&self, more: usize) {
        let until = self.state().asked + more;
        while self.state().asked < until {
            tokio::task::yield_now().await;
        }
    }

    /// The sizes of the batches that were sent so far.
    pub(crate) fn sent(&self) -> Vec<usize> {
        self.state().sent.clone()
    }

    fn ask<T: Send + 'static>(&self, question: BoxFuture<'static, LogResult<T>>) -> BoxFuture<'static, LogResult<T>> {
        if self.state().cut {
            let (what, brokers, reason) = ("ask".to_owned(), "a line".to_owned(), "the line is cut".to_owned());
            return ready(Err(LogError::Unreachable { what, brokers, reason })).boxed();
        }
        question
    }
}

impl stream_core::log::Sealed for Line {}

impl Log for Line {
    fn name(&self) -> String {
        format!("a line to {}", self.log.name())
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.log.clock()
    }
    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>> {
        self.ask(self.log.topics(names))
    }
    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>> {
        self.ask(self.log.topic_id(name))
    }
    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>> {
        self.log.create_topics(topics)
    }
    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>> {
        self.log.delete_topics(names)
    }
    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>> {
        self.log.grow_topic(name, total)
    }
    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>> {
        self.log.delete_records(below)
    }
    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>> {
        self.state().asked += 1;
        self.ask(self.log.offsets(of, isolation))
    }
    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>> {
        self.log.group_offsets(group, of)
    }
    fn group_members(&self, group: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>> {
        self.log.group_members(group)
    }
    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>> {
        self.log.member(options)
    }
    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>> {
        let (producer, state) = (self.log.producer(options), Arc::clone(&self.state));
        async move { Ok(Arc::new(LineProducer { producer: producer.await?, state }) as Arc<dyn Producer>) }.boxed()
    }
    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>> {
        Ok(Arc::new(LineReader { reader: self.log.reader(isolation)?, state: Arc::clone(&self.state) }))
    }
}

struct LineReader {
    reader: Arc<dyn Reader>,
    state: Arc<Mutex<State>>,
}

impl stream_core::log::Sealed for LineReader {}

impl Reader for LineReader {
    fn read(&self, partition: TopicPartition, from: i64) -> BoxFuture<'static, LogResult<Box<dyn Fetch>>> {
        self.state.lock().unwrap().begun.push((partition.clone(), from));
        let topic = partition.topic.to_string();
        let (fetch, state) = (self.reader.read(partition, from), Arc::clone(&self.state));
        async move { Ok(Box::new(LineFetch { topic, fetch: fetch.await?, state }) as Box<dyn Fetch>) }.boxed()
    }
}

struct LineFetch {
    topic: String,
    fetch: Box<dyn Fetch>,
    state: Arc<Mutex<State>>,
}

impl stream_core::log::Sealed for LineFetch {}

impl Fetch for LineFetch {
    fn poll_fetch(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut RecordBatch,
        limits: FetchLimits,
    ) -> Poll<LogResult<Fetched>> {
        {
            let mut state = self.state.lock().unwrap();
            state.waiting.push(cx.waker().clone());
            if state.errors.front().is_some_and(|(topic, _)| *topic == self.topic)
                && let Some((_, error)) = state.errors.pop_front()
            {
                return Poll::Ready(Err(error));
            }
            if state.cut || state.held.as_ref() == Some(&self.topic) {
                into.clear();
                return Poll::Pending;
            }
        }
        self.fetch.poll_fetch(cx, into, limits)
    }

    fn seek(&mut self, offset: i64) -> BoxFuture<'_, LogResult<()>> {
        self.fetch.seek(offset)
    }
}

struct LineProducer {
    producer: Arc<dyn Producer>,
    state: Arc<Mutex<State>>,
}

impl stream_core::log::Sealed for LineProducer {}

impl Producer for LineProducer {
    fn send(&self, batch: Arc<ProduceBatch>) -> BoxFuture<'static, Delivery> {
        self.state.lock().unwrap().sent.push(batch.len());
        self.producer.send(batch)
    }
    fn flush(&self) -> BoxFuture<'static, LogResult<()>> {
        self.producer.flush()
    }
    fn purge(&self) {
        self.producer.purge();
    }
    fn settled(&self, partition: TopicPartition) -> BoxFuture<'static, LogResult<()>> {
        self.producer.settled(partition)
    }
    fn limit_batches(&self, bytes: usize) -> BoxFuture<'static, LogResult<()>> {
        self.producer.limit_batches(bytes)
    }
    fn begin_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        self.producer.begin_transaction()
    }
    fn commit_transaction_with_metadata(
        &self,
        offsets: Commits,
        member: Option<GroupMetadata>,
    ) -> BoxFuture<'static, LogResult<()>> {
        self.producer.commit_transaction_with_metadata(offsets, member)
    }
    fn abort_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        self.producer.abort_transaction()
    }
}
