//! The `tracing` span of a task: every line that is logged while it runs, the callbacks' too, names its group and partition.
//!
//! It is entered once a poll of the task, never once a record, so that it says nothing of a record: the lines about one that
//! fails have its offset.

use tracing::Span;
use tracing::field::{Empty, display};

use crate::log::Assigned;

/// `task{group, partition}`, with `topic` where the task reads a single one: the partition of a task of several is that of
/// each of them. An error's level lets it through filters that keep only errors.
pub(super) fn of(group: &str, partition: i32, inputs: &[(usize, Assigned)]) -> Span {
    let span = tracing::error_span!("task", group, partition, topic = Empty);
    if let [(_, assigned)] = inputs {
        span.record("topic", display(&assigned.partition.topic));
    }
    span
}
