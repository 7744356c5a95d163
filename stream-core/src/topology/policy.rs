//! How an input treats errors and nulls.

use std::sync::Arc;
use std::time::Duration;

use super::left_out::LeftOut;
use super::route::{Route, To};

/// An input topic and how it is read. A plain `&str` is one with the defaults.
///
/// ```
/// # use stream_core::group::{ErrorPolicy, Input, KeyPartitioner, NullKey, NullValue};
/// # use std::time::Duration;
/// let input = Input::topic("clicks")
///     .on_error(ErrorPolicy::dead_letter("clicks-dead").retry(3, Duration::from_millis(100)))
///     .null_key(NullKey::Skip)
///     .null_value(NullValue::Pass)
///     .partitioner(KeyPartitioner::Refuse)
///     .max_ahead(Duration::from_secs(60))
///     .concurrency(16)
///     .batch(100);
/// ```
#[derive(Clone, Debug)]
pub struct Input {
    pub(crate) topic: Arc<str>,
    pub(crate) policy: ErrorPolicy,
    /// The policy for values that can't be decoded; `policy`'s end where it is not set.
    pub(crate) on_decode_error: Option<ErrorPolicy>,
    /// That of its codec where it is not set: a null is left out unless it is a value.
    pub(crate) null_value: Option<NullValue>,
    pub(crate) null_key: NullKey,
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    /// In milliseconds; `i64::MAX` for no limit. The processor's where it is not set.
    pub(crate) max_ahead: Option<i64>,
    pub(crate) routes: Vec<(LeftOut, Route)>,
    pub(crate) partitioner: KeyPartitioner,
}

