//! The status of a processor and of its partitions, to be observed.

use std::collections::BTreeMap;

use crate::group::LeftOut;
use crate::log::TopicPartition;

/// The state of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Not yet run.
    Created,
    /// Checks topics, opens lookups, joins its group.
    Starting,
    /// At least one partition's table is being restored.
    Restoring,
    /// All assigned partitions are processed.
    Running,
    /// Something that passes keeps it from going on: see [`Status::waiting`].
    Waiting,
    /// Finishes what is under way.
    Stopping,
    /// Ended by [`Handle::stop`](super::Handle::stop), or by the signal or future that it ran until.
    Stopped,
    /// Ended by an error.
    Failed,
}

/// The state of one partition's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// Its table or a join is being restored.
    Restoring,
    /// Records are processed.
    Running,
    /// It finishes what is under way.
    Draining,
}

/// The state of the warm copy of a partition whose task another instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StandbyState {
    /// It has not reached its topic's end yet.
    Restoring,
    /// It has reached its topic's end, and follows it.
    Running,
    /// The log can't be reached or has failed; it recovers without help.
    Reconnecting,
    /// Its store failed. A task that takes over begins with another store.
    Failed,
}

/// A wait of a processor for a passing trouble: brokers that are away, too few replicas in sync, a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// The trouble, in words.
    pub on: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: i64,
}

/// A processor's state, with that of each partition it has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The whole.
    pub state: State,
    /// Its partitions.
    pub tasks: BTreeMap<TopicPartition, TaskState>,
    /// Its [standbys](super::Standbys), by the copied partition of the table or of a join.
    pub standbys: BTreeMap<TopicPartition, StandbyState>,
    /// The longest wait, if anything keeps it from going on.
    pub waiting: Option<Waiting>,
    /// How many records were left out, by reason, since the processor was made. A record that is processed again after a
    /// failure is counted again.
    pub left_out: BTreeMap<LeftOut, u64>,
}

impl Status {
    /// Before the group is joined, while something passes.
    pub(super) fn waits(waiting: Waiting) -> Self {
        Self { waiting: Some(waiting), ..Self::of(State::Waiting) }
    }

    /// Without any partition.
    pub(super) fn of(state: State) -> Self {
        let left_out = BTreeMap::new();
        Self { state, tasks: BTreeMap::new(), standbys: BTreeMap::new(), waiting: None, left_out }
    }
}

/// A change of the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebalance {
    /// Partitions came.
    Assigned(Vec<TopicPartition>),
    /// Partitions go, in order.
    Revoked(Vec<TopicPartition>),
    /// Partitions are gone: another instance may have them already.
    Lost(Vec<TopicPartition>),
}
