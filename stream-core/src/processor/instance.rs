//! One run of a processor: joins the group, gives partitions to workers and takes them back, commits.
//!
//! The instance is one future. It owns the group membership and all bookkeeping about tasks; tasks own everything about
//! their partition. It must never do a task's work, nor block: [`Member::next`] has to be polled all the time.
//!
//! Invariants:
//! - Only positions that a task has published are committed, and those of a revoked partition before the revocation
//!   is let go (commit before revoke).
//! - Nothing of a lost partition is committed: its task's positions are dropped with the task.
//! - A partition's next task starts after the previous one has closed its store.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use super::state::{Rebalance, Request, State, Status, TaskState};
use super::task::{self, Command, Positions, Report, TaskSpec, VisitRequest};
use super::worker::Workers;
use super::{Listeners, Stop};
use crate::log::{
    Assigned, ErrorClass, GroupHandle, LogError, LogResult, Member, MemberEvent, Offsets, RevokeToken, TopicPartition,
};
use crate::topics::{TopicFacts, check_growth};

/// A task as its instance knows it.
struct LiveTask {
    partitions: Vec<TopicPartition>,
    state: TaskState,
    commands: mpsc::UnboundedSender<Command>,
    positions: Arc<Positions>,
    /// What was committed last; empty to commit anew.
    committed: Offsets,
    /// Up to where records are counted as done.
    counted: Offsets,
    /// It is handed back already: resolves once that is over.
    handed_back: Option<Shared<oneshot::Receiver<()>>>,
}

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
    /// For each partition with a task that is not over, what resolves when it is.
    closing: BTreeMap<(i32, usize), oneshot::Receiver<()>>,
    reports: mpsc::UnboundedReceiver<(u64, Report)>,
    reporter: mpsc::UnboundedSender<(u64, Report)>,
    /// Revocations and the final stop under way.
    handing_back: FuturesUnordered<BoxFuture<'static, HandedBack>>,
    commit: Option<BoxFuture<'static, (Offsets, LogResult<()>)>>,
    /// Another commit is to follow at once.
    commit_again: bool,
    /// An assignment was seen, so that "no partitions" means that others have them.
    assigned: bool,
    /// Visits that were asked for before that.
    early_visits: Vec<EarlyVisit>,
    /// Puts what the tasks release into transactions; for exactly-once.
    transactions: Option<BoxFuture<'static, LogResult<()>>>,
    failure: Option<ProcessorError>,
    stopping: bool,
    /// The membership itself failed, so that no event of it is to be expected.
    adrift: bool,
}

/// A visitor, its argument, and who gets the answers to come.
type EarlyVisit =
    (usize, Arc<dyn std::any::Any + Send + Sync>, oneshot::Sender<Vec<oneshot::Receiver<ProcessorResult<u64>>>>);

/// After the bound of a drain, what is still on its way gets this long to arrive.
pub(super) const AFTER_DRAIN: Duration = Duration::from_secs(8);

/// Tasks that gave their partitions back.
struct HandedBack {
    tasks: Vec<u64>,
    /// What was committed at last.
    offsets: Offsets,
    result: ProcessorResult<()>,
}

/// A task that finishes what is under way.
struct Drain {
    drained: oneshot::Receiver<()>,
    positions: Arc<Positions>,
    commands: mpsc::UnboundedSender<Command>,
}

