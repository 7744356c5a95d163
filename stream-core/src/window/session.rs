//! Sessions: spans of event time without a longer gap.

use std::fmt;
use std::time::Duration;

use super::millis;

/// The records of a key that follow each other without a gap longer than the [`Sessions`] say: the time of the first, and
/// that of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    /// The time of its first record.
    pub start: i64,
    /// The time of its last record.
    pub end: i64,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.start, self.end)
    }
}

/// A change that a record makes to the sessions of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange<A> {
    /// This session no longer exists: it has grown into the one that follows, or was merged into it.
    Retracted(Session),
    /// The session with the record, and its new accumulator.
    Updated(Session, A),
}

/// How long a pause ends a session, and how long it waits for records that are out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    pub(crate) gap: i64,
    pub(crate) grace: i64,
}

impl Sessions {
    /// Records that are no further apart than this are of one session.
    pub fn gap(gap: Duration) -> Self {
        Self { gap: millis(gap), grace: 0 }
    }

    /// How long after its gap a session takes records that are out of order, in stream time. None by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = millis(grace);
        self
    }

    /// When a session closes: the stream time from which on a record is late for it (semantics W4: strictly past its end,
    /// gap and grace).
    pub(crate) fn closes(&self, session: Session) -> i64 {
        session.end.saturating_add(self.gap).saturating_add(self.grace).saturating_add(1)
    }

    pub(crate) fn fault(&self) -> Option<&'static str> {
        (self.gap == 0).then_some("its gap must be at least 1 ms")
    }
}
