//! A producer's outbox: placing its records, and their acknowledgements.
//!
//! Without faults a batch is written and acknowledged at once. Otherwise records wait for their partition's batch (see
//! `wire`), and acknowledgements may be held back; each record is acknowledged or failed exactly once. A record that was
//! failed by its delivery time-out may still have been written, as in Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fault_rules::{Action, Outgoing, RuleId};
use super::lanes::{Lane, Queued};
use super::state::BrokerState;
use super::topics::Topics;
use super::transactions::Identity;
use super::wire::{LINGER, Wire, payload};
use crate::log::{
    Delivery, FailedRecord, LogError, LogResult, NewRecord, Partitioner, ProduceBatch, ProducerOptions, TopicPartition,
};

/// The sender that waits for a batch's outcome.
pub(super) type Completion = (oneshot::Sender<Delivery>, Delivery);
/// A topic's number and a partition.
pub(super) type Place = (usize, i32);
/// The Kafka adapter's default of `batch.size`.
const BATCH_BYTES: usize = 1_000_000;

/// One producer's state.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) identity: Option<Identity>,
    partitioner: Partitioner,
    pub(super) delivery_timeout: Duration,
    /// Above this no batch of several records grows.
    pub(super) batch_bytes: usize,
    /// Spreads records without a key, in turn: nothing here is random.
    spread: u32,
    /// Whether somebody sees to what is queued.
    pub(super) driven: bool,
    pub(super) lanes: BTreeMap<Place, Lane>,
    pub(super) wire: Wire,
    sends: BTreeMap<u64, Sending>,
}

#[derive(Debug)]
struct Held {
    rule: RuleId,
    index: usize,
    topic: usize,
    offset: i64,
}

/// A batch that is not yet wholly acknowledged.
#[derive(Debug)]
struct Sending {
    expires: Instant,
    open: Vec<bool>,
    left: usize,
    delivery: Delivery,
    done: Option<oneshot::Sender<Delivery>>,
    held: Vec<Held>,
}

impl Sending {
    fn ack(&mut self, index: usize, topic: usize, offset: i64) {
        if self.close(index)
            && let Some(last) = self.delivery.last_offsets.get_mut(topic)
        {
            *last = (*last).max(Some(offset));
        }
    }

    fn fail(&mut self, index: usize, error: LogError) {
        if self.close(index) {
            self.delivery.failed.push(FailedRecord { index, error });
        }
    }

    fn fail_rest(&mut self, error: &LogError) {
        for index in 0..self.open.len() {
            self.fail(index, error.clone());
        }
    }

    /// Whether a record was still open; it is not any more.
    fn close(&mut self, index: usize) -> bool {
        let was = self.open.get_mut(index).is_some_and(std::mem::take);
        self.left -= usize::from(was);
        was
    }
}

impl Outbox {
    pub(super) fn new(identity: Option<Identity>, options: &ProducerOptions, number: u64) -> Self {
        Self {
            identity,
            partitioner: options.partitioner,
            delivery_timeout: options.delivery_timeout.unwrap_or(Duration::from_secs(30)),
            batch_bytes: options.max_batch_bytes.unwrap_or(BATCH_BYTES).clamp(1, 64 << 20),
            spread: u32::try_from(number).unwrap_or_default(),
            driven: false,
            lanes: BTreeMap::new(),
            wire: Wire::default(),
            sends: BTreeMap::new(),
        }
    }

    /// Whether everything sent up to a number is acknowledged or failed.
    pub(super) fn is_done(&self, up_to: u64) -> bool {
        self.sends.first_key_value().is_none_or(|(send, _)| *send > up_to)
    }

    /// Whether the outcome of a record was not reported yet.
    pub(super) fn is_open(&self, queued: &Queued) -> bool {
        let sending = self.sends.get(&queued.send);
        sending.and_then(|s| s.open.get(queued.index)).copied().unwrap_or_default()
    }

    /// The newest send under way.
    pub(super) fn newest(&self) -> u64 {
        self.sends.last_key_value().map_or(0, |(send, _)| *send)
    }

    /// The next moment at which time changes something.
    pub(super) fn due(&self, available: bool) -> Option<Instant> {
        let wire = self.wire_due().filter(|_| available);
        wire.into_iter().chain(self.sends.values().map(|s| s.expires)).min()
    }