impl<'a> Instance<'a> {
    pub(super) fn new(
        env: Arc<Env>,
        facts: TopicFacts,
        workers: &'a Workers,
        listeners: &'a Listeners,
        status: &'a watch::Sender<Status>,
        member: Box<dyn Member>,
        transactions: Option<BoxFuture<'static, LogResult<()>>>,
    ) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
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
            reports,
            reporter,
            handing_back: FuturesUnordered::new(),
            commit: None,
            commit_again: false,
            assigned: false,
            early_visits: Vec::new(),
            transactions,
            failure: None,
            stopping: false,
            adrift: false,
        }
    }

    /// Runs until told to stop, or something fails.
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
        let mut growing: Option<BoxFuture<'static, Result<(), ProcessorError>>> = None;
        loop {
            if self.stopping && self.tasks.is_empty() && self.handing_back.is_empty() && self.commit.is_none() {
                break;
            }
            tokio::select! {
                biased;
                Some((id, report)) = self.reports.recv() => self.report(id, report),
                Some(done) = self.handing_back.next(), if !self.handing_back.is_empty() => self.handed_back(done),
                (offsets, result) = pending_or(&mut self.commit) => self.committed(&offsets, result),
                request = stop.request() => match request {
                    Request::Visit { visitor, arg, done } => self.visit(visitor, arg, done),
                    Request::Stop => self.stop(),
                },
                event = self.member.next(), if !self.adrift => match event {
                    Ok(event) => self.event(event),
                    Err(error) => {
                        self.adrift = true;
                        self.fail(ProcessorError::log(self.env.graph.name(), "stay in the group", error));
                    }
                },
                _ = commits.tick() => self.begin_commit(),
                _ = recommits.tick() => self.recommit(),
                ended = pending_or(&mut self.transactions) => if let Err(error) = ended {
                    self.fail(ProcessorError::log(self.env.graph.name(), "commit a transaction", error));
                },
                _ = growth.tick(), if growing.is_none() => {
                    let (env, facts) = (Arc::clone(&self.env), self.facts.clone());
                    growing = Some(async move { check_growth(&env.log, &env.graph, &facts).await }.boxed());
                }
                grown = pending_or(&mut growing) => if let Err(error) = grown { self.fail(error) },
            }
        }
        for (_, closed) in std::mem::take(&mut self.closing) {
            // An error means the same: the task is gone. One that does not end hangs in a callback that never awaits.
            if timeout(self.env.options.drain_timeout, closed).await.is_err() {
                tracing::error!(group = self.env.graph.name(), "a callback does not return: its thread is left behind");
            }
        }
        let group = self.env.graph.name().to_owned();
        let flushed = self.env.egress.producer().flush().await;
        let closed = self.member.close().await;
        if let Some(error) = self.failure {
            return Err(error);
        }
        flushed.map_err(|e| ProcessorError::log(&group, "flush", e))?;
        closed.map_err(|e| ProcessorError::log(&group, "leave the group", e))
    }

    fn event(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Assigned(assigned) => {
                self.assigned = true;
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
                self.hand_back(tasks, Some(done));
            }
            MemberEvent::Lost(partitions) => {
                tracing::warn!(
                    group = self.env.graph.name(),
                    ?partitions,
                    "partitions are lost: another instance may have them; nothing more of them is committed"
                );
                self.listeners.rebalance(&Rebalance::Lost(partitions.clone()));
                let tasks = self.tasks_of(&partitions);
                match self.env.egress.transactions() {
                    Some(transactions) => transactions.lost(tasks.clone()),
                    None if tasks.len() == self.tasks.len() => self.env.egress.producer().purge(),
                    None => {}
                }
                for id in tasks {
                    if let Some(task) = self.tasks.remove(&id) {
                        // Others may hold them, to commit at last what was handed back.
                        task.positions.void();
                        _ = task.commands.send(Command::Abort);
                    }
                }
            }
        }
        self.show();
    }

    fn tasks_of(&self, partitions: &[TopicPartition]) -> Vec<u64> {
        let hit = |t: &LiveTask| t.partitions.iter().any(|p| partitions.contains(p));
        self.tasks.iter().filter(|(_, t)| hit(t)).map(|(id, _)| *id).collect()
    }

    /// Starts a task for each partition; without a table or a join, for each partition of each topic.
    fn assign(&mut self, assigned: Vec<Assigned>) {
        let graph = Arc::clone(&self.env.graph);
        let apart = graph.lead().is_none();
        let mut by_task: BTreeMap<(i32, usize), Vec<(usize, Assigned)>> = BTreeMap::new();
        let names: Vec<TopicPartition> = assigned.iter().map(|a| a.partition.clone()).collect();
        if names.is_empty() {
            tracing::info!(group = graph.name(), "no partition is left for this instance so far");
            return;
        }
        tracing::info!(group = graph.name(), partitions = ?names, "partitions came");
        for a in assigned {
            let Some(edge) = graph.inputs.iter().position(|e| e.input.topic == a.partition.topic) else { continue };
            let task = (a.partition.partition, if apart { edge } else { 0 });
            by_task.entry(task).or_default().push((edge, a));
        }
        for (key, mut inputs) in by_task {
            inputs.sort_by_key(|(edge, _)| *edge);
            self.start(key, inputs);
        }
        self.listeners.rebalance(&Rebalance::Assigned(names));
        // Semantics D9: every position is committed at the assignment.
        self.commit_again = self.commit.is_some();
        self.begin_commit();
    }

    fn start(&mut self, key: (i32, usize), inputs: Vec<(usize, Assigned)>) {
        let partition = key.0;
        let id = self.next_task;
        self.next_task += 1;
        let positions: Offsets = inputs.iter().map(|(_, a)| (a.partition.clone(), a.start)).collect();
        let partitions = positions.iter().map(|(p, _)| p.clone()).collect();
        let counted = positions.clone();
        let positions = Arc::new(Positions::new(positions));
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ended, closing) = oneshot::channel::<()>();
        let spec = TaskSpec {
            partition,
            inputs,
            env: Arc::clone(&self.env),
            positions: Arc::clone(&positions),
            commands: inbox,
            reports: self.reporter.clone(),
            id,
            after: self.closing.remove(&key),
        };
        self.closing.insert(key, closing);
        let committed = Offsets::new();
        let state = TaskState::Restoring;
        let handed_back = None;
        let task = LiveTask { partitions, state, commands, positions, committed, counted, handed_back };
        self.tasks.insert(id, task);
        let (reporter, group) = (self.reporter.clone(), self.env.graph.name().to_owned());
        let start = move || {
            async move {
                if AssertUnwindSafe(task::run(spec)).catch_unwind().await.is_err() {
                    let reason = format!("the task of partition {partition} panicked");
                    _ = reporter.send((id, Report::Failed(ProcessorError::Worker { group, reason })));
                }
                drop(ended);
            }
            .boxed_local()
        };
        self.workers.spawn(partition, Box::new(start));
    }

    fn report(&mut self, id: u64, report: Report) {
        match report {
            Report::Running => {
                // One that was told to end meanwhile is past that.
                if let Some(task) = self.tasks.get_mut(&id).filter(|t| t.state == TaskState::Restoring) {
                    task.state = TaskState::Running;
                }
            }
            Report::Failed(error) => {
                // One that is lost or handed back already fails on its own.
                if self.tasks.contains_key(&id) {
                    self.fail(error);
                } else {
                    tracing::warn!(%error, "a partition that is no longer this instance's failed");
                }
            }
        }
        self.show();
    }

    /// Lets tasks finish, commits what they have done, then lets the revocation go.
    fn hand_back(&mut self, tasks: Vec<u64>, token: Option<RevokeToken>) {
        let bound = self.env.options.drain_timeout;
        let group = Arc::clone(&self.group);
        let name = self.env.graph.name().to_owned();
        let env = Arc::clone(&self.env);
        let mut drains = Vec::new();
        // A partition may be revoked while its instance stops. The commit for the stop must not come after the one for
        // the revocation: the next owner may have gone further.
        let (over, handed_back) = oneshot::channel::<()>();
        let handed_back = handed_back.shared();
        let mut earlier = Vec::new();
        for id in &tasks {
            let Some(task) = self.tasks.get_mut(id) else { continue };
            task.state = TaskState::Draining;
            earlier.extend(task.handed_back.replace(handed_back.clone()));
            let (done, drained) = oneshot::channel();
            _ = task.commands.send(Command::Drain(done));
            drains.push(Drain { drained, positions: Arc::clone(&task.positions), commands: task.commands.clone() });
        }
        self.handing_back.push(
            async move {
                let until = Instant::now() + bound;
                // A task that fails meanwhile drops its end; what it published stands.
                let ends = timeout(bound, ends_of(&mut drains)).await;
                let in_time = ends.is_ok();
                if !ends.unwrap_or(false) {
                    // Nothing more may be begun once the next owner is let in, and what is on its way has to arrive
                    // before the next owner reads the table, or not at all: it would overwrite newer values.
                    for drain in &drains {
                        _ = drain.commands.send(Command::Abort);
                    }
                    let over = async {
                        ends_of(&mut drains).await;
                        env.egress.producer().flush().await
                    };
                    if env.egress.transactions().is_none() && !matches!(timeout(AFTER_DRAIN, over).await, Ok(Ok(()))) {
                        env.egress.producer().purge();
                    }
                }
                // Errors are how they tell.
                join_all(earlier).await;
                let (offsets, result) = match env.egress.transactions() {
                    None => commit_at_last(&*group, &drains, until).await,
                    Some(transactions) => {
                        // What a task has published is committed. What it has handed over besides, because it failed
                        // or took too long, must not be any more: the next owner does it again.
                        transactions.lost(tasks.clone());
                        published(&drains)
                    }
                };
                let mut result = result.map_err(|e| ProcessorError::log(&name, "commit", e));
                if result.is_ok() && !in_time {
                    result = Err(ProcessorError::DrainTimeout { group: name, bound });
                }
                drop((over, token));
                HandedBack { tasks, offsets, result }
            }
            .boxed(),
        );
        self.show();
    }

    fn handed_back(&mut self, done: HandedBack) {
        self.count(&done.offsets);
        for id in done.tasks {
            if let Some(task) = self.tasks.remove(&id) {
                // Does nothing to one that has ended by itself.
                _ = task.commands.send(Command::Abort);
            }
        }
        match done.result {
            Ok(()) => {}
            // A generation that is over: the work is done again by the new owner.
            Err(error @ ProcessorError::Log { error: LogError::NotMember { .. }, .. }) => {
                tracing::warn!(%error, "the last commit before the partitions moved came too late");
            }
            Err(error) if self.stopping => self.failure = self.failure.take().or(Some(error)),
            Err(error) => tracing::warn!(%error, "partitions were given back before all was done"),
        }
        self.show();
    }

    /// Has every position committed anew, so that offsets of idle inputs do not expire (semantics D9).
    fn recommit(&mut self) {
        for task in self.tasks.values_mut() {
            if self.env.egress.transactions().is_some() {
                // A task that has ended has no position left.
                _ = task.commands.send(Command::Recommit);
            } else {
                task.committed.clear();
            }
        }
    }

    /// Begins to commit what has moved. Tasks that finish are left to [`hand_back`](Self::hand_back): a commit of an
    /// earlier state must not come after their last one, when the next owner may have gone further.
    fn begin_commit(&mut self) {
        if self.commit.is_some() {
            return;
        }
        let mut offsets = Offsets::new();
        for task in self.tasks.values().filter(|t| t.state != TaskState::Draining) {
            let now = task.positions.get();
            offsets.extend(now.into_iter().filter(|o| !task.committed.contains(o)));
        }
        if offsets.is_empty() {
            return;
        }
        if self.env.egress.transactions().is_some() {
            // The transactions have committed them; a plain commit could set one back.
            return self.committed(&offsets, Ok(()));
        }
        // Called now, not when it is first polled: commits take effect in the order of the calls.
        let commit = self.group.commit(offsets.clone());
        self.commit = Some(async move { (offsets, commit.await) }.boxed());
    }

    fn committed(&mut self, offsets: &Offsets, result: LogResult<()>) {
        match result {
            Ok(()) => {
                for task in self.tasks.values_mut() {
                    for (partition, offset) in offsets.iter().filter(|(p, _)| task.partitions.contains(p)) {
                        match task.committed.iter_mut().find(|(p, _)| p == partition) {
                            Some((_, old)) => *old = *offset,
                            None => task.committed.push((partition.clone(), *offset)),
                        }
                    }
                }
                self.count(offsets);
            }
            Err(LogError::NotMember { reason, .. }) => {
                tracing::debug!(group = self.env.graph.name(), reason, "a commit came while partitions move");
            }
            Err(error) if error.class() == ErrorClass::Retriable => {
                tracing::warn!(group = self.env.graph.name(), %error, "a commit failed and is tried again");
            }
            Err(error) => self.fail(ProcessorError::log(self.env.graph.name(), "commit", error)),
        }
        if std::mem::take(&mut self.commit_again) {
            self.begin_commit();
        }
    }

    /// Counts the records that these offsets show to be done.
    fn count(&mut self, offsets: &Offsets) {
        let mut done = 0;
        for (partition, old) in self.tasks.values_mut().flat_map(|t| &mut t.counted) {
            let now = offsets.iter().find(|(p, _)| p == partition).map_or(*old, |(_, offset)| *offset);
            done += u64::try_from(now - *old).unwrap_or_default();
            *old = now.max(*old);
        }
        self.env.counters.done.fetch_add(done, Ordering::Relaxed);
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
            _ = task.commands.send(Command::Visit(VisitRequest { visitor, arg: Arc::clone(&arg), done }));
            answers.push(answer);
        }
        _ = done.send(answers);
    }

    fn fail(&mut self, error: ProcessorError) {
        tracing::error!(%error, "the processor fails");
        self.failure = self.failure.take().or(Some(error));
        self.stop();
    }

    fn stop(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let busy = |t: &&LiveTask| t.state != TaskState::Draining;
        let tasks = self.tasks.iter().filter(|(_, t)| busy(t)).map(|(id, _)| *id).collect();
        self.hand_back(tasks, None);
    }

    /// Publishes what the instance is doing.
    fn show(&mut self) {
        let restoring = self.tasks.values().any(|t| t.state == TaskState::Restoring);
        let state = match (self.stopping, self.assigned, restoring) {
            (true, ..) => State::Stopping,
            (false, false, _) => State::Starting,
            (false, true, true) => State::Restoring,
            (false, true, false) => State::Running,
        };
        let tasks = self.tasks.values().flat_map(|t| t.partitions.iter().map(|p| (p.clone(), t.state))).collect();
        self.listeners.publish(self.status, Status { state, tasks });
    }
}

