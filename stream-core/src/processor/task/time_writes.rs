//! What a task writes of its time, beside the effects of what has fired: stream time, how far joins are closed, and the deletions
//! of what has fired.

use std::rc::Rc;

use super::Task;
use super::outbox::OWN;
use super::release::write_table;
use super::time::{After, Fired};
use crate::time::stream_join::keys::{BOUND, Place};
use crate::topology::TableId;
use crate::window::keys;

impl Task {
    /// Adds stream time to what is handed over next.
    pub(super) fn write_time(&mut self) {
        // A batch that looks for a record that can't be written must be of that record only.
        self.time.waits = !self.time.atomic && !self.stage.out.is_empty() && self.replay.search.is_on(&self.inputs);
        let Some(at) = self.time.to_write() else { return };
        let core = Rc::clone(&self.core);
        let (value, now) = (keys::time(at), core.clock.now_ms());
        self.sources.push((self.stage.out.len(), OWN, -1));
        // Its time is that of the writing: an event time may be one that the topic refuses.
        write_table(&core, &mut self.stage, TableId::TIME, keys::STREAM_TIME, Some(&value), now);
    }

    /// Adds how far joins are closed to what is handed over next. With exactly-once delivery, what was emitted since and is not
    /// closed by that, because others that are due at the same time are not emitted yet, is marked: it is in this transaction.
    pub(super) fn write_closed(&mut self) {
        let (core, now, first) = (Rc::clone(&self.core), self.core.clock.now_ms(), self.stage.out.len());
        let at = self.time.to_close();
        self.time.closed.flushed = at.unwrap_or(self.time.closed.flushed);
        if self.time.atomic {
            let mut mark = Vec::new();
            let closed = self.time.closed.flushed;
            for fired in self.time.fired.iter().filter(|fired| fired.after == After::Hide && fired.due > closed) {
                let Some(place) = Place::of_time(&fired.key) else { continue };
                place.mark(&mut mark);
                write_table(&core, &mut self.stage, fired.table, &mark, Some(&[]), now);
            }
        }
        for (table, value) in at.into_iter().flat_map(|at| self.time.closed.bounds(at)) {
            write_table(&core, &mut self.stage, table, BOUND, Some(&value), now);
        }
        if self.stage.out.len() > first {
            self.sources.push((first, OWN, -1));
        }
    }

    /// Deletes what has fired once nothing of it can get lost.
    pub(super) fn delete_fired(&mut self) {
        let (core, first, now) = (Rc::clone(&self.core), self.stage.out.len(), self.core.clock.now_ms());
        let mut mark = Vec::new();
        for Fired { table, key, then, after, .. } in self.time.take_deletable() {
            match after {
                After::Delete => {}
                After::Hide | After::Marked => {
                    self.time.marked(table, &key);
                    core.pending_deletes.borrow_mut().remove(table, &key);
                    continue;
                }
                After::Mark => {
                    let Some(place) = Place::of_time(&key) else { continue };
                    if let Some(due) = self.time.closed.closes(table, place) {
                        // Nobody would sweep its mark out: it stays hidden until it is closed.
                        self.time.hide(table, key, due);
                        continue;
                    }
                    place.mark(&mut mark);
                    write_table(&core, &mut self.stage, table, &mark, Some(&[]), now);
                    self.time.begin_marking(table, key);
                    continue;
                }
            }
            self.time.fired.extend(then.map(|then| Fired::superseded(table, then)));
            // What was set again since stays.
            if core.pending_deletes.borrow_mut().remove(table, &key) {
                write_table(&core, &mut self.stage, table, &key, None, now);
            }
        }
        self.made_by(OWN, first);
    }
}
