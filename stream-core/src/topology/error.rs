//! What can be wrong with a group graph, and what a callback can fail with.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::left_out::LeftOut;
use crate::clock::{span, utc};
use crate::codec::CodecError;
use crate::log::LogError;
use crate::store::StoreError;

/// A group graph that makes no sense. Every variant names the edge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum BuildError {
    /// A name that Kafka would refuse.
    #[error("{edge}: {name:?} is not a valid name: use 1 to 249 letters, digits, '.', '_' or '-', and not '.' or '..'")]
    Name { edge: String, name: String },
    /// Nothing would ever call a callback.
    #[error("group {group} has no input: add one with input(), input_async(), input_batch() or on_loop()")]
    NoInput { group: String },
    /// Two edges read the same topic.
    #[error("group {group}: {edge} and {other} read the same topic: join them into one edge")]
    Twice { group: String, edge: String, other: String },
    /// An edge to a topic that the group owns.
    #[error("group {group}: {edge} is the group's own {owned}: use {instead}")]
    OwnTopic { group: String, edge: String, owned: String, instead: String },
    /// Dead letters that the group itself would read: each would fail again, and go round for ever.
    #[error(
        "group {group}: {edge} puts dead letters into {topic}, which the group itself reads or owns ({other}): name another topic"
    )]
    DeadLetterBack { group: String, edge: String, topic: String, other: String },
    /// A loop that nothing reads.
    #[error("group {group}: the loop has no callback: add one with on_loop()")]
    LoopUnread { group: String },
    /// A second loop.
    #[error("group {group} has two loops: one loop can carry an enum")]
    TwoLoops { group: String },
    /// A handle that another builder made.
    #[error("group {group}: the {what} handle belongs to another group")]
    ForeignHandle { group: String, what: String },
    /// Two visitors of one name.
    #[error("group {group} has two visitors named {name:?}")]
    TwoVisitors { group: String, name: String },
    /// Two timers, windows, sessions or batches of one name.
    #[error("group {group} has two {what}s named {name:?}")]
    TwoOfAName { group: String, what: String, name: String },
    /// A timer that nothing is called for.
    #[error("group {group}: timer {name:?} has no callback: add one with on_timer()")]
    TimerUnread { group: String, name: String },
    /// A batch that nothing is called for.
    #[error("group {group}: batch {name:?} has no callback: add one with on_batch()")]
    BatchUnread { group: String, name: String },
    /// Windows that make no sense.
    #[error("group {group}: window {name:?}: {reason}")]
    Windows { group: String, name: String, reason: String },
    /// A limit of zero.
    #[error("{edge}: {what} must be at least 1")]
    Zero { edge: String, what: String },
}

/// Why a callback failed. Any error turns into one by `?`; [`CallbackError::msg`] makes one from words.
pub struct CallbackError(Box<Failure>);

