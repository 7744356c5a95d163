//! How large a batch each topic takes, as far as it is known, and how large batches may be for all of them.
//!
//! A refusal for size names no record: the client packs the records of several tasks into one batch. So a topic that
//! refuses one is asked for its limit, and batches are kept below it from then on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::egress::Egress;
use crate::log::{LogHandle, LogResult};
use crate::topics::record_limit;

/// A record that a topic refused for its size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refused {
    /// The largest record.
    pub(super) largest: usize,
    /// All records together.
    pub(super) bytes: usize,
}

/// The batch limits of a processor; they outlive its instances.
#[derive(Debug, Default)]
pub(super) struct BatchLimits(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The largest batch of several records that is sent; `None` while it is the client's default.
    bytes: Option<usize>,
    /// For each topic that has refused a batch for its size, the largest record that it takes; `None` if it can't be found
    /// out.
    topics: BTreeMap<Arc<str>, Option<usize>>,
}

impl BatchLimits {
    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The largest batch of several records that is sent.
    pub(super) fn bytes(&self) -> usize {
        self.with(|known| known.bytes.unwrap_or(usize::MAX))
    }

    /// A producer is made for topics of which the smallest takes batches of so many bytes; how large batches may be.
    pub(super) fn begin(&self, smallest: usize) -> Option<usize> {
        self.with(|known| {
            let bytes = known.bytes.unwrap_or(usize::MAX).min(smallest);
            known.bytes = Some(bytes).filter(|bytes| *bytes < usize::MAX);
            known.bytes
        })
    }

    /// The largest record that a topic takes, if it has refused a batch and is known to have a limit.
    pub(super) fn of(&self, topic: &str) -> Option<usize> {
        self.with(|known| known.topics.get(topic).copied().flatten())
    }

    /// Asks for the limit of a topic that refused a batch for its size, and has smaller batches sent if that is why.
    ///
    /// # Errors
    /// When the producer can't go on with smaller batches.
    pub(super) async fn learn(
        &self,
        log: &LogHandle,
        egress: &Egress,
        topic: &Arc<str>,
        refused: Refused,
    ) -> LogResult<()> {
        let limit = match log.topics(vec![Arc::clone(topic)]).await {
            Ok(found) => found.into_iter().flatten().map(|info| record_limit(&info)).find(|limit| *limit < usize::MAX),
            Err(error) => {
                tracing::debug!(%topic, ?error, "the largest batch that a topic takes can't be found out now");
                self.of(topic)
            }
        };
        // Where it stays unknown, half as much, down to batches of one record.
        let bytes = limit.unwrap_or_else(|| refused.largest.max(self.bytes().min(refused.bytes) / 2));
        let lower = self.with(|known| {
            known.topics.insert(Arc::clone(topic), limit);
            let lower = known.bytes.is_none_or(|now| bytes < now);
            if lower {
                known.bytes = Some(bytes);
            }
            lower
        });
        if !lower {
            return Ok(());
        }
        tracing::warn!(%topic, bytes, "a batch was larger than its topic takes: smaller batches are sent from now on");
        egress.limit_batches(bytes).await
    }
}
