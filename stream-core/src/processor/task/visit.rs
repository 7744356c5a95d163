//! A visit that is not over: how far it has come.

use std::collections::VecDeque;
use std::rc::Rc;

use futures::future::LocalBoxFuture;

use super::VisitRequest;
use crate::group::CallbackError;
use crate::processor::error::ProcessorError;

/// A visit that is not over.
pub(super) struct Visit {
    pub(super) request: VisitRequest,
    /// The keys that only the write buffer had when the visit began, the smallest last.
    pub(super) buffered: Option<Vec<Rc<[u8]>>>,
    pub(super) after: Option<Vec<u8>>,
    /// Keys that are next, and whether they are the last ones.
    pub(super) next: VecDeque<Vec<u8>>,
    pub(super) last: bool,
    pub(super) count: u64,
    /// The wait for something that the next key needs, and how often it needed something already.
    pub(super) resolving: Option<LocalBoxFuture<'static, Result<(), CallbackError>>>,
    pub(super) attempts: u32,
    /// Whose value that is.
    pub(super) at: String,
}

impl Visit {
    pub(super) fn new(request: VisitRequest) -> Self {
        Self {
            request,
            buffered: None,
            after: None,
            next: VecDeque::new(),
            last: false,
            count: 0,
            resolving: None,
            attempts: 0,
            at: String::new(),
        }
    }

    /// It ends before all is visited.
    pub(super) fn fail(self, error: ProcessorError) {
        // The caller may have gone.
        _ = self.request.done.send(Err(error));
    }
}
