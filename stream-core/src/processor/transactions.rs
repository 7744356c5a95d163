//! Exactly once: what all tasks of an instance release, in one transaction a commit interval (semantics D3).
//!
//! Tasks hand batches over and go on; this is one future that puts them into transactions. While one commits, batches
//! of the next one wait in the queue.
//!
//! Invariants:
//! - A batch enters a transaction together with the positions it belongs to, so that each partition written for has
//!   its offset in the transaction, unchanged ones included: a transaction without an offset is fenced by nothing.
//! - The batches of a task are committed in the order in which they were handed over. Once one has failed, all later
//!   ones fail too, until the task says (by its epoch) that it has gone back.
//! - The group's metadata is taken at the commit, so that a generation that is over makes the commit fail.
//! - A transaction has no more bytes than its [`Budget`], or one batch; a batch that is to go alone has one to itself. One
//!   whose records are not acknowledged in time is aborted here, before the log does it and takes us for a zombie.
//! - Positions that their topic refuses again and again end the work: no record is at fault, and no policy applies.
//! - Nothing but transactions commits offsets: a plain commit under way could set one back.
//! - The positions that a group's state contains are in the transaction that commits them as offsets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::budget::Budget;
use super::counters::Counters;
use super::options::OWN_REFUSALS;
use super::positions::{Recorded, position_key};
use crate::log::{
    Commits, Delivery, ErrorClass, FailedRecord, GroupHandle, LogError, LogResult, NewRecord, OffsetAndMetadata,
    ProduceBatch, Producer, TopicPartition,
};

/// So long, after each batch, a transaction that somebody waits for gathers what other tasks have ready: its commit takes
/// longer than that, and another one for theirs would come on top.
const GATHER: Duration = Duration::from_millis(2);

/// A batch of a task, with the positions that it brings.
struct HandedOver {
    task: u64,
    epoch: u64,
    batch: Arc<ProduceBatch>,
    positions: Commits,
    how: How,
    done: oneshot::Sender<Delivery>,
}

/// What a batch asks of its transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// Nothing else may be in it, and it ends with the batch.
    pub(super) alone: bool,
    /// The group itself reads something of the batch.
    pub(super) goes_back: bool,
}

