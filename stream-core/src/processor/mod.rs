//! Processors: a group graph at work.
//!
//! ```text
//! Processor::run ── start ──► Instance (one future: membership, assignment, commits)
//!      ▲                          │ one task for each partition
//!      └── restart on failure     ▼
//!                             worker threads: Task (one future a partition: callbacks, table, effects)
//! ```
//!
//! Who owns what: the **instance** owns the group membership and decides what is committed; a **task** owns its
//! partition's inputs, table and unreleased effects and shares them with nobody; a **worker** is a thread with a runtime
//! for its tasks. They talk by messages only; nothing is synchronised a record.

mod env;
mod error;
mod instance;
mod lookups;
mod options;
pub(crate) mod progress;
mod restore;
mod standby;
mod state;
mod task;
mod transactions;
mod worker;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

#[cfg_attr(not(feature = "testing"), allow(unused_imports))]
pub(crate) use self::env::{CallbackFaults, Moment};
use self::env::{Counters, Egress, Env};
pub use self::error::{ProcessorError, ProcessorResult};
use self::instance::{AFTER_DRAIN, Instance};
use self::lookups::Lookups;
pub use self::options::{Guarantee, OnFailure, Standbys};
use self::options::{LEAST_INTERVAL, Options};
use self::state::Request;
pub use self::state::{Handle, Rebalance, StandbyState, State, Status, TaskState};
use self::transactions::Transactions;
pub(crate) use self::worker::Workers;
use crate::group::GroupGraph;
use crate::log::{
    AutoOffsetReset, FetchLimits, Isolation, LogError, LogHandle, LogResult, MemberOptions, Partitioner, Producer,
    ProducerOptions, Subscription,
};
use crate::store::{SledStores, StoreBackend};
use crate::topics::{self, TopicFacts, TopicOptions};

/// Runs a group. Made with defaults, set by its methods, then [`run`](Self::run).
///
/// ```no_run
/// # use stream_core::{group::Group, codec::Text, log::embedded::Embedded, processor::Processor};
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut g = Group::define("echo");
/// # g.input("words", Text, |_, _| Ok(()));
/// let log = Embedded::new();
/// let processor = Processor::new(g.build()?, log).state_dir("state");
/// let handle = processor.handle();
/// processor.run_until_signal().await?; // Ctrl-C or SIGTERM, or handle.stop()
/// # Ok(())
/// # }
/// ```
pub struct Processor {
    graph: Arc<GroupGraph>,
    log: LogHandle,
    options: Options,
    stores: Option<Arc<dyn StoreBackend>>,
    state_dir: PathBuf,
    listeners: Listeners,
    status: watch::Sender<Status>,
    handle: Handle,
    requests: mpsc::UnboundedReceiver<Request>,
    counters: Arc<Counters>,
    faults: CallbackFaults,
}

type Listener<T> = Box<dyn Fn(&T) + Send + Sync>;

/// What users want to be told.
#[derive(Default)]
struct Listeners {
    states: Vec<Listener<Status>>,
    rebalances: Vec<Listener<Rebalance>>,
}

impl Listeners {
    fn rebalance(&self, what: &Rebalance) {
        self.rebalances.iter().for_each(|listener| listener(what));
    }

    /// Publishes a status if it is a new one.
    fn publish(&self, to: &watch::Sender<Status>, status: Status) {
        let changed = to.send_if_modified(|old| {
            let changed = *old != status;
            if changed {
                old.clone_from(&status);
            }
            changed
        });
        if changed {
            tracing::debug!(state = ?status.state, partitions = status.tasks.len(), "processor state");
            self.states.iter().for_each(|listener| listener(&status));
        }
    }
}

