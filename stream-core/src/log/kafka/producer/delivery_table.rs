//! Which record a delivery report is about, without a lock or an allocation for each.
//!
//! librdkafka hands one machine word back with each record. It holds the record's index, the index of its topic and
//! the number of a *slot*: one of a fixed table, taken by a batch until each of its records is reported. Invariants:
//! - `left` counts the reports to come, plus one while the sender is still handing records over. The thread that brings it to
//!   0 ends the batch; no thread touches the slot after its own count.
//! - The fields behind a slot's lock are touched once a batch, and for failures.
//! - Reports of one partition come in order, on one thread at a time: the last one of a topic decides its offset.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::channel::oneshot;

use super::tracker::Tracker;
use crate::log::kafka::context::{Health, lock};
use crate::log::{Delivery, FailedRecord, LogError, NewRecord, ProduceBatch};

/// The number of batches that can be under way; more wait. At 5 ms a round trip it allows a million batches a second.
const SLOTS: u32 = 8192;
/// Topics of a batch whose offsets need no lock.
const TOPICS: usize = 6;

const _: () = assert!(usize::BITS >= 64, "a delivery's word needs 64 bits");

/// The word that goes with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    slot: u16,
    topic: u16,
    index: u32,
}

impl Tag {
    fn pack(self) -> usize {
        (self.index as usize) << 32 | usize::from(self.slot) << 16 | usize::from(self.topic)
    }

    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out of the word")]
    fn unpack(word: usize) -> Self {
        Self { slot: (word >> 16) as u16, topic: word as u16, index: (word >> 32) as u32 }
    }
}

/// The highest offset of a topic, and the record that it is from.
struct Last {
    index: AtomicU32,
    offset: AtomicI64,
}

impl Last {
    const fn new() -> Self {
        Self { index: AtomicU32::new(0), offset: AtomicI64::new(-1) }
    }

    fn note(&self, index: u32, offset: i64) {
        if index >= self.index.load(Ordering::Relaxed) {
            self.index.store(index, Ordering::Relaxed);
            self.offset.store(offset, Ordering::Relaxed);
        }
    }

    /// Reads it and makes it ready for the next batch.
    fn take(&self) -> Option<i64> {
        self.index.store(0, Ordering::Relaxed);
        let offset = self.offset.swap(-1, Ordering::Relaxed);
        (offset >= 0).then_some(offset)
    }
}

struct DeliverySlot {
    left: AtomicU32,
    lasts: [Last; TOPICS],
    detail: Mutex<Option<Detail>>,
}

struct Detail {
    batch: Arc<ProduceBatch>,
    seq: u64,
    failed: Vec<FailedRecord>,
    /// The last offsets of the topics that `lasts` has no room for.
    more: Vec<Last>,
    done: oneshot::Sender<Delivery>,
}

/// The table.
pub(super) struct DeliveryTable {
    all: Box<[DeliverySlot]>,
    free: Mutex<Vec<u16>>,
    tracker: Arc<Tracker>,
    health: Arc<Health>,
}

/// A slot that was taken for a batch.
#[derive(Clone, Copy)]
pub(super) struct Taken(u16);

impl DeliveryTable {
    pub(super) fn new(tracker: Arc<Tracker>, health: Arc<Health>) -> Self {
        let slot = || DeliverySlot {
            left: AtomicU32::new(0),
            lasts: [const { Last::new() }; TOPICS],
            detail: Mutex::new(None),
        };
        let all = (0..SLOTS).map(|_| slot()).collect();
        let free = (0..SLOTS).rev().filter_map(|n| u16::try_from(n).ok()).collect();
        Self { all, free: Mutex::new(free), tracker, health }
    }

    fn slot(&self, number: u16) -> Option<&DeliverySlot> {
        self.all.get(usize::from(number))
    }

    /// Takes a slot, if one is free; else gives the sender back.
    pub(super) fn take(
        &self,
        batch: &Arc<ProduceBatch>,
        seq: u64,
        done: oneshot::Sender<Delivery>,
    ) -> Result<Taken, oneshot::Sender<Delivery>> {
        let Some(number) = lock(&self.free).pop() else { return Err(done) };
        let Some(slot) = self.slot(number) else { return Err(done) };
        let more = (TOPICS..batch.topics().len()).map(|_| Last::new()).collect();
        *lock(&slot.detail) = Some(Detail { batch: Arc::clone(batch), seq, failed: Vec::new(), more, done });
        let records = u32::try_from(batch.len()).unwrap_or(u32::MAX - 1);
        slot.left.store(records.saturating_add(1), Ordering::Release);
        Ok(Taken(number))
    }

    /// The word for a record.
    pub(super) fn tag(taken: Taken, topic: usize, index: usize) -> usize {
        let topic = u16::try_from(topic).unwrap_or(u16::MAX);
        Tag { slot: taken.0, topic, index: u32::try_from(index).unwrap_or(u32::MAX) }.pack()
    }

    /// A record was written.
    pub(super) fn written(&self, word: usize, offset: i64) {
        let tag = Tag::unpack(word);
        let Some(slot) = self.slot(tag.slot) else { return };
        let topic = usize::from(tag.topic);
        if let Some(last) = slot.lasts.get(topic) {
            last.note(tag.index, offset);
        } else if let Some(last) = lock(&slot.detail).as_ref().and_then(|d| d.more.get(topic - TOPICS)) {
            last.note(tag.index, offset);
        }
        self.count(tag.slot, slot, 1);
    }

