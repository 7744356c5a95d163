//! Routes: where left-out records go.

use std::fmt;
use std::sync::Arc;

use super::error::CallbackError;
use super::left_out::LeftOut;
use crate::log::Headers;

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
