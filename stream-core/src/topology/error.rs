//! Errors of a group graph, and of a callback.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::left_out::LeftOut;
use crate::chain::{self, Chain};
use crate::clock::{span, utc};
use crate::codec::CodecError;
use crate::log::LogError;
use crate::store::StoreError;

/// A group graph that makes no sense. Every variant names the edge.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum BuildError {
    /// A name that Kafka would refuse.
    #[error("{edge}: {name:?} is not a valid name: use 1 to 249 letters, digits, '.', '_' or '-', and not '.' or '..'")]
    Name { edge: String, name: String },
    /// The builder was used up.
    #[error("group {group} was built already: a definition is built once")]
    Built { group: String },
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
    #[error("group {group}: loop {topic:?} has no callback: add one with on_loop()")]
    LoopUnread { group: String, topic: String },
    /// Two loops of one name, or without any.
    #[error("group {group} has loop {topic:?} twice: give each a name, with named_loop()")]
    TwoLoops { group: String, topic: String },
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
    #[error("group {group}: batch {name:?} has no callback: add one with on_close()")]
    BatchUnread { group: String, name: String },
    /// Windows that make no sense.
    #[error("group {group}: window {name:?}: {reason}")]
    Windows { group: String, name: String, reason: String },
    /// Retries of what is the same each time.
    #[error("{edge}: on_decode_error() with retries, but bytes that can't be decoded stay so: leave retry() out")]
    DecodeRetry { edge: String },
    /// A limit of zero.
    #[error("{edge}: {what} must be at least 1")]
    Zero { edge: String, what: String },
}

crate::chain::debug_as_chain!(BuildError);

/// Why a callback failed. `?` makes one of any error, of `Box<dyn Error + Send + Sync>`, of text, and of an
/// `anyhow::Error`; [`CallbackError::msg`] makes one of anything that can be shown.
///
/// It is an error to look at (it dereferences to one): that of the callback, or else its [`Failure`]. `{}` shows it alone,
/// `{:#}` and `{:?}` with its causes.
///
/// ```
/// use stream_core::prelude::*;
///
/// let mut g = Group::define("sums").table(Int64);
/// g.input("numbers", Text, |ctx, text| {
///     let n: i64 = text.trim().parse()?; // any error
///     if n < 0 {
///         return Err("below zero".into()); // text
///     }
///     let sum = ctx.value()?.unwrap_or(0).checked_add(n).ok_or("too large")?;
///     ctx.set(sum)
/// });
///
/// let error = CallbackError::from("x".parse::<i64>().unwrap_err());
/// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
/// ```
#[derive(Clone)]
pub struct CallbackError(Arc<Failure>);

/// The kind of a [`CallbackError`].
#[derive(thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum Failure {
    /// The callback's own error.
    #[error(transparent)]
    User(Box<dyn Error + Send + Sync>),
    /// The callback panicked.
    #[error("the callback panicked: {0}")]
    Panic(String),
    /// The record's value can't be read.
    #[error("the value can't be decoded")]
    Decode(#[source] CodecError),
    /// What the record's value needs, such as its schema, can't be loaded.
    #[error("the value can't be decoded: what it needs (id {id}) can't be loaded")]
    Load {
        id: u32,
        #[source]
        error: CodecError,
    },
    /// A value of a table can't be read.
    #[error("the value of table {table} can't be decoded")]
    DecodeTable {
        table: String,
        #[source]
        error: CodecError,
    },
    /// A value can't be written.
    #[error("a value for {edge} can't be encoded")]
    Encode {
        edge: String,
        #[source]
        error: CodecError,
    },
    /// A record that its topic would not take, or did not take.
    #[error("an emit failed")]
    Emit(#[source] LogError),
    /// The record has no key, and the operation needs one.
    #[error("the record has no key, and {0} needs one")]
    NoKey(&'static str),
    /// A handle that another group made.
    #[error("the {0} handle belongs to another group")]
    ForeignHandle(&'static str),
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
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
    /// Deferred work that was dropped before it said how it ended.
    #[error("the deferred work was dropped before done() or fail()")]
    DeferredDropped,
    /// Another failure, and what was being done.
    #[error("{what}")]
    Within {
        what: String,
        #[source]
        error: CallbackError,
    },
}

crate::chain::debug_as_chain!(Failure);

impl Failure {
    /// Whether it is the same at each attempt, whatever happens meanwhile.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::NoKey(_) | Self::Negative { .. } | Self::Decode(CodecError::Invalid(_)) => true,
            Self::Within { error, .. } => error.failure().is_final(),
            _ => false,
        }
    }

    /// The reason that its record is counted under, if it is left out.
    pub(crate) fn left_out(&self) -> LeftOut {
        match self {
            Self::Ahead { .. } => LeftOut::Ahead,
            Self::Negative { .. } => LeftOut::Negative,
            Self::LeftOut(reason) => *reason,
            Self::Decode(_) | Self::Load { .. } => LeftOut::Undecodable,
            Self::Within { error, .. } => error.failure().left_out(),
            _ => LeftOut::Failed,
        }
    }

    /// The variant's name, as dead letters have it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            // An error with what was being done is none of the library's kinds.
            Self::User(_) | Self::Within { .. } => "Failure::User",
            Self::Panic(_) => "Failure::Panic",
            Self::Decode(_) | Self::Load { .. } => "Failure::Decode",
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
        Self::of(Failure::User(text.to_string().into()))
    }

    pub(crate) fn of(failure: Failure) -> Self {
        Self(Arc::new(failure))
    }

    /// This error as the cause of another one, which says what was being done.
    pub(crate) fn within(self, what: impl Into<String>) -> Self {
        Self::of(Failure::Within { what: what.into(), error: self })
    }

    /// The kind of the error.
    pub fn failure(&self) -> &Failure {
        &self.0
    }

    /// The outermost error of type `E` among this error and its causes, such as the one that was given to `?`.
    ///
    /// An `anyhow::Error` without a context hides its type: turn it back first, by `error.downcast::<E>()`.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        chain::find(&**self)
    }
}

/// Any error, boxed errors, `anyhow::Error` and text.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for CallbackError {
    fn from(error: E) -> Self {
        Self::of(Failure::User(error.into()))
    }
}

impl Deref for CallbackError {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        match &*self.0 {
            Failure::User(error) => &**error,
            failure => failure,
        }
    }
}

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return fmt::Display::fmt(&Chain(&**self), f);
        }
        // The text is made by code of the user's, too.
        match catch_unwind(AssertUnwindSafe(|| (**self).to_string())) {
            Ok(text) => f.write_str(&text),
            Err(_) => f.write_str("an error that panicked when it was to be shown"),
        }
    }
}

impl fmt::Debug for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Chain(&**self), f)
    }
}

/// The result of a callback. `Ok` releases all its effects; an error discards them all, and the input's
/// [`ErrorPolicy`](crate::group::ErrorPolicy) applies.
pub type CallbackResult = Result<(), CallbackError>;
