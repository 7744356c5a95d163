//! The handle of a processor: observes and steers it from outside.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::counters::Counters;
use super::error::{ProcessorError, ProcessorResult};
use super::progress::{Unfinished, input_ends, unfinished};
use super::query::{Asked, Question, ReadError};
use super::status::{State, Status};
use crate::group::{GroupGraph, Visitor};
use crate::log::{LogError, LogHandle};

/// A handle's request to the running instance.
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
///
/// ```
/// use stream_core::State;
/// use stream_core::prelude::*;
///
/// # let mut g = Group::define("counts").table(Int64);
/// # g.input("words", Text, |ctx, _| ctx.set(1));
/// # let (graph, log) = (g.build()?, InMemory::new());
/// # let dir = tempfile::tempdir()?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// let words = Emitter::builder("words", Text, log.clone()).create(4).open().await?;
/// let processor = Processor::new(graph, log).state_dir(dir.path());
/// let handle = processor.handle();
/// let run = tokio::spawn(processor.run());
/// handle.running().await?; // or the error that ended it
/// words.emit_acknowledged("apple", "red").await?;
/// handle.caught_up().await?;
/// assert_eq!(handle.get::<i64>("apple").await?, Some(1));
/// assert_eq!(handle.status().tasks.len(), 4);
///
/// handle.stop();
/// run.await??;
/// handle.wait_for(|status| status.state == State::Stopped).await;
/// assert!(handle.failure().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// instance, and what it has sent on to itself of it: by re-keys, chained ones included, by other keys for a join, or by
    /// each loop for the first time. For tests and tools: it asks the log again and again.
    ///
    /// # Errors
    /// When the processor ends before, as [`running`](Self::running), or the log can't be reached.
    pub async fn caught_up(&self) -> ProcessorResult<()> {
        let group = self.graph.name();
        let failed = |e| ProcessorError::log(group, "look at the group's progress", e);
        self.done_now(failed).await?;
        for _ in self.graph.own_topics() {
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
    /// everything the visitor did is acknowledged. [`GroupBuilder::visitor`](crate::group::GroupBuilder::visitor) has an example.
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
