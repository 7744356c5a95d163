//! A producer's records of one partition, until they are on their way: packed into batches, in their order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fault_rules::{Action, RuleId};
use crate::log::ProduceBatch;

/// librdkafka's `batch.num.messages`, as the Kafka adapter sets it.
pub(super) const BATCH_RECORDS: usize = 50_000;
/// The header of a record batch.
pub(super) const BATCH_HEADER: usize = 61;
/// The bytes that librdkafka reckons for a record's lengths and deltas before it writes them.
pub(super) const RECORD_OVERHEAD: usize = 36;
/// The bytes that librdkafka counts towards `batch.size` for the request around a batch, beside the topic's name.
pub(super) const REQUEST_OVERHEAD: usize = 64;

/// A record that waits for its batch.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) send: u64,
    pub(super) batch: Arc<ProduceBatch>,
    pub(super) index: usize,
    /// When it was handed over.
    pub(super) came: Instant,
    /// When it may be sent.
    pub(super) ready: Instant,
    /// Bytes of key, value and headers.
    pub(super) payload: usize,
    pub(super) fault: Option<(RuleId, Action)>,
}

/// A producer's records for one partition.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) waiting: VecDeque<Queued>,
    /// Bytes of the records that wait, as librdkafka reckons them.
    pub(super) bytes: usize,
    /// How long the first one waits for others.
    pub(super) linger: Duration,
    /// Batches to be sent again, by number, unchanged and before all others.
    pub(super) retries: BTreeMap<u64, Vec<Queued>>,
    pub(super) retry_at: Option<Instant>,
    /// Batches on their way.
    pub(super) flying: usize,
    /// The number of the last batch.
    pub(super) number: u64,
}

impl Lane {
    pub(super) fn push(&mut self, record: Queued, linger: Duration) {
        self.linger = self.linger.max(linger);
        self.bytes += record.payload + RECORD_OVERHEAD;
        self.waiting.push_back(record);
    }

    pub(super) fn is_full(&self, batch_bytes: usize) -> bool {
        self.bytes >= batch_bytes || self.waiting.len() >= BATCH_RECORDS
    }

    /// When its next batch can go, if another one may be on its way.
    pub(super) fn due(&self, batch_bytes: usize) -> Option<Instant> {
        if !self.retries.is_empty() {
            return self.retry_at.filter(|_| self.flying == 0);
        }
        let first = self.waiting.front()?;
        let linger = if self.is_full(batch_bytes) { Duration::ZERO } else { self.linger };
        Some(first.ready.max(first.came + linger))
    }

    /// Takes the next batch with its number: one to be sent again, else as many records as librdkafka packs.
    pub(super) fn cut(&mut self, now: Instant, batch_bytes: usize, topic: usize) -> (u64, Vec<Queued>) {
        if let Some(again) = self.retries.pop_first() {
            return again;
        }
        let mut batch = Vec::new();
        let mut bytes = REQUEST_OVERHEAD + topic + BATCH_HEADER;
        while let Some(next) = self.waiting.front()
            && next.ready <= now
            && batch.len() < BATCH_RECORDS
            && (batch.is_empty() || bytes + next.payload + RECORD_OVERHEAD <= batch_bytes)
            && let Some(next) = self.waiting.pop_front()
        {
            bytes += next.payload + RECORD_OVERHEAD;
            self.bytes = self.bytes.saturating_sub(next.payload + RECORD_OVERHEAD);
            batch.push(next);
        }
        if self.waiting.is_empty() {
            self.linger = Duration::ZERO;
        }
        self.number += 1;
        (self.number, batch)
    }

    /// Whether an earlier batch is still to be sent again: the broker refuses what is out of order.
    pub(super) fn is_ahead(&self, number: u64) -> bool {
        self.retries.first_key_value().is_some_and(|(first, _)| *first < number)
    }

    pub(super) fn send_again(&mut self, number: u64, batch: Vec<Queued>, at: Instant) {
        self.retries.insert(number, batch);
        self.retry_at = Some(at);
    }

    /// Forgets the records of some hand-overs.
    pub(super) fn forget(&mut self, gone: &impl Fn(u64) -> bool) {
        self.waiting.retain(|q| !gone(q.send));
        self.bytes = self.waiting.iter().map(|q| q.payload + RECORD_OVERHEAD).sum();
        self.retries.retain(|_, batch| {
            batch.retain(|q| !gone(q.send));
            !batch.is_empty()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.retries.is_empty() && self.flying == 0
    }
}
