//! The queue of an emitter: records taken and not yet acknowledged.
//!
//! Callers append to the batch that is being filled; the [`sender`](super::sender) takes batches out and reports what
//! became of them. One lock, held for moments; nothing is allocated a record.
//!
//! Invariants:
//! - Batches leave in the order in which they were begun, so that the records of a key keep theirs.
//! - `weight` is that of every record taken and not yet known to be written or failed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ack::{Ack, BatchState, Failures};
use super::error::EmitError;
use crate::codec::CodecError;
use crate::context::Emit;
use crate::log::{FailedRecord, LogError, NewRecord, ProduceBatch};

/// The bounds of an emitter's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Records and bytes of one batch.
    pub(super) batch_records: usize,
    pub(super) batch_bytes: usize,
    /// Bytes under way.
    pub(super) in_flight_bytes: usize,
    /// How long a batch waits to be filled while others are under way.
    pub(super) linger: Duration,
    /// Bytes of one record.
    pub(super) record_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Queue {
    topic: Arc<str>,
    bounds: Bounds,
    failures: Arc<Failures>,
    inner: Mutex<Taken>,
    /// There is something for the sender.
    pub(super) work: Notify,
    /// There is room for callers that wait.
    pub(super) room: Notify,
}

#[derive(Debug)]
struct Taken {
    filling: ProduceBatch,
    state: Arc<BatchState>,
    /// When the batch that is being filled got its first record.
    begun: Instant,
    /// Full batches, to be sent.
    full: VecDeque<Sealed>,
    /// Batches that are not being filled any more, until their outcome is known.
    outstanding: BTreeMap<u64, (Arc<BatchState>, usize)>,
    next: u64,
    weight: usize,
    spare: Vec<ProduceBatch>,
    closed: bool,
    /// The caller that closed it will report the failures.
    reported: bool,
}

/// A batch to be sent.
#[derive(Debug)]
pub(super) struct Sealed {
    number: u64,
    pub(super) batch: Arc<ProduceBatch>,
}

/// The sender's next step.
pub(super) enum Next {
    /// Send these, in order.
    Send(Vec<Sealed>),
    /// Nothing until then.
    WaitUntil(Instant),
    /// Nothing until there is work.
    Wait,
    /// Nothing ever again, once what is under way is done.
    End,
}

/// Batches whose memory is kept.
const SPARE: usize = 4;

impl Queue {
    pub(super) fn new(topic: Arc<str>, bounds: Bounds) -> Self {
        let failures = Arc::default();
        let state = Arc::new(BatchState::new(Arc::clone(&topic), Arc::clone(&failures)));
        let taken = Taken {
            filling: ProduceBatch::new(),
            state,
            begun: Instant::now(),
            full: VecDeque::new(),
            outstanding: BTreeMap::new(),
            next: 0,
            weight: 0,
            spare: Vec::new(),
            closed: false,
            reported: false,
        };
        Self { topic, bounds, failures, inner: Mutex::new(taken), work: Notify::new(), room: Notify::new() }
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record; `encode` appends its value, `None` is a null.
    pub(super) fn push(
        &self,
        key: Option<&[u8]>,
        with: &Emit<'_>,
        encode: Option<impl FnOnce(&mut Vec<u8>) -> Result<(), CodecError>>,
    ) -> Result<Ack, EmitError> {
        if let Some(at) = with.timestamp.filter(|at| *at < 0) {
            return Err(EmitError::Negative { topic: Arc::clone(&self.topic), at });
        }
        let mut taken = self.taken();
        let taken = &mut *taken;
        if taken.closed {
            return Err(EmitError::closed(&self.topic));
        }
        if taken.weight >= self.bounds.in_flight_bytes {
            return Err(EmitError::Full { topic: Arc::clone(&self.topic), bytes: taken.weight });
        }
        let (before, bytes) = (taken.filling.savepoint(), taken.filling.bytes());
        let record =
            NewRecord { topic: &self.topic, partition: with.partition, timestamp: with.timestamp, key, value: None };
        let headers = with.headers.iter().map(|(name, value)| (*name, Some(*value)));
        match encode {
            None => taken.filling.push(record, headers),
            Some(encode) => taken
                .filling
                .push_with(record, headers, encode)
                .map_err(|error| EmitError::Encode { topic: Arc::clone(&self.topic), error })?,
        }
        let size = taken.filling.bytes() - bytes;
        if size > self.bounds.record_bytes {
            taken.filling.truncate(before);
            let (topic, limit) = (self.topic.to_string(), format!("{} bytes", self.bounds.record_bytes));
            return Err(EmitError::log(&self.topic, LogError::TooLarge { topic, size, limit }));
        }
        let index = taken.filling.len() - 1;
        taken.weight += weight(size, 1);
        let ack = Ack::new(Arc::clone(&taken.state), index);
        if index == 0 {
            taken.begun = Instant::now();
            self.work.notify_one();
        }
        if taken.filling.len() >= self.bounds.batch_records || taken.filling.bytes() >= self.bounds.batch_bytes {
            self.seal(taken);
            self.work.notify_one();
        }
        Ok(ack)
    }

    /// Ends the batch that is being filled.
    fn seal(&self, taken: &mut Taken) {
        if taken.filling.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut taken.filling, taken.spare.pop().unwrap_or_default());
        let fresh = Arc::new(BatchState::new(Arc::clone(&self.topic), Arc::clone(&self.failures)));
        let state = std::mem::replace(&mut taken.state, fresh);
        let number = taken.next;
        taken.next += 1;
        taken.outstanding.insert(number, (state, batch.len()));
        taken.full.push_back(Sealed { number, batch: Arc::new(batch) });
    }

