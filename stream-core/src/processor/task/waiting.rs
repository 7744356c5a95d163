//! The task's reports to its instance about what it waits for.

use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Report, Task};
use crate::log::LogError;
use crate::processor::status::Waiting;

/// Acknowledgements that take longer are waited for as something is.
const LATE: Duration = Duration::from_secs(10);

impl Task {
    /// Something that passes keeps the task from going on.
    pub(super) fn waits_for(&mut self, error: &LogError) {
        self.wait_is(error.to_string(), self.core.clock.now_ms());
    }

    /// It goes on.
    pub(super) fn waits_no_more(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.report_wait(None);
        }
    }

    /// Notices acknowledgements that do not come.
    pub(super) fn poll_stall(&mut self, cx: &mut Context<'_>) {
        if self.waits || self.outbox.is_empty() {
            return;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LATE)));
        if stall.as_mut().poll(cx).is_ready() {
            let since = self.core.clock.now_ms().saturating_sub(i64::try_from(LATE.as_millis()).unwrap_or_default());
            let on = format!("the acknowledgement of what was written to {}", self.outbox.oldest_topics());
            self.stall = None;
            self.wait_is(on, since);
        }
    }

    fn wait_is(&mut self, on: String, since_ms: i64) {
        // The first reason is the one that it has waited for since.
        if !std::mem::replace(&mut self.waits, true) {
            self.report_wait(Some(Waiting { on, since_ms }));
        }
    }

    fn report_wait(&self, waiting: Option<Waiting>) {
        // An instance that has ended needs no report.
        _ = self.reports.send((self.id, Report::Waiting(waiting)));
    }
}
