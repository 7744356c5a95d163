//! Records that are left out: counted, logged now and then, and sent where their input says.
//!
//! The writes of their route are released with them, so that they are there if and only if the records are done.

use std::sync::Arc;

use super::Task;
use super::dead_letter::DeadLetter;
use super::guard::guarded;
use crate::clock::utc;
use crate::context::LeftOutOf;
use crate::group::{CallbackError, Failure, LeftOut, LeftOutRecord};
use crate::log::RecordRef;
use crate::topology::To;

impl Task {
    /// A record of a task's input that is released was left out.
    pub(super) fn leave_out(&mut self, input: usize, left_out: LeftOutOf, record: RecordRef<'_>) {
        let graph = Arc::clone(&self.core.graph);
        let Some(edge) = self.inputs.get(input).and_then(|i| graph.inputs.get(i.edge)) else { return };
        let (topic, partition) = (&edge.input.topic, self.core.partition);
        for (reason, n) in left_out.iter() {
            self.env.counters.left_out.count(reason, n.into());
            match edge.input.route(reason) {
                None => self.log_left_out(reason, n, topic, record),
                Some(To::Nowhere) => {}
                Some(To::DeadLetter(to)) => {
                    let (error, now) = (&CallbackError::of(Failure::LeftOut(reason)), self.core.clock.now_ms());
                    let letter = DeadLetter { group: graph.name(), topic, partition, record, error, now };
                    letter.stage(&mut self.stage, to);
                }
                Some(To::Call(call)) => self.show(call, topic, reason, None, record),
            }
        }
    }

    /// Something that was due, or a visitor, was late for something else.
    pub(super) fn leave_out_own(&self, left_out: LeftOutOf, topic: &Arc<str>, record: RecordRef<'_>) {
        for (reason, n) in left_out.iter() {
            self.env.counters.left_out.count(reason, n.into());
            self.log_left_out(reason, n, topic, record);
        }
    }

    fn log_left_out(&self, reason: LeftOut, n: u32, topic: &Arc<str>, record: RecordRef<'_>) {
        let Some(since) = self.env.counters.left_out.to_log(reason, n.into()) else { return };
        let key = String::from_utf8_lossy(record.key.unwrap_or(b"none"));
        let stream_time = self.stream_time().map_or_else(|| "none".to_owned(), utc);
        tracing::warn!(
            group = self.core.graph.name(), %topic, partition = self.core.partition, offset = record.offset, %key,
            time = utc(record.timestamp), stream_time, since, "a record is left out: {reason}"
        );
    }

    /// Shows a record that is left out to a function of the user's.
    pub(super) fn show(
        &self,
        call: &Arc<dyn Fn(&LeftOutRecord<'_>) + Send + Sync>,
        topic: &str,
        reason: LeftOut,
        error: Option<&CallbackError>,
        record: RecordRef<'_>,
    ) {
        let RecordRef { offset, timestamp, key, value, headers } = record;
        let (partition, stream_time) = (self.core.partition, self.stream_time());
        let shown =
            LeftOutRecord { reason, error, topic, partition, offset, timestamp, key, value, headers, stream_time };
        let called = guarded(|| {
            call(&shown);
            Ok(())
        });
        if let Err(error) = called {
            let group = self.core.graph.name();
            tracing::error!(group, topic, partition, offset, ?error, "a function for records left out panicked");
        }
    }

    fn stream_time(&self) -> Option<i64> {
        Some(self.time.seen).filter(|seen| self.time.on && *seen > i64::MIN)
    }
}
