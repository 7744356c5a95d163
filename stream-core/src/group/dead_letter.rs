//! Names of a dead letter's headers.
//!
//! All values are text. A record that is put aside again, because somebody fed it back, still has one of each: the origin
//! stays the first one, [`COUNT`] grows, and the reason and the group are those of the last time. The record's own headers
//! are kept, its time is the wall clock's when it was put aside.
//!
//! The names that begin with `__streams.errors.` are those of Kafka Streams (KIP-1034), for tools that know them.

/// Why it was put aside the last time; the first 8 KiB of the error.
pub const REASON: &str = "dead-letter-reason";
/// The group that put it aside the last time.
pub const GROUP: &str = "dead-letter-group";
/// The topic where the record was read first.
pub const TOPIC: &str = "dead-letter-topic";
/// The partition where the record was read first.
pub const PARTITION: &str = "dead-letter-partition";
/// The offset at which the record was read first.
pub const OFFSET: &str = "dead-letter-offset";
/// The time of the record when it was read first, in milliseconds since the epoch.
pub const TIMESTAMP: &str = "dead-letter-timestamp";
/// How often the record was put aside, this time included.
pub const COUNT: &str = "dead-letter-count";
/// The kind of the error, a variant of [`Failure`](super::Failure).
pub const STREAMS_EXCEPTION: &str = "__streams.errors.exception";
/// As [`REASON`].
pub const STREAMS_MESSAGE: &str = "__streams.errors.message";
/// Written by Kafka Streams only: errors have no stack trace here.
pub const STREAMS_STACKTRACE: &str = "__streams.errors.stacktrace";
/// As [`TOPIC`].
pub const STREAMS_TOPIC: &str = "__streams.errors.topic";
/// As [`PARTITION`].
pub const STREAMS_PARTITION: &str = "__streams.errors.partition";
/// As [`OFFSET`].
pub const STREAMS_OFFSET: &str = "__streams.errors.offset";

/// Of what was due: `timer`, `window`, `session`, `batch`, `left` or `right` (a side of a join whose record had no match). Its
/// [`TOPIC`] is that of the group's own table, or, of a record of a batch, the input's; [`TIMESTAMP`] is when it was due.
pub const DUE: &str = "dead-letter-due";
/// Of what was due: the name of the timer, window, session, batch or join.
pub const NAME: &str = "dead-letter-name";
/// Of a window or session that was due: its first millisecond.
pub const WINDOW_START: &str = "dead-letter-window-start";
/// Of a window that was due: the first millisecond after it; of a session, the time of its last record.
pub const WINDOW_END: &str = "dead-letter-window-end";

/// All that a record has one of: a record that is put aside again loses those that it has.
pub(crate) const ALL: [&str; 13] = [
    REASON,
    GROUP,
    TOPIC,
    PARTITION,
    OFFSET,
    TIMESTAMP,
    COUNT,
    STREAMS_EXCEPTION,
    STREAMS_MESSAGE,
    STREAMS_STACKTRACE,
    STREAMS_TOPIC,
    STREAMS_PARTITION,
    STREAMS_OFFSET,
];