    fn place(&mut self, topics: &mut Topics, number: Option<usize>, record: &NewRecord<'_>) -> LogResult<Place> {
        let unknown = || LogError::UnknownTopic { topic: record.topic.to_string() };
        let number = number.ok_or_else(unknown)?;
        let count = topics.at(number).ok_or_else(unknown)?.count();
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => self.partitioner.partition(key, count),
            (None, None) => {
                self.spread = self.spread.wrapping_add(1);
                i32::try_from(self.spread % count.unsigned_abs().max(1)).unwrap_or_default()
            }
        };
        if !(0..count).contains(&partition) {
            let partition = TopicPartition::new(Arc::clone(record.topic), partition);
            return Err(LogError::UnknownPartition { partition });
        }
        Ok((number, partition))
    }

    /// Takes away what is completely decided; its senders are notified once the lock is released.
    pub(super) fn complete(&mut self, completions: &mut Vec<Completion>) {
        self.sends.retain(|_, sending| {
            if sending.left == 0
                && let Some(done) = sending.done.take()
            {
                let mut delivery = std::mem::take(&mut sending.delivery);
                delivery.failed.sort_by_key(|f| f.index);
                completions.push((done, delivery));
            }
            sending.left > 0
        });
    }

    fn drop_queued(&mut self, gone: impl Fn(u64) -> bool) {
        self.lanes.retain(|_, lane| {
            lane.forget(&gone);
            !lane.is_empty()
        });
    }

    /// Notes what became of a record, and gives the reason if it failed.
    pub(super) fn settle(&mut self, queued: Queued, verdict: LogResult<i64>) -> Option<String> {
        let sending = self.sends.get_mut(&queued.send)?;
        let topic = queued.batch.topic_of(queued.index).unwrap_or(usize::MAX);
        match (verdict, queued.fault) {
            (Ok(offset), Some((rule, Action::HoldAck))) => {
                sending.held.push(Held { rule, index: queued.index, topic, offset });
                None
            }
            (Ok(_), Some((_, Action::FailAfterWrite(error)))) | (Err(error), _) => {
                let reason = error.to_string();
                sending.fail(queued.index, error);
                Some(reason)
            }
            (Ok(offset), _) => {
                sending.ack(queued.index, topic, offset);
                None
            }
        }
    }
}

/// The outcome of a send: known at once, or later.
pub(super) enum Sent {
    Now(Delivery),
    Later(oneshot::Receiver<Delivery>),
}

impl BrokerState {
    /// Takes a batch of a producer.
    #[allow(clippy::needless_pass_by_value, reason = "it is handed over")]
    pub(super) fn send(&mut self, producer: u64, batch: Arc<ProduceBatch>) -> Sent {
        let number = self.id();
        let numbers: Vec<_> = batch.topics().iter().map(|t| self.topics.number(t)).collect();
        let Some(mut outbox) = self.outboxes.remove(&producer) else {
            let error = LogError::Closed { what: "send".to_owned() };
            let failed = (0..batch.len()).map(|index| FailedRecord { index, error: error.clone() }).collect();
            return Sent::Now(Delivery { last_offsets: vec![None; numbers.len()], failed });
        };
        let idle = outbox.lanes.is_empty() && outbox.wire.is_idle();
        let sent = if self.rules.is_quiet() && idle && self.is_plain(&outbox, &batch, &numbers) {
            Sent::Now(self.send_now(&mut outbox, &batch, &numbers))
        } else {
            Sent::Later(self.send_later(&mut outbox, number, &batch, &numbers))
        };
        self.outboxes.insert(producer, outbox);
        sent
    }

    /// Whether it makes no difference how a hand-over is packed: nothing of it can be refused.
    fn is_plain(&mut self, outbox: &Outbox, batch: &ProduceBatch, numbers: &[Option<usize>]) -> bool {
        let now = self.clock.now_ms();
        (0..).zip(batch.iter()).all(|(index, (record, headers))| {
            let topic = batch.topic_of(index).and_then(|t| numbers.get(t).copied().flatten());
            let Some(topic) = topic.and_then(|t| self.topics.at(t)) else { return true };
            !topic.is_small(outbox.batch_bytes) && !topic.refuses(&record, headers, now)
        })
    }

    fn send_now(&mut self, outbox: &mut Outbox, batch: &ProduceBatch, numbers: &[Option<usize>]) -> Delivery {
        let mut delivery = Delivery { last_offsets: vec![None; numbers.len()], failed: Vec::new() };
        let mut writer = self.writer(Instant::now());
        for (index, (record, headers)) in batch.iter().enumerate() {
            let topic = batch.topic_of(index).unwrap_or(usize::MAX);
            let place = outbox.place(writer.topics, numbers.get(topic).copied().flatten(), &record);
            match place.and_then(|place| writer.write(outbox, place, &record, headers)) {
                Ok(offset) => {
                    if let Some(last) = delivery.last_offsets.get_mut(topic) {
                        *last = Some(offset);
                    }
                }
                Err(error) => delivery.failed.push(FailedRecord { index, error }),
            }
        }
        if let Some(due) = writer.due {
            self.due_at(due);
        }
        if let (Some(who), Some(first)) = (&outbox.identity, delivery.failed.first()) {
            self.transactions.fail(who, &first.error.to_string());
        }
        delivery
    }

