//! The tester: a runtime, a log and the groups on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, LocalSet};

use super::error::TesterError;
use super::topics::{TestInput, TestOutput, TestTable};
use crate::clock::{Clock, ManualClock};
use crate::codec::Codec;
use crate::group::{CallbackError, GroupGraph, LeftOut, Visitor};
use crate::log::embedded::InMemory;
use crate::log::{
    Delivery, Fetched, Isolation, LogError, LogHandle, NewRecord, OffsetSpec, ProduceBatch, Producer, ProducerOptions,
    RecordBatch, TopicConfig, TopicPartition,
};
use crate::processor::progress::{Unfinished, input_ends, unfinished};
use crate::processor::{CallbackFaults, Counters, Handle, Moment, Processor, ProcessorError, ProcessorResult};
use crate::store::MemoryStores;

/// Runs groups in memory. It blocks while it works, so it is used from plain `#[test]` functions, not from async ones.
/// Clones share everything.
#[derive(Clone)]
pub struct Tester(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) runtime: Runtime,
    pub(super) local: LocalSet,
    pub(super) clock: Arc<ManualClock>,
    pub(super) embedded: Arc<InMemory>,
    pub(super) log: LogHandle,
    pub(super) producer: Arc<dyn Producer>,
    pub(super) partitions: i32,
    pub(super) groups: RefCell<BTreeMap<String, Running>>,
    pub(super) faults: CallbackFaults,
    /// Of each view that was opened.
    pub(super) views: RefCell<Vec<Lacks>>,
    time: Time,
}

/// Gives what a view lacks of its topic, if it lacks something.
type Lacks = Box<dyn Fn(&Tester) -> Result<Option<TesterError>, TesterError>>;

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// It goes on at once where everything waits for it.
    Virtual,
    Real,
}

pub(super) struct Running {
    pub(super) graph: Arc<GroupGraph>,
    pub(super) set: Rc<dyn Fn(Processor) -> Processor>,
    pub(super) instances: Vec<Instance>,
}

/// One instance of a group, as it would run in a separate process.
pub(super) struct Instance {
    pub(super) stores: Arc<MemoryStores>,
    pub(super) handle: Handle,
    pub(super) counters: Arc<Counters>,
    /// It has run since it was started, if only for a moment.
    pub(super) ran: Arc<AtomicBool>,
    pub(super) run: Option<JoinHandle<ProcessorResult<()>>>,
    pub(super) failure: Option<ProcessorError>,
}

impl Time {
    /// The time after which a group that is not done counts as stuck.
    fn limit(self) -> Duration {
        Duration::from_secs(if self == Self::Virtual { 600 } else { 60 })
    }

    /// A step of waiting. A virtual one costs nothing.
    fn step(self) -> Duration {
        Duration::from_millis(if self == Self::Virtual { 20 } else { 2 })
    }
}

impl Tester {
    /// A tester whose topics have one partition each. The wall clock stands at 2024-01-01 00:00 UTC until it is moved.
    ///
    /// Topics take records of any time, however far ahead of that clock; a broker's default is an hour
    /// (`message.timestamp.after.max.ms`). `tester.log().set_topic_defaults` sets such a limit.
    #[allow(clippy::new_without_default, reason = "it starts a runtime")]
    pub fn new() -> Self {
        Self::with_partitions(1)
    }

    /// A tester whose topics have so many partitions.
    ///
    /// # Panics
    /// If the system refuses a runtime.
    pub fn with_partitions(partitions: i32) -> Self {
        Self::of(partitions, Time::Virtual)
    }

    /// A tester for groups that do I/O of their own, such as requests by HTTP or a schema registry. Time passes as it does
    /// outside: on virtual time, the time-outs of a client are over at once. A wait of the tester's ends after a minute. Its
    /// wall clock stands all the same until it is moved.
    ///
    /// # Panics
    /// If the system refuses a runtime.
    pub fn in_real_time(partitions: i32) -> Self {
        Self::of(partitions, Time::Real)
    }

