//! How far apart in event time the two records of a join may lie, and how long they wait for each other.

use std::time::Duration;

use super::millis;

/// Which records of two topics match by time, and how long they are kept for each other: from
/// [`around`](Self::around) or [`before`](Self::before), with a grace that is always said.
///
/// A left and a right record of one key match if `left - before <= right <= left + after`. What the grace is decides how
/// much out of order records may be, how long an unmatched record's null waits, and how much is stored, so that there is no
/// default:
///
/// ```
/// use std::time::Duration;
/// use stream_core::window::JoinWindows;
///
/// let minutes = |n: u64| Duration::from_secs(60 * n);
/// let around = JoinWindows::around(minutes(60)).grace(minutes(1));
/// let within_an_hour_after = JoinWindows::before(minutes(0)).after(minutes(60)).grace(minutes(1));
/// ```
///
/// ```compile_fail,E0308
/// # use std::time::Duration;
/// # use stream_core::window::JoinWindows;
/// let no_grace: JoinWindows = JoinWindows::around(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinWindows {
    pub(crate) before: i64,
    pub(crate) after: i64,
    pub(crate) grace: i64,
}

/// [`JoinWindows`] whose grace is still to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "say its grace"]
#[non_exhaustive]
pub struct JoinSpan {
    before: i64,
    after: i64,
}

impl JoinWindows {
    /// The right record is at most this much earlier or later than the left one.
    pub fn around(difference: Duration) -> JoinSpan {
        JoinSpan { before: millis(difference), after: millis(difference) }
    }

    /// The right record is at most this much earlier than the left one, and not later unless [`JoinSpan::after`] is set.
    pub fn before(difference: Duration) -> JoinSpan {
        JoinSpan { before: millis(difference), after: 0 }
    }

    /// The right record is at most this much later than the left one, and not earlier unless [`JoinSpan::before`] is set.
    pub fn after(difference: Duration) -> JoinSpan {
        JoinSpan { before: 0, after: millis(difference) }
    }

    /// How long after its own time a side's record can find a match that is in time.
    pub(crate) fn reach(&self, side: Which) -> i64 {
        match side {
            Which::Left => self.after,
            Which::Right => self.before,
        }
    }

    /// The last stream time at which a side's record of this time is kept (semantics J6). After it the record is late.
    pub(crate) fn kept_until(&self, side: Which, time: i64) -> i64 {
        time.saturating_add(self.reach(side)).saturating_add(self.grace)
    }

    /// The earliest time of a side's records that are kept at a stream time: those before it are closed.
    pub(crate) fn first_kept(&self, side: Which, stream_time: i64) -> i64 {
        stream_time.saturating_sub(self.reach(side)).saturating_sub(self.grace)
    }

    /// The stream time of which this is the earliest time of a side's records that are kept.
    pub(crate) fn closed_at(&self, side: Which, first_kept: i64) -> i64 {
        self.kept_until(side, first_kept)
    }

    /// The earliest and the latest time of the other side's records that a side's record matches (semantics J1).
    pub(crate) fn matching(&self, side: Which, time: i64) -> (i64, i64) {
        (time.saturating_sub(self.reach(side.other())), time.saturating_add(self.reach(side)))
    }
}

impl JoinSpan {
    /// The right record is at most this much earlier than the left one.
    pub fn before(mut self, difference: Duration) -> Self {
        self.before = millis(difference);
        self
    }

    /// The right record is at most this much later than the left one.
    pub fn after(mut self, difference: Duration) -> Self {
        self.after = millis(difference);
        self
    }

    /// How far behind stream time a record may come without missing a match. Two records that each come at most this late
    /// never miss each other.
    pub fn grace(self, grace: Duration) -> JoinWindows {
        JoinWindows { before: self.before, after: self.after, grace: millis(grace) }
    }
}

/// When a left or outer join emits a record without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nulls {
    /// Once no match can come any more: a record has either matches or one null, never both
    /// ([J2](crate::semantics#j2-nulls-on-close), [J3](crate::semantics#j3-matches-or-one-null)).
    #[default]
    OnClose,
    /// At once, if it has no match when it comes. A match that comes later is emitted as well
    /// ([J8](crate::semantics#j8-eager-nulls)).
    Eager,
}

/// A side of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Left,
    Right,
}

impl Which {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_is_the_same_seen_from_either_side() {
        let windows =
            JoinWindows::before(Duration::from_millis(5)).after(Duration::from_millis(70)).grace(Duration::ZERO);
        for (left, right, matches) in [(10, 4, false), (10, 5, true), (10, 80, true), (10, 81, false)] {
            let (from, to) = windows.matching(Which::Left, left);
            assert_eq!((from..=to).contains(&right), matches);
            let (from, to) = windows.matching(Which::Right, right);
            assert_eq!((from..=to).contains(&left), matches);
        }
    }
}
