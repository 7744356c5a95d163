//! Sessions and batches that close: what the marker of an open entry stands for once it is due.

use std::rc::Rc;
use std::sync::Arc;

use super::Task;
use super::fire::{DueCall, DueOf, Entries, Outcome};
use crate::context::Core;
use crate::group::CallbackError;
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::time::due::Due;
use crate::time::due_entry::{self as open, Open};
use crate::topology::Opened;

impl Task {
    /// Closes the entry of a marker, unless there is none any more, or it falls due later.
    pub(super) fn fire_open(&mut self, core: &Rc<Core>, due: &Due, topic: &Arc<str>) -> ProcessorResult<Outcome> {
        let place = open::marked(&due.key).unwrap_or_default();
        let find =
            |key: &[u8]| core.state_value(due.state, key).map_err(|e| ProcessorError::store(core.graph.name(), e));
        let Some(value) = find(&place)? else {
            self.forget(core, due, |_| {});
            return Ok(Outcome::Fired);
        };
        let (Some(entry), Some(key)) = (Open::read(&value), open::key(&place)) else {
            let error = CallbackError::msg("an open session or batch can't be read: was it written by something else?");
            self.fail(self.fire_error(topic.to_string(), "", &error));
            return Ok(Outcome::NotNow);
        };
        if entry.due > due.at {
            if entry.marked != due.at && find(&open::marker(entry.marked, &place))?.is_some() {
                // It has another marker.
                self.forget(core, due, |_| {});
            } else {
                self.move_marker(core, due, &place, &entry);
            }
            return Ok(Outcome::Fired);
        }
        let graph = Arc::clone(&self.env.graph);
        let edge = graph.open.iter().zip(&graph.callbacks.open).find(|(edge, _)| edge.state == due.state);
        let Some((edge, handler)) = edge else {
            self.time.pass(due);
            return Ok(Outcome::Fired);
        };
        let of = match edge.kind {
            Opened::Session(_) => DueOf::Session(&edge.name),
            Opened::Batch(_) => DueOf::Batch(&edge.name),
        };
        let (handler, policy) = (handler.as_deref(), &edge.policy);
        let (value, at, entries) = (entry.body, entry.at, Entries { first: &[&place], last: Some(&due.key) });
        self.call_due(core, due, &DueCall { topic, handler, policy, of, key, value, at, entries })
    }

    /// Replaces a marker by one at the time at which its entry is due by now.
    fn move_marker(&mut self, core: &Rc<Core>, due: &Due, place: &[u8], entry: &Open<'_>) {
        let (marker, mut value) = (open::marker(entry.due, place), Vec::new());
        Open { marked: entry.due, ..*entry }.write(&mut value);
        // An event time may be one that the topic refuses by now, and no record is at fault.
        let now = core.clock.now_ms();
        self.forget(core, due, |stage| {
            stage.push(core, due.state, now, &marker, Some(&[]));
            stage.push(core, due.state, now, place, Some(&value));
        });
    }
}