    /// The sender's next step; `idle` if it has nothing under way.
    pub(super) fn next(&self, idle: bool) -> Next {
        let mut taken = self.taken();
        let due = taken.begun + self.bounds.linger;
        if idle || taken.closed || Instant::now() >= due {
            self.seal(&mut taken);
        }
        if !taken.full.is_empty() {
            return Next::Send(taken.full.drain(..).collect());
        }
        match (taken.filling.is_empty(), taken.closed) {
            (false, _) => Next::WaitUntil(due),
            (true, false) => Next::Wait,
            (true, true) => Next::End,
        }
    }

    /// A batch's outcome is known.
    pub(super) fn delivered(&self, sealed: Sealed, failed: Vec<FailedRecord>) {
        let mut taken = self.taken();
        taken.weight = taken.weight.saturating_sub(weight(sealed.batch.bytes(), sealed.batch.len()));
        let state = taken.outstanding.remove(&sealed.number);
        if taken.spare.len() < SPARE
            && let Ok(mut batch) = Arc::try_unwrap(sealed.batch)
        {
            batch.clear();
            taken.spare.push(batch);
        }
        drop(taken);
        if let Some((state, _)) = state {
            state.delivered(failed);
        }
        self.room.notify_waiters();
    }

    /// Resolves once the outcome of everything taken before the call is known; the failures that nobody awaited.
    pub(super) async fn flush(&self) -> Result<(), EmitError> {
        let outstanding: Vec<_> = {
            let mut taken = self.taken();
            self.seal(&mut taken);
            taken.outstanding.values().map(|(state, _)| Arc::clone(state)).collect()
        };
        self.work.notify_one();
        for state in outstanding {
            state.known().await;
        }
        match self.failures.take() {
            None => Ok(()),
            Some((failed, first)) => Err(EmitError::Unacknowledged { topic: Arc::clone(&self.topic), failed, first }),
        }
    }

    /// Nothing more is taken; what was taken goes out. `reported` if the caller will ask what became of it.
    pub(super) fn close(&self, reported: bool) {
        let mut taken = self.taken();
        taken.closed = true;
        taken.reported |= reported;
        drop(taken);
        self.work.notify_one();
        self.room.notify_waiters();
    }

    /// The sender has ended. Returns the failures that are reported nowhere else.
    pub(super) fn sender_gone(&self) -> Option<(usize, LogError)> {
        let (outstanding, reported) = {
            let mut taken = self.taken();
            taken.closed = true;
            self.seal(&mut taken);
            taken.full.clear();
            (std::mem::take(&mut taken.outstanding), taken.reported)
        };
        let error =
            LogError::Closed { what: "the runtime that the emitter was opened on, before the acknowledgement,".into() };
        for (state, records) in outstanding.into_values() {
            state.abandoned(error.clone(), records);
        }
        self.room.notify_waiters();
        if reported { None } else { self.failures.take() }
    }
}

/// Bytes that records keep busy, the producer's own bookkeeping included, roughly.
fn weight(bytes: usize, records: usize) -> usize {
    bytes + 100 * records
}
