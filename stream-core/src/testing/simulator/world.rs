//! One run: the log, the machines, and time.
//!
//! One future polls the director (who writes the inputs and makes the faults) and then every machine, on one thread
//! and a paused clock. Nothing here may depend on anything but the plan and the seed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::faults::Faults;
use super::node::{Ended, Node};
use super::outcome::Fates;
use super::owners::Owners;
use super::plan::Plan;
use super::random::Random;
use super::trace::Trace;
use super::{SimulationError, SimulationReport};
use crate::clock::Clock;
use crate::group::GroupGraph;
use crate::log::embedded::InMemory;
use crate::log::{
    Cleanup, LogHandle, NewRecord, ProduceBatch, Producer, ProducerOptions, TimestampType, TopicConfig, TopicSpec,
};
use crate::processor::ProcessorError;
use crate::topics::{TopicOptions, ensure};

/// The wall clock, which goes with the paused one.
struct VirtualClock(Instant);

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VirtualClock")
    }
}

/// 2024-01-01 00:00 UTC.
const BEGIN_MS: i64 = 1_704_067_200_000;

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        BEGIN_MS + i64::try_from(self.0.elapsed().as_millis()).unwrap_or_default()
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'static, ()> {
        let ms = u64::try_from(at - BEGIN_MS).unwrap_or_default();
        Box::pin(sleep_until(self.0 + Duration::from_millis(ms)))
    }
}

/// The world that the director and the poller share.
pub(super) struct World {
    pub(super) plan: Rc<Plan>,
    pub(super) faults: Faults,
    /// It is the run without faults.
    pub(super) calm: bool,
    pub(super) random: Random,
    pub(super) embedded: Arc<InMemory>,
    pub(super) log: LogHandle,
    pub(super) trace: Arc<Trace>,
    pub(super) owners: Arc<Owners>,
    pub(super) nodes: Vec<Node>,
    /// One of each group, to know its topics by.
    pub(super) graphs: Vec<Arc<GroupGraph>>,
    pub(super) report: SimulationReport,
    /// The limits of topics before faults changed them.
    pub(super) limits: BTreeMap<String, Option<i64>>,
    /// How many records of the workload are written.
    pub(super) written: usize,
    /// The number of records that were written when an input was recreated.
    pub(super) recreated: BTreeMap<Arc<str>, usize>,
    /// The fates of records of inputs, by the faults of their topics and positions.
    pub(super) fates: Fates,
    /// The last error that an instance failed with.
    pub(super) last_error: Option<ProcessorError>,
    /// The instances' settings were drawn from this.
    settings: u64,
    producer: Arc<dyn Producer>,
    /// Where the poller begins, so that no machine is always first.
    turn: usize,
}

/// A world, shared by those that live on one thread.
pub(super) type Shared = Rc<RefCell<World>>;

/// Makes the topics that are not the groups' own, with what results depend on: their records keep their times.
async fn make_topics(plan: &Plan, graphs: &[Arc<GroupGraph>], log: &LogHandle) -> Result<(), SimulationError> {
    let inputs = plan.workload.iter().map(|p| Arc::clone(&p.topic));
    let set = plan.topics.iter().map(|(name, _)| Arc::clone(name));
    let names: BTreeSet<Arc<str>> = inputs.chain(plan.outputs(graphs)).chain(set).collect();
    let specs = names.into_iter().map(|name| {
        let set = plan.topics.iter().find(|(of, _)| *of == name).map(|(_, config)| config.clone());
        let mut config = set.unwrap_or_default();
        config.timestamp_type = config.timestamp_type.or(Some(TimestampType::CreateTime));
        config.timestamp_before_max_ms = config.timestamp_before_max_ms.or(Some(i64::MAX));
        config.cleanup = config.cleanup.or(Some(Cleanup::Delete));
        config.retention_ms = config.retention_ms.or(Some(-1));
        config.retention_bytes = config.retention_bytes.or(Some(-1));
        TopicSpec::new(name).partitions(plan.partitions).config(config)
    });
    Ok(log.create_topics(specs.collect()).await?)
}

