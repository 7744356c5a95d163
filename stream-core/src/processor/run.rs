//! Runs of a processor, one after the other: what comes before an instance joins its group, and what follows a failure.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::Processor;
use super::alignment::Alignment;
use super::budget::Budget;
use super::egress::Egress;
use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use super::gate::Gate;
use super::instance::{AFTER_DRAIN, Instance};
use super::lookups::Lookups;
use super::memory::{Counts, Memory};
use super::options::{Guarantee, Options};
use super::placement::Placement;
use super::producer_id::Fencings;
use super::status::{State, Status, Waiting};
use super::stop::Stop;
use super::transactions::Transactions;
use crate::chain::panic_text;
use crate::codec::CodecError;
use crate::log::{Isolation, LogError, LogResult, Member, MemberOptions, Producer, Subscription};
use crate::store::{SledStores, StoreBackend};
use crate::topics::{self, TopicFacts, wait};
use crate::workers::Workers;

/// The parts of a started instance.
type Started = (Arc<Env>, TopicFacts, Box<dyn Member>, BoxFuture<'static, LogResult<()>>);

/// How long a new start has waited for what passes.
#[derive(Default)]
struct Patience {
    /// How many instances had joined their group when it began.
    starts: u64,
    since_ms: i64,
    waits: u32,
}

impl Processor {
    pub(super) async fn run_on(
        mut self,
        mut workers: Workers,
        signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> ProcessorResult<()> {
        let mut failures = 0;
        let mut fencings = Fencings::default();
        let mut last = None;
        let mut patience = Patience::default();
        let (_, nothing) = mpsc::unbounded_channel();
        let requests = std::mem::replace(&mut self.requests, nothing);
        let mut stop = Stop::new(requests, signal);
        let result = loop {
            let done = self.counters.done.load(Ordering::Relaxed);
            let losses = self.counters.losses.load(Ordering::Relaxed);
            let taken_over = self.counters.taken_over.load(Ordering::Relaxed);
            let result = self.run_once(&workers, &mut stop).await;
            let Err(error) = result else { break result };
            let has_lost = self.counters.losses.load(Ordering::Relaxed) > losses;
            let fenced = self.counters.taken_over.load(Ordering::Relaxed) > taken_over
                || matches!(&error, ProcessorError::Log { error: LogError::Fenced { .. }, .. });
            if fenced && !has_lost && fencings.is_second() {
                break Err(self.same_id());
            }
            // What other partitions do meanwhile is no progress of a record that fails again.
            let record = error.record();
            if self.counters.done.load(Ordering::Relaxed) > done && (record.is_none() || record != last) {
                failures = 0;
            }
            last = record;
            if self.counters.starts.load(Ordering::Relaxed) > 0 && error.is_passing() && !stop.asked {
                // As a first start it needs the brokers, and it is nobody's fault that they are away.
                tokio::select! {
                    biased;
                    () = stop.asked() => break Ok(()),
                    () = self.wait_out(&error, &mut patience) => continue,
                }
            }
            match self.options.on_failure.after(&error) {
                Some((backoff, attempts)) if failures < attempts && error.is_transient() && !stop.asked => {
                    let wait = backoff.saturating_mul(1 << failures.min(6));
                    failures += 1;
                    tracing::warn!(?error, failures, ?wait, "the processor failed and is started again");
                    tokio::select! {
                        biased;
                        () = stop.asked() => break Ok(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                    if workers.is_hung() {
                        // Partitions would queue behind a callback that does not return.
                        match workers.more("", None) {
                            Ok(more) => workers = more,
                            Err(e) => {
                                let group = self.graph.name().to_owned();
                                break Err(ProcessorError::Worker { group, error: Arc::new(e) });
                            }
                        }
                    }
                }
                _ => break Err(error),
            }
        };
        match result {
            Ok(()) => self.publish(State::Stopped),
            Err(error) => return Err(self.failed(error)),
        }
        Ok(())
    }

    /// Publishes the failure that ends the processor.
    pub(super) fn failed(&self, error: ProcessorError) -> ProcessorError {
        // It ends once.
        _ = self.failure.set(error.clone());
        self.publish(State::Failed);
        error
    }

    /// Waits before a new start after an error that passes.
    async fn wait_out(&self, error: &ProcessorError, patience: &mut Patience) {
        let up = self.counters.starts.load(Ordering::Relaxed);
        if patience.starts != up {
            *patience = Patience { starts: up, since_ms: self.log.clock().now_ms(), waits: 0 };
        }
        let wait = Duration::from_millis(500 << patience.waits.min(3));
        patience.waits += 1;
        let left_out = self.counters.left_out.all();
        let waiting = Waiting { on: format!("{error:?}"), since_ms: patience.since_ms };
        let status = Status { left_out, ..Status::waits(waiting) };
        tracing::warn!(?error, ?wait, "the processor starts again once this has passed");
        self.listeners.publish(&self.status, status);
        tokio::time::sleep(wait).await;
    }

    async fn run_once(&mut self, workers: &Workers, stop: &mut Stop) -> ProcessorResult<()> {
        if self.status.borrow().waiting.is_none() {
            self.publish(State::Starting);
        }
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
            () = stop.asked() => None,
            started = self.start(workers, stores, lookups, &mut making) => Some(started?),
        };
        let Some((env, facts, member, sending)) = started else {
            // A producer that is being made is made whether or not somebody waits for it. One that is late would fence
            // the next one of its id, so that a start right after this would fail.
            if let Some(making) = making {
                _ = making.await;
            }
            return Ok(());
        };
        self.counters.starts.fetch_add(1, Ordering::Relaxed);
        Instance::new(env, facts, workers, &self.listeners, &self.status, member, sending).run(stop).await
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
        let shown = AtomicBool::new(false);
        let late = |is_late| {
            // What is waited for since an earlier start has a cause, and a time, that say more.
            if is_late && self.status.borrow().waiting.is_none() {
                let waiting = Waiting { on: wait::no_answer(&self.log), since_ms: self.log.clock().now_ms() };
                let left_out = self.counters.left_out.all();
                self.listeners.publish(&self.status, Status { left_out, ..Status::waits(waiting) });
                shown.store(true, Ordering::Relaxed);
            } else if !is_late && shown.swap(false, Ordering::Relaxed) {
                self.publish(State::Starting);
            }
        };
        let facts = topics::ensure(&self.log, graph, &options.topics, &late).await?;
        if options.guarantee == Guarantee::ExactlyOnce {
            topics::take_markers(&self.log, graph, &facts)?;
        }
        for (topic, codec) in graph.codecs() {
            let prepared = AssertUnwindSafe(async { codec.prepare(topic).await }).catch_unwind().await;
            let prepared = prepared
                .unwrap_or_else(|panic| Err(CodecError::invalid(format!("it panicked: {}", panic_text(&*panic)))));
            prepared.map_err(|error| ProcessorError::Codec {
                group: group.to_owned(),
                topic: topic.to_string(),
                error,
            })?;
        }
        self.refuse_other_members().await?;
        let (memory, options) = &self.divided(&facts, &*stores)?;
        let alignment = Alignment::of(graph, &facts);
        let (producer, transaction_timeout) = self.producer_options(&facts, &*stores, memory.client_queue())?;
        let made = making.insert(self.log.producer(producer)).await;
        *making = None;
        let producer = made.map_err(doing("make a producer"))?;
        let reader =
            self.log.bounded_reader(Isolation::ReadCommitted, options.prefetch).map_err(doing("make a reader"))?;
        lookups.open(&self.log, graph, &facts, &*stores, options, workers)?;
        lookups.caught_up(group).await?;
        let mut member = MemberOptions::new(Arc::clone(&graph.name), self.subscription());
        member.instance_id.clone_from(&options.instance_id);
        member.reset = options.reset;
        member.session_timeout = options.session_timeout;
        member.revoke_timeout = options.drain_timeout + AFTER_DRAIN + Duration::from_secs(2);
        member.new_protocol = options.new_protocol;
        member.prefetch = memory.prefetch();
        let member = self.log.member(member).map_err(doing("join the group"))?;
        let (egress, sending) = match options.guarantee {
            Guarantee::AtLeastOnce => {
                let (gate, work) = Gate::new(producer);
                (Egress::AtLeastOnce(gate), work)
            }
            Guarantee::ExactlyOnce => {
                let (counters, every) = (Arc::clone(&self.counters), options.commit_interval());
                let budget = Budget::new(transaction_timeout);
                let (transactions, work) = {
                    let (producer, group, timeout) = (Arc::clone(&producer), member.group(), transaction_timeout);
                    Transactions::new(producer, group, every, budget, counters, timeout, graph.positions())
                };
                (Egress::ExactlyOnce(producer, transactions), work)
            }
        };
        let env = Env {
            graph: Arc::clone(graph),
            log: Arc::clone(&self.log),
            options: options.clone(),
            egress,
            reader,
            stores,
            lookups: lookups.replicas(),
            limits: graph.outputs.iter().map(|e| facts.limit(&e.topic)).collect(),
            table_limits: graph.tables.as_ref().map(|e| facts.limit(&e.topic)),
            tombstones: facts.tombstones(),
            placements: Placement::of(graph, &facts, options.partitioner),
            alignment,
            batches: Arc::clone(&self.batches),
            counters: Arc::clone(&self.counters),
            memory: Arc::clone(memory),
            faults: self.faults.clone(),
            no_ids: AtomicBool::new(false),
        };
        Ok((Arc::new(env), facts, member, sending))
    }

    /// The memory of this instance, and its options with its shares.
    fn divided(&self, facts: &TopicFacts, stores: &dyn StoreBackend) -> ProcessorResult<(Arc<Memory>, Options)> {
        let mut options = self.options.clone();
        let counts = Counts::of(&self.graph, facts, stores.bytes_of_a_store());
        let memory = Memory::new(self.graph.name(), &options, counts)?;
        if let Some(bytes) = memory.cache() {
            stores.bound_caches(bytes);
        }
        options.restore_memory = memory.restores().unwrap_or_default();
        options.prefetch = memory.reader_prefetch();
        Ok((Arc::new(memory), options))
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
        match self.graph.co_partition_topic() {
            Some(lead) => Subscription::CoPartitioned { lead, with },
            None => Subscription::Topics(with),
        }
    }

    /// Two releases with different subscriptions in one group could both own a partition.
    async fn refuse_other_members(&self) -> ProcessorResult<()> {
        let mut ours = match self.subscription() {
            Subscription::CoPartitioned { lead, .. } => vec![lead],
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
        let left_out = self.counters.left_out.all();
        self.listeners.publish(&self.status, Status { left_out, ..Status::of(state) });
    }
}