enum Message {
    HandOver(HandedOver),
    /// Nothing of these tasks may be committed any more.
    Lost(Vec<u64>),
    /// These tasks end: what they hand over is not to wait for the interval's end.
    Hurry(Vec<u64>),
    /// What the group sends to itself is not to wait for the interval's end.
    Hasten,
    /// Nothing comes of this task any more.
    Over(u64),
    /// No batch of several records may be larger.
    LimitBatches(usize, oneshot::Sender<LogResult<()>>),
}

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
        let work = Work {
            producer,
            group,
            interval,
            budget,
            counters,
            inbox,
            limits: Vec::new(),
            queue: VecDeque::new(),
            gone_back: BTreeMap::new(),
            lost: BTreeSet::new(),
            hurried: BTreeSet::new(),
            hastened: false,
            over: BTreeSet::new(),
            timeout: Duration::MAX,
            opened: Instant::now(),
            state: None,
            recorded: BTreeMap::new(),
            positions_refused: 0,
        };
        (Self { messages, budget: shared }, work)
    }

    /// Resolves once the batch is committed, or the transaction it was in is aborted.
    pub(super) fn hand_over(
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

    /// Commits what these tasks hand over, or have handed over, as soon as possible: they are told to end.
    pub(super) fn hurry(&self, tasks: Vec<u64>) {
        _ = self.messages.send(Message::Hurry(tasks));
    }

    /// Commits what the group sends to itself as soon as possible, be it handed over already or next. Other batches do not make
    /// a transaction end: somebody waits for those records to come back, and each transaction before theirs holds them up.
    pub(super) fn hasten(&self) {
        _ = self.messages.send(Message::Hasten);
    }

    /// Has no batch of several records sent that is larger, once the transaction that is open is over.
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

/// Says so when a task is over, in whichever way.
pub(super) struct OverGuard(Transactions, u64);

impl Drop for OverGuard {
    fn drop(&mut self) {
        _ = self.0.messages.send(Message::Over(self.1));
    }
}

struct Work {
    producer: Arc<dyn Producer>,
    group: Arc<dyn GroupHandle>,
    interval: Duration,
    budget: Budget,
    counters: Arc<Counters>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Asked for and not yet done.
    limits: Vec<(usize, oneshot::Sender<LogResult<()>>)>,
    /// Handed over and not yet in a transaction.
    queue: VecDeque<HandedOver>,
    /// For each task with a failed batch, the epoch from which its batches count again.
    gone_back: BTreeMap<u64, u64>,
    lost: BTreeSet<u64>,
    hurried: BTreeSet<u64>,
    /// The transaction is not to wait for its interval's end.
    hastened: bool,
    over: BTreeSet<u64>,
    /// How long a transaction may stay open before the broker ends it, and since when this one is.
    timeout: Duration,
    opened: Instant,
    /// The topic of the positions that the state contains.
    state: Option<Arc<str>>,
    /// The last ones written there, by task.
    recorded: BTreeMap<(u64, TopicPartition), OffsetAndMetadata>,
    /// So many times in a row that topic has refused them.
    positions_refused: u32,
}

/// A batch in the open transaction.
struct Sent {
    what: HandedOver,
    delivery: BoxFuture<'static, Delivery>,
}

/// An open transaction that nothing more goes into.
struct Filled {
    sent: Vec<Sent>,
    bytes: usize,
    begun: Instant,
    /// When it is given up.
    deadline: Instant,
}

/// A transaction whose records are waited for.
struct Ending {
    bytes: usize,
    begun: Instant,
    /// When it is given up.
    deadline: Instant,
    /// The first error.
    error: Option<LogError>,
    /// It was aborted, because its records took too long.
    aborted: Option<LogResult<()>>,
}

/// Positions of a task in the open transaction.
struct SentPositions {
    /// Of the batch that brought them.
    index: usize,
    moved: Vec<((u64, TopicPartition), OffsetAndMetadata)>,
    delivery: BoxFuture<'static, Delivery>,
}

impl Work {
    async fn run(mut self) -> LogResult<()> {
        loop {
            self.forget();
            while self.queue.is_empty() && self.limits.is_empty() {
                let Some(message) = self.inbox.recv().await else { return Ok(()) };
                self.take(message);
            }
            for (bytes, done) in std::mem::take(&mut self.limits) {
                let limited = self.producer.limit_batches(bytes).await;
                let ended = limited.as_ref().err().filter(|e| e.class() == ErrorClass::Fatal).cloned();
                _ = done.send(limited);
                if let Some(error) = ended {
                    return Err(error);
                }
            }
            if self.queue.is_empty() {
                continue;
            }
            let until = Instant::now() + self.interval;
            self.opened = Instant::now();
            if let Err(error) = self.producer.begin_transaction().await {
                self.note_fenced(&error);
                let queued = std::mem::take(&mut self.queue);
                for batch in queued {
                    self.fail(batch, &error);
                }
                if error.class() == ErrorClass::Fatal {
                    return Err(error);
                }
                continue;
            }
            let filled = self.fill(until).await;
            self.finish(filled).await?;
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::HandOver(what) if self.is_void(&what) => refuse(what),
            Message::HandOver(what) => self.queue.push_back(what),
            Message::Lost(tasks) => {
                // What is in the open transaction is looked at before its commit.
                self.lost.extend(tasks);
                self.refuse_void();
            }
            Message::Hurry(tasks) => self.hurried.extend(tasks),
            Message::Hasten => self.hastened = true,
            Message::Over(task) => _ = self.over.insert(task),
            Message::LimitBatches(bytes, done) => self.limits.push((bytes, done)),
        }
    }

    /// Forgets tasks of which nothing can come any more, and nothing is left. Only while no transaction is open.
    fn forget(&mut self) {
        let Self { queue, gone_back, lost, hurried, over, recorded, .. } = self;
        over.retain(|task| {
            // Each is told to be lost at the end, if only after it has ended in good order.
            let stays = !lost.contains(task) || queue.iter().any(|what| what.task == *task);
            if !stays {
                lost.remove(task);
                gone_back.remove(task);
                hurried.remove(task);
                recorded.retain(|(of, _), _| of != task);
            }
            stays
        });
    }

    /// Whether a batch comes behind one that failed, or is of a task that is lost.
    fn is_void(&self, what: &HandedOver) -> bool {
        self.gone_back.get(&what.task).is_some_and(|from| what.epoch < *from) || self.lost.contains(&what.task)
    }

    fn refuse_void(&mut self) {
        for what in std::mem::take(&mut self.queue) {
            if self.is_void(&what) { refuse(what) } else { self.queue.push_back(what) }
        }
    }

    /// Puts what is handed over into the open transaction, until the interval is over or the transaction is full.
    async fn fill(&mut self, until: Instant) -> Filled {
        let (mut sent, mut bytes, mut newest) = (Vec::new(), 0, Instant::now());
        let (begun, deadline) = (Instant::now(), self.budget.deadline());
        let filled = |sent, bytes| Filled { sent, bytes, begun, deadline };
        loop {
            while let Some(what) = self.queue.pop_front() {
                let (size, alone) = (what.batch.bytes(), what.how.alone);
                if !sent.is_empty() && (alone || bytes + size > self.budget.bytes()) {
                    self.queue.push_front(what);
                    return filled(sent, bytes);
                }
                bytes += size;
                newest = Instant::now();
                let delivery = if what.batch.is_empty() {
                    std::future::ready(Delivery::default()).boxed()
                } else {
                    self.producer.send(Arc::clone(&what.batch))
                };
                sent.push(Sent { what, delivery });
                if alone {
                    return filled(sent, bytes);
                }
            }
            let hastened = self.hastened && sent.iter().any(|sent| sent.what.how.goes_back);
            if !self.limits.is_empty() || sent.iter().any(|s| self.hurried.contains(&s.what.task)) {
                return filled(sent, bytes);
            }
            let until = if hastened { until.min(newest + GATHER) } else { until };
            tokio::select! {
                biased;
                () = sleep_until(until) => {
                    self.hastened &= !hastened;
                    return filled(sent, bytes);
                }
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return filled(sent, bytes),
                },
            }
        }
    }

    /// Commits the open transaction, or aborts it and says so to everybody in it.
    async fn finish(&mut self, filled: Filled) -> LogResult<()> {
        let Filled { sent, bytes, begun, deadline } = filled;
        // What is to go alone shares the wire with nothing, positions included.
        let alone = sent.iter().any(|sent| sent.what.how.alone);
        let mut positions = if alone { Vec::new() } else { self.send_positions(sent.iter().map(|sent| &sent.what)) };
        let mut ending = Ending { bytes, begun, deadline, error: None, aborted: None };
        let mut done = Vec::new();
        for Sent { what, delivery } in sent {
            let delivery = self.delivered(delivery, &mut ending).await;
            done.push((what, delivery));
        }
        if alone && ending.error.is_none() {
            positions = self.send_positions(done.iter().map(|(what, _)| what));
        }
        let (mut moved, mut refused) = (Vec::new(), None);
        for SentPositions { index, moved: of, delivery } in positions {
            let written = self.delivered(delivery, &mut ending).await;
            refused = refused.or(written.failed.iter().map(|f| &f.error).find(|e| e.blames_record()).cloned());
            if let Some((what, delivery)) = done.get_mut(index) {
                self.count_positions(what, delivery, &written);
            }
            moved.extend(of);
        }
        let Ending { mut error, aborted, .. } = ending;
        if aborted.is_some() {
            let came = done.iter().filter(|(_, delivery)| delivery.failed.is_empty());
            self.budget.given_up(came.map(|(what, _)| what.batch.bytes()).sum(), begun.elapsed());
        } else if error.is_none() {
            self.budget.acknowledged(bytes, begun.elapsed());
        }
        // Lost partitions may have been reported meanwhile.
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
        if error.is_none() && done.iter().any(|(what, _)| self.lost.contains(&what.task)) {
            error = Some(LogError::Abortable {
                what: "commit".to_owned(),
                reason: "partitions written for are no longer this instance's".to_owned(),
            });
        }
        let (late, mut over) = (aborted.is_some(), false);
        if error.is_none() {
            let mut offsets: BTreeMap<_, _> = BTreeMap::new();
            for (what, _) in &done {
                offsets.extend(what.positions.iter().cloned());
            }
            error = match self.group.metadata() {
                None => Some(LogError::NotMember {
                    what: "commit".to_owned(),
                    group: String::new(),
                    reason: "the membership is over".to_owned(),
                }),
                metadata => {
                    let offsets = offsets.into_iter().collect();
                    self.producer.commit_transaction_with_metadata(offsets, metadata).await.err()
                }
            };
            // Of an error that could pass it is not known whether the commit took effect, so that it can't be done again:
            // a new start finds out by the committed offsets.
            over = error.as_ref().is_some_and(|e| e.class() != ErrorClass::Abortable);
        }
        let Some(error) = error else {
            self.counters.committed.fetch_add(1, Ordering::Relaxed);
            self.positions_refused = 0;
            self.recorded.extend(moved);
            count_markers(&mut done);
            for (what, delivery) in done {
                // A task that is gone does not mind.
                _ = what.done.send(delivery);
            }
            return Ok(());
        };
        self.note_fenced(&error);
        if over {
            // Those who wait learn by the end of this that nothing is known of their batches.
            return Err(error);
        }
        self.counters.aborted.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(?error, "a transaction is aborted: its partitions go back to their last commit");
        let abort = match aborted {
            Some(aborted) => aborted,
            None => self.producer.abort_transaction().await,
        };
        if let Err(error) = &abort {
            // What was sent is said to be purged where the producer is fenced.
            self.note_fenced(error);
        }
        for (what, delivery) in done {
            if late || delivery.failed.is_empty() {
                self.fail(what, &error);
            } else {
                self.gone_back.insert(what.task, what.epoch + 1);
                _ = what.done.send(delivery);
            }
        }
        // Taken in before it was known that the transaction fails.
        self.refuse_void();
        match refused {
            // No record's policy has a say in it, and the tasks would go back for ever.
            Some(refused) if self.positions_refused >= OWN_REFUSALS => Err(refused),
            refused => {
                self.positions_refused += u32::from(refused.is_some());
                abort
            }
        }
    }

    /// Waits for records of the open transaction, and aborts it if they take too long.
    async fn delivered(&self, mut delivery: BoxFuture<'static, Delivery>, ending: &mut Ending) -> Delivery {
        let in_time = match ending.aborted {
            None => timeout_at(ending.deadline, delivery.as_mut()).await.ok(),
            Some(_) => None,
        };
        let delivery = if let Some(delivery) = in_time {
            delivery
        } else {
            if ending.aborted.is_none() {
                // Nobody else does it: the log would take this producer for one that hangs.
                let (bytes, open) = (ending.bytes, ending.begun.elapsed());
                let reason = format!("its {bytes} bytes were not acknowledged within {open:?}");
                ending.error.get_or_insert(LogError::Timeout { what: "a transaction".to_owned(), reason });
                ending.aborted = Some(self.producer.abort_transaction().await);
            }
            delivery.await
        };
        if ending.error.is_none() {
            ending.error = delivery.failed.first().map(|f| f.error.clone());
        }
        delivery
    }

    /// Sends the positions that the state contains with this transaction, of inputs that moved since the last one: one batch
    /// a task.
    fn send_positions<'a>(&self, sent: impl Iterator<Item = &'a HandedOver>) -> Vec<SentPositions> {
        let Some(topic) = &self.state else { return Vec::new() };
        let mut last: BTreeMap<u64, (usize, &HandedOver)> = BTreeMap::new();
        for (index, what) in sent.enumerate() {
            last.insert(what.task, (index, what));
        }
        let mut positions = Vec::new();
        for (task, (index, what)) in last {
            let (mut batch, mut moved) = (ProduceBatch::new(), Vec::new());
            for (partition, at) in &what.positions {
                let of = (task, partition.clone());
                if self.recorded.get(&of) == Some(at) {
                    continue;
                }
                let value = Recorded { offset: at.offset, exact: true, metadata: Arc::clone(&at.metadata) }.write();
                let (key, to) = (position_key(&partition.topic), Some(partition.partition));
                let new = NewRecord { topic, partition: to, timestamp: None, key: Some(&key), value: Some(&value) };
                batch.push(new, std::iter::empty());
                moved.push((of, at.clone()));
            }
            if !batch.is_empty() {
                positions.push(SentPositions { index, moved, delivery: self.producer.send(Arc::new(batch)) });
            }
        }
        positions
    }

    /// Notes where a task's positions were written: a table of the task in the same partition goes on behind them.
    fn count_positions(&self, what: &HandedOver, delivery: &mut Delivery, written: &Delivery) {
        let Some(written) = written.last_offsets.first().copied().flatten() else { return };
        for (topic, last) in what.batch.topics().iter().zip(&mut delivery.last_offsets) {
            if let Some(last) = last
                && Some(topic) == self.state.as_ref()
            {
                *last = written.max(*last);
            }
        }
    }

    /// A transaction that was open for too long was ended by the broker, which fences its producer. Otherwise it was another
    /// producer of the same id.
    fn note_fenced(&self, error: &LogError) {
        if matches!(error, LogError::Fenced { .. }) && self.opened.elapsed() < self.timeout {
            self.counters.taken_over.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fail(&mut self, what: HandedOver, error: &LogError) {
        self.gone_back.insert(what.task, what.epoch + 1);
        _ = what.done.send(aborted(error));
    }
}

/// The transaction's marker is the next record of each partition that was written to, behind the last one of the task:
/// a position below it would look as if something were missing (semantics D10).
fn count_markers(done: &mut [(HandedOver, Delivery)]) {
    let mut counted: BTreeSet<(u64, Arc<str>)> = BTreeSet::new();
    for (what, delivery) in done.iter_mut().rev() {
        for (topic, last) in what.batch.topics().iter().zip(&mut delivery.last_offsets) {
            if let Some(last) = last
                && counted.insert((what.task, Arc::clone(topic)))
            {
                *last += 1;
            }
        }
    }
}

fn refuse(what: HandedOver) {
    let reason = "an earlier batch of this partition was aborted, or the partition is lost".to_owned();
    _ = what.done.send(aborted(&LogError::Abortable { what: "commit".to_owned(), reason }));
}

/// Says of a batch that it was not committed.
fn aborted(error: &LogError) -> Delivery {
    // Not the batch's fault: it is simply done again.
    failed(LogError::Abortable { what: "transaction".to_owned(), reason: error.to_string() })
}

/// The index is of no meaning: the whole batch is meant.
fn failed(error: LogError) -> Delivery {
    Delivery { last_offsets: Vec::new(), failed: vec![FailedRecord { index: 0, error }] }
}

#[cfg(test)]
mod tests;