/// Defaults that no group may depend on.
fn hostile(random: &mut Random) -> TopicConfig {
    let cleanup = if random.chance(500) { Cleanup::Compact } else { Cleanup::Delete };
    TopicConfig {
        cleanup: Some(cleanup),
        timestamp_type: Some(TimestampType::LogAppendTime),
        timestamp_before_max_ms: Some(1000),
        timestamp_after_max_ms: Some(1000),
        retention_ms: Some(1000),
        retention_bytes: Some(1000),
        ..TopicConfig::default()
    }
}

impl World {
    pub(super) async fn new(plan: &Rc<Plan>, faults: Faults) -> Result<Self, SimulationError> {
        let clock = Arc::new(VirtualClock(Instant::now()));
        let embedded = InMemory::with_clock(clock);
        let log: LogHandle = Arc::clone(&embedded) as LogHandle;
        let mut random = Random::new(plan.seed);
        let calm = faults == Faults::none();
        let faults = faults.draw(&mut random);
        let mut graphs = plan.groups.iter().map(|make| make()).collect::<Result<Vec<_>, _>>()?;
        make_topics(plan, &graphs, &log).await?;
        if faults.has(super::Fault::ClusterDefaults) {
            embedded.set_topic_defaults(&hostile(&mut random));
        }
        for graph in &mut graphs {
            let options = TopicOptions { partitions: Some(plan.partitions), ..TopicOptions::default() };
            ensure(&log, graph, &options, &|_| {}).await.map_err(ProcessorError::from)?;
        }
        // The inputs are written by somebody whose records always arrive.
        let mut options = ProducerOptions::default();
        options.delivery_timeout = Some(Duration::from_secs(24 * 3600));
        let producer = log.producer(options).await?;
        let report = SimulationReport { seed: plan.seed, faults: faults.clone(), ..SimulationReport::default() };
        let trace = Arc::new(Trace::new());
        let settings = random.next();
        let mut world = Self {
            plan: Rc::clone(plan),
            faults,
            calm,
            random,
            embedded,
            log,
            trace,
            owners: Arc::default(),
            nodes: Vec::new(),
            graphs,
            report,
            limits: BTreeMap::new(),
            written: 0,
            recreated: BTreeMap::new(),
            fates: Fates::new(),
            last_error: None,
            settings,
            producer,
            turn: 0,
        };
        world.first_nodes();
        Ok(world)
    }

    fn first_nodes(&mut self) {
        let calm = self.calm;
        for group in 0..self.graphs.len() {
            let instances = if calm { 1 } else { self.plan.instances };
            for _ in 0..instances {
                let wait = if calm { 0 } else { self.random.below(3000) };
                self.add_node(group, Duration::from_millis(wait));
            }
        }
    }

    /// A machine more, with an instance that is started after a while.
    pub(super) fn add_node(&mut self, group: usize, wait: Duration) {
        let number = self.nodes.iter().filter(|n| n.group == group).count();
        let of = self.graphs.get(group).map_or("", |g| g.name());
        let (trace, owners) = (Arc::clone(&self.trace), Arc::clone(&self.owners));
        let mut node = Node::new(group, format!("{of}-{number}"), trace, owners, self.random.fork());
        node.start_at = Some(Instant::now() + wait);
        self.nodes.push(node);
    }

