//! Transactions of exactly-once delivery: one a commit interval, with all that the instance's tasks release (semantics D3).
//!
//! Tasks hand batches over and go on; this is one future that puts them into transactions. While one commits, batches
//! of the next one wait in the queue.
//!
//! Invariants:
//! - A batch enters a transaction together with the positions it belongs to, so that each partition written for has
//!   its offset in the transaction, unchanged ones included: a transaction without an offset is fenced by nothing.
//! - The batches of a task are committed in the order in which they were handed over. Once one has failed, all later
//!   ones fail too, until the task says (by its epoch) that it has gone back.
//! - The group's metadata is taken at the commit, so that a generation that has ended makes the commit fail.
//! - A transaction has no more bytes than its [`Budget`], or one batch; a batch that is to go alone has one to itself. One
//!   whose records are not acknowledged in time is aborted here, before the log does it and takes us for a zombie.
//! - Positions that their topic refuses again and again end the work: no record is at fault, and no policy applies.
//! - Nothing but transactions commits offsets: a plain commit under way could set one back.
//! - The positions that a group's state contains are in the transaction that commits them as offsets.

mod message;
mod sent;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

pub(super) use self::message::How;
use self::message::{HandedOver, Message, failed};
use self::work::Work;
use super::budget::Budget;
use super::counters::Counters;
use crate::log::{Commits, Delivery, GroupHandle, LogError, LogResult, ProduceBatch, Producer};

/// The tasks' end.
#[derive(Clone)]
pub(super) struct Transactions {
    messages: mpsc::UnboundedSender<Message>,
    budget: Arc<AtomicUsize>,
}

impl Transactions {
    /// The tasks' end and the future that does the work; it ends with an error that no abort mends, or when all
    /// tasks' ends are gone.
    pub(super) fn new(
        producer: Arc<dyn Producer>,
        group: Arc<dyn GroupHandle>,
        interval: Duration,
        budget: Budget,
        counters: Arc<Counters>,
        timeout: Duration,
        state: Option<Arc<str>>,
    ) -> (Self, BoxFuture<'static, LogResult<()>>) {
        let (tasks, mut work) = Self::apart(producer, group, interval, budget, counters);
        (work.timeout, work.state) = (timeout, state);
        (tasks, work.run().boxed())
    }

    fn apart(
        producer: Arc<dyn Producer>,
        group: Arc<dyn GroupHandle>,
        interval: Duration,
        budget: Budget,
        counters: Arc<Counters>,
    ) -> (Self, Work) {
        let (messages, inbox) = mpsc::unbounded_channel();
        let shared = budget.shared();
        let work = Work::new(producer, group, interval, budget, counters, inbox);
        (Self { messages, budget: shared }, work)
    }

    /// Resolves once the batch is committed, or the transaction it was in is aborted.
    pub(super) fn send(
        &self,
        task: u64,
        epoch: u64,
        batch: Arc<ProduceBatch>,
        positions: Commits,
        how: How,
    ) -> BoxFuture<'static, Delivery> {
        let (done, delivery) = oneshot::channel();
        // One that can't be sent drops `done`, which is answered below.
        _ = self.messages.send(Message::HandOver(HandedOver { task, epoch, batch, positions, how, done }));
        delivery.map(|d| d.unwrap_or_else(|_| failed(LogError::Closed { what: "the transactions".into() }))).boxed()
    }

    /// Commits what these tasks send, or have sent, as soon as possible: they were asked to end.
    pub(super) fn hurry(&self, tasks: Vec<u64>) {
        _ = self.messages.send(Message::Hurry(tasks));
    }

    /// Commits what the group sends to itself as soon as possible, be it handed over already or next. Other batches do not make
    /// a transaction end: somebody waits for those records to come back, and each transaction before theirs holds them up.
    pub(super) fn hasten(&self) {
        _ = self.messages.send(Message::Hasten);
    }

    /// Has no batch of several records sent that is larger, once the open transaction has ended.
    pub(super) fn limit_batches(&self, bytes: usize) -> BoxFuture<'static, LogResult<()>> {
        let (done, limited) = oneshot::channel();
        // One that can't be sent drops `done`.
        _ = self.messages.send(Message::LimitBatches(bytes, done));
        let closed = || LogError::Closed { what: "the transactions".into() };
        limited.map(move |limited| limited.unwrap_or_else(|_| Err(closed()))).boxed()
    }

    /// The most bytes of a transaction.
    pub(super) fn budget(&self) -> usize {
        self.budget.load(Ordering::Relaxed)
    }

    /// To be dropped when a task has handed over its last batch.
    pub(super) fn guard(&self, task: u64) -> OverGuard {
        OverGuard(self.clone(), task)
    }

    /// Keeps anything of lost tasks from being committed.
    pub(super) fn lost(&self, tasks: Vec<u64>) {
        _ = self.messages.send(Message::Lost(tasks));
    }
}

/// Reports the end of a task, in whichever way it ends.
pub(super) struct OverGuard(Transactions, u64);

impl Drop for OverGuard {
    fn drop(&mut self) {
        _ = self.0.messages.send(Message::Over(self.1));
    }
}

#[cfg(test)]
mod tests;
