//! Brings a topic into a store: the restore of a table's partition, a join's partition, a view's.
//!
//! A follower owns its store's content as long as it lives: nobody else writes to the store meanwhile. It never moves
//! the checkpoint past what it has written.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::log::{Fetch, FetchLimits, Fetched, LogError, RecordBatch};
use crate::store::{Checkpoint, Store, StoreError};

/// Sees each record after it is in the store.
pub(crate) type Applied<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>);

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many records were applied.
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
    /// The next offset to apply.
    next: i64,
    checkpointed: i64,
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
        Self { fetch, store, batch: RecordBatch::new(), limits, next, checkpointed: next }
    }

    /// The next offset to apply; what is below is in the store.
    pub(crate) fn position(&self) -> i64 {
        self.next
    }

    /// Applies what there is, or waits. `applied` sees each record after it is in the store.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>, applied: Applied<'_>) -> Poll<Result<Step, FollowError>> {
        match ready!(self.fetch.poll_fetch(cx, &mut self.batch, self.limits))? {
            Fetched::End(end) => {
                // Behind the last record there may be markers of transactions.
                self.next = self.next.max(end);
                Poll::Ready(Ok(Step::CaughtUp(end)))
            }
            Fetched::Records => {
                // A record without a key has no place in a table; Kafka refuses it on a compacted topic.
                let mut keyed = self.batch.iter().filter_map(|r| Some((r.key?, r.value)));
                self.store.write(&mut keyed)?;
                if let Some(last) = self.batch.len().checked_sub(1).and_then(|i| self.batch.get(i)) {
                    self.next = last.offset + 1;
                }
                for record in self.batch.iter() {
                    if let Some(key) = record.key {
                        applied(key, record.value);
                    }
                }
                Poll::Ready(Ok(Step::Applied(self.batch.len())))
            }
        }
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
    }

    /// Records how far the store is, unless it is recorded already.
    pub(crate) fn checkpoint(&mut self, at_ms: i64) -> Result<(), StoreError> {
        if self.next != self.checkpointed {
            self.store.checkpoint(Checkpoint { offset: self.next, at_ms })?;
            self.checkpointed = self.next;
        }
        Ok(())
    }
}
