//! A built group: its edges, and the callbacks behind them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::around::{Around, Called, Layer};
use super::callback::{Handler, SyncHandler, VisitHandler};
use crate::topology::{EntryKind, InputEdge, TimerEdge, Topology};
use crate::window::Which;
use crate::window::keys::By;

/// A group as it was defined, checked. Made by [`GroupBuilder::build`](crate::group::GroupBuilder::build).
pub struct GroupGraph {
    pub(crate) topology: Arc<Topology>,
    pub(crate) callbacks: Callbacks,
}

/// The callbacks of a group, each in the order of its edges.
#[derive(Default)]
pub(crate) struct Callbacks {
    pub(crate) inputs: Vec<Handler>,
    /// Set by `on_timer`.
    pub(crate) timers: Vec<Due>,
    /// Set by `on_close`.
    pub(crate) windows: Vec<Due>,
    /// Of sessions and batches: set by `on_close`.
    pub(crate) due_entries: Vec<Due>,
    pub(crate) stream_joins: Vec<Unmatched>,
    pub(crate) visitors: Vec<Box<dyn VisitHandler>>,
    pub(crate) updates: Vec<UpdateListener>,
}

/// An input with its callback.
#[derive(Clone, Copy)]
pub(crate) struct InputCall<'g> {
    pub(crate) edge: &'g InputEdge,
    pub(crate) handler: &'g Handler,
}

/// The callback of something that falls due, if one is set.
pub(crate) type Due = Option<Box<dyn SyncHandler>>;

/// Called with the partition, the key and the new value of an acknowledged table write.
pub(crate) type UpdateListener = Box<dyn Fn(i32, &[u8], Option<&[u8]>) + Send + Sync>;

/// Called for an unmatched left or right record when no match can come any more, where the join emits those.
pub(crate) struct Unmatched {
    pub(crate) left: Due,
    pub(crate) right: Due,
}

impl Unmatched {
    pub(crate) fn of(&self, side: Which) -> Option<&dyn SyncHandler> {
        match side {
            Which::Left => self.left.as_deref(),
            Which::Right => self.right.as_deref(),
        }
    }
}

impl Callbacks {
    /// Puts a middleware around each of them.
    pub(super) fn surround(&mut self, around: &Arc<dyn Around>, graph: &Topology) {
        let layer = |called, name| Layer::new(around, called, name);
        for handler in &mut self.inputs {
            match handler {
                Handler::Sync(handler) => handler.surround(layer(Called::Record, None)),
                Handler::Async(handler) => handler.surround(layer(Called::Record, None)),
                Handler::Batch(handler) => handler.surround(layer(Called::Records, None)),
            }
        }
        let timers = graph.timers.iter().map(|timer| (Called::Timer, &timer.name));
        let windows = graph.windows.iter().map(|window| (Called::Window, &window.name));
        let entries = graph.due_entries.iter().map(|entry| match entry.kind {
            EntryKind::Session(_) => (Called::Session, &entry.name),
            EntryKind::Batch(_) => (Called::Batch, &entry.name),
        });
        let due = self.timers.iter_mut().zip(timers);
        let due = due.chain(self.windows.iter_mut().zip(windows));
        let due = due.chain(self.due_entries.iter_mut().zip(entries));
        for (handler, (called, name)) in due {
            if let Some(handler) = handler {
                handler.surround(layer(called, Some(name)));
            }
        }
        for (join, edge) in self.stream_joins.iter_mut().zip(&graph.stream_joins) {
            for handler in join.left.iter_mut().chain(&mut join.right) {
                handler.surround(layer(Called::Unmatched, Some(&edge.name)));
            }
        }
        for (handler, edge) in self.visitors.iter_mut().zip(&graph.visitors) {
            handler.surround(layer(Called::Visitor, Some(&edge.name)));
        }
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl GroupGraph {
    /// The group's name: its consumer group, and the prefix of its topics.
    pub fn name(&self) -> &str {
        self.topology.name()
    }

    /// The input of this index with its callback.
    pub(crate) fn input(&self, index: usize) -> Option<InputCall<'_>> {
        let (edge, handler) = (self.inputs.get(index)?, self.callbacks.inputs.get(index)?);
        Some(InputCall { edge, handler })
    }

    /// The timer of this name and clock, with its callback.
    pub(crate) fn timer(&self, name: &str, by: By) -> Option<(&TimerEdge, &Due)> {
        self.timers.iter().zip(&self.callbacks.timers).find(|(timer, _)| *timer.name == *name && timer.by == by)
    }

    /// The graph as text, an edge a line.
    pub fn describe(&self) -> String {
        self.topology.describe()
    }

    /// The graph as a [Mermaid](https://mermaid.js.org) flow chart.
    pub fn mermaid(&self) -> String {
        self.topology.mermaid()
    }
}

/// For the library itself: what can be asked of the edges can be asked of the group.
#[doc(hidden)]
impl Deref for GroupGraph {
    type Target = Topology;

    fn deref(&self) -> &Topology {
        &self.topology
    }
}

impl fmt::Debug for GroupGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}
