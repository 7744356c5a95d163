//! The tester: a runtime, a log and the groups on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, LocalSet};

use super::topics::{TestInput, TestOutput, TestTable};
use crate::clock::{Clock, ManualClock};
use crate::codec::{Codec, CodecError};
use crate::group::{CallbackError, GroupGraph, Visitor};
use crate::log::embedded::Embedded;
use crate::log::{
    Delivery, Fetched, Isolation, LogError, LogHandle, NewRecord, OffsetSpec, ProduceBatch, Producer, ProducerOptions,
    RecordBatch, TopicPartition,
};
use crate::processor::{CallbackFaults, Handle, Processor, ProcessorError, ProcessorResult};
use crate::store::{MemoryStores, StoreError};
use crate::topics::{TopicOptions, ensure};

/// What went wrong in a test's run.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum TesterError {
    /// A group failed.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A value can't be encoded or decoded.
    #[error("topic {topic}: {error}")]
    Codec { topic: String, error: CodecError },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A group has not processed everything although a long (virtual) time has passed.
    #[error("group {group} is stuck: {partition} is done up to {done} of {end}")]
    Stuck { group: String, partition: TopicPartition, done: i64, end: i64 },
    /// No such group was added.
    #[error("no group {0} was added to this tester")]
    UnknownGroup(String),
}

/// Runs groups in memory. It blocks while it works, so it is used from plain `#[test]` functions, not from async ones.
/// Clones share everything.
#[derive(Clone)]
pub struct Tester(pub(super) Rc<Inner>);

pub(super) struct Inner {
    runtime: Runtime,
    local: LocalSet,
    clock: Arc<ManualClock>,
    embedded: Arc<Embedded>,
    pub(super) log: LogHandle,
    producer: Arc<dyn Producer>,
    partitions: i32,
    groups: RefCell<BTreeMap<String, Running>>,
    faults: CallbackFaults,
}

struct Running {
    graph: Arc<GroupGraph>,
    stores: Arc<MemoryStores>,
    set: Rc<dyn Fn(Processor) -> Processor>,
    handle: Handle,
    run: Option<JoinHandle<ProcessorResult<()>>>,
    failure: Option<ProcessorError>,
}

/// Virtual time after which a group that is not done counts as stuck.
const PATIENCE: Duration = Duration::from_secs(600);
/// A step of waiting; virtual, so it costs nothing.
const STEP: Duration = Duration::from_millis(20);

impl Tester {
    /// A tester whose topics have one partition each. The wall clock stands at 2024-01-01 00:00 UTC until it is moved.
    #[allow(clippy::new_without_default, reason = "it starts a runtime")]
    pub fn new() -> Self {
        Self::with_partitions(1)
    }

    /// A tester whose topics have so many partitions.
    ///
    /// # Panics
    /// If the system refuses a runtime.
    #[allow(clippy::expect_used, reason = "a test can't go on without")]
    pub fn with_partitions(partitions: i32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime for the tester");
        let clock = Arc::new(ManualClock::new(1_704_067_200_000));
        let embedded = Embedded::with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let log: LogHandle = Arc::clone(&embedded) as LogHandle;
        let producer = runtime.block_on(log.producer(ProducerOptions::default())).expect("a producer for the tester");
        let faults = CallbackFaults::settable();
        let groups = RefCell::default();
        let local = LocalSet::new();
        Self(Rc::new(Inner { runtime, local, clock, embedded, log, producer, partitions, groups, faults }))
    }

    /// Adds a group and starts it; missing topics are made.
    ///
    /// # Errors
    /// When its topics are not as it needs them.
    pub fn add(&self, graph: Arc<GroupGraph>) -> Result<(), TesterError> {
        self.add_with(graph, |processor| processor)
    }

