//! What an instance shows of itself: its status.

use super::{Instance, JOIN_PATIENCE};
use crate::processor::status::{State, Status, TaskState, Waiting};

impl Instance<'_> {
    /// The group says nothing to a member until all members have answered its coordinator, if there is one.
    pub(super) fn waits_for_the_group(&mut self) {
        let group = self.env.graph.name();
        let on =
            format!("group {group} to assign partitions: its coordinator, or its other members, have yet to answer");
        tracing::warn!(group, "{on}");
        let waited = i64::try_from(JOIN_PATIENCE.as_millis()).unwrap_or(i64::MAX);
        let since_ms = self.env.log.clock().now_ms().saturating_sub(waited);
        self.join_waits = Some(Waiting { on, since_ms });
        self.show();
    }

    /// Publishes what the instance is doing.
    pub(super) fn show(&mut self) {
        let restoring = self.tasks.values().any(|t| t.state == TaskState::Restoring);
        let waits =
            self.tasks.values().filter_map(|t| t.waiting.as_ref()).chain(&self.commit_waits).chain(&self.join_waits);
        let waiting = waits.min_by_key(|w| w.since_ms).cloned();
        let state = match (self.stopping, self.assigned, restoring) {
            (true, ..) => State::Stopping,
            (false, true, true) => State::Restoring,
            (false, ..) if waiting.is_some() => State::Waiting,
            (false, false, _) => State::Starting,
            (false, true, false) => State::Running,
        };
        let tasks = self.tasks.values().flat_map(|t| t.partitions.iter().map(|p| (p.clone(), t.state))).collect();
        let standbys = self.idle.standbys.values().flat_map(|s| s.states.clone()).collect();
        let left_out = self.env.counters.left_out.all();
        self.listeners.publish(self.status, Status { state, tasks, standbys, waiting, left_out });
    }
}
