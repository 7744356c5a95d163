//! The inbox of a task: requests of its instance.
//!
//! Commands are the instance's own, few, and come first. What somebody outside asks for may come without end: it has a
//! channel apart, which takes turns with the task's own work, so that it can't keep commits waiting.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::pulse::Knock;
use crate::processor::error::ProcessorResult;
use crate::processor::query::ReadRequest;

/// A command of its instance to a task.
pub(in crate::processor) enum Command {
    /// Finish what is under way, then say so and end.
    Drain(oneshot::Sender<()>),
    /// Commit the positions again, unchanged or not (semantics D9).
    Recommit,
    /// Write the positions that the state contains, so that they can be committed.
    Record,
    /// End at once: nothing more may be done.
    Abort,
}

/// A demand from outside of the processor.
pub(in crate::processor) enum Demand {
    /// Run a visitor over every key.
    Visit(VisitRequest),
    /// Say what is committed.
    Read(ReadRequest),
}

pub(in crate::processor) struct VisitRequest {
    pub(in crate::processor) visitor: usize,
    pub(in crate::processor) arg: Arc<dyn Any + Send + Sync>,
    /// Gets the number of keys visited.
    pub(in crate::processor) done: oneshot::Sender<ProcessorResult<u64>>,
}

/// The instance's end. A task that has ended takes nothing, and minds nothing.
#[derive(Clone)]
pub(in crate::processor) struct Orders {
    commands: mpsc::UnboundedSender<Command>,
    demands: mpsc::UnboundedSender<Demand>,
    knock: Knock,
}

impl Orders {
    pub(in crate::processor) fn command(&self, command: Command) {
        _ = self.commands.send(command);
        self.knock.knock();
    }

    /// Puts a demand. One that the task does not take is dropped, so that the caller learns that the task has ended.
    pub(in crate::processor) fn ask(&self, what: Demand) {
        _ = self.demands.send(what);
        self.knock.knock();
    }
}

/// The task's end.
pub(in crate::processor) struct Inbox {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) demands: mpsc::UnboundedReceiver<Demand>,
    pub(super) knock: Knock,
}

/// Both ends.
pub(in crate::processor) fn inbox() -> (Orders, Inbox) {
    let (commands, commanded) = mpsc::unbounded_channel();
    let (demands, demanded) = mpsc::unbounded_channel();
    let knock = Knock::default();
    let inbox = Inbox { commands: commanded, demands: demanded, knock: knock.clone() };
    (Orders { commands, demands, knock }, inbox)
}