    #[allow(clippy::expect_used, reason = "a test can't go on without")]
    fn of(partitions: i32, time: Time) -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(time == Time::Virtual).build();
        let runtime = runtime.expect("a runtime for the tester");
        let clock = Arc::new(ManualClock::new(1_704_067_200_000));
        let embedded = InMemory::on_runtime(Arc::clone(&clock) as Arc<dyn Clock>, &runtime);
        let any_time = TopicConfig { timestamp_after_max_ms: Some(i64::MAX), ..TopicConfig::default() };
        embedded.set_topic_defaults(&any_time);
        let log: LogHandle = Arc::clone(&embedded) as LogHandle;
        let producer = runtime.block_on(log.producer(ProducerOptions::default())).expect("a producer for the tester");
        let faults = CallbackFaults::settable();
        let (groups, views) = (RefCell::default(), RefCell::default());
        let local = LocalSet::new();
        Self(Rc::new(Inner { runtime, local, clock, embedded, log, producer, partitions, groups, faults, views, time }))
    }

    /// Why a group has failed, if it has.
    pub fn failure(&self, group: &str) -> Option<ProcessorError> {
        self.collect_failures();
        self.0.groups.borrow().get(group)?.instances.iter().find_map(|i| i.failure.clone())
    }

    /// The committed offset of a group for a partition: the next offset to process.
    ///
    /// # Errors
    /// When the log is out of reach.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<i64>, TesterError> {
        let of = vec![TopicPartition::new(topic, partition)];
        let offsets = self.block_on(self.0.log.group_offsets(group.into(), of))?;
        Ok(offsets.into_iter().next().flatten())
    }

    /// How many windows and joins records of a group were too late for ([W2](crate::semantics#w2-late-records),
    /// [J3](crate::semantics#j3-matches-or-one-null)), since its instances were started.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn late(&self, group: &str) -> Result<u64, TesterError> {
        self.left_out(group, LeftOut::Late)
    }

    /// How many records of a group were left out because they have no key or no value ([D5](crate::semantics#d5-nulls),
    /// [J5](crate::semantics#j5-nulls)), since its instances were started.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn dropped(&self, group: &str) -> Result<u64, TesterError> {
        Ok(self.left_out(group, LeftOut::NullKey)? + self.left_out(group, LeftOut::NullValue)?)
    }

    /// How many records of a group were left out for this reason, since its instances were started.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn left_out(&self, group: &str, reason: LeftOut) -> Result<u64, TesterError> {
        self.count(group, |counters| counters.left_out.get(reason))
    }

    /// How many of the records of a group that were looked at have a key which another partitioner has put where it is,
    /// since its instances were started.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn misplaced(&self, group: &str) -> Result<u64, TesterError> {
        self.count(group, |counters| counters.misplaced.load(Ordering::Relaxed))
    }

    fn count(&self, group: &str, of: impl Fn(&Counters) -> u64) -> Result<u64, TesterError> {
        let count = |i: &Instance| of(&i.counters);
        self.with_group(group, |running| running.instances.iter().map(count).sum())
    }

    /// Lets everything work for a while of virtual time, whatever comes of it. The wall clock does not move.
    pub fn run_for(&self, time: Duration) {
        self.block_on(async { tokio::time::sleep(time).await });
    }

    /// Lets everything work until a condition holds. `what` names it, for the error.
    ///
    /// # Errors
    /// When it does not hold after a long virtual time, or a group has failed.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), TesterError> {
        let mut waited = Duration::ZERO;
        while !holds() {
            self.collect_failures();
            if let Some(error) = self.any_failure() {
                return Err(error.into());
            }
            if waited >= self.wait_limit() {
                return Err(TesterError::Never(what.to_owned()));
            }
            self.run_for(self.0.time.step());
            waited += self.0.time.step();
        }
        Ok(())
    }

    fn any_failure(&self) -> Option<ProcessorError> {
        self.0.groups.borrow().values().flat_map(|g| &g.instances).find_map(|i| i.failure.clone())
    }

    /// Lets all groups work until none has anything left, loops included.
    ///
    /// # Errors
    /// When a group has failed, or is stuck.
    pub fn drain(&self) -> Result<(), TesterError> {
        let mut waited = Duration::ZERO;
        loop {
            self.collect_failures();
            if let Some(error) = self.any_failure() {
                return Err(error.into());
            }
            let stuck = match self.unfinished()? {
                None => self.view_that_lacks()?,
                stuck => stuck,
            };
            let Some(stuck) = stuck else { return Ok(()) };
            if waited >= self.wait_limit() {
                return Err(stuck);
            }
            self.run_for(self.0.time.step());
            waited += self.0.time.step();
        }
    }

    /// How long something may take, in the tester's time.
    pub(super) fn wait_limit(&self) -> Duration {
        self.0.time.limit()
    }

    fn view_that_lacks(&self) -> Result<Option<TesterError>, TesterError> {
        let views = self.0.views.borrow();
        views.iter().map(|lacks| lacks(self)).find(|lack| !matches!(lack, Ok(None))).unwrap_or(Ok(None))
    }

    /// The first running group's partition that is not committed to its end.
    fn unfinished(&self) -> Result<Option<TesterError>, TesterError> {
        let graphs: Vec<Arc<GroupGraph>> = {
            let groups = self.0.groups.borrow();
            let runs = |g: &&Running| g.instances.iter().any(|i| i.run.is_some());
            groups.values().filter(runs).map(|g| Arc::clone(&g.graph)).collect()
        };
        for graph in graphs {
            let ends = self.block_on(input_ends(&self.0.log, &graph))?;
            if let Some(at) = self.block_on(unfinished(&self.0.log, graph.name(), &ends))? {
                let Unfinished { partition, done, end } = at;
                return Ok(Some(TesterError::Stuck { group: graph.name().to_owned(), partition, done, end }));
            }
        }
        Ok(None)
    }

    /// Moves the wall clock; what falls due is done before this returns.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub fn advance(&self, by: Duration) -> Result<(), TesterError> {
        self.0.clock.advance(by);
        self.run_for(self.0.time.step());
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

    /// Calls a visitor on all instances of a group and returns the number of keys.
    ///
    /// # Errors
    /// When the visitor fails.
    pub fn visit<A: Send + Sync + 'static>(
        &self,
        group: &str,
        visitor: Visitor<A>,
        arg: A,
    ) -> Result<u64, TesterError> {
        let handles: Vec<Handle> = self.with_group(group, |running| {
            running.instances.iter().filter(|i| i.run.is_some()).map(|i| i.handle.clone()).collect()
        })?;
        let arg = Arc::new(arg);
        let mut count = 0;
        for handle in handles {
            count += self.block_on(handle.visit_shared(visitor, Arc::clone(&arg)))?;
        }
        self.drain()?;
        Ok(count)
    }

    /// Makes the next `times` calls of callbacks for a topic fail with this error, before they do anything.
    pub fn fail_callbacks(&self, topic: &str, times: u32, reason: &str) {
        let (topic, reason) = (topic.to_owned(), reason.to_owned());
        let left = std::sync::atomic::AtomicU32::new(times);
        self.0.faults.set(move |at, moment| {
            let hit = *at == *topic
                && moment == Moment::Before
                && left
                    .fetch_update(std::sync::atomic::Ordering::Relaxed, std::sync::atomic::Ordering::Relaxed, |n| {
                        n.checked_sub(1)
                    })
                    .is_ok();
            hit.then(|| CallbackError::msg(&reason))
        });
    }

    /// The log below, with its faults: fail or delay deliveries, take the broker away.
    pub fn log(&self) -> &Arc<InMemory> {
        &self.0.embedded
    }

    /// Awaits something while everything works, such as a [`Handle`]'s futures.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.runtime.block_on(self.0.local.run_until(future))
    }

    pub(super) fn with_group<R>(&self, group: &str, act: impl FnOnce(&mut Running) -> R) -> Result<R, TesterError> {
        let mut groups = self.0.groups.borrow_mut();
        groups.get_mut(group).map(act).ok_or_else(|| TesterError::UnknownGroup(group.to_owned()))
    }

    pub(super) fn with_instance<R>(
        &self,
        group: &str,
        instance: usize,
        act: impl FnOnce(&mut Instance) -> R,
    ) -> Result<R, TesterError> {
        let unknown = || TesterError::UnknownInstance { group: group.to_owned(), instance };
        self.with_group(group, |running| running.instances.get_mut(instance).map(act))?.ok_or_else(unknown)
    }

    pub(super) fn collect_failures(&self) {
        let mut ended = Vec::new();
        for (name, running) in self.0.groups.borrow_mut().iter_mut() {
            for (number, instance) in running.instances.iter_mut().enumerate() {
                if instance.run.as_ref().is_some_and(JoinHandle::is_finished) {
                    ended.push((name.clone(), number, instance.run.take()));
                }
            }
        }
        for (name, number, run) in ended {
            let failure = run.and_then(|run| self.block_on(run).ok()).and_then(Result::err);
            _ = self.with_instance(&name, number, |instance| instance.failure = failure);
        }
    }

    /// Writes one record and waits until the log has it.
    pub(super) fn write(&self, record: NewRecord<'_>, headers: &[(&str, &[u8])]) -> Result<(), TesterError> {
        let exists = self.block_on(self.0.log.topics(vec![Arc::clone(record.topic)]))?;
        if exists.first().is_none_or(Option::is_none) {
            return Err(LogError::UnknownTopic { topic: record.topic.to_string() }.into());
        }
        let mut batch = ProduceBatch::new();
        let timestamp = record.timestamp.or(Some(self.now_ms()));
        let headers = headers.iter().map(|(name, value)| (*name, Some(*value)));
        batch.push(NewRecord { timestamp, ..record }, headers);
        let Delivery { failed, .. } = self.block_on(self.0.producer.send(Arc::new(batch)));
        failed.into_iter().next().map_or(Ok(()), |f| Err(f.error.into()))
    }

    /// The committed records of a partition from an offset on.
    pub(super) fn read(&self, partition: &TopicPartition, from: i64) -> Result<RecordBatch, TesterError> {
        let mut all = RecordBatch::new();
        self.block_on(async {
            let reader = self.0.log.reader(Isolation::ReadCommitted)?;
            // What is done may be deleted from topics of a group.
            let first = vec![(partition.clone(), OffsetSpec::Earliest)];
            let first = self.0.log.offsets(first, Isolation::ReadCommitted).await?.first().copied().unwrap_or_default();
            let mut fetch = reader.read(partition.clone(), from.max(first)).await?;
            let mut batch = RecordBatch::new();
            loop {
                let limits = crate::log::FetchLimits::default();
                match std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits)).await? {
                    Fetched::End(_) => return Ok(()),
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