fn published(drains: &[Drain]) -> (Offsets, LogResult<()>) {
    (drains.iter().flat_map(|d| d.positions.get()).collect(), Ok(()))
}

/// Waits until tasks are over; whether all in good order, so that nothing of them is on its way.
async fn ends_of(drains: &mut [Drain]) -> bool {
    let over = drains.iter_mut().filter(|d| !d.drained.is_terminated()).map(|d| &mut d.drained);
    join_all(over).await.iter().all(Result::is_ok)
}

/// Commits what tasks that are over have done; what passes is tried again until a moment. What was committed.
async fn commit_at_last(group: &dyn GroupHandle, drains: &[Drain], until: Instant) -> (Offsets, LogResult<()>) {
    loop {
        // Asked anew each time: partitions may be lost meanwhile.
        let (offsets, _) = published(drains);
        if offsets.is_empty() {
            return (offsets, Ok(()));
        }
        match group.commit(offsets.clone()).await {
            Err(error) if error.class() == ErrorClass::Retriable && Instant::now() < until => {
                tracing::debug!(%error, "the last commit failed and is tried again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return (Offsets::new(), Err(error)),
            Ok(()) => return (offsets, Ok(())),
        }
    }
}

/// Awaits what is there, and takes it away; waits for ever if nothing is.
async fn pending_or<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let done = future.await;
    *slot = None;
    done
}
