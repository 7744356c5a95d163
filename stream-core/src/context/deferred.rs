//! Work that outlives its callback.

use tokio::sync::mpsc;

use crate::topology::{CallbackError, Failure};

/// How the deferred work of a slot ended.
#[derive(Debug)]
pub(crate) struct DeferredEnd {
    pub(crate) slot: u64,
    pub(crate) result: Result<(), CallbackError>,
}

/// Holds a record's commit back until [`done`](Self::done). Dropping it unfinished is an error of the record, to which
/// the input's policy applies. [`Ctx::defer`](super::Ctx::defer) has an example.
#[derive(Debug)]
#[must_use = "dropping it fails the record"]
pub struct Deferred {
    slot: u64,
    ends: Option<mpsc::UnboundedSender<DeferredEnd>>,
}

impl Deferred {
    pub(crate) fn new(slot: u64, ends: mpsc::UnboundedSender<DeferredEnd>) -> Self {
        Self { slot, ends: Some(ends) }
    }

    /// The work is finished: the record's effects may be released and its offset committed.
    pub fn done(mut self) {
        self.end(Ok(()));
    }

    /// The work failed: the input's error policy applies to the record.
    pub fn fail(mut self, error: impl Into<CallbackError>) {
        self.end(Err(error.into()));
    }

    fn end(&mut self, result: Result<(), CallbackError>) {
        if let Some(ends) = self.ends.take() {
            // A task that has ended has nothing left to hold back.
            _ = ends.send(DeferredEnd { slot: self.slot, result });
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        self.end(Err(CallbackError::of(Failure::DeferredDropped)));
    }
}
