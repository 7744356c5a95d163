//! The conformance suite on the embedded log.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use stream_core::clock::ManualClock;
use stream_core::log::embedded::{InMemory, Pending};
use stream_core::log::{LogHandle, Offsets};

use crate::log_suite::{PendingOffsets, World};

/// The embedded log, with a wall clock that the tests move.
struct EmbeddedWorld {
    log: Arc<InMemory>,
    clock: Arc<ManualClock>,
}

impl EmbeddedWorld {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        Self { log: InMemory::with_clock(Arc::clone(&clock) as _), clock }
    }
}

impl World for EmbeddedWorld {
    fn log(&self) -> LogHandle {
        Arc::clone(&self.log) as LogHandle
    }

    fn elapse(&self, by: Duration) -> BoxFuture<'static, ()> {
        self.clock.advance(by);
        Box::pin(tokio::time::sleep(by))
    }

    fn compact(&self, _topic: Arc<str>) -> BoxFuture<'static, bool> {
        self.log.compact_now();
        Box::pin(std::future::ready(true))
    }

    fn apply_retention(&self) -> BoxFuture<'static, bool> {
        self.log.apply_retention();
        Box::pin(std::future::ready(true))
    }

    fn forget_offsets(&self, group: Arc<str>) -> BoxFuture<'static, bool> {
        self.log.faults().forget_offsets(&group, None);
        Box::pin(std::future::ready(true))
    }

    fn expire_transactional_id(&self, id: Arc<str>) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(self.log.faults().expire_transactional_id(&id)))
    }

    fn pending_offsets(
        &self,
        group: Arc<str>,
        offsets: Offsets,
    ) -> BoxFuture<'static, Option<Box<dyn PendingOffsets>>> {
        let pending = Undecided(self.log.faults().pending_offsets(&group, offsets));
        Box::pin(std::future::ready(Some(Box::new(pending) as Box<dyn PendingOffsets>)))
    }
}

struct Undecided(Pending);

impl PendingOffsets for Undecided {
    fn commit(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.0.commit();
        Box::pin(std::future::ready(()))
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.0.abort();
        Box::pin(std::future::ready(()))
    }
}

log_suite! { [#[tokio::test(start_paused = true)]] EmbeddedWorld::new() }
