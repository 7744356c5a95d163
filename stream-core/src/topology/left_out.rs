//! Records that are left out: why, and where they go.

use std::fmt;
use std::sync::Arc;

use super::error::CallbackError;
use crate::log::Headers;

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
    /// A callback, a codec or an emit failed, of a record or of something that was due, and its
    /// [`ErrorPolicy`](crate::group::ErrorPolicy) skipped it or put it aside.
    Failed,
}

impl LeftOut {
    pub(crate) const ALL: [Self; 6] =
        [Self::Late, Self::Ahead, Self::Negative, Self::NullKey, Self::NullValue, Self::Failed];
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "too late for a window, a session or a join",
            Self::Ahead => "ahead of the host's clock",
            Self::Negative => "a time below zero",
            Self::NullKey => "no key",
            Self::NullValue => "no value",
            Self::Failed => "it failed",
        })
    }
}

/// Where an input's records of one [`LeftOut`] go: see [`Input::left_out`](crate::group::Input::left_out).
#[derive(Clone)]
pub struct Route(pub(crate) To);

#[derive(Clone)]
pub(crate) enum To {
    Nowhere,
    DeadLetter(Arc<str>),
    Call(Arc<dyn Fn(&LeftOutRecord<'_>) + Send + Sync>),
}

impl Route {
    /// Nowhere: they are counted, and not logged.
    pub fn drop() -> Self {
        Self(To::Nowhere)
    }

    /// To a topic, as [dead letters](crate::group::ErrorPolicy::dead_letter).
    pub fn dead_letter(topic: impl Into<Arc<str>>) -> Self {
        Self(To::DeadLetter(topic.into()))
    }

    /// To a function. It must not block. It is called again for a record that is processed again after a failure; a panic
    /// of it is logged.
    pub fn call(function: impl Fn(&LeftOutRecord<'_>) + Send + Sync + 'static) -> Self {
        Self(To::Call(Arc::new(function)))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            To::Nowhere => f.write_str("Route::drop()"),
            To::DeadLetter(topic) => write!(f, "Route::dead_letter({topic:?})"),
            To::Call(_) => f.write_str("Route::call(..)"),
        }
    }
}

/// A record that is left out, as [`Route::call`] shows it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LeftOutRecord<'a> {
    /// Why.
    pub reason: LeftOut,
    /// The error, where it was one.
    pub error: Option<&'a CallbackError>,
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since the epoch.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// Stream time of its partition in milliseconds since the epoch, in a group that keeps it.
    pub stream_time: Option<i64>,
}
