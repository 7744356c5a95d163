//! One run of a processor: joins the group, gives partitions to workers and takes them back, commits.
//!
//! The instance is one future. It owns the group membership and all bookkeeping about tasks; tasks own everything about
//! their partition. It must never do a task's work, nor block: [`Member::next`] has to be polled all the time.
//!
//! Invariants:
//! - Only positions that a task has published are committed, and those of a revoked partition before the revocation
//!   is let go (commit before revoke).
//! - Nothing of a lost partition is committed: its task's positions are voided, for others may hold them.
//! - Of tasks, standbys and removals of one partition, each begins after the previous one is done with the stores.

mod clock_check;
mod commit;
mod live;
mod loops;
mod query;
mod recreated;
mod revoke;
mod show;
mod stores;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use self::clock_check::ClockCheck;
use self::live::{Idle, LiveTask, Revoked};
use self::recreated::check_ids;
pub(super) use self::revoke::AFTER_DRAIN;
use super::alignment::Alignment;
use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use super::handle::Request;
use super::standby::{OpenStores, StandbyUpdate};
use super::status::{Rebalance, Status, TaskState, Waiting};
use super::task::{Command, Demand, Report, VisitRequest};
use super::{Listeners, Stop};
use crate::log::{Commits, GroupHandle, LogError, LogResult, Member, MemberEvent, Offsets, TopicPartition};
use crate::topics::{TopicFacts, check_growth};
use crate::workers::Workers;

/// How often processed records of own topics are deleted.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);
/// The time that a group may take to assign partitions, before the status reports the wait.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
/// How often positions are committed at least while other instances wait for what is unfinished here.
const IN_STEP: Duration = Duration::from_millis(100);

pub(super) struct Instance<'a> {
    env: Arc<Env>,
    facts: TopicFacts,
    workers: &'a Workers,
    listeners: &'a Listeners,
    status: &'a watch::Sender<Status>,
    member: Box<dyn Member>,
    group: Arc<dyn GroupHandle>,
    tasks: BTreeMap<u64, LiveTask>,
    next_task: u64,
    /// For each partition whose stores are in use, what resolves when they are not.
    closing: BTreeMap<(i32, usize), oneshot::Receiver<OpenStores>>,
    idle: Idle,
    standby_updates: mpsc::UnboundedReceiver<StandbyUpdate>,
    standby_reporter: mpsc::UnboundedSender<StandbyUpdate>,
    reports: mpsc::UnboundedReceiver<(u64, Report)>,
    reporter: mpsc::UnboundedSender<(u64, Report)>,
    /// Revocations and the final stop under way.
    revoking: FuturesUnordered<BoxFuture<'static, Revoked>>,
    commit: Option<BoxFuture<'static, (Commits, LogResult<()>)>>,
    /// Deletion of processed loop records under way, and up to where they are deleted.
    trimming: Option<BoxFuture<'static, (Offsets, LogResult<()>)>>,
    trimmed: BTreeMap<TopicPartition, i64>,
    /// The topics of joins can't be cut.
    uncut: bool,
    /// The commits do not get through.
    commit_waits: Option<Waiting>,
    /// The group has not assigned anything for a while.
    join_waits: Option<Waiting>,
    /// Another commit is to follow at once.
    commit_again: bool,
    /// An assignment was seen, so that "no partitions" means that others have them.
    assigned: bool,
    /// Visits that were asked for before that.
    early_visits: Vec<EarlyVisit>,
    /// Sends what the tasks release: in transactions, or what is to be sent alone.
    sending: Option<BoxFuture<'static, LogResult<()>>>,
    failure: Option<ProcessorError>,
    stopping: bool,
    /// The membership itself failed, so that no event of it is to be expected.
    membership_failed: bool,
}

/// A visitor, its argument, and who gets the answers to come.
type EarlyVisit =
    (usize, Arc<dyn std::any::Any + Send + Sync>, oneshot::Sender<Vec<oneshot::Receiver<ProcessorResult<u64>>>>);

