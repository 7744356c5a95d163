//! From a producer's records to a broker's batches: packing, the way there, the verdict, and the answer.
//!
//! As librdkafka does, a producer packs the records of one partition into one batch, whichever calls they came with, and
//! has up to five batches on their way. As a broker does, the log takes or refuses a batch as a whole: for its size (then
//! no record is named), or for some of its records. Which ones these are the producer learns if there are at least two;
//! a single one gives its error to its whole batch (librdkafka 2.12).
//!
//! Packing costs time (the linger). Without faults it is skipped wherever it makes no difference: where every record is
//! valid and no batch can be too large for its topic.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::fault_rules::{Action, Network};
use super::lanes::{BATCH_HEADER, Lane, Queued};
use super::outbox::{Outbox, Place};
use super::state::BrokerState;
use super::topics::{Topic, Topics};
use super::transactions::Transactions;
use crate::log::{Headers, LogError, LogResult, NewRecord};

/// How long a batch waits for more records, where packing matters: librdkafka's `linger.ms`.
pub(super) const LINGER: Duration = Duration::from_millis(5);
/// How long a batch waits before it is sent again: librdkafka's `retry.backoff.ms`.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
/// librdkafka's `max.in.flight` of an idempotent producer.
const IN_FLIGHT: usize = 5;

/// A batch on its way, or its answer.
#[derive(Debug)]
struct Flying {
    place: Place,
    /// Counts the batches of its partition.
    number: u64,
    /// When the broker has it, and from its verdict on, when the producer knows that.
    at: Instant,
    batch: Vec<Queued>,
    verdict: Option<Vec<LogResult<i64>>>,
}

/// A producer's connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    flying: VecDeque<Flying>,
    /// When the link has sent what it was given, or the quota lets the next request through.
    free: Option<Instant>,
    /// The partition whose turn it was last, so that none waits for ever.
    turn: Option<Place>,
    /// Partitions of which a batch was refused in a transaction. The producer counts on from it, and the broker does not
    /// know of it: the next batch is out of order.
    gaps: BTreeSet<Place>,
    /// Such a one came: the producer counts from the beginning again, once its transaction is aborted.
    renumbers: bool,
}

impl Wire {
    pub(super) fn is_idle(&self) -> bool {
        self.flying.is_empty() && self.gaps.is_empty()
    }

    /// Drops what is on its way, for its transaction is aborted.
    pub(super) fn cut_off(&mut self) {
        self.flying.clear();
        self.free = None;
        if std::mem::take(&mut self.renumbers) {
            self.gaps.clear();
        }
    }
}

impl Outbox {
    /// The number of the last batch that is on its way to a partition.
    pub(super) fn last_to(&self, place: Place) -> Option<u64> {
        let on_its_way = self.wire.flying.iter().filter(|f| f.place == place && f.verdict.is_none());
        on_its_way.map(|f| f.number).max()
    }

    /// Whether a partition has, or has refused, all batches up to a number.
    pub(super) fn has_arrived(&self, place: Place, number: u64) -> bool {
        self.wire.flying.iter().all(|f| f.place != place || f.number > number || f.verdict.is_some())
    }

    /// The next moment at which a batch goes, arrives or is answered.
    pub(super) fn wire_due(&self) -> Option<Instant> {
        let flying = self.wire.flying.iter().map(|f| f.at).min();
        let lanes = self.lanes.values().filter_map(|l| l.due(self.batch_bytes)).min();
        let lanes = lanes.filter(|_| self.wire.flying.len() < IN_FLIGHT);
        [flying, lanes].into_iter().flatten().min()
    }

    /// The next partition that has a batch to send, in turn.
    fn next_lane(&self, now: Instant) -> Option<Place> {
        if self.wire.flying.len() >= IN_FLIGHT {
            return None;
        }
        let due = |(place, lane): (&Place, &Lane)| lane.due(self.batch_bytes).filter(|d| *d <= now).map(|_| *place);
        let after = |turn: Place| self.lanes.iter().filter(move |(p, _)| **p > turn).find_map(due);
        self.wire.turn.and_then(after).or_else(|| self.lanes.iter().find_map(due))
    }
}

