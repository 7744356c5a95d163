//! The future that puts what tasks hand over into transactions, and commits them: see [`transactions`](super).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::message::{HandedOver, Message};
use super::sent::{Ending, Filled, Sent, SentPositions, aborted, count_markers, refuse};
use crate::log::{
    Delivery, ErrorClass, GroupHandle, LogError, LogResult, NewRecord, OffsetAndMetadata, ProduceBatch, Producer,
    TopicPartition,
};
use crate::processor::budget::Budget;
use crate::processor::counters::Counters;
use crate::processor::options::OWN_REFUSALS;
use crate::processor::positions::{Recorded, position_key};

/// So long, after each batch, a transaction that somebody waits for gathers what other tasks have ready: its commit takes
/// longer than that, and another one for theirs would come on top.
pub(super) const GATHER: Duration = Duration::from_millis(2);

pub(super) struct Work {
    pub(super) producer: Arc<dyn Producer>,
    pub(super) group: Arc<dyn GroupHandle>,
    pub(super) interval: Duration,
    pub(super) budget: Budget,
    pub(super) counters: Arc<Counters>,
    pub(super) inbox: mpsc::UnboundedReceiver<Message>,
    /// Asked for and not yet done.
    pub(super) limits: Vec<(usize, oneshot::Sender<LogResult<()>>)>,
    /// Handed over and not yet in a transaction.
    pub(super) queue: VecDeque<HandedOver>,
    /// For each task with a failed batch, the epoch from which its batches count again.
    pub(super) rolled_back: BTreeMap<u64, u64>,
    pub(super) lost: BTreeSet<u64>,
    pub(super) hurried: BTreeSet<u64>,
    /// The transaction is not to wait for its interval's end.
    pub(super) hastened: bool,
    pub(super) over: BTreeSet<u64>,
    /// How long a transaction may stay open before the broker ends it, and since when this one is.
    pub(super) timeout: Duration,
    pub(super) opened: Instant,
    /// The topic of the positions that the state contains.
    pub(super) state: Option<Arc<str>>,
    /// The last ones written there, by task.
    pub(super) recorded: BTreeMap<(u64, TopicPartition), OffsetAndMetadata>,
    /// So many times in a row that topic has refused them.
    pub(super) positions_refused: u32,
}

impl Work {
    pub(super) fn new(
        producer: Arc<dyn Producer>,
        group: Arc<dyn GroupHandle>,
        interval: Duration,
        budget: Budget,
        counters: Arc<Counters>,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        Self {
            producer,
            group,
            interval,
            budget,
            counters,
            inbox,
            limits: Vec::new(),
            queue: VecDeque::new(),
            rolled_back: BTreeMap::new(),
            lost: BTreeSet::new(),
            hurried: BTreeSet::new(),
            hastened: false,
            over: BTreeSet::new(),
            timeout: Duration::MAX,
            opened: Instant::now(),
            state: None,
            recorded: BTreeMap::new(),
            positions_refused: 0,
        }
    }

    pub(super) async fn run(mut self) -> LogResult<()> {
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

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::HandOver(what) if self.is_superseded(&what) => refuse(what),
            Message::HandOver(what) => self.queue.push_back(what),
            Message::Lost(tasks) => {
                // What is in the open transaction is looked at before its commit.
                self.lost.extend(tasks);
                self.refuse_superseded();
            }
            Message::Hurry(tasks) => self.hurried.extend(tasks),
            Message::Hasten => self.hastened = true,
            Message::Over(task) => _ = self.over.insert(task),
            Message::LimitBatches(bytes, done) => self.limits.push((bytes, done)),
        }
    }

    /// Forgets tasks of which nothing can come any more, and nothing is left. Only while no transaction is open.
    pub(super) fn forget(&mut self) {
        let Self { queue, rolled_back, lost, hurried, over, recorded, .. } = self;
        over.retain(|task| {
            // Each task is reported lost at the end, if only after it has ended in good order.
            let stays = !lost.contains(task) || queue.iter().any(|what| what.task == *task);
            if !stays {
                lost.remove(task);
                rolled_back.remove(task);
                hurried.remove(task);
                recorded.retain(|(of, _), _| of != task);
            }
            stays
        });
    }

    /// Whether a batch comes behind one that failed, or is of a task that is lost.
    pub(super) fn is_superseded(&self, what: &HandedOver) -> bool {
        self.rolled_back.get(&what.task).is_some_and(|from| what.epoch < *from) || self.lost.contains(&what.task)
    }

    pub(super) fn refuse_superseded(&mut self) {
        for what in std::mem::take(&mut self.queue) {
            if self.is_superseded(&what) { refuse(what) } else { self.queue.push_back(what) }
        }
    }

    /// Puts what is handed over into the open transaction, until the interval ends or the transaction is full.
    pub(super) async fn fill(&mut self, until: Instant) -> Filled {
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
            let hastened = self.hastened && sent.iter().any(|sent| sent.what.how.to_own_topics);
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
    pub(super) async fn finish(&mut self, filled: Filled) -> LogResult<()> {
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
                    reason: "the membership has ended".to_owned(),
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
                // An error means that the task has ended: it needs no answer.
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
                self.rolled_back.insert(what.task, what.epoch + 1);
                _ = what.done.send(delivery);
            }
        }
        // Taken in before it was known that the transaction fails.
        self.refuse_superseded();
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
    pub(super) async fn delivered(&self, mut delivery: BoxFuture<'static, Delivery>, ending: &mut Ending) -> Delivery {
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
    pub(super) fn send_positions<'a>(&self, sent: impl Iterator<Item = &'a HandedOver>) -> Vec<SentPositions> {
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
    pub(super) fn count_positions(&self, what: &HandedOver, delivery: &mut Delivery, written: &Delivery) {
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
    pub(super) fn note_fenced(&self, error: &LogError) {
        if matches!(error, LogError::Fenced { .. }) && self.opened.elapsed() < self.timeout {
            self.counters.taken_over.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn fail(&mut self, what: HandedOver, error: &LogError) {
        self.rolled_back.insert(what.task, what.epoch + 1);
        _ = what.done.send(aborted(error));
    }
}
