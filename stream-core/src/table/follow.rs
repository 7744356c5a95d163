//! Brings a topic into a store: the restore of a table's partition, a join's partition, a view's.
//!
//! A follower owns its store's content as long as it lives: nobody else writes to the store meanwhile. It works in one of two
//! ways:
//!
//! - **Holding back** ([`hold_back`](Follower::hold_back)): a restore, up to the first end or its goal. Records are collected in
//!   memory ([`Bulk`]), and from time to time the newest value of each key goes to the store, in key order, deletions among them. Only
//!   while nobody reads the store, for it lacks what is held back.
//! - **Directly**: each batch is in the store when its step is over. So it is from the first end on, and in a copy that is read while it
//!   catches up.
//!
//! Invariant: a checkpoint names [`stored`](Follower::stored), below which each write has reached the store, and never
//! [`position`](Follower::position), up to which it has read. What is held back when a follower is dropped, or when the process dies, is
//! read again from the checkpoint. A part of it that was stored does no harm: records of a changelog are absolute, and the replay ends
//! behind them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::bulk::{Bulk, Sorted};
use super::restore_memory::{Lease, RestoreMemory};
use crate::log::{Fetch, FetchLimits, Fetched, LogError, RecordBatch};
use crate::store::{Checkpoint, Store, StoreError};

/// Bytes of what is held back that one step writes: some milliseconds of work.
const PART: usize = 256 << 10;

/// Sees each record after it is in the store; not those that are held back.
pub(crate) type Applied<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many records were applied or held back. None: a part of what is held back was written.
    Applied(usize),
    /// The end, as the broker that answered knew it during the step, is reached: everything below this offset is applied.
    CaughtUp(i64),
}

/// Copies one partition of a compacted topic into a store.
pub(crate) struct Follower {
    fetch: Box<dyn Fetch>,
    store: Arc<dyn Store>,
    batch: RecordBatch,
    limits: FetchLimits,
    /// The next offset to read.
    next: i64,
    /// Everything below is in the store.
    stored: i64,
    checkpointed: i64,
    held: Option<Held>,
}

/// Records that were read and are not in the store yet.
struct Held {
    bulk: Bulk,
    lease: Lease,
    /// The rest of them, while they are being written. Nothing is read meanwhile.
    writing: Option<Sorted>,
    /// The end that was reached behind them.
    end: Option<i64>,
}

impl Held {
    /// Takes the keyed records of a batch in, and begins to write once its share of memory is full.
    fn take(&mut self, batch: &RecordBatch) {
        for record in batch.iter() {
            if let Some(key) = record.key {
                self.bulk.push(key, record.value);
            }
        }
        self.lease.hold(self.bulk.bytes());
        if !self.lease.is_full() {
            return;
        }
        let sorted = self.bulk.sorted();
        if let Some(compacted) = self.bulk.compacted(&sorted) {
            self.bulk = compacted;
            self.lease.hold(self.bulk.bytes());
            if self.lease.is_full() {
                self.begin_writing();
            }
        } else {
            self.writing = Some(sorted);
        }
    }

    fn begin_writing(&mut self) {
        self.writing = Some(self.bulk.sorted());
    }

    /// Writes the next part, if something is being written. Returns whether all is in the store.
    fn write_part(&mut self, store: &dyn Store) -> Result<bool, StoreError> {
        let Some(sorted) = &mut self.writing else { return Ok(self.bulk.is_empty()) };
        store.write(&mut sorted.next(&self.bulk, PART).into_iter())?;
        let all = sorted.is_empty();
        if all {
            self.writing = None;
            self.bulk.clear();
            self.lease.hold(0);
        }
        Ok(all)
    }
}

/// Why a follower can't go on.
#[derive(Clone, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

crate::chain::debug_as_chain!(FollowError);

impl Follower {
    /// Goes on at `next`, up to which the store is complete.
    pub(crate) fn new(fetch: Box<dyn Fetch>, store: Arc<dyn Store>, next: i64) -> Self {
        let limits = FetchLimits { records: 4096, bytes: 1 << 20 };
        Self { fetch, store, batch: RecordBatch::new(), limits, next, stored: next, checkpointed: next, held: None }
    }

