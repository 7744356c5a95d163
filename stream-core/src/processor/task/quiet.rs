//! A partition that is quiet: what is open closes although no record moves stream time on (semantics T1a).
//!
//! Quiet is a partition whose inputs have all been read to their ends, and have brought nothing since, while everything that
//! was done is acknowledged.

use std::task::{Context, Poll};
use std::time::Duration;

use super::input::TaskInput;
use super::{Quiet, Task};

/// How long a task waits for the rest of its group.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Task {
    /// A record came, or what was done is done again.
    pub(super) fn is_busy(&mut self) {
        self.quiet = Quiet::No;
    }

    /// No input has a record that may be dispatched. Ready once what is open is to close.
    pub(super) fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(after) = self.env.options.idle_close else { return Poll::Pending };
        if !self.time.on || !self.inputs.iter().all(TaskInput::is_at_its_end) {
            return Poll::Pending;
        }
        if matches!(self.quiet, Quiet::No) {
            let clock = &self.core.clock;
            self.quiet = Quiet::For(clock.sleep_until(clock.now_ms().saturating_add(after)));
        }
        let Quiet::For(wait) = &mut self.quiet else { return Poll::Pending };
        if wait.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.moved || !self.in_flight.is_empty() || !self.outbox.is_empty() {
            // Looked at again once that has come back.
            self.quiet = Quiet::For(Box::pin(std::future::ready(())));
            return Poll::Pending;
        }
        if self.env.alignment.as_ref().is_some_and(|alignment| alignment.has_unfinished()) {
            // Something of it may yet come here.
            let mut rest = Box::pin(tokio::time::sleep(LOOK_AGAIN));
            _ = rest.as_mut().poll(cx);
            self.quiet = Quiet::For(rest);
            return Poll::Pending;
        }
        self.quiet = Quiet::Closed;
        Poll::Ready(())
    }
}