impl Topic {
    /// Whether records of valid size can make a batch that is too large for it.
    pub(super) fn is_small(&self, batch_bytes: usize) -> bool {
        self.max_batch() < batch_bytes
    }

    /// Why this record's batch is refused, if the broker names it as the one at fault.
    fn blame(&self, record: &NewRecord<'_>, now: i64) -> Option<LogError> {
        let refused = |reason: String| Some(LogError::Refused { topic: self.name.to_string(), reason });
        if self.compacted() && record.key.is_none() {
            return refused("a compacted topic takes no record without a key".to_owned());
        }
        let time = record.timestamp.filter(|t| *t != -1)?;
        let (earliest, latest) = self.times(now)?;
        if (earliest..=latest).contains(&time) {
            return None;
        }
        refused(format!(
            "its time {time} is not within {earliest}..={latest}, which message.timestamp.before.max.ms and \
             message.timestamp.after.max.ms of the topic allow"
        ))
    }

    fn blame_of(&self, queued: &Queued, now: i64) -> Option<LogError> {
        if let Some((_, Action::Refuse)) = queued.fault {
            let reason = "refused on purpose".to_owned();
            return Some(LogError::Refused { topic: self.name.to_string(), reason });
        }
        queued.batch.get(queued.index).and_then(|(record, _)| self.blame(&record, now))
    }

    fn too_large(&self, record: &NewRecord<'_>, headers: Headers<'_>) -> LogError {
        let limit = format!("the topic's max.message.bytes = {}", self.max_batch());
        LogError::TooLarge { topic: self.name.to_string(), size: payload(record, headers), limit }
    }

    /// Whether a record, alone in its batch, would be refused.
    pub(super) fn refuses(&self, record: &NewRecord<'_>, headers: Headers<'_>, now: i64) -> bool {
        BATCH_HEADER + wire_size(record, headers, 0, 0) > self.max_batch() || self.blame(record, now).is_some()
    }
}

/// Bytes of key, value and headers, as they are sent.
pub(super) fn payload(record: &NewRecord<'_>, headers: Headers<'_>) -> usize {
    let headers: usize = headers.iter().map(|(n, v)| n.len() + v.map_or(0, <[u8]>::len) + 2).sum();
    record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers
}

/// The length of a signed number in a record: zigzag, seven bits a byte.
fn varint(n: i64) -> usize {
    let zigzag = (n << 1) ^ (n >> 63);
    let bits = 64 - zigzag.leading_zeros();
    usize::try_from(bits.div_ceil(7).max(1)).unwrap_or(10)
}

fn sized(bytes: Option<&[u8]>) -> usize {
    let length = |b: &[u8]| i64::try_from(b.len()).unwrap_or(i64::MAX);
    bytes.map_or(varint(-1), |b| varint(length(b)) + b.len())
}

/// The bytes of a record in a batch of version 2.
fn wire_size(record: &NewRecord<'_>, headers: Headers<'_>, offset_delta: i64, time_delta: i64) -> usize {
    let count = i64::try_from(headers.len()).unwrap_or(i64::MAX);
    let headers: usize = headers.iter().map(|(n, v)| sized(Some(n.as_bytes())) + sized(v)).sum();
    let body = 1 + varint(time_delta) + varint(offset_delta) + sized(record.key) + sized(record.value);
    let body = body + varint(count) + headers;
    body + varint(i64::try_from(body).unwrap_or(i64::MAX))
}

/// Writes records of one producer.
pub(super) struct Writer<'a> {
    pub(super) topics: &'a mut Topics,
    pub(super) transactions: &'a mut Transactions,
    pub(super) wake: &'a mut Vec<Waker>,
    pub(super) now: Instant,
    pub(super) now_ms: i64,
    /// Where the last record went, with its transaction, so that a run to one place looks it up once.
    pub(super) last: Option<(Place, u64)>,
    /// A time-out that began.
    pub(super) due: Option<Instant>,
}

