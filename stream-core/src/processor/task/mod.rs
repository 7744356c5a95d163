//! A task: everything of one partition.
//!
//! It lives on one worker thread, as one future that shares nothing with other tasks but what [`Env`] holds. The loop
//! below asks one question at a time, in a fixed order (commands, deliveries, callbacks, checkpoint, records), so that
//! a run can be repeated exactly.
//!
//! Invariants:
//! - Effects enter `stage.out` in offset order only, and leave it with [`Task::flush`] together with the positions
//!   that they belong to.
//! - `acknowledged` of an input moves only when a handed-over batch is acknowledged as a whole; nothing beyond it
//!   may be committed (semantics D1), nor, with at-least-once delivery and state, beyond what the state has recorded (D11).
//! - After any failed delivery the task goes back to what is acknowledged, once nothing is on its way any more.
//! - A task that ends, by command or because something failed, begins nothing new, and ends once all it released is
//!   acknowledged or taken back, so that nothing of it is done again without need, or twice.

mod alignment;
mod calls;
mod checkpoint;
mod closed;
mod cut;
mod dead_letter;
mod delivery;
mod dispatch;
mod due_failure;
mod ending;
mod event;
mod failure;
mod fire;
mod fire_entry;
mod guard;
mod in_flight;
mod in_step;
mod inbox;
mod input;
mod left_out;
mod nulls;
mod outbox;
mod place;
mod published;
mod pulse;
mod query;
mod quiet;
mod recording;
mod refusal;
mod release;
mod replay;
mod search;
mod span;
mod start;
mod time;
mod time_writes;
mod visit;
mod visits;
mod waiting;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::{BoxFuture, LocalBoxFuture, Shared};
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tracing::Instrument;

use self::alignment::TaskAlignment;
use self::in_flight::InFlight;
pub(super) use self::inbox::{Command, Demand, Inbox, Orders, VisitRequest, inbox};
use self::input::TaskInput;
use self::outbox::{InFlightBatch, Outbox, Provenance, Visited};
pub(super) use self::place::lost_position;
pub(super) use self::published::Positions;
use self::pulse::Pulse;
use self::recording::Recording;
use self::replay::Replay;
use self::time::Time;
use self::visit::Visit;
use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use super::options::Standbys;
use super::positions::Looked;
use super::standby::OpenStores;
use super::status::Waiting;
use crate::context::{Core, DeferredEnd, Stage};
use crate::group::CallbackResult;
use crate::log::{Assigned, Commits, Delivery, LogError, LogResult};
use crate::table::Follower;

/// A report of a task to its instance.
#[derive(Debug)]
pub(super) enum Report {
    /// The table and the joins are restored; records are processed from now on, beginning with these positions.
    Running(Commits),
    /// Positions can be committed: the state has them.
    Recorded,
    /// It waits for something that passes, or no longer does.
    Waiting(Option<Waiting>),
    /// It can't go on. What it has begun is finished as far as that is possible, until the instance has it end.
    Failed(ProcessorError),
}

/// The parts that a worker needs to start a task.
pub(super) struct TaskSpec {
    pub(super) partition: i32,
    /// The input edge of each assigned partition.
    pub(super) inputs: Vec<(usize, Assigned)>,
    pub(super) env: Arc<Env>,
    /// The log's answers about the inputs.
    pub(super) looked: Shared<BoxFuture<'static, LogResult<Arc<Looked>>>>,
    pub(super) positions: Arc<Positions>,
    pub(super) inbox: Inbox,
    pub(super) reports: mpsc::UnboundedSender<(u64, Report)>,
    pub(super) id: u64,
    /// Resolves when the previous owner of this partition's stores has ended.
    pub(super) after: Option<oneshot::Receiver<OpenStores>>,
}

/// A callback, a rest before a retry, or a codec's loading, of a slot.
type SlotFuture = LocalBoxFuture<'static, (u64, SlotEnd)>;

