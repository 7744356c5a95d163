//! The `tracing` span of a task: every line that is logged while it runs, the callbacks' too, names its group and partition.
//!
//! It is entered once a poll of the task, never once a record, so that it says nothing of a record: the lines about one that
//! fails have its offset.

use tracing::Span;
use tracing::field::{Empty, display};

use super::TaskSpec;

/// `task{group, partition}`, with `topic` where the task reads a single one: the partition of a task of several is that of
/// each of them. An error's level lets it through filters that keep only errors.
pub(super) fn of(spec: &TaskSpec) -> Span {
    let group = spec.env.graph.name();
    let span = tracing::error_span!("task", group, partition = spec.partition, topic = Empty);
    if let [(_, assigned)] = spec.inputs.as_slice() {
        span.record("topic", display(&assigned.partition.topic));
    }
    span
}
