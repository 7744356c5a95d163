//! Acknowledgements: one shared state a batch, a number into it a record.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::error::EmitError;
use crate::log::{FailedRecord, LogError};

/// Failures that nobody has heard of yet.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Option<(usize, LogError)>>);

impl Failures {
    fn note(&self, error: &LogError) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = noted.get_or_insert_with(|| (0, error.clone()));
        *count += 1;
    }

    /// How many, with the first one's error. They count as reported from now on.
    pub(super) fn take(&self) -> Option<(usize, LogError)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The state of the records of one batch.
#[derive(Debug)]
pub(super) struct BatchState {
    topic: Arc<str>,
    failures: Arc<Failures>,
    inner: Mutex<Acks>,
}

#[derive(Debug, Default)]
struct Acks {
    outcome: Option<Outcome>,
    /// The callers that wait, each with the index of its record; `None` for one that has stopped waiting.
    waiting: Vec<Option<(usize, Waker)>>,
}

#[derive(Debug)]
enum Outcome {
    /// Acknowledged but for these, in order of their indices.
    Delivered(Vec<FailedRecord>),
    /// Nothing is known.
    Unknown(LogError),
}

impl Outcome {
    fn of(&self, index: usize) -> Option<&LogError> {
        match self {
            Self::Delivered(failed) => {
                let at = failed.binary_search_by_key(&index, |f| f.index).ok()?;
                failed.get(at).map(|f| &f.error)
            }
            Self::Unknown(error) => Some(error),
        }
    }
}

/// The index that a waiter for the whole batch goes by.
const WHOLE: usize = usize::MAX;

impl BatchState {
    pub(super) fn new(topic: Arc<str>, failures: Arc<Failures>) -> Self {
        Self { topic, failures, inner: Mutex::default() }
    }

    fn acks(&self) -> MutexGuard<'_, Acks> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The delivery is known: who waits is woken, and failures for which nobody waits are noted.
    pub(super) fn delivered(&self, mut failed: Vec<FailedRecord>) {
        failed.sort_unstable_by_key(|f| f.index);
        let mut acks = self.acks();
        let mut awaited: Vec<usize> = Vec::new();
        if !failed.is_empty() {
            awaited = acks.waiting.iter().flatten().map(|(index, _)| *index).collect();
            awaited.sort_unstable();
        }
        failed.iter().filter(|f| awaited.binary_search(&f.index).is_err()).for_each(|f| self.failures.note(&f.error));
        acks.outcome = Some(Outcome::Delivered(failed));
        wake(acks);
    }

    /// Nothing will be known of its records any more.
    pub(super) fn abandoned(&self, error: LogError, records: usize) {
        let mut acks = self.acks();
        let awaited = acks.waiting.iter().flatten().filter(|(index, _)| *index != WHOLE).count();
        (awaited..records).for_each(|_| self.failures.note(&error));
        acks.outcome = Some(Outcome::Unknown(error));
        wake(acks);
    }

    /// Waits for the outcome of a record; `slot` keeps the waiter's place.
    fn poll(&self, cx: &mut Context<'_>, index: usize, slot: &mut Option<usize>) -> Poll<Result<(), LogError>> {
        let mut acks = self.acks();
        if let Some(outcome) = &acks.outcome {
            return Poll::Ready(outcome.of(index).map_or(Ok(()), |error| Err(error.clone())));
        }
        let place = *slot.get_or_insert_with(|| {
            acks.waiting.push(None);
            acks.waiting.len() - 1
        });
        if let Some(place) = acks.waiting.get_mut(place) {
            match place {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => *place = Some((index, cx.waker().clone())),
            }
        }
        Poll::Pending
    }

    /// Resolves once the outcome of every record is known.
    pub(super) async fn known(&self) {
        let mut slot = None;
        // Their outcome is reported elsewhere.
        _ = poll_fn(|cx| self.poll(cx, WHOLE, &mut slot)).await;
    }
}

fn wake(mut acks: MutexGuard<'_, Acks>) {
    let waiting = std::mem::take(&mut acks.waiting);
    drop(acks);
    waiting.into_iter().flatten().for_each(|(_, waker)| waker.wake());
}

/// The acknowledgement of an emitted record: a future that resolves once the log has it, or it has failed.
///
/// The record goes out whether this is awaited or dropped. A failure that nobody is awaiting when it happens is reported
/// by [`Emitter::flush`](super::Emitter::flush), even if this is awaited later and returns it once more.
#[derive(Debug)]
pub struct Ack {
    batch: Arc<BatchState>,
    index: usize,
    /// Its place among those who wait, once it was polled.
    slot: Option<usize>,
    resolved: bool,
}

impl Ack {
    pub(super) fn new(batch: Arc<BatchState>, index: usize) -> Self {
        Self { batch, index, slot: None, resolved: false }
    }
}

impl Future for Ack {
    type Output = Result<(), EmitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ack = self.get_mut();
        ack.batch.poll(cx, ack.index, &mut ack.slot).map(|outcome| {
            ack.resolved = true;
            outcome.map_err(|error| EmitError::log(&ack.batch.topic, error))
        })
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        // One that was never polled is nobody's: its failure is noted when it happens.
        let Some(slot) = self.slot.filter(|_| !self.resolved) else { return };
        let mut acks = self.batch.acks();
        if let Some(place) = acks.waiting.get_mut(slot) {
            *place = None;
        }
        if let Some(error) = acks.outcome.as_ref().and_then(|outcome| outcome.of(self.index)) {
            self.batch.failures.note(error);
        }
    }
}