impl<'a> Instance<'a> {
    pub(super) fn new(
        env: Arc<Env>,
        facts: TopicFacts,
        workers: &'a Workers,
        listeners: &'a Listeners,
        status: &'a watch::Sender<Status>,
        member: Box<dyn Member>,
        sending: BoxFuture<'static, LogResult<()>>,
    ) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
        let (standby_reporter, standby_updates) = mpsc::unbounded_channel();
        let group = member.group();
        Self {
            env,
            facts,
            workers,
            listeners,
            status,
            member,
            group,
            tasks: BTreeMap::new(),
            next_task: 0,
            closing: BTreeMap::new(),
            idle: Idle::default(),
            standby_updates,
            standby_reporter,
            reports,
            reporter,
            revoking: FuturesUnordered::new(),
            commit: None,
            trimming: None,
            trimmed: BTreeMap::new(),
            uncut: false,
            commit_waits: None,
            join_waits: None,
            commit_again: false,
            assigned: false,
            early_visits: Vec::new(),
            sending: Some(sending),
            failure: None,
            stopping: false,
            membership_failed: false,
        }
    }

    /// Runs until it is asked to stop, or something fails.
    pub(super) async fn run(mut self, stop: &mut Stop) -> ProcessorResult<()> {
        let options = &self.env.options;
        let every = |period: Duration| {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut commits = every(options.commit_interval());
        let mut recommits = every(options.recommit_interval);
        let mut growth = every(options.topic_check_interval);
        let mut sweeps = every(options.state_cleanup_delay.clamp(Duration::from_millis(1), Duration::from_secs(60)));
        let mut trims = every(TRIM_INTERVAL);
        let mut in_step = every(IN_STEP);
        let loops = self.env.graph.inputs.iter().any(|e| e.own) || !self.env.graph.stream_joins.is_empty();
        let mut growing: Option<BoxFuture<'static, Result<(), ProcessorError>>> = None;
        let mut brokers_lost = self.env.log.brokers_lost().fuse();
        let mut unassigned = Box::pin(sleep(JOIN_PATIENCE).fuse());
        let mut clock = ClockCheck::default();
        loop {
            if self.stopping && self.tasks.is_empty() && self.revoking.is_empty() && self.commit.is_none() {
                break;
            }
            tokio::select! {
                biased;
                Some((id, report)) = self.reports.recv() => self.report(id, report),
                Some(done) = self.revoking.next(), if !self.revoking.is_empty() => self.revoked(done),
                (offsets, result) = pending_or(&mut self.commit) => self.committed(&offsets, result),
                event = self.member.next(), if !self.membership_failed => match event {
                    Ok(event) => self.event(event),
                    Err(error) => {
                        self.membership_failed = true;
                        self.fail(ProcessorError::log(self.env.graph.name(), "stay in the group", error));
                    }
                },
                error = &mut brokers_lost => {
                    self.fail(ProcessorError::log(self.env.graph.name(), "reach the brokers", error));
                }
                () = &mut unassigned, if !self.assigned => self.waits_for_the_group(),
                _ = commits.tick() => self.begin_round(),
                () = Alignment::held(self.env.alignment.as_deref()) => self.begin_round(),
                _ = in_step.tick(), if self.env.alignment.is_some() => if self.is_waited_for() { self.begin_round() },
                _ = recommits.tick() => self.recommit(),
                Some(update) = self.standby_updates.recv() => self.standby_update(update),
                _ = sweeps.tick() => self.sweep(),
                ended = pending_or(&mut self.sending) => if let Err(error) = ended {
                    let group = self.env.graph.name().to_owned();
                    self.fail(match self.env.graph.positions().filter(|_| error.blames_record()) {
                        Some(topic) => ProcessorError::OwnRecord { group, topic: topic.to_string(), error },
                        None => ProcessorError::Transaction { group, error },
                    });
                },
                _ = trims.tick(), if loops => self.trim(),
                (below, result) = pending_or(&mut self.trimming) => self.trimmed(below, result),
                _ = growth.tick(), if growing.is_none() => {
                    let (env, facts, ids) = (Arc::clone(&self.env), self.facts.clone(), self.ids());
                    growing = Some(
                        async move {
                            check_growth(&env.log, &env.graph, &facts).await?;
                            check_ids(&env, ids).await
                        }
                        .boxed(),
                    );
                }
                () = clock.step(&self.env) => {}
                grown = pending_or(&mut growing) => if let Err(error) = grown { self.fail(error) },
                // The last, for these may come without end: what is due by the clock, and the membership, can't wait for that.
                request = stop.request() => match request {
                    Request::Visit { visitor, arg, done } => self.visit(visitor, arg, done),
                    Request::Read { question, done } => self.read(question, done),
                    Request::Stop => self.stop(),
                },
            }
        }
        // One that does not end hangs in a callback that never awaits.
        let closing = join_all(std::mem::take(&mut self.closing).into_values());
        if timeout(self.env.options.drain_timeout, closing).await.is_err() {
            tracing::error!(group = self.env.graph.name(), "a callback does not return: its thread is left behind");
            self.workers.note_hung();
        }
        let group = self.env.graph.name().to_owned();
        let flushed = self.env.egress.producer().flush().await;
        let closed = self.member.close().await;
        if let Some(error) = self.failure {
            return Err(clock_check::name_clock(&self.env, error).await);
        }
        flushed.map_err(|e| ProcessorError::log(&group, "flush", e))?;
        match closed {
            // All that was done is committed, as when a consumer of Kafka's own is closed in vain.
            Err(error @ LogError::Timeout { .. }) => {
                tracing::warn!(group, ?error, "the group goes on without this instance once its session has ended");
                Ok(())
            }
            closed => closed.map_err(|e| ProcessorError::log(&group, "leave the group", e)),
        }
    }

    fn event(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Assigned(assigned) => {
                self.assigned = true;
                self.join_waits = None;
                if !self.stopping {
                    self.assign(assigned);
                }
                for (visitor, arg, done) in std::mem::take(&mut self.early_visits) {
                    self.visit(visitor, arg, done);
                }
            }
            MemberEvent::Revoking { partitions, done } => {
                tracing::info!(group = self.env.graph.name(), ?partitions, "partitions go to another instance");
                self.listeners.rebalance(&Rebalance::Revoked(partitions.clone()));
                let tasks = self.tasks_of(&partitions);
                self.revoke(tasks, Some(done));
            }
            MemberEvent::Lost(partitions) => {
                tracing::warn!(
                    group = self.env.graph.name(),
                    ?partitions,
                    "partitions are lost: another instance may have them; nothing more of them is committed"
                );
                self.listeners.rebalance(&Rebalance::Lost(partitions.clone()));
                self.env.counters.losses.fetch_add(1, Ordering::Relaxed);
                let tasks = self.tasks_of(&partitions);
                self.env.egress.lost(tasks.clone(), tasks.len() == self.tasks.len());
                for id in tasks {
                    if let Some(task) = self.tasks.remove(&id) {
                        // Others may hold them, for the last commit of a revocation.
                        task.positions.invalidate();
                        task.orders.command(Command::Abort);
                    }
                }
                self.env.memory.divide_among(self.tasks.len());
            }
        }
        self.settle();
        self.show();
    }

    fn is_waited_for(&self) -> bool {
        self.env.alignment.as_ref().is_some_and(|alignment| alignment.is_waited_for())
    }

    /// The id of the next task or standby, distinct from all others.
    fn next_id(&mut self) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        id
    }

    fn report(&mut self, id: u64, report: Report) {
        match report {
            Report::Recorded => {
                self.commit_again = self.commit.is_some();
                return self.begin_commit();
            }
            Report::Running(starts) => {
                // One that drains meanwhile keeps that state.
                if let Some(task) = self.tasks.get_mut(&id).filter(|t| t.state == TaskState::Restoring) {
                    task.state = TaskState::Running;
                    task.counted = starts.into_iter().map(|(partition, at)| (partition, at.offset)).collect();
                }
                // Semantics D9: every position is committed at the assignment.
                self.commit_again = self.commit.is_some();
                self.begin_commit();
            }
            Report::Waiting(waiting) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.waiting = waiting;
                }
            }
            Report::Failed(error) => {
                // One that is lost or revoked already fails without a report.
                if self.tasks.contains_key(&id) {
                    self.fail(error);
                } else {
                    tracing::warn!(?error, "a partition that is no longer this instance's failed");
                }
            }
        }
        self.show();
    }

    fn visit(
        &mut self,
        visitor: usize,
        arg: Arc<dyn std::any::Any + Send + Sync>,
        done: oneshot::Sender<Vec<oneshot::Receiver<ProcessorResult<u64>>>>,
    ) {
        if !self.assigned {
            self.early_visits.push((visitor, arg, done));
            return;
        }
        let mut answers = Vec::new();
        for task in self.tasks.values() {
            let (done, answer) = oneshot::channel();
            // A task that has ended drops the answer's other end, which is the caller's error.
            task.orders.ask(Demand::Visit(VisitRequest { visitor, arg: Arc::clone(&arg), done }));
            answers.push(answer);
        }
        _ = done.send(answers);
    }

    fn fail(&mut self, error: ProcessorError) {
        tracing::error!(?error, "the processor fails");
        self.failure = self.failure.take().or(Some(error));
        self.stop();
    }

    fn stop(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.idle = Idle::default();
        let busy = |t: &&LiveTask| t.state != TaskState::Draining;
        let tasks = self.tasks.iter().filter(|(_, t)| busy(t)).map(|(id, _)| *id).collect();
        self.revoke(tasks, None);
    }
}

/// Awaits what is there, and takes it away; waits for ever if nothing is.
async fn pending_or<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let done = future.await;
    *slot = None;
    done
}
