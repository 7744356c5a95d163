//! The library's own tables in a group's definition: time, and one for each window, session, batch, join of topics and side of
//! a table join.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::builder::GroupBuilder;
use super::checks::check_name;
use crate::codec::{Bytes, Codec};
use crate::topology::{BuildError, EntryKind, TableEdge, TableId, erase, time_topic};

impl<S: 'static> GroupBuilder<S> {
    /// The first of the library's own tables is that of stream time and timers.
    pub(crate) fn keep_time(&mut self) {
        if self.graph.tables.time().is_none() {
            let topic = time_topic(&self.graph.name);
            self.edges().tables.add_own(TableEdge { topic, codec: erase::<Vec<u8>>(Arc::new(Bytes)), layout: None });
        }
    }

    /// Adds one of the library's own tables, and gives its number.
    pub(crate) fn add_state<T: 'static>(&mut self, topic: Arc<str>, codec: impl Codec<T>) -> TableId {
        self.keep_time();
        self.edges().tables.add_own(TableEdge { topic, codec: erase::<T>(Arc::new(codec)), layout: None })
    }

    pub(crate) fn check_timed(&self, group: &str) -> Result<(), BuildError> {
        let graph = &self.graph;
        let timers = graph.timers.iter().map(|e| ("timer", &e.name));
        let mut names = BTreeSet::new();
        let windows = graph.windows.iter().map(|e| ("window", &e.name));
        let entries = graph.due_entries.iter().map(|e| (e.kind.what(), &e.name));
        let joins = graph.stream_joins.iter().map(|e| ("join", &e.name));
        for (what, name) in timers.chain(windows).chain(entries).chain(joins) {
            check_name(&format!("{what} {name:?}"), name)?;
            if !names.insert((what, name)) {
                let (what, name) = (what.to_owned(), name.to_string());
                return Err(BuildError::TwoOfAName { group: group.to_owned(), what, name });
            }
        }
        let mut topics = BTreeSet::new();
        for edge in graph.tables.own() {
            check_name(&format!("topic {:?}", edge.topic), &edge.topic)?;
            if !topics.insert(&edge.topic) {
                let (what, name) = ("table".to_owned(), edge.topic.to_string());
                return Err(BuildError::TwoOfAName { group: group.to_owned(), what, name });
            }
        }
        let timer = graph.timers.iter().zip(&self.callbacks.timers).find(|(_, callback)| callback.is_none());
        if let Some((timer, _)) = timer {
            return Err(BuildError::TimerUnread { group: group.to_owned(), name: timer.name.to_string() });
        }
        let mut entries = graph.due_entries.iter().zip(&self.callbacks.due_entries);
        let batch = entries.find(|(e, callback)| matches!(e.kind, EntryKind::Batch(_)) && callback.is_none());
        if let Some((batch, _)) = batch {
            return Err(BuildError::BatchUnread { group: group.to_owned(), name: batch.name.to_string() });
        }
        let windows = graph.windows.iter().map(|e| (&e.name, e.windows.fault()));
        for (name, fault) in windows.chain(graph.due_entries.iter().map(|e| (&e.name, e.kind.fault()))) {
            if let Some(reason) = fault {
                let (name, reason) = (name.to_string(), reason.to_owned());
                return Err(BuildError::Windows { group: group.to_owned(), name, reason });
            }
        }
        Ok(())
    }
}
