//! The state of a view, to be observed and awaited.

use std::sync::Arc;

use crate::log::TopicPartition;

/// The state of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViewState {
    /// At least one partition is read for the first time or once more, or goes on after a break, and has not yet
    /// reached the topic's end. Reads of a partition that was complete before are answered.
    Restoring,
    /// Every partition has reached the topic's end and follows it.
    Running,
    /// The log can't be reached or has failed; the view serves what it has meanwhile, and recovers without help.
    Reconnecting,
    /// It can't go on: the store failed, or the topic changed in a way that needs a new view.
    Failed,
    /// It was closed.
    Closed,
}

/// A view's state, with what is the matter when it is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewStatus {
    /// The state.
    pub state: ViewState,
    /// Why, for [`ViewState::Reconnecting`] and [`ViewState::Failed`].
    pub reason: Option<Arc<str>>,
}

/// How far a partition of a view is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewProgress {
    /// Which one.
    pub partition: TopicPartition,
    /// Whether it was complete at some time since it was last begun, so that reads are answered.
    pub complete: bool,
    /// The next offset to apply; `None` before the first contact with the log.
    pub position: Option<i64>,
    /// One past the topic's last offset when the view last asked; `None` before. Markers of transactions take offsets
    /// too, so the position of a view that has everything may be below it.
    pub end: Option<i64>,
}

/// The phase of the updater of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Restoring,
    Running,
    /// Something failed; it is tried again after a pause.
    Waiting,
}