impl Writer<'_> {
    /// Makes a partition part of the open transaction, and gives its number; 0 without one.
    fn enlist(&mut self, outbox: &Outbox, place: Place) -> LogResult<u64> {
        match (&outbox.identity, self.last) {
            (None, _) => Ok(0),
            (Some(_), Some((last, txn))) if last == place => Ok(txn),
            (Some(who), _) => {
                let (txn, due) = self.transactions.enlist(who, place, self.now)?;
                self.due = self.due.or(due);
                self.last = Some((place, txn));
                Ok(txn)
            }
        }
    }

    /// Writes a record that nothing is wrong with.
    pub(super) fn write(
        &mut self,
        outbox: &Outbox,
        place: Place,
        record: &NewRecord<'_>,
        headers: Headers<'_>,
    ) -> LogResult<i64> {
        let txn = self.enlist(outbox, place)?;
        let unknown = || LogError::UnknownTopic { topic: record.topic.to_string() };
        let topic = self.topics.at(place.0).ok_or_else(unknown)?;
        let offset = topic.append(place.1, record, headers, self.now_ms, txn)?;
        if let Some(partition) = topic.partition(place.1) {
            partition.wake(self.wake);
        }
        Ok(offset)
    }

    /// The broker's verdict on a batch; one that it takes is written.
    fn judge(&mut self, outbox: &Outbox, place: Place, batch: &[Queued]) -> Vec<LogResult<i64>> {
        // The client adds the partition to the transaction before it sends.
        let enlisted = self.enlist(outbox, place);
        let records: Vec<_> = batch.iter().map(|q| q.batch.get(q.index)).collect();
        let all = |error: &dyn Fn(&NewRecord<'_>, Headers<'_>) -> LogError| {
            let fail = |r: &Option<(NewRecord<'_>, Headers<'_>)>| match r {
                Some((record, headers)) => Err(error(record, *headers)),
                None => Err(LogError::Purged),
            };
            records.iter().map(fail).collect::<Vec<_>>()
        };
        if let Err(error) = enlisted {
            return all(&|_, _| error.clone());
        }
        let Some(topic) = self.topics.at(place.0) else {
            return all(&|record, _| LogError::UnknownTopic { topic: record.topic.to_string() });
        };
        let now = self.now_ms;
        let there = || records.iter().flatten();
        let base = there().next().map_or(0, |(r, _)| r.timestamp.unwrap_or(now));
        let size = |(n, (r, h)): (i64, &(NewRecord<'_>, Headers<'_>))| {
            wire_size(r, *h, n, r.timestamp.unwrap_or(now).saturating_sub(base))
        };
        if BATCH_HEADER + (0..).zip(there()).map(size).sum::<usize>() > topic.max_batch() {
            return all(&|record, headers| topic.too_large(record, headers));
        }
        let blamed: Vec<_> = batch.iter().map(|q| topic.blame_of(q, now)).collect();
        let mut culprits = blamed.iter().flatten();
        match (culprits.next(), culprits.next()) {
            (None, _) => {}
            // librdkafka names the culprits only if there are several. One alone gives its error to the whole batch.
            (Some(one), None) => return all(&|_, _| one.clone()),
            (Some(_), Some(_)) => {
                let other = || LogError::Neighbour { topic: topic.name.to_string() };
                return blamed.into_iter().map(|error| Err(error.unwrap_or_else(other))).collect();
            }
        }
        let write = |r: Option<(NewRecord<'_>, Headers<'_>)>| {
            let (record, headers) = r.ok_or(LogError::Purged)?;
            self.write(outbox, place, &record, headers)
        };
        records.into_iter().map(write).collect()
    }
}