    fn send_later(
        &mut self,
        outbox: &mut Outbox,
        number: u64,
        batch: &Arc<ProduceBatch>,
        numbers: &[Option<usize>],
    ) -> oneshot::Receiver<Delivery> {
        let (now, now_ms) = (Instant::now(), self.clock.now_ms());
        let (done, receiver) = oneshot::channel();
        let mut sending = Sending {
            expires: now + outbox.delivery_timeout,
            open: vec![true; batch.len()],
            left: batch.len(),
            delivery: Delivery { last_offsets: vec![None; numbers.len()], failed: Vec::new() },
            done: Some(done),
            held: Vec::new(),
        };
        // Without a runtime there is nobody to wait for.
        let timed = tokio::runtime::Handle::try_current().is_ok();
        for (index, (record, headers)) in batch.iter().enumerate() {
            let topic = batch.topic_of(index).and_then(|t| numbers.get(t).copied().flatten());
            let place = match outbox.place(&mut self.topics, topic, &record) {
                Ok(place) => place,
                Err(error) => {
                    sending.fail(index, error);
                    continue;
                }
            };
            let transactional_id = outbox.identity.as_ref().map(|i| &*i.id);
            let fault = self.rules.meet(&Outgoing::new(&record, place.1, transactional_id));
            let ready = match &fault {
                Some((_, Action::Fail(error))) => {
                    sending.fail(index, error.clone());
                    continue;
                }
                Some((_, Action::Delay(by))) => now + *by,
                _ => now,
            };
            let topic = self.topics.at(place.0);
            let matters = matches!(&fault, Some((_, Action::Refuse)))
                || topic.is_some_and(|t| t.is_small(outbox.batch_bytes) || t.refuses(&record, headers, now_ms));
            let linger = if matters { LINGER.max(self.rules.network.linger) } else { self.rules.network.linger };
            let linger = if timed { linger } else { Duration::ZERO };
            let (payload, batch) = (payload(&record, headers), Arc::clone(batch));
            let queued = Queued { send: number, batch, index, came: now, ready, payload, fault };
            outbox.lanes.entry(place).or_default().push(queued, linger);
        }
        if let (Some(who), Some(first)) = (&outbox.identity, sending.delivery.failed.first()) {
            self.transactions.fail(who, &first.error.to_string());
        }
        outbox.sends.insert(number, sending);
        self.pump(outbox, now);
        if let Some(due) = outbox.due(self.rules.available) {
            self.due_at(due);
        }
        receiver
    }

    pub(super) fn tick_outboxes(&mut self, now: Instant) {
        for (id, mut outbox) in std::mem::take(&mut self.outboxes) {
            self.pump(&mut outbox, now);
            let over: Vec<u64> = outbox.sends.iter().filter(|(_, s)| s.expires <= now).map(|(n, _)| *n).collect();
            self.fail_sends(&mut outbox, &over, |o| LogError::Timeout {
                what: "deliver a record".to_owned(),
                reason: format!("not acknowledged within {:?}", o.delivery_timeout),
            });
            self.outboxes.insert(id, outbox);
        }
    }

    /// Fails what a producer has under way.
    pub(super) fn purge(&mut self, producer: u64) {
        let Some(mut outbox) = self.outboxes.remove(&producer) else { return };
        let all: Vec<u64> = outbox.sends.keys().copied().collect();
        if outbox.identity.is_some() {
            // What still arrives in a transaction that is given up is never seen.
            outbox.wire.cut_off();
            outbox.lanes.clear();
        }
        self.fail_sends(&mut outbox, &all, |_| LogError::Purged);
        self.outboxes.insert(producer, outbox);
    }

    fn fail_sends(&mut self, outbox: &mut Outbox, which: &[u64], error: impl Fn(&Outbox) -> LogError) {
        if which.is_empty() {
            return;
        }
        let error = error(outbox);
        outbox.drop_queued(|send| which.contains(&send));
        for send in which {
            if let Some(sending) = outbox.sends.get_mut(send) {
                sending.fail_rest(&error);
            }
        }
        if let Some(who) = &outbox.identity {
            self.transactions.fail(who, &error.to_string());
        }
        outbox.complete(&mut self.completions);
    }

    /// Acknowledges what a rule held back.
    pub(super) fn release(&mut self, rule: RuleId) {
        for outbox in self.outboxes.values_mut() {
            for sending in outbox.sends.values_mut() {
                for held in std::mem::take(&mut sending.held) {
                    if held.rule == rule {
                        sending.ack(held.index, held.topic, held.offset);
                    } else {
                        sending.held.push(held);
                    }
                }
            }
            outbox.complete(&mut self.completions);
        }
    }
}