    /// A record failed.
    pub(super) fn failed(&self, word: usize, error: impl FnOnce(NewRecord<'_>) -> LogError) {
        let tag = Tag::unpack(word);
        let Some(slot) = self.slot(tag.slot) else { return };
        if let Some(detail) = &mut *lock(&slot.detail) {
            let index = tag.index as usize;
            let error = detail.batch.get(index).map(|(record, _)| error(record));
            detail.failed.extend(error.map(|error| FailedRecord { index, error }));
        }
        self.count(tag.slot, slot, 1);
    }

    /// Everything from an index on was not even handed over.
    pub(super) fn failed_from(&self, taken: Taken, from: usize, error: &LogError) {
        let Some(slot) = self.slot(taken.0) else { return };
        let mut rest = 0;
        if let Some(detail) = &mut *lock(&slot.detail) {
            let failed = (from..detail.batch.len()).map(|index| FailedRecord { index, error: error.clone() });
            let before = detail.failed.len();
            detail.failed.extend(failed);
            rest = detail.failed.len() - before;
        }
        self.count(taken.0, slot, u32::try_from(rest).unwrap_or(u32::MAX));
    }

    /// The sender is done with a batch.
    pub(super) fn handed_over(&self, taken: Taken) {
        if let Some(slot) = self.slot(taken.0) {
            self.count(taken.0, slot, 1);
        }
    }

    fn count(&self, number: u16, slot: &DeliverySlot, by: u32) {
        if by > 0 && slot.left.fetch_sub(by, Ordering::AcqRel) == by {
            self.end(number, slot);
        }
    }

    fn end(&self, number: u16, slot: &DeliverySlot) {
        let Some(mut detail) = lock(&slot.detail).take() else { return };
        let lasts = slot.lasts.iter().chain(&detail.more).map(Last::take).take(detail.batch.topics().len()).collect();
        detail.failed.sort_by_key(|f| f.index);
        let first = detail.failed.first().map(|f| f.error.clone());
        lock(&self.free).push(number);
        if first.is_none() {
            self.health.well();
        }
        // The caller may not be interested.
        let _ = detail.done.send(Delivery { last_offsets: lasts, failed: detail.failed });
        self.tracker.done(detail.seq, first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(topics: &[&str]) -> Arc<ProduceBatch> {
        let mut batch = ProduceBatch::new();
        for topic in topics {
            let topic: Arc<str> = (*topic).into();
            let record =
                NewRecord { topic: &topic, partition: None, timestamp: None, key: Some(b"kk"), value: Some(b"v") };
            batch.push(record, std::iter::empty());
        }
        Arc::new(batch)
    }

    #[test]
    fn a_word_holds_its_parts() {
        for tag in [Tag { slot: 0, topic: 0, index: 0 }, Tag { slot: 8191, topic: u16::MAX, index: u32::MAX - 1 }] {
            assert_eq!(Tag::unpack(tag.pack()), tag);
        }
    }

    #[test]
    fn reports_in_any_order_end_a_batch_once() {
        let tracker = Arc::new(Tracker::default());
        let deliveries = DeliveryTable::new(Arc::clone(&tracker), Arc::default());
        let names: Vec<String> = (0..TOPICS + 2).map(|n| format!("t{n}")).collect();
        let mut topics: Vec<&str> = names.iter().map(String::as_str).collect();
        topics.extend(["t0", "t7"]);
        let batch = batch(&topics);
        for round in 0..2 {
            let (tx, mut rx) = oneshot::channel();
            let taken = deliveries.take(&batch, tracker.begin(|_| {}), tx).unwrap();
            let tag = |index: usize| DeliveryTable::tag(taken, batch.topic_of(index).unwrap(), index);
            deliveries.written(tag(9), 70);
            deliveries.written(tag(0), 4);
            deliveries.handed_over(taken);
            for (index, offset) in [(8, 18), (7, 17), (6, 16), (5, 15), (4, 14), (3, 13), (2, 12)] {
                assert!(rx.try_recv().unwrap().is_none());
                deliveries.written(tag(index), offset);
            }
            deliveries.failed(tag(1), |r| LogError::TooLarge {
                topic: r.topic.to_string(),
                size: 3,
                limit: round.to_string(),
            });
            let delivery = rx.try_recv().unwrap().unwrap();
            let offsets = [Some(18), None, Some(12), Some(13), Some(14), Some(15), Some(16), Some(70)];
            assert_eq!(delivery.last_offsets, offsets);
            assert_eq!(delivery.failed.len(), 1);
            let expected = LogError::TooLarge { topic: "t1".into(), size: 3, limit: round.to_string() };
            assert_eq!((delivery.failed[0].index, &delivery.failed[0].error), (1, &expected));
        }
        assert_eq!(lock(&deliveries.free).len(), SLOTS as usize);
    }

    #[test]
    fn what_was_not_handed_over_fails() {
        let tracker = Arc::new(Tracker::default());
        let deliveries = DeliveryTable::new(Arc::clone(&tracker), Arc::default());
        let batch = batch(&["a", "a", "a"]);
        let (tx, mut rx) = oneshot::channel();
        let taken = deliveries.take(&batch, tracker.begin(|_| {}), tx).unwrap();
        deliveries.failed_from(taken, 1, &LogError::Purged);
        deliveries.handed_over(taken);
        assert!(rx.try_recv().unwrap().is_none());
        deliveries.written(DeliveryTable::tag(taken, 0, 0), 5);
        let delivery = rx.try_recv().unwrap().unwrap();
        assert_eq!(delivery.last_offsets, [Some(5)]);
        assert_eq!(delivery.failed.iter().map(|f| f.index).collect::<Vec<_>>(), [1, 2]);
    }
}