enum SlotEnd {
    /// The callback returned, with its stage.
    Returned(Stage, CallbackResult),
    /// Try the callback again.
    Again,
    /// The codec of the record has loaded what it missed: the record's event time can be known.
    Loaded,
    /// Nothing can be loaded: the record has failed.
    Unloadable(crate::group::CallbackError),
}

/// How a task has ended.
enum End {
    /// At once.
    Aborted,
    /// With everything that it had begun.
    Drained,
}

/// The end of a task, while everything released is still to be acknowledged and published.
#[derive(Default)]
struct Ending {
    /// Notified when it has ended.
    waiting: Vec<oneshot::Sender<()>>,
    /// Something failed, which is reported already.
    failed: bool,
}

/// The next event of a task.
enum TaskEvent {
    Command(Option<Command>),
    Delivered(InFlightBatch, Delivery),
    SlotEnd(u64, SlotEnd),
    Deferred(DeferredEnd),
    Demand(Demand),
    JoinMoved,
    Checkpoint,
    Run(usize, i64),
    Visit,
    Fire,
    Flush,
    Drained,
}

/// How long a partition has been quiet.
#[derive(Default)]
enum Quiet {
    /// It is not.
    #[default]
    No,
    /// Resolves once it has been for long enough.
    For(BoxFuture<'static, ()>),
    /// Open windows, sessions and joined records were closed.
    Closed,
}

/// Whether a checkpoint is being written.
#[derive(PartialEq, Eq)]
enum Checkpointing {
    No,
    Writing,
}

struct Task {
    id: u64,
    /// Counts how often the task went back.
    epoch: u64,
    env: Arc<Env>,
    core: Rc<Core>,
    inputs: Vec<TaskInput>,
    alignment: TaskAlignment,
    /// The stage of the record at hand; its `out` is what is released and not yet handed over.
    stage: Stage,
    /// The maker of each part of `stage.out`.
    sources: Vec<Provenance>,
    /// Something was released since the last hand-over, if only a position.
    moved: bool,
    /// The positions are to be committed, moved or not (semantics D9), and nothing that brings them is acknowledged yet.
    recommit: bool,
    in_flight: InFlight,
    /// The input whose next record waits for a record under way, and the stream time that it would bring.
    blocked: Option<(usize, i64)>,
    time: Time,
    futures: FuturesUnordered<SlotFuture>,
    deferred: mpsc::UnboundedReceiver<DeferredEnd>,
    /// Dropped before `ending`, whose end says that this task hands nothing over any more.
    outbox: Outbox,
    joins: Vec<Follower>,
    /// The joins had the last turn: it is the records' turn, if there are any.
    joined: bool,
    positions: Arc<Positions>,
    commands: mpsc::UnboundedReceiver<Command>,
    demands: mpsc::UnboundedReceiver<Demand>,
    /// A demand had the last turn: it is something else's, if there is anything.
    was_demand: bool,
    pulse: Pulse,
    quiet: Quiet,
    reports: mpsc::UnboundedSender<(u64, Report)>,
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
    replay: Replay,
    /// Until acknowledgements are late.
    stall: Option<Pin<Box<Sleep>>>,
    /// Its wait is reported.
    waits: bool,
    recording: Recording,
}

/// Runs a task from its assignment to its end. The stores are closed when this returns, but for those that it returns
/// for a standby.
pub(super) fn run(spec: TaskSpec) -> impl Future<Output = OpenStores> {
    let span = span::of(spec.env.graph.name(), spec.partition, &spec.inputs);
    live(spec).instrument(span)
}

async fn live(spec: TaskSpec) -> OpenStores {
    let TaskSpec { id, after, ref reports, .. } = spec;
    let reports = reports.clone();
    let before = match after {
        // An error means the same: the previous owner has ended.
        Some(after) => after.await.unwrap_or_default(),
        None => OpenStores::default(),
    };
    let spec = TaskSpec { after: None, ..spec };
    // A failure is reported before anything is dropped that notifies others of the task's end.
    let failed = |error| {
        _ = reports.send((id, Report::Failed(error)));
        OpenStores::default()
    };
    let mut task = match Task::start(spec).await {
        Ok(Some(task)) => task,
        // In the second case the partition is another's, of which the instance will hear, too.
        Ok(None) | Err(ProcessorError::Log { error: LogError::NotMember { .. }, .. }) => return before,
        Err(error) => return failed(error),
    };
    drop(before);
    _ = reports.send((id, Report::Running(task.starts())));
    match task.work().await {
        Ok(End::Aborted) => OpenStores::default(),
        Ok(End::Drained) => {
            let ending = task.ending.take().unwrap_or_default();
            for done in ending.waiting {
                // Before the store is closed: the partition's next owner waits only for the commit.
                _ = done.send(());
            }
            if ending.failed {
                // What failed may be the store, or a checkpoint that is half done.
                return OpenStores::default();
            }
            let keep = task.env.options.standbys == Standbys::All;
            let stores = if keep { task.core.stores() } else { Vec::new() };
            match task.close().await {
                Ok(()) => OpenStores::of(stores),
                Err(error) => failed(error),
            }
        }
        Err(error) => failed(error),
    }
}

impl Task {
    /// Works until the end, which is a failure at once only where nothing more can be written.
    async fn work(&mut self) -> ProcessorResult<End> {
        loop {
            let done = match poll_fn(|cx| self.poll_event(cx)).await {
                Err(error) => Err(error),
                Ok(turn) => match turn {
                    TaskEvent::Demand(demand) => {
                        self.meet(demand);
                        tokio::task::yield_now().await;
                        Ok(())
                    }
                    TaskEvent::Command(Some(Command::Drain(done))) => {
                        self.begin_end().waiting.push(done);
                        Ok(())
                    }
                    TaskEvent::Command(Some(Command::Recommit)) => {
                        (self.moved, self.recommit) = (true, true);
                        Ok(())
                    }
                    TaskEvent::Command(Some(Command::Record)) => {
                        self.recording.due = true;
                        Ok(())
                    }
                    // A command, or the instance has ended.
                    TaskEvent::Command(Some(Command::Abort) | None) => return Ok(End::Aborted),
                    TaskEvent::Delivered(batch, delivery) => self.delivered(batch, delivery).await,
                    TaskEvent::SlotEnd(id, end) => {
                        let done = self.slot_end(id, end);
                        if self.pulse.is_long() {
                            self.pulse.begin();
                            tokio::task::yield_now().await;
                        }
                        done
                    }
                    TaskEvent::Deferred(end) => self.deferred_end(end),
                    TaskEvent::JoinMoved => {
                        tokio::task::yield_now().await;
                        Ok(())
                    }
                    TaskEvent::Checkpoint => self.checkpoint_step().await,
                    TaskEvent::Run(input, until) => {
                        let done = self.run_slice(input, until);
                        tokio::task::yield_now().await;
                        done
                    }
                    TaskEvent::Visit => {
                        let done = self.visit_slice();
                        tokio::task::yield_now().await;
                        done
                    }
                    TaskEvent::Fire => {
                        let done = self.fire_slice();
                        tokio::task::yield_now().await;
                        done
                    }
                    TaskEvent::Flush => {
                        self.flush();
                        Ok(())
                    }
                    TaskEvent::Drained => return Ok(End::Drained),
                },
            };
            match done {
                Ok(()) => {}
                // The partition is another's, of which the instance will hear, too: no fault of anybody's.
                Err(ProcessorError::Log { error: LogError::NotMember { .. }, .. }) => return Ok(End::Aborted),
                Err(error) if self.replay.is_dead() => return Err(error),
                Err(error) => self.fail(error),
            }
        }
    }
}