/// What an instance runs on.
type Started = (Arc<Env>, TopicFacts, Box<dyn crate::log::Member>, Option<BoxFuture<'static, LogResult<()>>>);

/// How an instance learns that it should stop.
struct Stop {
    requests: mpsc::UnboundedReceiver<Request>,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// It has been told: a failure from now on is not followed by a restart.
    asked: bool,
    /// What was requested while no instance was there to see to it.
    queued: VecDeque<Request>,
}

impl Stop {
    /// Resolves when it should stop; other requests wait for the next instance. Cancel-safe.
    async fn told(&mut self) {
        while !self.asked {
            if let visit @ Request::Visit { .. } = self.receive().await {
                self.queued.push_back(visit);
            }
        }
    }

    /// The next request for the instance. Cancel-safe.
    async fn request(&mut self) -> Request {
        match self.queued.pop_front() {
            Some(request) => request,
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Request {
        let request = tokio::select! {
            biased;
            () = self.signal.as_mut(), if !self.asked => {
                tracing::info!("stopping: what is under way is finished first");
                Request::Stop
            }
            // The processor's own handle keeps the channel open: all others gone is no reason to stop.
            request = self.requests.recv() => request.unwrap_or(Request::Stop),
        };
        self.asked |= matches!(request, Request::Stop);
        request
    }
}

impl Processor {
    /// A processor of a group on a log, with the defaults: at least once, sled stores under `./state`, one worker a
    /// core, commits every second.
    pub fn new(graph: Arc<GroupGraph>, log: LogHandle) -> Self {
        let (status, seen) = watch::channel(Status::of(State::Created));
        let (requests, inbox) = mpsc::unbounded_channel();
        Self {
            handle: Handle { graph: Arc::clone(&graph), log: Arc::clone(&log), status: seen, requests },
            graph,
            log,
            options: Options::default(),
            stores: None,
            state_dir: PathBuf::from("state"),
            listeners: Listeners::default(),
            status,
            requests: inbox,
            counters: Arc::default(),
            faults: CallbackFaults::default(),
        }
    }

    /// Where the stores lie: in a folder of the group's name below this directory. One process at a time may use it.
    /// Default: `state`.
    #[must_use]
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = dir.into();
        self
    }

    /// Stores of another kind, such as [`MemoryStores`](crate::store::MemoryStores).
    #[must_use]
    pub fn stores(mut self, stores: Arc<dyn StoreBackend>) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Worker threads; default one a core. Partitions are spread over them.
    #[must_use]
    pub fn workers(mut self, threads: usize) -> Self {
        self.options.workers = threads;
        self
    }

    /// What becomes of a record's effects when something fails; default [`Guarantee::AtLeastOnce`].
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.options.guarantee = guarantee;
        self
    }

    /// How often offsets are committed; default 1 s, for exactly-once 100 ms. At least once, up to this much is processed
    /// again after a crash; exactly once, effects are seen by others up to this much later, and it can be 5 min at most, for
    /// brokers end longer transactions. At least 1 ms.
    #[must_use]
    pub fn commit_interval(mut self, every: Duration) -> Self {
        self.options.commit_interval = Some(every.max(LEAST_INTERVAL));
        self
    }

    /// How often positions that do not move are committed anew; default 30 minutes. A broker forgets what is not, after
    /// `offsets.retention.minutes` (a week by default): keep this well below it. At least 1 ms.
    #[must_use]
    pub fn recommit_interval(mut self, every: Duration) -> Self {
        self.options.recommit_interval = every.max(LEAST_INTERVAL);
        self
    }

    /// How often the write buffer goes to the store; default 10 s. After a crash, up to this much of the changelog is
    /// read again. Nothing depends on it but the time of a restart. At least 1 ms.
    #[must_use]
    pub fn checkpoint_interval(mut self, every: Duration) -> Self {
        self.options.checkpoint_interval = every.max(LEAST_INTERVAL);
        self
    }

    /// Whether this instance keeps warm copies of the partitions that others have; default [`Standbys::None`].
    #[must_use]
    pub fn standbys(mut self, standbys: Standbys) -> Self {
        self.options.standbys = standbys;
        self
    }

    /// How long the stores of a partition that moved away stay, so that its return needs only what was written
    /// meanwhile; default 10 min, as `state.cleanup.delay.ms` of Kafka Streams. With standbys, none is removed.
    #[must_use]
    pub fn state_cleanup_delay(mut self, delay: Duration) -> Self {
        self.options.state_cleanup_delay = delay;
        self
    }

    /// Bytes of a partition's write buffer above which it goes to the store early; default 64 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.options.buffer_bytes = bytes;
        self
    }

    /// Bytes on their way to the log above which a partition waits for acknowledgements; default 8 MiB. One batch
    /// is always let through.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.in_flight_bytes = bytes.max(1);
        self
    }

    /// Most that is taken from a partition at once; default 2,000 records or 1 MiB.
    #[must_use]
    pub fn fetch_limits(mut self, limits: FetchLimits) -> Self {
        self.options.fetch = limits;
        self
    }

    /// How long a record waits for an earlier one that another input may still bring (semantics D4); default 1 s.
    #[must_use]
    pub fn max_task_idle(mut self, wait: Duration) -> Self {
        self.options.max_task_idle = wait;
        self
    }

    /// Bound on finishing what is under way when partitions move or the processor stops; default 30 s.
    #[must_use]
    pub fn drain_timeout(mut self, bound: Duration) -> Self {
        self.options.drain_timeout = bound;
        self
    }

    /// `session.timeout.ms`; default 45 s. Records not acknowledged within two thirds of it fail and are written again.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.options.session_timeout = timeout;
        self
    }

    /// `group.instance.id`: static membership, so that a restart within the session moves no partition.
    #[must_use]
    pub fn instance_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.options.instance_id = Some(id.into());
        self
    }

    /// `group.protocol=consumer` (KIP-848). All members of the group must use it; the session time-out is the broker's.
    #[must_use]
    pub fn new_group_protocol(mut self, on: bool) -> Self {
        self.options.new_protocol = on;
        self
    }

    /// Where to start on a partition without a committed offset; default the earliest record.
    #[must_use]
    pub fn auto_offset_reset(mut self, reset: AutoOffsetReset) -> Self {
        self.options.reset = reset;
        self
    }

    /// How the keys of emitted records choose partitions; default as Java clients do.
    #[must_use]
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.options.partitioner = partitioner;
        self
    }

    /// What happens when the instance fails; default [`OnFailure::Stop`].
    #[must_use]
    pub fn on_failure(mut self, then: OnFailure) -> Self {
        self.options.on_failure = then;
        self
    }

    /// How missing topics are made.
    #[must_use]
    pub fn topics(mut self, options: TopicOptions) -> Self {
        self.options.topics = options;
        self
    }

    /// How often topics are looked at for a change of their partition count; default 30 s. At least
    /// 1 ms.
    #[must_use]
    pub fn topic_check_interval(mut self, every: Duration) -> Self {
        self.options.topic_check_interval = every.max(LEAST_INTERVAL);
        self
    }

    /// Calls a listener with each new status. It must not block.
    #[must_use]
    pub fn on_state(mut self, listener: impl Fn(&Status) + Send + Sync + 'static) -> Self {
        self.listeners.states.push(Box::new(listener));
        self
    }

    /// Calls a listener with each change of the assignment. It must not block.
    #[must_use]
    pub fn on_rebalance(mut self, listener: impl Fn(&Rebalance) + Send + Sync + 'static) -> Self {
        self.listeners.rebalances.push(Box::new(listener));
        self
    }

    /// Writes of a checkpoint between two looks at other work: few show what comes in between.
    #[cfg(feature = "testing")]
    #[must_use]
    pub(crate) fn checkpoint_chunk(mut self, writes: usize) -> Self {
        self.options.checkpoint_chunk = writes;
        self
    }

    /// Lets callbacks fail on purpose.
    #[cfg(feature = "testing")]
    #[must_use]
    pub(crate) fn callback_faults(mut self, faults: CallbackFaults) -> Self {
        self.faults = faults;
        self
    }

    /// Observes and steers the processor while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until [`Handle::stop`] is called or something fails. Must be polled all the time.
    ///
    /// # Errors
    /// What made it fail, once [`OnFailure`] has had its way. Whatever was done and acknowledged is committed.
    pub async fn run(self) -> ProcessorResult<()> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until Ctrl-C or, on Unix, SIGTERM.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_until_signal(self) -> ProcessorResult<()> {
        self.run_until(stop_signal()).await
    }

    /// Runs until a future resolves.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send + 'static) -> ProcessorResult<()> {
        let group = self.graph.name();
        let workers = Workers::threads(group, self.options.workers)
            .map_err(|e| ProcessorError::Worker { group: group.to_owned(), reason: e.to_string() })?;
        self.run_on(workers, Box::pin(stop)).await
    }

    /// Runs without threads of its own, on the current [`LocalSet`](tokio::task::LocalSet).
    #[cfg(feature = "testing")]
    pub(crate) async fn run_here(self) -> ProcessorResult<()> {
        self.run_on(Workers::Here, Box::pin(std::future::pending())).await
    }

    async fn run_on(
        mut self,
        mut workers: Workers,
        signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> ProcessorResult<()> {
        let mut failures = 0;
        let mut last = None;
        let (_, nothing) = mpsc::unbounded_channel();
        let requests = std::mem::replace(&mut self.requests, nothing);
        let mut stop = Stop { requests, signal, asked: false, queued: VecDeque::new() };
        let result = loop {
            let done = self.counters.done.load(Ordering::Relaxed);
            let result = self.run_once(&workers, &mut stop).await;
            let Err(error) = result else { break result };
            // What other partitions do meanwhile is no progress of a record that fails again.
            let record = error.record();
            if self.counters.done.load(Ordering::Relaxed) > done && (record.is_none() || record != last) {
                failures = 0;
            }
            last = record;
            match self.options.on_failure.after(&error) {
                Some((backoff, attempts)) if failures < attempts && error.may_pass() && !stop.asked => {
                    let wait = backoff.saturating_mul(1 << failures.min(6));
                    failures += 1;
                    tracing::warn!(%error, failures, ?wait, "the processor failed and is started again");
                    tokio::select! {
                        biased;
                        () = stop.told() => break Ok(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                    if workers.is_hung() {
                        // Partitions would queue behind a callback that does not return.
                        match workers.more("", None) {
                            Ok(more) => workers = more,
                            Err(e) => {
                                let group = self.graph.name().to_owned();
                                break Err(ProcessorError::Worker { group, reason: e.to_string() });
                            }
                        }
                    }
                }
                _ => break Err(error),
            }
        };
        let state = if result.is_ok() { State::Stopped } else { State::Failed };
        self.publish(state);
        result
    }

    async fn run_once(&mut self, workers: &Workers, stop: &mut Stop) -> ProcessorResult<()> {
        self.publish(State::Starting);
        // Once for all restarts: the directory stays locked from the first on.
        let stores = self.open_stores()?;
        self.stores = Some(Arc::clone(&stores));
        let mut lookups = Lookups::default();
        let result = self.run_with(workers, stores, &mut lookups, stop).await;
        // Nobody may write to their stores when the next start opens them.
        if !lookups.close(self.options.drain_timeout).await {
            let group = self.graph.name().to_owned();
            tracing::error!(group, "the copies of looked-up tables can't be closed: their thread is left behind");
            return Err(ProcessorError::Hung { group });
        }
        result
    }

    async fn run_with(
        &self,
        workers: &Workers,
        stores: Arc<dyn StoreBackend>,
        lookups: &mut Lookups,
        stop: &mut Stop,
    ) -> ProcessorResult<()> {
        let mut making = None;
        let started = tokio::select! {
            biased;
            () = stop.told() => None,
            started = self.start(workers, stores, lookups, &mut making) => Some(started?),
        };
        let Some((env, facts, member, transactions)) = started else {
            // A producer that is being made is made whether or not somebody waits for it. One that is late would fence
            // the next one of its id, so that a start right after this would fail.
            if let Some(making) = making {
                _ = making.await;
            }
            return Ok(());
        };
        Instance::new(env, facts, workers, &self.listeners, &self.status, member, transactions).run(stop).await
    }

    /// Everything that comes before the group is joined.
    async fn start(
        &self,
        workers: &Workers,
        stores: Arc<dyn StoreBackend>,
        lookups: &mut Lookups,
        making: &mut Option<BoxFuture<'static, LogResult<Arc<dyn Producer>>>>,
    ) -> ProcessorResult<Started> {
        let (graph, options) = (&self.graph, &self.options);
        let group = graph.name();
        let doing = |what: &'static str| move |e| ProcessorError::log(group, what, e);
        let facts = topics::ensure(&self.log, graph, &options.topics).await?;
        for (topic, codec) in graph.codecs() {
            codec.prepare(topic).await.map_err(|error| ProcessorError::Codec {
                group: group.to_owned(),
                topic: topic.to_string(),
                error,
            })?;
        }
        self.refuse_other_members().await?;
        let mut producer = ProducerOptions {
            partitioner: options.partitioner,
            delivery_timeout: Some(options.session_timeout * 2 / 3),
            max_batch_bytes: graph.written().map(|t| facts.limit(t)).min().filter(|n| *n < usize::MAX),
            ..ProducerOptions::default()
        };
        if options.guarantee == Guarantee::ExactlyOnce {
            let instance = match &options.instance_id {
                Some(id) => id.to_string(),
                None => stores.instance_id().map_err(|e| ProcessorError::store(group, e))?,
            };
            producer.transactional_id = Some(format!("{group}-{instance}").into());
            producer.transaction_timeout = Some(options.transaction_timeout().ok_or_else(|| {
                let reason = format!(
                    "{:?} is too long for exactly-once: its transactions may stay open for 15 min at most, which is three \
                     intervals",
                    options.commit_interval()
                );
                doing("make a producer")(LogError::Config { what: "commit_interval".to_owned(), reason })
            })?);
        }
        let made = making.insert(self.log.producer(producer)).await;
        *making = None;
        let producer = made.map_err(doing("make a producer"))?;
        let reader = self.log.reader(Isolation::ReadCommitted).map_err(doing("make a reader"))?;
        lookups.open(&self.log, graph, &facts, &*stores, options, workers)?;
        lookups.caught_up(group).await?;
        let mut member = MemberOptions::new(Arc::clone(&graph.name), self.subscription());
        member.instance_id.clone_from(&options.instance_id);
        member.reset = options.reset;
        member.session_timeout = options.session_timeout;
        member.revoke_timeout = options.drain_timeout + AFTER_DRAIN + Duration::from_secs(2);
        member.new_protocol = options.new_protocol;
        let member = self.log.member(member).map_err(doing("join the group"))?;
        let (egress, transactions) = match options.guarantee {
            Guarantee::AtLeastOnce => (Egress::AtLeastOnce(producer), None),
            Guarantee::ExactlyOnce => {
                let (counters, every) = (Arc::clone(&self.counters), options.commit_interval());
                let (transactions, work) = Transactions::new(Arc::clone(&producer), member.group(), every, counters);
                (Egress::ExactlyOnce(producer, transactions), Some(work))
            }
        };
        let env = Env {
            graph: Arc::clone(graph),
            log: Arc::clone(&self.log),
            options: options.clone(),
            egress,
            reader,
            stores,
            lookups: lookups.copies(),
            limits: graph.outputs.iter().map(|e| facts.limit(&e.topic)).collect(),
            table_limit: graph.table.as_ref().map_or(usize::MAX, |t| facts.limit(&t.topic)),
            tombstones: facts.tombstones(),
            counters: Arc::clone(&self.counters),
            faults: self.faults.clone(),
        };
        Ok((Arc::new(env), facts, member, transactions))
    }

    fn open_stores(&self) -> ProcessorResult<Arc<dyn StoreBackend>> {
        if let Some(stores) = &self.stores {
            return Ok(Arc::clone(stores));
        }
        let dir = self.state_dir.join(&*self.graph.name);
        let stores = SledStores::open_dir(dir).map_err(|e| ProcessorError::store(self.graph.name(), e))?;
        Ok(Arc::new(stores))
    }

    fn subscription(&self) -> Subscription {
        let with: Vec<Arc<str>> = self.graph.inputs.iter().map(|e| Arc::clone(&e.input.topic)).collect();
        match self.graph.lead() {
            Some(lead) => Subscription::Lead { lead, with },
            None => Subscription::Topics(with),
        }
    }

    /// Two releases with different subscriptions in one group could both own a partition.
    async fn refuse_other_members(&self) -> ProcessorResult<()> {
        let mut ours = match self.subscription() {
            Subscription::Lead { lead, .. } => vec![lead],
            Subscription::Topics(topics) => topics,
        };
        ours.sort_unstable();
        let group = self.graph.name();
        let members = self.log.group_members(Arc::clone(&self.graph.name)).await;
        for member in members.map_err(|e| ProcessorError::log(group, "look at the group's members", e))? {
            let Some(mut theirs) = member.topics else { continue };
            theirs.sort_unstable();
            if theirs != ours {
                return Err(ProcessorError::OtherMember {
                    group: group.to_owned(),
                    member: member.member_id,
                    theirs: theirs.join(", "),
                    ours: ours.join(", "),
                });
            }
        }
        Ok(())
    }

    fn publish(&self, state: State) {
        self.listeners.publish(&self.status, Status::of(state));
    }
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Processor({} on {})", self.graph.name(), self.log.name())
    }
}

/// Resolves on Ctrl-C or, on Unix, SIGTERM.
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(term) => term,
            Err(error) => {
                tracing::error!(%error, "SIGTERM can't be listened to");
                return std::future::pending().await;
            }
        };
        tokio::select! {
            biased;
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    {
        _ = tokio::signal::ctrl_c().await;
    }
}
