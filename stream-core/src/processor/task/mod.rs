//! A task: everything of one partition.
//!
//! It lives on one worker thread, as one future that shares nothing with other tasks but what [`Env`] holds. The loop
//! below asks one question at a time, in a fixed order (commands, deliveries, callbacks, checkpoint, records), so that
//! a run can be repeated exactly.
//!
//! Invariants:
//! - Effects enter `stage.out` in offset order only, and leave it with [`Task::hand_over`] together with the positions
//!   that they belong to.
//! - `acknowledged` of an input moves only when a handed-over batch is acknowledged as a whole; that is what may be
//!   committed (semantics D1).
//! - After any failed delivery the task goes back to what is acknowledged, once nothing is on its way any more.
//! - A task that ends, told to or by a record that fails, begins nothing new, and ends once all it released is
//!   acknowledged, so that nothing of it is done again without need.

mod delivery;
mod dispatch;
mod failure;
mod input;
mod outbox;
mod slots;
mod start;
mod visits;

use std::any::Any;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use self::input::{Next, TaskInput, choose};
use self::outbox::{Made, Outbox, Visited, weight};
use self::slots::Slots;
use self::visits::Visit;
use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use crate::context::{Core, DeferredEnd, Stage};
use crate::group::CallbackResult;
use crate::log::{Assigned, Delivery, Offsets};
use crate::table::{Follower, Step};

/// What a task is told.
pub(super) enum Command {
    /// Finish what is under way, then say so and end.
    Drain(oneshot::Sender<()>),
    /// Commit the positions anew, unchanged or not (semantics D9).
    Recommit,
    /// End at once: nothing more may be done.
    Abort,
    /// Run a visitor over every key.
    Visit(VisitRequest),
}

pub(super) struct VisitRequest {
    pub(super) visitor: usize,
    pub(super) arg: Arc<dyn Any + Send + Sync>,
    /// Gets the number of keys visited.
    pub(super) done: oneshot::Sender<ProcessorResult<u64>>,
}

/// What a task tells its instance.
#[derive(Debug)]
pub(super) enum Report {
    /// The table and the joins are restored; records are processed from now on.
    Running,
    /// It can't go on.
    Failed(ProcessorError),
}

/// What may be committed of a task. The instance reads it; dropping its share (a lost partition) makes what the task
/// still writes meaningless.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<Offsets>);

impl Positions {
    pub(super) fn new(offsets: Offsets) -> Self {
        Self(Mutex::new(offsets))
    }

    pub(super) fn get(&self) -> Offsets {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The partition is lost: nothing of it may be committed any more, whoever still holds these.
    pub(super) fn void(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn publish(&self, inputs: &[TaskInput]) {
        let mut offsets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, offset), input) in offsets.iter_mut().zip(inputs) {
            *offset = input.acknowledged;
        }
    }
}

/// What a worker needs to start a task.
pub(super) struct TaskSpec {
    pub(super) partition: i32,
    /// The input edge of each assigned partition.
    pub(super) inputs: Vec<(usize, Assigned)>,
    pub(super) env: Arc<Env>,
    pub(super) positions: Arc<Positions>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) reports: mpsc::UnboundedSender<(u64, Report)>,
    pub(super) id: u64,
    /// Resolves when an earlier task of this partition has closed its store.
    pub(super) after: Option<oneshot::Receiver<()>>,
}

/// A callback, a rest before a retry, or a codec's loading, of a slot.
type SlotFuture = LocalBoxFuture<'static, (u64, SlotEnd)>;

enum SlotEnd {
    /// The callback returned, with its stage.
    Returned(Stage, CallbackResult),
    /// Try the callback again.
    Again,
    /// Nothing can be loaded: the record has failed.
    Unloadable(crate::group::CallbackError),
}

/// What the task does next.
enum Turn {
    Command(Option<Command>),
    Delivered(outbox::HandOver, Delivery),
    SlotEnd(u64, SlotEnd),
    Deferred(DeferredEnd),
    JoinMoved,
    Checkpoint,
    Run(usize, i64),
    Visit,
    HandOver,
    Drained,
}

struct Task {
    id: u64,
    /// Counts how often the task went back.
    epoch: u64,
    env: Arc<Env>,
    core: Rc<Core>,
    inputs: Vec<TaskInput>,
    /// The stage of the record at hand; its `out` is what is released and not yet handed over.
    stage: Stage,
    /// Who made which part of `stage.out`.
    sources: Vec<Made>,
    /// Something was released since the last hand-over, if only a position.
    moved: bool,
    slots: Slots,
    futures: FuturesUnordered<SlotFuture>,
    deferred: mpsc::UnboundedReceiver<DeferredEnd>,
    outbox: Outbox,
    joins: Vec<Follower>,
    positions: Arc<Positions>,
    commands: mpsc::UnboundedReceiver<Command>,
    visits: VecDeque<Visit>,
    /// Visits that are over, and whose effects are not handed over yet.
    visited: Vec<Visited>,
    /// The end has begun.
    ending: Option<Ending>,
    /// When to give up waiting for an earlier record of another input.
    idle: Option<Pin<Box<Sleep>>>,
    idle_passed: bool,
    checkpoint: Checkpointing,
    next_checkpoint: Pin<Box<Sleep>>,
    replay: delivery::Replay,
}

