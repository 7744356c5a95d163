//! Records that are left out: why, and where they go.

use std::fmt;

/// Why a record, or something that was due, was left out. [`Status::left_out`](crate::processor::Status::left_out) counts
/// by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LeftOut {
    /// The record came too late for a window, a session or a join. Counted once for each of them; its callback was called
    /// all the same.
    Late,
    /// The record's event time is further ahead of the host's clock than [`Input::max_ahead`](crate::group::Input::max_ahead).
    Ahead,
    /// The record's event time is below zero, or it has none.
    Negative,
    /// The record has no key, and [`NullKey::Skip`](crate::group::NullKey) or a join leaves it out.
    NullKey,
    /// The record has no value, and [`NullValue::Skip`](crate::group::NullValue) or a join leaves it out.
    NullValue,
    /// The record's value can't be decoded, and [`Input::on_decode_error`](crate::group::Input::on_decode_error), or else the
    /// input's [`ErrorPolicy`](crate::group::ErrorPolicy), skipped it or put it aside.
    Undecodable,
    /// A callback, an encoder or an emit failed, of a record or of something that was due, and its
    /// [`ErrorPolicy`](crate::group::ErrorPolicy) skipped it or put it aside.
    Failed,
}

impl LeftOut {
    pub(crate) const ALL: [Self; 7] =
        [Self::Late, Self::Ahead, Self::Negative, Self::NullKey, Self::NullValue, Self::Undecodable, Self::Failed];
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "too late for a window, a session or a join",
            Self::Ahead => "ahead of the host's clock",
            Self::Negative => "a time below zero",
            Self::NullKey => "no key",
            Self::NullValue => "no value",
            Self::Undecodable => "a value that can't be decoded",
            Self::Failed => "it failed",
        })
    }
}