    /// Collects records in memory before it writes them, until it first reaches the end, or [`settle`](Self::settle) is called.
    /// Only while nobody reads the store.
    pub(crate) fn hold_back(&mut self, memory: &RestoreMemory) {
        self.limits.bytes = memory.batch();
        self.held = Some(Held { bulk: Bulk::default(), lease: memory.lease(), writing: None, end: None });
    }

    /// The next offset to read; what is below is in the store, or held back.
    pub(crate) fn position(&self) -> i64 {
        self.next
    }

    /// Everything below this offset is in the store.
    pub(crate) fn stored(&self) -> i64 {
        self.stored
    }

    /// Applies what there is, or waits. `applied` sees each record after it is in the store, unless it was held back.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>, applied: Applied<'_>) -> Poll<Result<Step, FollowError>> {
        if self.held.as_ref().is_some_and(|held| held.writing.is_some()) {
            return Poll::Ready(self.write_part());
        }
        match ready!(self.fetch.poll_fetch(cx, &mut self.batch, self.limits))? {
            Fetched::End(end) => {
                // Behind the last record there may be markers of transactions.
                self.next = self.next.max(end);
                Poll::Ready(if let Some(held) = &mut self.held {
                    held.end = Some(end);
                    held.begin_writing();
                    self.write_part()
                } else {
                    self.stored = self.next;
                    Ok(Step::CaughtUp(end))
                })
            }
            Fetched::Records => Poll::Ready(self.apply_batch(applied)),
        }
    }

    fn apply_batch(&mut self, applied: Applied<'_>) -> Result<Step, FollowError> {
        let next = self.batch.len().checked_sub(1).and_then(|i| self.batch.get(i)).map_or(self.next, |r| r.offset + 1);
        if let Some(held) = &mut self.held {
            held.take(&self.batch);
            self.next = next;
            return Ok(Step::Applied(self.batch.len()));
        }
        // A record without a key has no place in a table; Kafka refuses it on a compacted topic.
        let mut keyed = self.batch.iter().filter_map(|r| Some((r.key?, r.value)));
        self.store.write(&mut keyed)?;
        (self.next, self.stored) = (next, next);
        for record in self.batch.iter() {
            if let Some(key) = record.key {
                applied(key, record.value);
            }
        }
        Ok(Step::Applied(self.batch.len()))
    }

    /// Writes a part of what is held back. Behind the last one, the end may have been reached.
    fn write_part(&mut self) -> Result<Step, FollowError> {
        let Some(held) = &mut self.held else { return Ok(Step::Applied(0)) };
        if !held.write_part(&*self.store)? {
            return Ok(Step::Applied(0));
        }
        self.stored = self.next;
        let Some(end) = held.end else { return Ok(Step::Applied(0)) };
        self.held = None;
        Ok(Step::CaughtUp(end))
    }

    /// Writes what is held back, and holds nothing back from now on.
    pub(crate) async fn settle(&mut self) -> Result<(), StoreError> {
        while let Some(held) = &mut self.held {
            if held.writing.is_none() {
                held.begin_writing();
            }
            if held.write_part(&*self.store)? {
                self.stored = self.next;
                self.held = None;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether what is fetched from has everything below an offset; if not, waits until it has. Goes on where it was.
    pub(crate) async fn await_sight_of(&mut self, offset: i64) -> Result<(), LogError> {
        self.fetch.seek(offset).await?;
        // An end or a record at an offset is only there once everything below it is.
        let seen = poll_fn(|cx| self.fetch.poll_fetch(cx, &mut self.batch, self.limits)).await;
        self.fetch.seek(self.next).await?;
        seen.map(drop)
    }

    /// The position is known to be at least here: markers and compacted records lie below.
    pub(crate) fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
        if self.held.is_none() {
            self.stored = self.next;
        }
    }

    /// Records how far the store is, unless it is recorded already.
    pub(crate) fn checkpoint(&mut self, at_ms: i64) -> Result<(), StoreError> {
        if self.stored != self.checkpointed {
            self.store.checkpoint(Checkpoint { offset: self.stored, at_ms })?;
            self.checkpointed = self.stored;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
