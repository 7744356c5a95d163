//! Event time: windows, and the tables in which a group keeps timers and windows.
//!
//! **Event time** is a record's timestamp, or what [`EventTime`](crate::codec::EventTime) reads from its value. **Stream
//! time** of a partition is the largest event time seen over all inputs of the group; it never goes back. It goes on from
//! one due time to the next: what is due comes before the record that made it due.
//!
//! - A [timer](crate::group::GroupBuilder::timer) calls back for a key once stream time has reached its due time, or once
//!   [wall-clock time](crate::group::GroupBuilder::wall_timer) has.
//! - A [window](crate::group::GroupBuilder::window) keeps one accumulator for each key and span of time, and closes when
//!   stream time reaches its end and grace. A record that comes later is late for it: left out, and counted.
//! - A [session](crate::group::GroupBuilder::session) keeps one accumulator for the records of a key that follow each other
//!   without a gap, and closes when stream time is past its end, gap and grace.
//! - A [batch](crate::group::GroupBuilder::batch) takes the records of a key together, by their number or by the wall
//!   clock: a window of processing time.
//! - A [join](crate::group::GroupBuilder::stream_join) of two topics keeps each record for as long as a match may come.
//!
//! Stream time and timers are in `<group>-time`, the windows of a name in `<group>-window-<name>`, sessions in
//! `<group>-session-<name>`, batches in `<group>-batch-<name>`, what a join keeps in `<group>-kept-<name>`: compacted topics
//! with a store, written and restored as the group table is, so that both guarantees hold for them as well.
//!
//! ```
//! use std::time::Duration;
//! use stream_core::prelude::*;
//!
//! // Clicks per user and minute, emitted when the minute closes.
//! let mut g = Group::define("clicks-per-minute");
//! let out = g.output("per-minute", Int64);
//! let minute = g.window("minute", Windows::tumbling(Duration::from_secs(60)).grace(Duration::from_secs(10)), Int64);
//! g.input("clicks", Text, move |ctx, _click| {
//!     ctx.aggregate(minute, |n| n.unwrap_or(0) + 1)?;
//!     Ok(())
//! });
//! g.on_close(minute, move |ctx, (_window, n)| ctx.emit(out, ctx.key(), &n));
//! let graph = g.build()?;
//! # assert!(graph.describe().contains("clicks-per-minute-window-minute"));
//! # Ok::<(), BuildError>(())
//! ```
//!
//! This module does no I/O. It must never depend on a clock.

pub(crate) mod batches;
mod join;
pub(crate) mod keys;
mod session;

pub(crate) use self::join::Which;
pub use self::join::{JoinSpan, JoinWindows, Nulls};

use std::fmt;
use std::time::Duration;

pub use self::batches::Batches;
pub use self::session::{Session, SessionChange, Sessions};

/// A span of event time, `[start, end)`, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// Its first millisecond.
    pub start: i64,
    /// The first one after it.
    pub end: i64,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// Which windows there are, and how long they wait for records that are out of order.
///
/// Windows start at multiples of their advance, none below 0:
///
/// ```
/// use std::time::Duration;
/// use stream_core::window::Windows;
///
/// let ms = Duration::from_millis;
/// let windows = Windows::hopping(ms(60), ms(20));
/// let starts = |at| windows.at(at).map(|w| w.start).collect::<Vec<_>>();
/// assert_eq!(starts(45), [0, 20, 40]);
/// assert_eq!(starts(10), [0]);
/// assert_eq!(starts(60), [20, 40, 60]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub(crate) size: i64,
    pub(crate) advance: i64,
    pub(crate) grace: i64,
}

impl Windows {
    /// Windows of this size, one beginning where the other ends.
    pub fn tumbling(size: Duration) -> Self {
        Self::hopping(size, size)
    }

    /// Windows of this size, one beginning `advance` after the other: a record belongs to several.
    pub fn hopping(size: Duration, advance: Duration) -> Self {
        Self { size: millis(size), advance: millis(advance), grace: 0 }
    }

    /// How long after its end a window takes records that are out of order, in stream time. None by default: a window
    /// closes as soon as stream time reaches its end.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = millis(grace);
        self
    }

    /// The windows that a time belongs to, the earliest first.
    pub fn at(&self, time: i64) -> impl Iterator<Item = Window> + use<> {
        let Self { size, advance, .. } = *self;
        let advance = advance.max(1);
        // The first multiple of the advance whose window ends after `time`.
        let first = time.saturating_sub(size).div_euclid(advance).saturating_add(1).saturating_mul(advance).max(0);
        let mut start = Some(first);
        std::iter::from_fn(move || {
            let this = start.filter(|start| *start <= time)?;
            start = this.checked_add(advance);
            Some(Window { start: this, end: this.saturating_add(size) })
        })
    }

    /// The window that starts there.
    pub(crate) fn starting(&self, start: i64) -> Window {
        Window { start, end: start.saturating_add(self.size) }
    }

    /// When a window closes: the stream time from which on a record is late for it.
    pub(crate) fn closes(&self, window: Window) -> i64 {
        window.end.saturating_add(self.grace)
    }

    /// The mistake in them, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self { size: 0, .. } => Some("its size must be at least 1 ms"),
            Self { advance: 0, .. } => Some("its advance must be at least 1 ms"),
            Self { size, advance, .. } if advance > size => {
                Some("its advance is larger than its size, so that records between two windows would be lost")
            }
            _ => None,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
