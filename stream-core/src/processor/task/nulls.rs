//! An input's rules for null keys and null values (semantics D5).

use super::slots::Work;
use crate::group::{CallbackError, Failure, InputEdge, NilKey, NilValue};
use crate::log::RecordRef;

/// What the input's rules for nulls say of a record.
pub(super) enum Nulls {
    Call,
    LeaveOut,
    Refuse,
}

pub(super) fn nulls(edge: &InputEdge, has_table: bool, record: &RecordRef<'_>) -> Nulls {
    if record.value.is_none() && edge.input.nil_value == NilValue::Skip {
        return Nulls::LeaveOut;
    }
    match (record.key, has_table, edge.input.nil_key) {
        (None, true, NilKey::Skip) => Nulls::LeaveOut,
        (None, true, NilKey::Error) => Nulls::Refuse,
        _ => Nulls::Call,
    }
}

pub(super) fn no_key() -> CallbackError {
    CallbackError::of(Failure::NoKey("a group with a table"))
}

impl Work {
    /// Whether the input's rules for nulls say that this is an error, at each attempt.
    pub(super) fn is_refused(&self, edge: &InputEdge, has_table: bool) -> bool {
        let refuses = |record: &RecordRef<'_>| matches!(nulls(edge, has_table, record), Nulls::Refuse);
        match self {
            Self::One(record) => refuses(&record.view()),
            Self::Many(records) => records.iter().any(|record| refuses(&record)),
        }
    }
}
