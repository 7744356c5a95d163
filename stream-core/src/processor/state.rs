//! What a processor is doing, to be observed and awaited.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::env::Counters;
use super::error::{ProcessorError, ProcessorResult};
use super::progress::{Unfinished, input_ends, unfinished};
use super::read::{Asked, Question, ReadError};
use crate::group::{GroupGraph, LeftOut, Visitor};
use crate::log::{LogError, LogHandle, TopicPartition};

/// The state of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Not yet run.
    Created,
    /// Checks topics, opens lookups, joins its group.
    Starting,
    /// At least one partition's table is being restored.
    Restoring,
    /// All assigned partitions are processed.
    Running,
    /// Something that passes keeps it from going on: see [`Status::waiting`].
    Waiting,
    /// Finishes what is under way.
    Stopping,
    /// Ended by [`Handle::stop`], or by the signal or future that it ran until.
    Stopped,
    /// Ended by an error.
    Failed,
}

/// The state of one partition's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// Its table or a join is being restored.
    Restoring,
    /// Records are processed.
    Running,
    /// It finishes what is under way.
    Draining,
}

/// The state of the warm copy of a partition whose task another instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StandbyState {
    /// It has not reached its topic's end yet.
    Restoring,
    /// It has reached its topic's end, and follows it.
    Running,
    /// The log can't be reached or has failed; it recovers without help.
    Reconnecting,
    /// Its store failed. A task that takes over begins with another store.
    Failed,
}

/// A wait of a processor for a passing trouble: brokers that are away, too few replicas in sync, a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// The trouble, in words.
    pub on: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: i64,
}

/// A processor's state, with that of each partition it has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The whole.
    pub state: State,
    /// Its partitions.
    pub tasks: BTreeMap<TopicPartition, TaskState>,
    /// Its [standbys](super::Standbys), by the copied partition of the table or of a join.
    pub standbys: BTreeMap<TopicPartition, StandbyState>,
    /// The longest wait, if anything keeps it from going on.
    pub waiting: Option<Waiting>,
    /// How many records were left out, by reason, since the processor was made. A record that is processed again after a
    /// failure is counted again.
    pub left_out: BTreeMap<LeftOut, u64>,
}

impl Status {
    /// Before the group is joined, while something passes.
    pub(super) fn waits(waiting: Waiting) -> Self {
        Self { waiting: Some(waiting), ..Self::of(State::Waiting) }
    }

    /// Without any partition.
    pub(super) fn of(state: State) -> Self {
        let left_out = BTreeMap::new();
        Self { state, tasks: BTreeMap::new(), standbys: BTreeMap::new(), waiting: None, left_out }
    }
}

/// A change of the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebalance {
    /// Partitions came.
    Assigned(Vec<TopicPartition>),
    /// Partitions go, in order.
    Revoked(Vec<TopicPartition>),
    /// Partitions are gone: another instance may have them already.
    Lost(Vec<TopicPartition>),
}

/// What a handle asks of the running instance.
pub(super) enum Request {
    Stop,
    Visit {
        visitor: usize,
        arg: Arc<dyn Any + Send + Sync>,
        done: oneshot::Sender<Vec<oneshot::Receiver<ProcessorResult<u64>>>>,
    },
    Read {
        question: Question,
        done: oneshot::Sender<Result<Asked, ReadError>>,
    },
}

/// Observes and steers a processor from outside. Clones are equal.
#[derive(Clone)]
pub struct Handle {
    pub(crate) graph: Arc<GroupGraph>,
    pub(super) log: LogHandle,
    pub(super) status: watch::Receiver<Status>,
    pub(super) requests: mpsc::UnboundedSender<Request>,
    pub(super) counters: Arc<Counters>,
    /// Set before the state is [`State::Failed`].
    pub(super) failure: Arc<OnceLock<ProcessorError>>,
}

impl Handle {
    /// The present status of the processor.
    pub fn status(&self) -> Status {
        Status { left_out: self.counters.left_out.all(), ..self.status.borrow().clone() }
    }