/// How a task ends, once everything released is acknowledged and published.
#[derive(Default)]
struct Ending {
    /// Who gets word of it.
    told: Vec<oneshot::Sender<()>>,
    /// The record that failed for good, if that is why.
    failure: Option<ProcessorError>,
}

#[derive(PartialEq, Eq)]
enum Checkpointing {
    No,
    Writing,
}

/// Runs a task from its assignment to its end. The store is closed when this returns.
pub(super) async fn run(spec: TaskSpec) {
    let TaskSpec { id, after, ref reports, .. } = spec;
    let reports = reports.clone();
    if let Some(after) = after {
        // An error means the same: the earlier task is gone.
        _ = after.await;
    }
    let spec = TaskSpec { after: None, ..spec };
    // A failure is reported before anything is dropped that tells others that the task is over.
    let failed = |error| _ = reports.send((id, Report::Failed(error)));
    let mut task = match Task::start(spec).await {
        Ok(Some(task)) => task,
        Ok(None) => return,
        Err(error) => return failed(error),
    };
    _ = reports.send((id, Report::Running));
    match task.work().await {
        Ok(false) => {}
        Ok(true) => {
            for done in task.ending.take().unwrap_or_default().told {
                // Before the store is closed: the partition's next owner waits only for the commit.
                _ = done.send(());
            }
            if let Err(error) = task.close().await {
                failed(error);
            }
        }
        Err(error) => failed(error),
    }
}