impl BrokerState {
    pub(super) fn writer(&mut self, now: Instant) -> Writer<'_> {
        let Self { topics, transactions, wake, clock, .. } = self;
        Writer { topics, transactions, wake, now, now_ms: clock.now_ms(), last: None, due: None }
    }

    /// Moves everything of a producer as far as it gets by now.
    pub(super) fn pump(&mut self, outbox: &mut Outbox, now: Instant) {
        if self.rules.available {
            let network = self.rules.network;
            loop {
                let arrived = self.arrive(outbox, now, network);
                let answered = self.answer(outbox, now);
                if !depart(&self.topics, outbox, now, network) && !arrived && !answered {
                    break;
                }
            }
            outbox.lanes.retain(|_, lane| !lane.is_empty());
        }
        outbox.complete(&mut self.completions);
    }

    /// The broker judges what has reached it.
    fn arrive(&mut self, outbox: &mut Outbox, now: Instant, network: Network) -> bool {
        let mut any = false;
        let mut kept = VecDeque::with_capacity(outbox.wire.flying.len());
        while let Some(mut flying) = outbox.wire.flying.pop_front() {
            if flying.verdict.is_some() || flying.at > now {
                kept.push_back(flying);
                continue;
            }
            any = true;
            let topic = self.topics.at(flying.place.0).map(|t| Arc::clone(&t.name));
            let short = topic.is_some_and(|t| self.rules.is_short(&t));
            // What comes behind a batch that has to be sent again is out of order.
            if short || outbox.lanes.get(&flying.place).is_some_and(|lane| lane.is_ahead(flying.number)) {
                // Without what was failed meanwhile: librdkafka sends nothing again that it has given up.
                flying.batch.retain(|queued| outbox.is_open(queued));
                let lane = outbox.lanes.entry(flying.place).or_default();
                lane.flying -= 1;
                if !flying.batch.is_empty() {
                    lane.send_again(flying.number, flying.batch, now + RETRY_BACKOFF);
                }
                continue;
            }
            let mut writer = self.writer(now);
            let verdict = if outbox.wire.gaps.contains(&flying.place) {
                outbox.wire.renumbers = true;
                flying.batch.iter().map(|_| Err(LogError::Purged)).collect()
            } else {
                writer.judge(outbox, flying.place, &flying.batch)
            };
            if outbox.identity.is_some() && verdict.iter().any(Result::is_err) {
                outbox.wire.gaps.insert(flying.place);
            }
            flying.verdict = Some(verdict);
            // Answers come in the order of the requests, also where the way has become shorter.
            flying.at = kept.back().map_or(now, |before: &Flying| before.at).max(now + network.round_trip);
            if let Some(due) = writer.due {
                self.due_at(due);
            }
            kept.push_back(flying);
        }
        outbox.wire.flying = kept;
        any
    }

    /// The producer learns of verdicts.
    fn answer(&mut self, outbox: &mut Outbox, now: Instant) -> bool {
        let mut any = false;
        let mut failed = None;
        // Answers come in the order of the requests.
        while outbox.wire.flying.front().is_some_and(|f| f.verdict.is_some() && f.at <= now)
            && let Some(flying) = outbox.wire.flying.pop_front()
        {
            any = true;
            if let Some(lane) = outbox.lanes.get_mut(&flying.place) {
                lane.flying -= 1;
            }
            for (queued, verdict) in flying.batch.into_iter().zip(flying.verdict.unwrap_or_default()) {
                failed = failed.or(outbox.settle(queued, verdict));
            }
        }
        if let (Some(who), Some(reason)) = (&outbox.identity, failed) {
            self.transactions.fail(who, &reason);
        }
        any
    }
}

/// Sends batches off, as many as may be on their way.
fn depart(topics: &Topics, outbox: &mut Outbox, now: Instant, network: Network) -> bool {
    let mut any = false;
    while let Some(place) = outbox.next_lane(now) {
        outbox.wire.turn = Some(place);
        let name = topics.name_of(place.0).map_or(0, |name| name.len());
        let Some(lane) = outbox.lanes.get_mut(&place) else { break };
        let (number, batch) = lane.cut(now, outbox.batch_bytes, name);
        if batch.is_empty() {
            continue;
        }
        any = true;
        lane.flying += 1;
        let bytes = BATCH_HEADER + batch.iter().map(|q| q.payload + 8).sum::<usize>();
        let took = |rate: Option<u64>| rate.map_or(Duration::ZERO, |rate| time_for(bytes, rate));
        let begins = outbox.wire.free.map_or(now, |free| free.max(now));
        let at = begins + took(network.bytes_per_second);
        outbox.wire.free = Some(at + took(network.quota));
        outbox.wire.flying.push_back(Flying { place, number, at, batch, verdict: None });
    }
    any
}

fn time_for(bytes: usize, per_second: u64) -> Duration {
    let nanos = u128::try_from(bytes).unwrap_or_default() * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_lengths_of_varints() {
        for (n, length) in [(0, 1), (-1, 1), (63, 1), (64, 2), (-64, 1), (-65, 2), (8191, 2), (8192, 3), (i64::MAX, 10)]
        {
            assert_eq!(varint(n), length, "{n}");
        }
    }
}