    /// Resolves when the state is as asked, with what it was then. `None` if the processor is dropped before.
    pub async fn wait_for(&self, mut test: impl FnMut(&Status) -> bool) -> Option<Status> {
        let mut status = self.status.clone();
        status.wait_for(|s| test(s)).await.ok().map(|s| s.clone())
    }

    /// The error that ended the processor, if one did.
    pub fn failure(&self) -> Option<ProcessorError> {
        self.failure.get().cloned()
    }

    /// Resolves once all assigned partitions are processed.
    ///
    /// # Errors
    /// When the processor ends before: the [failure](Self::failure) that ended it, if one did.
    pub async fn running(&self) -> ProcessorResult<()> {
        let ended = |s: &Status| matches!(s.state, State::Stopped | State::Failed);
        let status = self.wait_for(|s| s.state == State::Running || ended(s)).await;
        match status {
            Some(status) if !ended(&status) => Ok(()),
            _ => Err(self.closed("wait for the processor to run")),
        }
    }

    /// Resolves once the group has committed everything that its inputs have at the moment of the call, by whichever
    /// instance, and what it has sent on to itself of it: by other keys for a join, or by its loop for the first time. For
    /// tests and tools: it asks the log again and again.
    ///
    /// # Errors
    /// When the processor ends before, as [`running`](Self::running), or the log can't be reached.
    pub async fn caught_up(&self) -> ProcessorResult<()> {
        let group = self.graph.name();
        let failed = |e| ProcessorError::log(group, "look at the group's progress", e);
        self.done_now(failed).await?;
        if self.graph.own_topics().next().is_some() {
            self.done_now(failed).await?;
        }
        Ok(())
    }

    async fn done_now(&self, failed: impl Fn(LogError) -> ProcessorError) -> ProcessorResult<()> {
        let group = self.graph.name();
        let ends = input_ends(&self.log, &self.graph).await.map_err(&failed)?;
        while let Some(Unfinished { partition, done, end }) =
            unfinished(&self.log, group, &ends).await.map_err(&failed)?
        {
            tracing::trace!(group, %partition, done, end, "not caught up yet");
            if matches!(self.status().state, State::Stopped | State::Failed) {
                return Err(self.closed("catch up"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks the processor to stop: it finishes what is under way, commits, and leaves its group. `run` returns then.
    pub fn stop(&self) {
        // A processor that has ended has stopped.
        _ = self.requests.send(Request::Stop);
    }

    /// Calls a visitor for every key of the partitions that this instance has, and resolves to the number of keys once
    /// everything the visitor did is acknowledged.
    ///
    /// # Errors
    /// When the visitor fails for a key, or a partition moves away meanwhile. Keys visited until then stay visited.
    pub async fn visit<A: Send + Sync + 'static>(&self, visitor: Visitor<A>, arg: A) -> ProcessorResult<u64> {
        self.visit_shared(visitor, Arc::new(arg)).await
    }

    pub(crate) async fn visit_shared<A: Send + Sync + 'static>(
        &self,
        visitor: Visitor<A>,
        arg: Arc<A>,
    ) -> ProcessorResult<u64> {
        if visitor.graph != self.graph.id {
            let error = LogError::Config {
                what: "visit".to_owned(),
                reason: "the visitor handle belongs to another group".to_owned(),
            };
            return Err(ProcessorError::log(self.graph.name(), "visit", error));
        }
        let (done, answers) = oneshot::channel();
        let request = Request::Visit { visitor: visitor.index, arg, done };
        if self.requests.send(request).is_err() {
            return Err(self.closed("visit"));
        }
        let mut count = 0;
        for answer in answers.await.map_err(|_| self.closed("visit"))? {
            count += answer.await.map_err(|_| self.closed("visit"))??;
        }
        Ok(count)
    }

    /// Why a processor that has ended can't do something.
    fn closed(&self, what: &str) -> ProcessorError {
        if let Some(failure) = self.failure() {
            return failure;
        }
        ProcessorError::log(self.graph.name(), what, LogError::Closed { what: "the processor".to_owned() })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({}, {:?})", self.graph.name(), self.status().state)
    }
}