impl Task {
    /// Works until told to end; whether in good order.
    async fn work(&mut self) -> ProcessorResult<bool> {
        loop {
            match poll_fn(|cx| self.poll_turn(cx)).await? {
                Turn::Command(Some(Command::Visit(request))) => {
                    self.visits.push_back(Visit::new(request));
                }
                Turn::Command(Some(Command::Drain(done))) => self.begin_end().told.push(done),
                Turn::Command(Some(Command::Recommit)) => self.moved = true,
                // Told to, or the instance is gone.
                Turn::Command(Some(Command::Abort) | None) => return Ok(false),
                Turn::Delivered(batch, delivery) => self.delivered(batch, delivery).await?,
                Turn::SlotEnd(id, end) => self.slot_end(id, end)?,
                Turn::Deferred(end) => self.deferred_end(end)?,
                Turn::JoinMoved => {}
                Turn::Checkpoint => self.checkpoint_step().await?,
                Turn::Run(input, until) => {
                    self.run_slice(input, until)?;
                    tokio::task::yield_now().await;
                }
                Turn::Visit => {
                    self.visit_slice()?;
                    tokio::task::yield_now().await;
                }
                Turn::HandOver => self.hand_over(),
                Turn::Drained => {
                    let failure = self.ending.as_mut().and_then(|e| e.failure.take());
                    return failure.map_or(Ok(true), Err);
                }
            }
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<Turn>> {
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(Ok(Turn::Command(command)));
        }
        if let Poll::Ready((batch, delivery)) = self.outbox.poll_delivered(cx) {
            return Poll::Ready(Ok(Turn::Delivered(batch, delivery)));
        }
        if let Poll::Ready(Some((id, end))) = Pin::new(&mut self.futures).poll_next(cx) {
            return Poll::Ready(Ok(Turn::SlotEnd(id, end)));
        }
        if let Poll::Ready(Some(end)) = self.deferred.poll_recv(cx) {
            return Poll::Ready(Ok(Turn::Deferred(end)));
        }
        if let Poll::Ready(moved) = self.poll_joins(cx)? {
            return Poll::Ready(Ok(moved));
        }
        if self.checkpoint == Checkpointing::Writing || self.next_checkpoint.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Turn::Checkpoint));
        }
        if self.replay.is_waiting() {
            // Something failed: nothing new before what is on its way has come back.
            return Poll::Pending;
        }
        // An end waits for it only if there is something left to write.
        if (self.ending.is_none() || self.moved) && self.replay.poll_rest(cx).is_pending() {
            return Poll::Pending;
        }
        if self.stage.out.len() >= self.env.options.batch_records || self.is_full() {
            return Poll::Ready(Ok(Turn::HandOver));
        }
        if self.ending.is_none() && self.may_dispatch() {
            if !self.visits.is_empty() {
                // Records wait for a visit, else it might never find a moment at which none is under way.
                if self.slots.is_empty() {
                    return Poll::Ready(Ok(Turn::Visit));
                }
            } else if let Poll::Ready(turn) = self.poll_inputs(cx)? {
                return Poll::Ready(Ok(turn));
            }
        }
        if self.moved {
            return Poll::Ready(Ok(Turn::HandOver));
        }
        if self.ending.is_some() && self.slots.is_empty() && self.outbox.is_empty() {
            return Poll::Ready(Ok(Turn::Drained));
        }
        Poll::Pending
    }

    /// Whether there is room for more work.
    fn may_dispatch(&self) -> bool {
        self.outbox.bytes() < self.env.options.in_flight_bytes
            && !self.slots.alone()
            && (!self.replay.one_by_one(&self.inputs)
                || (self.outbox.is_empty() && self.slots.is_empty() && !self.moved))
    }

    /// Whether what is released should be handed over before more is processed.
    fn is_full(&self) -> bool {
        let (released, options) = (&self.stage.out, &self.env.options);
        !released.is_empty()
            && (released.bytes() >= options.batch_bytes
                || self.outbox.bytes() + weight(released) >= options.in_flight_bytes)
    }

    /// The input whose turn it is, if one has a record and nothing earlier may come from another.
    fn poll_inputs(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<Turn>> {
        let limits = self.env.options.fetch;
        for input in &mut self.inputs {
            if let Err(error) = input.poll_fill(cx, limits) {
                let doing = format!("read {}", input.partition);
                return Poll::Ready(Err(ProcessorError::log(self.core.graph.name(), doing, error)));
            }
        }
        let (input, until) = match choose(&self.inputs) {
            Next::Nothing => {
                self.idle = None;
                self.idle_passed = false;
                return Poll::Pending;
            }
            Next::Input(input, until) => {
                self.idle = None;
                self.idle_passed = false;
                (input, until)
            }
            Next::Unsure(input, until) => {
                if !self.idle_passed {
                    let max = self.env.options.max_task_idle;
                    let idle = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(max)));
                    if idle.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.idle = None;
                    self.idle_passed = true;
                }
                (input, until)
            }
        };
        if self.room_for(input) { Poll::Ready(Ok(Turn::Run(input, until))) } else { Poll::Pending }
    }

    fn poll_joins(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<Turn>> {
        for join in &mut self.joins {
            match join.poll_step(cx, &mut |_, _| {}) {
                Poll::Pending => {}
                Poll::Ready(Ok(Step::Applied(_) | Step::CaughtUp)) => return Poll::Ready(Ok(Turn::JoinMoved)),
                Poll::Ready(Err(error)) => {
                    let error = ProcessorError::follow(self.core.graph.name(), "follow a joined table", error);
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Pending
    }

    /// Begins to end: what has not begun is left to the partition's next owner.
    fn begin_end(&mut self) -> &mut Ending {
        self.slots.cut_waiting();
        for visit in self.visits.drain(..) {
            let error = crate::log::LogError::Closed { what: "visit: the partition is moving or the processor".into() };
            _ = visit.request.done.send(Err(ProcessorError::log(self.core.graph.name(), "visit", error)));
        }
        self.ending.get_or_insert_default()
    }

    /// A record has failed for good: what is before it is finished and committed, then the task fails.
    fn fail_at(&mut self, id: u64, error: ProcessorError) {
        self.slots.cut_from(id);
        // A later failure than one that is known already is cut off before it can come here.
        self.begin_end().failure = Some(error);
    }

    async fn checkpoint_step(&mut self) -> ProcessorResult<()> {
        let (now, chunk) = (self.core.clock.now_ms(), self.env.options.checkpoint_chunk);
        let store = |e| ProcessorError::store(self.core.graph.name(), e);
        if let Some(table) = &self.core.table {
            let mut table = table.borrow_mut();
            if self.checkpoint == Checkpointing::No && table.behind() {
                table.checkpoint_begin();
                self.checkpoint = Checkpointing::Writing;
            }
            if self.checkpoint == Checkpointing::Writing && table.checkpoint_step(now, chunk).map_err(store)? {
                self.checkpoint = Checkpointing::No;
                if table.buffered() > self.env.options.buffer_bytes {
                    table.evict();
                }
            }
        }
        if self.checkpoint == Checkpointing::No {
            for join in &mut self.joins {
                join.checkpoint(now).map_err(store)?;
            }
            self.next_checkpoint.as_mut().reset(Instant::now() + self.env.options.checkpoint_interval);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// A checkpoint comes early when the buffer is over its bound.
    fn bound_buffer(&mut self) {
        if let Some(table) = &self.core.table
            && self.checkpoint == Checkpointing::No
        {
            let mut table = table.borrow_mut();
            if table.buffered() > self.env.options.buffer_bytes {
                if table.behind() {
                    table.checkpoint_begin();
                    self.checkpoint = Checkpointing::Writing;
                } else {
                    table.evict();
                }
            }
        }
    }

    /// Records in the store what is acknowledged, so that a restart need not read it again.
    async fn close(mut self) -> ProcessorResult<()> {
        // A checkpoint that is half done ends first, then one more takes in what came since.
        while self.checkpoint == Checkpointing::Writing {
            self.checkpoint_step().await?;
        }
        self.checkpoint_step().await?;
        while self.checkpoint == Checkpointing::Writing {
            self.checkpoint_step().await?;
        }
        Ok(())
    }
}
