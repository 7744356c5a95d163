//! Nulls as values.

use futures::future::BoxFuture;

use super::{Codec, CodecError};

/// Values of another codec, or a null: a record without a value is `None`, and `None` is written as a record without a value.
///
/// An input with this codec passes nulls on, whatever the default for them is; the stronger
/// [`Input::null_value`](crate::group::Input::null_value) still decides where it is set. Written to a compacted topic, `None` is a
/// deletion; set in a table, it removes the key.
///
/// ```
/// use stream_core::codec::Nullable;
/// use stream_core::prelude::*;
///
/// let mut g = Group::define("copy");
/// let copy = g.output("prices-copy", Nullable::of(Int64));
/// g.input("prices", Nullable::of(Int64), move |ctx, price: Option<i64>| {
///     if price.is_none() {
///         println!("{} is no longer sold", ctx.key_text()?);
///     }
///     ctx.emit(copy, ctx.key(), price)
/// });
/// # g.build()?;
/// # Ok::<(), BuildError>(())
/// ```
///
/// Where there is no record that could be without a value (a window, a session, a batch, a timer), `None` is an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nullable<C>(C);

impl<C> Nullable<C> {
    /// The values of `codec`, and null.
    pub fn of<T>(codec: C) -> Self
    where
        C: Codec<T>,
    {
        Self(codec)
    }
}

impl<T: 'static, C: Codec<T>> Codec<Option<T>> for Nullable<C> {
    fn encode(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match value {
            Some(value) => self.0.encode(value, out),
            None => Err(CodecError::invalid("a null has no bytes, and here a value needs some")),
        }
    }
    fn decode(&self, bytes: &[u8]) -> Result<Option<T>, CodecError> {
        self.0.decode(bytes).map(Some)
    }
    fn null(&self) -> Option<Option<T>> {
        Some(None)
    }
    fn is_null(&self, value: &Option<T>) -> bool {
        value.is_none()
    }
    fn prepare<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), CodecError>> {
        self.0.prepare(topic)
    }
    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>> {
        self.0.load(id)
    }
    fn event_time(&self, value: &Option<T>) -> Option<i64> {
        value.as_ref().and_then(|value| self.0.event_time(value))
    }
    fn reads_event_time(&self) -> bool {
        self.0.reads_event_time()
    }
    fn reads_back(&self) -> bool {
        self.0.reads_back()
    }
    fn name(&self) -> &str {
        self.0.name()
    }
}