/// The cause of a [`CallbackError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum Failure {
    /// The callback's own error.
    #[error("{0}")]
    User(Box<dyn std::error::Error + Send + Sync>),
    /// The callback panicked.
    #[error("the callback panicked: {0}")]
    Panic(String),
    /// The record's value can't be read.
    #[error("the value can't be decoded: {0}")]
    Decode(CodecError),
    /// A value of a table can't be read.
    #[error("the value of table {table} can't be decoded: {error}")]
    DecodeTable { table: String, error: CodecError },
    /// A value can't be written.
    #[error("a value for {edge} can't be encoded: {error}")]
    Encode { edge: String, error: CodecError },
    /// A record that its topic would not take, or did not take.
    #[error("emit: {0}")]
    Emit(LogError),
    /// The record has no key, and the operation needs one.
    #[error("the record has no key, and {0} needs one")]
    NoKey(&'static str),
    /// A handle that another group made.
    #[error("the {0} handle belongs to another group")]
    ForeignHandle(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// A looked-up table can't be read.
    #[error("lookup {table}: {reason}")]
    Lookup { table: String, reason: String },
    /// A record's event time is further ahead of the host's clock than its input allows; all in milliseconds.
    #[error("{}", ahead_text(.at, .now, .limit))]
    Ahead { at: i64, now: i64, limit: i64 },
    /// A time below zero, in milliseconds since the epoch.
    #[error("{}", negative_text(.at))]
    Negative { at: i64 },
    /// The record is left out.
    #[error("it is left out: {0}")]
    LeftOut(LeftOut),
    /// Due work comes before the record. Never seen by a callback.
    #[error("timers or windows are due first")]
    DueFirst,
    /// Deferred work that was dropped before it said how it ended.
    #[error("the deferred work was dropped before done() or fail()")]
    DeferredDropped,
}

impl Failure {
    /// Whether it is the same at each attempt, whatever happens meanwhile.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::NoKey(_) | Self::Negative { .. })
    }

    /// As what its record is counted, if that is left out.
    pub(crate) fn left_out(&self) -> LeftOut {
        match self {
            Self::Ahead { .. } => LeftOut::Ahead,
            Self::Negative { .. } => LeftOut::Negative,
            Self::LeftOut(reason) => *reason,
            _ => LeftOut::Failed,
        }
    }

    /// The variant's name, as dead letters have it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::User(_) => "Failure::User",
            Self::Panic(_) => "Failure::Panic",
            Self::Decode(_) => "Failure::Decode",
            Self::DecodeTable { .. } => "Failure::DecodeTable",
            Self::Encode { .. } => "Failure::Encode",
            Self::Emit(_) => "Failure::Emit",
            Self::NoKey(_) => "Failure::NoKey",
            Self::ForeignHandle(_) => "Failure::ForeignHandle",
            Self::Store(_) => "Failure::Store",
            Self::Lookup { .. } => "Failure::Lookup",
            Self::Ahead { .. } => "Failure::Ahead",
            Self::Negative { .. } => "Failure::Negative",
            Self::LeftOut(_) => "Failure::LeftOut",
            Self::DueFirst => "Failure::DueFirst",
            Self::DeferredDropped => "Failure::DeferredDropped",
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the macro gives them")]
fn ahead_text(at: &i64, now: &i64, limit: &i64) -> String {
    let plausible = |per_ms: i64| (at / per_ms).abs_diff(*now) < PLAUSIBLE_MS;
    let hint = match () {
        () if plausible(1000) => "; is it in microseconds?",
        () if plausible(1_000_000) => "; is it in nanoseconds?",
        () => "",
    };
    format!(
        "its event time {at} ({}) is {} ahead of this host's clock, {now} ({}), and {} is the most that is allowed{hint}",
        utc(*at),
        span(at.saturating_sub(*now)),
        utc(*now),
        span(*limit)
    )
}

/// A time in another unit is that of something that happened within so long, as a rule.
const PLAUSIBLE_MS: u64 = 20 * 365 * 24 * 3_600_000;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the macro gives it")]
fn negative_text(at: &i64) -> String {
    match at {
        -1 => "it has no time (-1), and no event time in its value".to_owned(),
        at => format!("the time {at} is below zero"),
    }
}

impl CallbackError {
    /// An error from words.
    pub fn msg(text: impl fmt::Display) -> Self {
        Self(Box::new(Failure::User(text.to_string().into())))
    }

    pub(crate) fn of(failure: Failure) -> Self {
        Self(Box::new(failure))
    }

    /// The cause of the error.
    pub fn failure(&self) -> &Failure {
        &self.0
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for CallbackError {
    fn from(error: E) -> Self {
        Self(Box::new(Failure::User(Box::new(error))))
    }
}

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure::User(error) = &*self.0 else { return fmt::Display::fmt(&self.0, f) };
        // The text is made by code of the user's, too.
        match catch_unwind(AssertUnwindSafe(|| with_sources(&**error))) {
            Ok(text) => f.write_str(&text),
            Err(_) => f.write_str("an error that panicked when it was to be shown"),
        }
    }
}

/// An error with what stands behind it, in words.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl fmt::Debug for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The result of a callback. `Ok` releases all its effects; an error discards them all, and the input's
/// [`ErrorPolicy`](crate::group::ErrorPolicy) applies.
pub type CallbackResult = Result<(), CallbackError>;