impl Input {
    /// An input with the defaults: fail on errors, skip null values, refuse null keys where there is state by key.
    pub fn topic(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            policy: ErrorPolicy::fail(),
            on_decode_error: None,
            null_value: None,
            null_key: NullKey::Error,
            concurrency: 64,
            batch: 500,
            max_ahead: None,
            routes: Vec::new(),
            partitioner: KeyPartitioner::Warn,
        }
    }

    /// Sets the policy for errors of a callback, a codec or an emit
    /// ([D6](crate::semantics#d6-errors-follow-the-inputs-policy)).
    #[must_use]
    pub fn on_error(mut self, policy: ErrorPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the policy for records whose value can't be decoded, apart from what fails in the callback. They are never tried
    /// again, for their bytes stay as they are; so the policy has no retries
    /// ([`BuildError::DecodeRetry`](crate::group::BuildError::DecodeRetry)). By default the end of [`on_error`](Self::on_error)
    /// applies to them too.
    ///
    /// A decoder that panics counts as one that fails. What a codec can't load at the moment is waited for
    /// ([D6](crate::semantics#d6-errors-follow-the-inputs-policy)); a schema that does not exist follows the retries of
    /// `on_error`, and then this policy.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stream_core::group::{ErrorPolicy, Input};
    ///
    /// // Garbage is put aside at once; a callback that fails is tried again, and then stops the group.
    /// let orders = Input::topic("orders")
    ///     .on_decode_error(ErrorPolicy::dead_letter("orders-garbage"))
    ///     .on_error(ErrorPolicy::fail().retry(5, Duration::from_secs(1)));
    /// ```
    #[must_use]
    pub fn on_decode_error(mut self, policy: ErrorPolicy) -> Self {
        self.on_decode_error = Some(policy);
        self
    }

    /// The end of the policy for what is left out for this reason.
    pub(crate) fn end(&self, reason: LeftOut) -> &OnError {
        let decode = self.on_decode_error.as_ref().filter(|_| reason == LeftOut::Undecodable);
        &decode.unwrap_or(&self.policy).then
    }

    /// Sets the rule for null values ([D5](crate::semantics#d5-nulls)); skipped by default, unless the input's codec has a value
    /// for them ([`Nullable`](crate::codec::Nullable)).
    #[must_use]
    pub fn null_value(mut self, rule: NullValue) -> Self {
        self.null_value = Some(rule);
        self
    }

    /// Sets the rule for null keys in a group with state by key ([D5](crate::semantics#d5-nulls)); an error by default. Such
    /// state is a table, a joined table, windows, sessions, batches or timers.
    #[must_use]
    pub fn null_key(mut self, rule: NullKey) -> Self {
        self.null_key = rule;
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

    /// How far a record's event time may be ahead of the host's clock; `None` for any. One that is further ahead is an
    /// error, and stream time does not jump there. The default is that of
    /// [`Processor::max_ahead`](crate::processor::Processor::max_ahead).
    #[must_use]
    pub fn max_ahead(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.max_ahead = Some(limit_ms(limit.into()));
        self
    }

    /// Where records go that are left out for one reason. May be called for each reason.
    ///
    /// Without a route, records are counted in [`Status::left_out`](crate::processor::Status::left_out), and an example is
    /// logged at most once a minute for each reason; of those that [failed](LeftOut::Failed) or are
    /// [undecodable](LeftOut::Undecodable), each is logged. A route for [`LeftOut::NullKey`] or [`LeftOut::NullValue`] has such
    /// records left out, whatever [`null_key`](Self::null_key) or [`null_value`](Self::null_value) said before. What is
    /// [ahead](LeftOut::Ahead), [negative](LeftOut::Negative), [undecodable](LeftOut::Undecodable) or has
    /// [failed](LeftOut::Failed) goes to its route in the place of the end of the input's [error policy](Self::on_error), after
    /// its retries.
    ///
    /// ```
    /// use stream_core::group::{Input, LeftOut, Route};
    ///
    /// let clicks = Input::topic("clicks")
    ///     .left_out(LeftOut::Late, Route::dead_letter("late-clicks"))
    ///     .left_out(LeftOut::NullValue, Route::drop())
    ///     .left_out(LeftOut::Ahead, Route::call(|record| eprintln!("from the future: {:?}", record.key)));
    /// ```
    #[must_use]
    pub fn left_out(mut self, reason: LeftOut, route: Route) -> Self {
        match reason {
            LeftOut::NullKey => self.null_key = NullKey::Skip,
            LeftOut::NullValue => self.null_value = Some(NullValue::Skip),
            _ => {}
        }
        self.routes.retain(|(of, _)| *of != reason);
        self.routes.push((reason, route));
        self
    }

    /// The topics that its records may be put aside in.
    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = &Arc<str>> {
        let routes = self.routes.iter().filter_map(|(_, route)| match &route.0 {
            To::DeadLetter(topic) => Some(topic),
            _ => None,
        });
        let decode = self.on_decode_error.as_ref().and_then(ErrorPolicy::dead_letter_topic);
        self.policy.dead_letter_topic().into_iter().chain(decode).chain(routes)
    }

    /// Whether it goes on behind a record that failed.
    pub(crate) fn may_go_on(&self) -> bool {
        let errors = [LeftOut::Ahead, LeftOut::Negative, LeftOut::Undecodable, LeftOut::Failed];
        let ends = [Some(&self.policy), self.on_decode_error.as_ref()];
        ends.into_iter().flatten().any(|policy| policy.then != OnError::Fail)
            || self.routes.iter().any(|(of, _)| errors.contains(of))
    }

    pub(crate) fn route(&self, reason: LeftOut) -> Option<&To> {
        self.routes.iter().find(|(of, _)| *of == reason).map(|(_, route)| &route.0)
    }
}

/// A limit in milliseconds; `i64::MAX` is none.
pub(crate) fn limit_ms(limit: Option<Duration>) -> i64 {
    limit.and_then(|limit| i64::try_from(limit.as_millis()).ok()).unwrap_or(i64::MAX)
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

/// The reaction to an error on an input: some retries, if set, then the instance fails, or the record is left out or put
/// aside.
///
/// ```
/// use std::time::Duration;
/// use stream_core::group::ErrorPolicy;
///
/// let policy = ErrorPolicy::dead_letter("orders-dead").retry(3, Duration::from_millis(100));
/// # assert_ne!(policy, ErrorPolicy::fail());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPolicy {
    pub(crate) retry: Option<Retry>,
    pub(crate) then: OnError,
}

/// The end of an [`ErrorPolicy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The instance fails; the record's offset stays uncommitted.
    Fail,
    /// The record is counted, logged and left out.
    Skip,
    /// The record goes to this topic as it came, with headers that say why and where it came from.
    DeadLetter(Arc<str>),
}

/// Retries with a back-off that doubles up to 64 times its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// How often to try again after the first time.
    pub(crate) attempts: u32,
    /// Wait before the first retry.
    pub(crate) backoff: Duration,
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

    /// Where it puts aside what fails.
    pub(crate) fn dead_letter_topic(&self) -> Option<&Arc<str>> {
        match &self.then {
            OnError::DeadLetter(topic) => Some(topic),
            _ => None,
        }
    }

    /// First try again so many times, with a back-off that doubles from `backoff`. The partition waits meanwhile.
    #[must_use]
    pub fn retry(mut self, attempts: u32, backoff: Duration) -> Self {
        self.retry = Some(Retry { attempts, backoff });
        self
    }
}

/// The rule for null values on an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NullValue {
    /// It is left out.
    Skip,
    /// Its (empty) bytes go to the codec; `ctx.value_is_null()` distinguishes it from an empty value.
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

/// The rule for null keys on an input of a group with state by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NullKey {
    /// It is an error, and the error policy applies.
    Error,
    /// It is left out.
    Skip,
    /// The callback sees it; it can emit, but has no table value.
    Pass,
}
