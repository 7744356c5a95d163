//! How an input treats errors and nulls.

use std::sync::Arc;
use std::time::Duration;

/// An input topic and how it is read. A plain `&str` is one with the defaults.
///
/// ```
/// # use stream_core::group::{ErrorPolicy, Input};
/// # use std::time::Duration;
/// let input = Input::topic("clicks")
///     .on_error(ErrorPolicy::dead_letter("clicks-dead").retry(3, Duration::from_millis(100)));
/// ```
#[derive(Clone, Debug)]
pub struct Input {
    pub(crate) topic: Arc<str>,
    pub(crate) policy: ErrorPolicy,
    pub(crate) nil_value: NilValue,
    pub(crate) nil_key: NilKey,
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    pub(crate) max_ahead: Option<i64>,
    pub(crate) partitioner: KeyPartitioner,
}

impl Input {
    /// An input with the defaults: fail on errors, skip null values, refuse null keys where there is a table.
    pub fn topic(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            policy: ErrorPolicy::fail(),
            nil_value: NilValue::Skip,
            nil_key: NilKey::Error,
            concurrency: 64,
            batch: 500,
            max_ahead: None,
            partitioner: KeyPartitioner::Warn,
        }
    }

    /// What follows an error of a callback, a codec or an emit (semantics D6).
    #[must_use]
    pub fn on_error(mut self, policy: ErrorPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What follows a null value (semantics D5); skipped by default.
    #[must_use]
    pub fn nil_value(mut self, nil: NilValue) -> Self {
        self.nil_value = nil;
        self
    }

    /// What follows a null key in a group with a table (semantics D5); an error by default.
    #[must_use]
    pub fn nil_key(mut self, nil: NilKey) -> Self {
        self.nil_key = nil;
        self
    }

    /// How many records of a partition may be under way at once in an awaiting callback, or hold deferred work;
    /// default 64.
    #[must_use]
    pub fn concurrency(mut self, records: usize) -> Self {
        self.concurrency = records;
        self
    }

    /// How many records a batch callback is given at most; default 500.
    #[must_use]
    pub fn batch(mut self, records: usize) -> Self {
        self.batch = records;
        self
    }

    /// Sets the reaction to keys that a partitioner other than the group's has placed, in a group with state by key; a
    /// warning by default. Partitions that a client chose by hand are not mistaken for that.
    #[must_use]
    pub fn partitioner(mut self, on: KeyPartitioner) -> Self {
        self.partitioner = on;
        self
    }

    /// A record whose event time is further ahead of the wall clock than this is an error, and stream time does not jump
    /// there; no limit by default.
    #[must_use]
    pub fn max_ahead(mut self, limit: Duration) -> Self {
        self.max_ahead = Some(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        self
    }
}

impl From<&str> for Input {
    fn from(topic: &str) -> Self {
        Self::topic(topic)
    }
}

impl From<&String> for Input {
    fn from(topic: &String) -> Self {
        Self::topic(topic.as_str())
    }
}

impl From<String> for Input {
    fn from(topic: String) -> Self {
        Self::topic(topic)
    }
}

/// What follows an error on an input: some retries, if set, then one of [`OnError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPolicy {
    pub(crate) retry: Option<Retry>,
    pub(crate) then: OnError,
}

/// The end of an [`ErrorPolicy`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The instance fails; the record's offset stays uncommitted.
    Fail,
    /// The record is counted, logged and left out.
    Skip,
    /// The record goes to this topic as it came, with headers that say why and where it came from.
    DeadLetter(Arc<str>),
}

/// Retries with a back-off that doubles up to 64 times its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often to try again after the first time.
    pub attempts: u32,
    /// Wait before the first retry.
    pub backoff: Duration,
}

impl Retry {
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        self.backoff.saturating_mul(1 << attempt.min(6))
    }
}

impl ErrorPolicy {
    /// Stop at the record (the default).
    pub fn fail() -> Self {
        Self { retry: None, then: OnError::Fail }
    }

    /// Leave the record out.
    pub fn skip() -> Self {
        Self { retry: None, then: OnError::Skip }
    }

    /// Put the record aside in a topic: key, value and headers as they came, the time of now, and [headers] that say why
    /// and where it came from. The topic must not be one that the group reads.
    ///
    /// [headers]: crate::group::dead_letter
    pub fn dead_letter(topic: impl Into<Arc<str>>) -> Self {
        Self { retry: None, then: OnError::DeadLetter(topic.into()) }
    }

    /// First try again so many times, with a back-off that doubles from `backoff`. The partition waits meanwhile.
    #[must_use]
    pub fn retry(mut self, attempts: u32, backoff: Duration) -> Self {
        self.retry = Some(Retry { attempts, backoff });
        self
    }
}

/// What follows a null value on an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NilValue {
    /// It is left out.
    Skip,
    /// Its (empty) bytes go to the codec; `ctx.value_is_nil()` tells it from an empty value.
    Pass,
}

/// Reaction to keys of an input that a partitioner other than
/// [the group's](crate::processor::Processor::partitioner) has placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPartitioner {
    /// It is logged once, and counted. The first records of each partition are looked at, and a sample of the others.
    Warn,
    /// The instance fails, and the topic has to be written again.
    Refuse,
    /// No check. Right where a topic's keys are met in this topic only.
    Any,
}

/// What follows a null key on an input of a group with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NilKey {
    /// It is an error, and the error policy applies.
    Error,
    /// It is left out.
    Skip,
    /// The callback sees it; it can emit, but has no table value.
    Pass,
}
