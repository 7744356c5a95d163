//! Passes a record on to a topic of the group, as it came but for what the caller has changed. It must never decode a value.

use super::core::{Core, too_large};
use super::stage::Stage;
use crate::log::{NewRecord, RecordRef};
use crate::topology::{CallbackError, CallbackResult, Failure};

impl Core {
    /// Stages the record for the topic of an output, with these headers in place of those that it has.
    ///
    /// # Errors
    /// When it is larger than the topic takes.
    pub(crate) fn pass_on<'h>(
        &self,
        stage: &mut Stage,
        output: usize,
        partition: Option<i32>,
        record: RecordRef<'_>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> CallbackResult {
        let foreign = || CallbackError::of(Failure::ForeignHandle("loop"));
        let topic = &self.graph.outputs.get(output).ok_or_else(foreign)?.topic;
        let RecordRef { key, value, timestamp, .. } = record;
        let (before, bytes) = (stage.out.savepoint(), stage.out.bytes());
        stage.out.push(NewRecord { topic, partition, timestamp: Some(timestamp), key, value }, headers);
        let size = stage.out.bytes() - bytes;
        let limit = self.limit(topic, self.limits.get(output).copied().unwrap_or(usize::MAX));
        if size > limit {
            stage.out.truncate(before);
            return Err(CallbackError::of(Failure::Emit(too_large(topic, size, limit))));
        }
        Ok(())
    }
}