    /// Starts what is to be started.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        let slow = self.faults.has(super::Fault::Latency);
        let calm = self.calm;
        for node in &mut self.nodes {
            if node.frozen_until.is_some_and(|at| at <= now) {
                node.thaw();
                self.trace.note(&node.name, format_args!("goes on"));
            }
            if node.start_at.is_some_and(|at| at <= now) && node.running.is_none() {
                let Some(make) = self.plan.groups.get(node.group) else { continue };
                let graph = match make() {
                    Ok(graph) => graph,
                    // It could be built at the beginning.
                    Err(error) => {
                        tracing::error!(?error, "a group can't be built");
                        continue;
                    }
                };
                let mut random = Random::new(self.settings);
                let (plan, name) = (&self.plan, node.name.clone());
                node.start(&self.log, slow, |client| plan.processor(graph, client, &name, calm, &mut random));
            }
        }
    }

    /// When a machine is to start, or to go on.
    pub(super) fn next_start(&self) -> Option<Instant> {
        self.nodes
            .iter()
            .flat_map(|n| n.start_at.filter(|_| n.running.is_none()).into_iter().chain(n.frozen_until))
            .min()
    }

    pub(super) fn poll_nodes(&mut self, cx: &mut Context<'_>) {
        let count = self.nodes.len();
        self.turn = self.turn.wrapping_add(1);
        for i in 0..count {
            let at = (i + self.turn) % count;
            let Some(node) = self.nodes.get_mut(at) else { continue };
            let Some(ended) = node.poll(cx) else { continue };
            let wait = Duration::from_millis(self.random.below(4000));
            match ended {
                Ended::Crashed => {
                    self.report.crashes += 1;
                    self.after_crash(at, wait);
                }
                Ended::Returned(Ok(())) => {
                    let node = self.nodes.get(at);
                    self.trace.note(node.map_or("", |n| &n.name), format_args!("has stopped"));
                }
                Ended::Undrained => {
                    let node = self.nodes.get(at);
                    self.trace.note(node.map_or("", |n| &n.name), format_args!("has stopped before its work was done"));
                }
                Ended::Returned(Err(error)) => {
                    self.report.failures += 1;
                    if let Some(node) = self.nodes.get_mut(at) {
                        self.trace.note(&node.name, format_args!("has failed: {error:?}"));
                        node.start_at = Some(Instant::now() + wait);
                    }
                    self.last_error = Some(error);
                }
            }
        }
    }

    /// A machine whose instance died comes back, with its store or without.
    pub(super) fn after_crash(&mut self, at: usize, wait: Duration) {
        let lost = self.faults.has(super::Fault::LostStore) && self.random.chance(300);
        let Some(node) = self.nodes.get_mut(at) else { return };
        if lost {
            self.report.lost_stores += 1;
            node.lose_stores();
        }
        node.start_at = Some(Instant::now() + wait);
    }

    /// Writes records of the plan to their inputs, those that are due.
    pub(super) fn write(&mut self, to: usize) {
        let mut batch = ProduceBatch::new();
        let from = std::mem::replace(&mut self.written, to);
        for planned in self.plan.workload.get(from..to).unwrap_or_default() {
            let timestamp = BEGIN_MS + i64::try_from(planned.at.as_millis()).unwrap_or_default();
            let record = NewRecord {
                topic: &planned.topic,
                partition: None,
                timestamp: Some(timestamp),
                key: Some(&planned.key),
                value: Some(&planned.value),
            };
            batch.push(record, std::iter::empty());
            self.report.records += 1;
        }
        if !batch.is_empty() {
            // It need not be awaited to go out, and arrives in the end.
            drop(self.producer.send(Arc::new(batch)));
        }
    }

    /// Whether the log's producer may still have inputs to write.
    pub(super) fn flush(&self) -> BoxFuture<'static, crate::log::LogResult<()>> {
        self.producer.flush()
    }

    /// Whether an instance that was taken for dead may have written over newer values of tables.
    pub(super) fn zombies_wrote(&self) -> bool {
        self.report.zombies > 0 && self.owners.stale() > 0
    }

    /// Machines by whether they have an instance that is neither stopping nor standing still.
    pub(super) fn at_work(&self) -> Vec<usize> {
        let busy = |n: &Node| n.frozen_until.is_none() && n.running.as_ref().is_some_and(|r| !r.stopping);
        self.nodes.iter().enumerate().filter(|(_, n)| busy(n)).map(|(i, _)| i).collect()
    }

    /// How many machines of each group have an instance, or are to have one.
    pub(super) fn alive(&self) -> BTreeMap<usize, usize> {
        let mut alive = BTreeMap::new();
        for node in &self.nodes {
            let lives = node.start_at.is_some() || node.running.as_ref().is_some_and(|r| !r.stopping);
            *alive.entry(node.group).or_default() += usize::from(lives);
        }
        alive
    }
}
