//! The decision about a record before its callback: its input's rules for null keys and null values (semantics D5), and the
//! time of a record whose callback is not called.

use super::guard::guarded;
use crate::context::Core;
use crate::group::graph::InputCall;
use crate::group::{CallbackError, Failure, LeftOut, NullKey};
use crate::log::RecordRef;

/// The decision about a record.
pub(super) enum Verdict {
    Call,
    /// It is left out, and takes stream time to this event time, if it has one.
    LeaveOut(LeftOut, Option<i64>),
    /// It is an error.
    Refuse(CallbackError),
}

/// The decision about a record of the input with this index in the graph.
pub(super) fn verdict(core: &Core, on: InputCall<'_>, input: usize, record: RecordRef<'_>) -> Verdict {
    let reason = match (record.key, on.edge.input.null_key) {
        _ if record.value.is_none() && on.edge.skips_nulls() => LeftOut::NullValue,
        (None, NullKey::Skip) if core.keyed => LeftOut::NullKey,
        (None, NullKey::Error) if core.keyed => return Verdict::Refuse(CallbackError::of(Failure::NoKey(STATE))),
        _ => return Verdict::Call,
    };
    match left_out_at(core, on, input, record) {
        Ok(at) => Verdict::LeaveOut(reason, at),
        Err(error) => Verdict::Refuse(error),
    }
}

const STATE: &str = "a group with state by key";

/// The event time of a record whose callback is not called.
fn left_out_at(
    core: &Core,
    on: InputCall<'_>,
    input: usize,
    record: RecordRef<'_>,
) -> Result<Option<i64>, CallbackError> {
    if !on.edge.codec.reads_event_time() {
        return core.check_time(input, record.timestamp).map(Some);
    }
    if record.value.is_none() {
        return core.check_no_time(record.timestamp).map(|()| None);
    }
    let mut at = None;
    let found = guarded(|| {
        at = on.handler.event_time(core, input, record)?;
        Ok(())
    });
    match found {
        Err(error) if matches!(error.failure(), Failure::Ahead { .. } | Failure::Negative { .. }) => Err(error),
        // One that can't be read has no time.
        _ => Ok(at),
    }
}
