//! The outbox of a task: released records, handed to the producer in batches, acknowledged in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::time::TimeProgress;
use crate::log::{Delivery, ProduceBatch};
use crate::processor::error::ProcessorResult;
use crate::topology::TableId;

/// Which record made which part of a batch: index of its first record in the batch, input, offset.
pub(super) type Provenance = (usize, usize, i64);

/// In [`Provenance`]: the task itself.
pub(super) const OWN: usize = usize::MAX;

/// In [`Provenance`]: a timer or a window, with its index in [`InFlightBatch::due`].
pub(super) const TIMED: usize = usize::MAX - 1;

/// In [`Provenance`]: a visitor.
pub(super) const VISIT: usize = usize::MAX - 2;

/// The maker of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// A record of this input, at this offset.
    Record(usize, i64),
    /// A timer or a window, by its index in [`InFlightBatch::due`].
    Timed(usize),
    /// A visitor.
    Visit,
    /// The task itself.
    Own,
}

/// A batch on its way.
pub(super) struct InFlightBatch {
    pub(super) batch: Arc<ProduceBatch>,
    /// For each input, everything below is done once this batch is acknowledged.
    pub(super) positions: Vec<i64>,
    /// The maker of each part of the batch, in order and without a gap.
    pub(super) sources: Vec<Provenance>,
    /// Due work that has a part in it: its table and its key.
    pub(super) due: Vec<(TableId, Box<[u8]>)>,
    /// Nothing else of the instance is on its way before this batch is acknowledged or failed.
    pub(super) alone: bool,
    /// The largest batch of several records that was sent when it was handed over.
    pub(super) batch_bytes: usize,
    /// Visits that are over once this batch is acknowledged.
    pub(super) visited: Vec<Visited>,
    /// The positions that it writes to the state, of each input.
    pub(super) recorded: Option<Vec<i64>>,
    /// Its progress of time.
    pub(super) time: Option<Box<TimeProgress>>,
    /// For each input, the earliest time of what was released with it, if something of it goes back to the group itself.
    pub(super) lows: Vec<i64>,
    pub(super) delivery: BoxFuture<'static, Delivery>,
}

impl InFlightBatch {
    /// How many timers and windows have a part in it.
    pub(super) fn fires(&self) -> usize {
        self.sources.iter().filter(|(_, input, _)| *input == TIMED).count()
    }

    /// The maker of the batch's record at `index`.
    pub(super) fn maker(&self, index: usize) -> Maker {
        let at = self.sources.partition_point(|(first, ..)| *first <= index);
        match at.checked_sub(1).and_then(|at| self.sources.get(at)) {
            None | Some((_, OWN, _)) => Maker::Own,
            Some((_, VISIT, _)) => Maker::Visit,
            Some((_, TIMED, index)) => Maker::Timed(usize::try_from(*index).unwrap_or(usize::MAX)),
            Some((_, input, offset)) => Maker::Record(*input, *offset),
        }
    }

    /// The topic of the record at `index`.
    pub(super) fn topic(&self, index: usize) -> Option<&Arc<str>> {
        self.batch.topics().get(self.batch.topic_of(index)?)
    }

    /// Whether the task itself wrote a part of it.
    pub(super) fn has_own(&self) -> bool {
        self.sources.iter().any(|(_, input, _)| *input == OWN)
    }

    /// How many records, timers and visits it was made by.
    pub(super) fn makers(&self) -> usize {
        self.sources.iter().filter(|(_, input, _)| *input != OWN).count()
    }

    /// How many records and timers it was made by.
    pub(super) fn searched(&self) -> usize {
        self.sources.iter().filter(|(_, input, _)| *input != OWN && *input != VISIT).count()
    }

    /// The bytes of key, value and headers of the record at `index`.
    pub(super) fn size(&self, index: usize) -> usize {
        self.batch.get(index).map_or(0, |(record, headers)| {
            let headers: usize = headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
            record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers
        })
    }

    /// Whether the record at `index` is the only one of its topic.
    pub(super) fn is_only(&self, index: usize) -> bool {
        let topic = self.batch.topic_of(index);
        (0..self.batch.len()).filter(|i| self.batch.topic_of(*i) == topic).nth(1).is_none()
    }
}

/// A visit whose keys have all been visited.
pub(super) struct Visited {
    pub(super) done: oneshot::Sender<ProcessorResult<u64>>,
    pub(super) count: u64,
}

/// Batches on their way, oldest first.
#[derive(Default)]
pub(super) struct Outbox {
    pending: VecDeque<InFlightBatch>,
    bytes: usize,
    spare: Vec<ProduceBatch>,
    spare_sources: Vec<Vec<Provenance>>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the newest batch is one that is sent alone.
    pub(super) fn ends_alone(&self) -> bool {
        self.pending.back().is_some_and(|newest| newest.alone)
    }

    /// Bytes on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The earliest times of an input of what is on its way back to the group itself.
    pub(super) fn lows(&self, input: usize) -> impl Iterator<Item = i64> {
        self.pending.iter().filter_map(move |batch| batch.lows.get(input).copied())
    }

    /// The topics of the oldest batch.
    pub(super) fn oldest_topics(&self) -> String {
        self.pending.front().map_or_else(String::new, |oldest| oldest.batch.topics().join(", "))
    }

    pub(super) fn push(&mut self, batch: InFlightBatch) {
        self.bytes += weight(&batch.batch);
        self.pending.push_back(batch);
    }

    /// The oldest batch, once its delivery is known.
    pub(super) fn poll_delivered(&mut self, cx: &mut Context<'_>) -> Poll<(InFlightBatch, Delivery)> {
        let Some(front) = self.pending.front_mut() else { return Poll::Pending };
        match front.delivery.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(delivery) => match self.pending.pop_front() {
                Some(front) => {
                    self.bytes = self.bytes.saturating_sub(weight(&front.batch));
                    Poll::Ready((front, delivery))
                }
                None => Poll::Pending,
            },
        }
    }

    /// Memory for the next batch.
    pub(super) fn fresh(&mut self) -> (ProduceBatch, Vec<Provenance>) {
        (self.spare.pop().unwrap_or_default(), self.spare_sources.pop().unwrap_or_default())
    }

    /// Takes a finished batch's memory back.
    pub(super) fn recycle(&mut self, done: InFlightBatch) {
        const KEEP: usize = 4;
        let InFlightBatch { batch, mut sources, delivery, .. } = done;
        drop(delivery);
        if self.spare.len() < KEEP
            && let Ok(mut batch) = Arc::try_unwrap(batch)
        {
            batch.clear();
            self.spare.push(batch);
        }
        if self.spare_sources.len() < KEEP {
            sources.clear();
            self.spare_sources.push(sources);
        }
    }
}

/// Bytes that a batch keeps busy, the producer's own bookkeeping included, roughly.
pub(super) fn weight(batch: &ProduceBatch) -> usize {
    batch.bytes() + 100 * batch.len()
}
