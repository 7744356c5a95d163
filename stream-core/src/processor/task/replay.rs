//! Failed deliveries of a task, until the work that they took along is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::outbox::Maker;
use super::search::{Search, Trace};
use crate::group::{CallbackError, Failure};
use crate::log::LogError;
use crate::topology::TableId;

/// The replay of a task after a failed delivery (semantics D8, D12).
///
/// Trouble that passes (a broker away) is met by going back and doing it again. So is a refusal that blames another record
/// of the batch. Once a record is known to be the one that its topic refuses, its own policy applies to it on the next
/// replay; until then it is [searched for](super::search). What only a new start can mend ends the task, but what was
/// written by halves is written over first, if that is still possible.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// A delivery failed; everything on its way is waited for, then the task goes back.
    pub(super) waiting: Option<Failed>,
    pub(super) search: Search,
    /// The records whose effects can't be delivered.
    pub(super) poison: Vec<Poison>,
    /// The same of what was due.
    pub(super) poison_due: Vec<PoisonDue>,
    /// A record whose effects can't be delivered even after its policy was applied: input, offset, key, why.
    pub(super) hopeless: Option<(usize, i64, String, LogError)>,
    /// How often in a row a record of the task's own was refused, and nothing else that shared its batch.
    pub(super) own_refused: u32,
    /// Keys, by table, whose changelog may have a write that is taken back, until it is known to have a later one.
    pub(super) suspects: BTreeSet<(TableId, Box<[u8]>)>,
    /// A failure that does not pass was met with before: it is not to be waited for again.
    pub(super) fatal: bool,
    /// Nothing more can be written.
    pub(super) dead: bool,
    /// Failures in a row that may pass.
    pub(super) failures: u32,
    /// The wait after such a failure.
    pub(super) rest: Option<Pin<Box<Sleep>>>,
}

/// A record whose effects its topic refuses.
#[derive(Debug)]
pub(super) struct Poison {
    pub(super) input: usize,
    pub(super) offset: i64,
    pub(super) error: LogError,
    /// The task's epoch when it was refused.
    pub(super) epoch: u64,
}

/// Something that was due whose effects their topic refuses.
#[derive(Debug)]
pub(super) struct PoisonDue {
    pub(super) table: TableId,
    pub(super) key: Box<[u8]>,
    pub(super) error: LogError,
    /// The task's epoch when it was refused.
    pub(super) epoch: u64,
}

impl Replay {
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Waits out a failure that may pass.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        Poll::Ready(())
    }

    /// Why this record is known to fail, if it is.
    pub(super) fn poisoned(&self, input: usize, offset: i64) -> Option<CallbackError> {
        let poison = self.poison.iter().find(|p| p.input == input && p.offset == offset)?;
        Some(CallbackError::of(Failure::Emit(poison.error.clone())))
    }

    /// Why what is due is known to fail, if it is.
    pub(super) fn poisoned_due(&self, table: TableId, key: &[u8]) -> Option<CallbackError> {
        let poison = self.poison_due.iter().find(|p| p.table == table && *p.key == *key)?;
        Some(CallbackError::of(Failure::Emit(poison.error.clone())))
    }

    /// Sets how long to wait before the next attempt.
    pub(super) fn rest_for(&mut self, error: &LogError, ending: bool) {
        let first = Duration::from_millis(match error {
            LogError::Neighbour { .. } => 20,
            _ => 100,
        });
        let doublings = match error {
            // The culprit is looked for by its own task.
            LogError::Neighbour { .. } => 0,
            error if error.blames_record() => self.own_refused,
            _ => self.failures,
        };
        // The end does not wait long for a log that may be away for long.
        let doublings = if ending { 0 } else { doublings.min(6) };
        self.rest = Some(Box::pin(tokio::time::sleep(first.saturating_mul(1 << doublings))));
    }
}

/// A failure, once every batch that was under way has ended.
#[derive(Debug)]
pub(super) struct Failed {
    /// The worst: the first that blames a record, else the first.
    pub(super) error: LogError,
    /// Topics that refused records of the task's own, and why.
    pub(super) own: BTreeMap<Arc<str>, LogError>,
    /// Topics that refused records of others.
    pub(super) others: BTreeSet<Arc<str>>,
    /// Records that were refused for their size, and need not be to blame.
    pub(super) large: Vec<Large>,
    pub(super) trace: Trace,
}

impl Failed {
    /// A topic that refuses a record of the task's own, and nothing else that could have taken it along. Nobody else
    /// writes to the partition.
    pub(super) fn own_culprit(&self) -> Option<(&Arc<str>, &LogError)> {
        self.own.iter().find(|(topic, _)| !self.others.contains(*topic))
    }
}

/// A record that was refused for its size, or together with others.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) topic: Arc<str>,
    pub(super) maker: Maker,
    pub(super) size: usize,
    /// The largest batch of several records that was sent then.
    pub(super) batch_bytes: usize,
}