    /// Adds a group with settings of the caller's, such as
    /// [`OnFailure`](crate::processor::OnFailure) or a commit interval.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_with(
        &self,
        graph: Arc<GroupGraph>,
        set: impl Fn(Processor) -> Processor + 'static,
    ) -> Result<(), TesterError> {
        let options = TopicOptions { partitions: Some(self.0.partitions), ..TopicOptions::default() };
        self.block_on(ensure(&self.0.log, &graph, &options))?;
        let name = graph.name().to_owned();
        let handle = Processor::new(Arc::clone(&graph), Arc::clone(&self.0.log)).handle();
        let stores = Arc::new(MemoryStores::new());
        let running = Running { graph, stores, set: Rc::new(set), handle, run: None, failure: None };
        self.0.groups.borrow_mut().insert(name.clone(), running);
        self.start(&name)
    }

    fn start(&self, group: &str) -> Result<(), TesterError> {
        let handle = {
            let mut groups = self.0.groups.borrow_mut();
            let running = groups.get_mut(group).ok_or_else(|| TesterError::UnknownGroup(group.to_owned()))?;
            let processor = Processor::new(Arc::clone(&running.graph), Arc::clone(&self.0.log))
                .stores(Arc::clone(&running.stores) as _)
                .commit_interval(Duration::from_millis(10))
                .callback_faults(self.0.faults.clone());
            let processor = (running.set)(processor);
            running.handle = processor.handle();
            running.failure = None;
            running.run = Some(self.0.local.spawn_local(processor.run_here()));
            running.handle.clone()
        };
        if self.block_on(handle.running()).is_err() {
            self.collect_failures();
            return self.failure(group).map_or(Ok(()), |e| Err(e.into()));
        }
        Ok(())
    }

    /// Stops a group as Ctrl-C would, and starts it again on what it left.
    ///
    /// # Errors
    /// When it can't start.
    pub fn restart(&self, group: &str) -> Result<(), TesterError> {
        self.stop(group)?;
        self.start(group)
    }

    /// Ends a group as a crash would: nothing is finished, nothing committed.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn crash(&self, group: &str) -> Result<(), TesterError> {
        let run = self.with_group(group, |running| running.run.take())?;
        if let Some(run) = run {
            run.abort();
            _ = self.block_on(run);
        }
        Ok(())
    }

    /// Stops a group as Ctrl-C would. Its table and topics stay.
    ///
    /// # Errors
    /// The group's failure, if it had failed.
    pub fn stop(&self, group: &str) -> Result<(), TesterError> {
        let run = self.with_group(group, |running| {
            running.handle.stop();
            running.run.take()
        })?;
        match run.map(|run| self.block_on(run)) {
            Some(Ok(Err(error))) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Why a group has failed, if it has.
    pub fn failure(&self, group: &str) -> Option<ProcessorError> {
        self.collect_failures();
        self.0.groups.borrow().get(group)?.failure.clone()
    }

    /// Lets all groups work until none has anything left, loops included.
    ///
    /// # Errors
    /// When a group has failed, or is stuck.
    pub fn drain(&self) -> Result<(), TesterError> {
        let mut waited = Duration::ZERO;
        loop {
            self.collect_failures();
            if let Some(error) = self.0.groups.borrow().values().find_map(|g| g.failure.clone()) {
                return Err(error.into());
            }
            let Some(stuck) = self.unfinished()? else { return Ok(()) };
            if waited >= PATIENCE {
                return Err(stuck);
            }
            self.block_on(async { tokio::time::sleep(STEP).await });
            waited += STEP;
        }
    }

    /// The first running group's partition that is not committed to its end.
    fn unfinished(&self) -> Result<Option<TesterError>, TesterError> {
        let graphs: Vec<Arc<GroupGraph>> = {
            let groups = self.0.groups.borrow();
            groups.values().filter(|g| g.run.is_some()).map(|g| Arc::clone(&g.graph)).collect()
        };
        for graph in graphs {
            let group: Arc<str> = graph.name().into();
            let mut partitions = Vec::new();
            for topic in graph.input_topics() {
                let info = self.block_on(self.0.log.topics(vec![Arc::clone(topic)]))?;
                let count = info.first().and_then(Option::as_ref).map_or(0, |t| t.partitions);
                partitions.extend((0..count).map(|p| TopicPartition::new(Arc::clone(topic), p)));
            }
            let ends = partitions.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
            let ends = self.block_on(self.0.log.offsets(ends, Isolation::ReadCommitted))?;
            let done = self.block_on(self.0.log.group_offsets(Arc::clone(&group), partitions.clone()))?;
            for ((partition, end), done) in partitions.into_iter().zip(ends).zip(done) {
                let done = done.unwrap_or_default();
                if done < end && self.has_record(&partition, done, end)? {
                    return Ok(Some(TesterError::Stuck { group: group.to_string(), partition, done, end }));
                }
            }
        }
        Ok(None)
    }

    /// Whether there is a record between two offsets, and not only markers of transactions.
    fn has_record(&self, partition: &TopicPartition, from: i64, to: i64) -> Result<bool, TesterError> {
        Ok(self.read(partition, from)?.iter().any(|r| r.offset < to))
    }

    /// Lets all groups work for a (virtual) while, finished or not.
    pub fn run_for(&self, time: Duration) {
        self.block_on(async { tokio::time::sleep(time).await });
    }

    /// Moves the wall clock; what falls due is done before this returns.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub fn advance(&self, by: Duration) -> Result<(), TesterError> {
        self.0.clock.advance(by);
        self.block_on(async { tokio::time::sleep(STEP).await });
        self.drain()
    }

    /// The wall clock, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.0.clock.now_ms()
    }

    /// A topic to write to.
    pub fn input<M: 'static>(&self, topic: &str, codec: impl Codec<M>) -> TestInput<M> {
        TestInput::new(self.clone(), topic.into(), Arc::new(codec))
    }

    /// A topic to read from, from its beginning.
    pub fn output<M: 'static>(&self, topic: &str, codec: impl Codec<M>) -> TestOutput<M> {
        TestOutput::new(self.clone(), topic.into(), Arc::new(codec))
    }

    /// The table of a group.
    pub fn table<V: 'static>(&self, group: &str, codec: impl Codec<V>) -> TestTable<V> {
        TestTable::new(self.clone(), group.into(), Arc::new(codec))
    }

    /// Calls a visitor of a group and returns the number of keys.
    ///
    /// # Errors
    /// When the visitor fails.
    pub fn visit<A: Send + Sync + 'static>(
        &self,
        group: &str,
        visitor: Visitor<A>,
        arg: A,
    ) -> Result<u64, TesterError> {
        let handle = self.with_group(group, |running| running.handle.clone())?;
        let count = self.block_on(handle.visit(visitor, arg))?;
        self.drain()?;
        Ok(count)
    }

    /// Makes the next `times` calls of callbacks for a topic fail with this error, before they do anything.
    pub fn fail_callbacks(&self, topic: &str, times: u32, reason: &str) {
        let (topic, reason) = (topic.to_owned(), reason.to_owned());
        let left = std::sync::atomic::AtomicU32::new(times);
        self.0.faults.set(move |at| {
            let hit = *at == *topic
                && left
                    .fetch_update(std::sync::atomic::Ordering::Relaxed, std::sync::atomic::Ordering::Relaxed, |n| {
                        n.checked_sub(1)
                    })
                    .is_ok();
            hit.then(|| CallbackError::msg(&reason))
        });
    }

    /// The log below, with its faults: fail or delay deliveries, take the broker away.
    pub fn log(&self) -> &Arc<Embedded> {
        &self.0.embedded
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.runtime.block_on(self.0.local.run_until(future))
    }

    fn with_group<R>(&self, group: &str, act: impl FnOnce(&mut Running) -> R) -> Result<R, TesterError> {
        let mut groups = self.0.groups.borrow_mut();
        groups.get_mut(group).map(act).ok_or_else(|| TesterError::UnknownGroup(group.to_owned()))
    }

    fn collect_failures(&self) {
        let mut ended = Vec::new();
        for (name, running) in self.0.groups.borrow_mut().iter_mut() {
            if running.run.as_ref().is_some_and(JoinHandle::is_finished) {
                ended.push((name.clone(), running.run.take()));
            }
        }
        for (name, run) in ended {
            let failure = run.and_then(|run| self.block_on(run).ok()).and_then(Result::err);
            _ = self.with_group(&name, |running| running.failure = failure);
        }
    }

    /// Writes one record and waits until the log has it.
    pub(super) fn write(&self, record: NewRecord<'_>) -> Result<(), TesterError> {
        let exists = self.block_on(self.0.log.topics(vec![Arc::clone(record.topic)]))?;
        if exists.first().is_none_or(Option::is_none) {
            return Err(LogError::UnknownTopic { topic: record.topic.to_string() }.into());
        }
        let mut batch = ProduceBatch::new();
        let timestamp = record.timestamp.or(Some(self.now_ms()));
        batch.push(NewRecord { timestamp, ..record }, std::iter::empty());
        let Delivery { failed, .. } = self.block_on(self.0.producer.send(Arc::new(batch)));
        failed.into_iter().next().map_or(Ok(()), |f| Err(f.error.into()))
    }

    /// The committed records of a partition from an offset on.
    pub(super) fn read(&self, partition: &TopicPartition, from: i64) -> Result<RecordBatch, TesterError> {
        let mut all = RecordBatch::new();
        self.block_on(async {
            let reader = self.0.log.reader(Isolation::ReadCommitted)?;
            let mut fetch = reader.read(partition.clone(), from).await?;
            let mut batch = RecordBatch::new();
            loop {
                let limits = crate::log::FetchLimits::default();
                match std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits)).await? {
                    Fetched::End => return Ok(()),
                    Fetched::Records => {
                        for r in batch.iter() {
                            all.push(r.offset, r.timestamp, r.key, r.value, r.headers.iter());
                        }
                    }
                }
            }
        })
        .map_err(|e: LogError| TesterError::from(e))?;
        Ok(all)
    }

    pub(super) fn partitions_of(&self, topic: &Arc<str>) -> Result<i32, TesterError> {
        let info = self.block_on(self.0.log.topics(vec![Arc::clone(topic)]))?;
        match info.into_iter().next().flatten() {
            Some(info) => Ok(info.partitions),
            None => Err(LogError::UnknownTopic { topic: topic.to_string() }.into()),
        }
    }
}

impl std::fmt::Debug for Tester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let groups = self.0.groups.borrow();
        f.debug_struct("Tester").field("groups", &groups.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
