//! Sessions and batches that close: what the marker of an open entry stands for once it is due.

use std::rc::Rc;
use std::sync::Arc;

use super::Task;
use super::fire::{DueCall, DueOf, Entries, Outcome};
use crate::context::Core;
use crate::group::CallbackError;
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::time::due::Due;
use crate::time::due_entry::{self, DueEntry};
use crate::topology::EntryKind;

impl Task {
    /// Closes the entry of a marker, unless there is none any more, or it falls due later.
    pub(super) fn fire_entry(&mut self, core: &Rc<Core>, due: &Due, topic: &Arc<str>) -> ProcessorResult<Outcome> {
        let entry_key = due_entry::entry_of_marker(&due.key).unwrap_or_default();
        let find =
            |key: &[u8]| core.state_value(due.table, key).map_err(|e| ProcessorError::store(core.graph.name(), e));
        let Some(value) = find(&entry_key)? else {
            self.forget(core, due, |_| {});
            return Ok(Outcome::Fired);
        };
        let (Some(entry), Some(key)) = (DueEntry::read(&value), due_entry::key(&entry_key)) else {
            let error = CallbackError::msg("an open session or batch can't be read: was it written by something else?");
            self.fail(self.fire_error(topic.to_string(), "", &error));
            return Ok(Outcome::NotNow);
        };
        if entry.due > due.at {
            if entry.marker_due != due.at && find(&due_entry::marker(entry.marker_due, &entry_key))?.is_some() {
                // It has another marker.
                self.forget(core, due, |_| {});
            } else {
                self.move_marker(core, due, &entry_key, &entry);
            }
            return Ok(Outcome::Fired);
        }
        let graph = Arc::clone(&self.env.graph);
        let edge = graph.due_entries.iter().zip(&graph.callbacks.due_entries).find(|(edge, _)| edge.table == due.table);
        let Some((edge, handler)) = edge else {
            self.time.pass(due);
            return Ok(Outcome::Fired);
        };
        let of = match edge.kind {
            EntryKind::Session(_) => DueOf::Session(&edge.name),
            EntryKind::Batch(_) => DueOf::Batch(&edge.name),
        };
        let (handler, policy) = (handler.as_deref(), &edge.policy);
        let (value, at, entries) =
            (entry.body, entry.event_time, Entries { first: &[&entry_key], last: Some(&due.key) });
        self.call_due(core, due, &DueCall { topic, handler, policy, of, key, value, at, entries })
    }

    /// Replaces a marker by one at the time at which its entry is due by now.
    fn move_marker(&mut self, core: &Rc<Core>, due: &Due, entry_key: &[u8], entry: &DueEntry<'_>) {
        let (marker, mut value) = (due_entry::marker(entry.due, entry_key), Vec::new());
        DueEntry { marker_due: entry.due, ..*entry }.write(&mut value);
        // An event time may be one that the topic refuses by now, and no record is at fault.
        let now = core.clock.now_ms();
        self.forget(core, due, |stage| {
            stage.push(core, due.table, now, &marker, Some(&[]));
            stage.push(core, due.table, now, entry_key, Some(&value));
        });
    }
}
