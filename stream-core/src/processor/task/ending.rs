//! The end of a task: in good order where that is possible, whatever the reason.

use super::visit::Visit;
use super::{Ending, Report, Task};
use crate::log::LogError;
use crate::processor::error::ProcessorError;

impl Task {
    /// Begins to end: what has not begun is left to the partition's next owner.
    pub(super) fn begin_end(&mut self) -> &mut Ending {
        self.in_flight.cut_waiting();
        self.alignment.stop_waiting();
        for visit in std::mem::take(&mut self.visits) {
            self.visit_ends(visit);
        }
        self.ending.get_or_insert_default()
    }

    /// A visit is given up because the task ends.
    pub(super) fn visit_ends(&self, visit: Visit) {
        let error = LogError::Closed { what: "visit: the partition is moving or the processor".into() };
        visit.fail(ProcessorError::log(self.core.graph.name(), "visit", error));
    }

    /// Something failed for good. It is reported at once, for what has begun may take long, and the instance sets a bound
    /// to that; the task ends on the instance's command.
    pub(super) fn fail(&mut self, error: ProcessorError) {
        if std::mem::replace(&mut self.begin_end().failed, true) {
            // A consequence, as a rule.
            tracing::debug!(group = self.core.graph.name(), partition = self.core.partition, ?error, "another failure");
        } else {
            // An instance that has ended needs no report.
            _ = self.reports.send((self.id, Report::Failed(error)));
        }
    }

    /// A record has failed for good: what is before it is finished and committed, and nothing behind it.
    pub(super) fn fail_at(&mut self, id: u64, error: ProcessorError) {
        self.in_flight.cut_from(id);
        self.fail(error);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.ending.as_ref().is_some_and(|e| e.failed)
    }

    /// Whether there is nothing left to end.
    pub(super) fn is_over(&self) -> bool {
        self.ending.as_ref().is_some_and(|e| !e.failed || !e.waiting.is_empty())
            && self.in_flight.is_empty()
            && self.outbox.is_empty()
            && !self.recording.due
    }
}
