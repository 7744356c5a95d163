//! Codecs: how values become bytes and back.
//!
//! | codec | values | bytes |
//! |---|---|---|
//! | [`Bytes`] | `Vec<u8>` | as they are |
//! | [`Text`] | `String` | UTF-8 |
//! | [`Int64`], [`UInt64`] | `i64`, `u64` | decimal text, as Goka's `codec.Int64` |
//! | [`Json<T>`](Json) | what serde can | JSON |
//! | [`Nullable<C>`](Nullable) | `Option`s of another codec's values | the other's; `None` is a record without a value |
//! | [`EventTime<C, F>`](EventTime) | those of another codec, with the event time read from them | the other's |
//! | `Avro<T>` (feature `avro`) | what serde can, by a schema | Avro with a schema registry's framing, as Confluent's |
//!
//! Another is a few lines to write:
//!
//! ```
//! use stream_core::codec::{Codec, CodecError};
//!
//! struct Celsius;
//! impl Codec<f64> for Celsius {
//!     fn encode(&self, value: &f64, out: &mut Vec<u8>) -> Result<(), CodecError> {
//!         out.extend_from_slice(&value.to_be_bytes());
//!         Ok(())
//!     }
//!     fn decode(&self, bytes: &[u8]) -> Result<f64, CodecError> {
//!         let bytes = bytes.try_into().map_err(|_| CodecError::invalid("8 bytes expected"))?;
//!         Ok(f64::from_be_bytes(bytes))
//!     }
//! }
//! ```
//!
//! A codec must never depend on state that changes what the same bytes mean, and must give back what it was given:
//! `decode(encode(v)) == v`.

#[cfg(feature = "avro")]
mod avro;
mod bytes;
mod event_time;
mod finite;
mod integer;
mod json;
mod nullable;
mod text;
mod value;

#[cfg(feature = "avro")]
pub use self::avro::{Avro, SchemaRegistry};
pub use self::bytes::Bytes;
pub use self::event_time::EventTime;
pub use self::integer::{Int64, UInt64};
pub use self::json::Json;
pub use self::nullable::Nullable;
pub use self::text::Text;
pub use self::value::ValueOf;
pub(crate) use self::value::encode_state;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, ready};

use crate::chain::panic_text;

/// Turns values of `T` into bytes and back.
pub trait Codec<T>: Send + Sync + 'static {
    /// Appends the bytes of a value to `out`.
    ///
    /// # Errors
    /// When the value has no representation. What was appended until then is thrown away by the caller.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Appends the bytes of a `String` with this text, where values are of that type; `None` (the default) to have it made.
    fn encode_str(&self, text: &str, out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        let _ = (text, out);
        None
    }

    /// Appends the bytes of a `Vec<u8>` with these bytes, where values are of that type; `None` (the default) to have it made.
    fn encode_slice(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        let _ = (bytes, out);
        None
    }

    /// Reads a value.
    ///
    /// # Errors
    /// [`CodecError::Invalid`] when the bytes are no value of `T`; [`CodecError::NotLoaded`] when something has to be
    /// fetched first: then [`load`](Self::load) is awaited and `decode` called again.
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError>;

    /// The value of a record that has none; `None` (the default) where nulls are no values of this codec. See [`Nullable`].
    fn null(&self) -> Option<T> {
        None
    }

    /// Whether a value is written as a record without one. `false` by default.
    fn is_null(&self, value: &T) -> bool {
        let _ = value;
        false
    }

    /// Called once for each topic that the codec is used for, before the first value: a place to register a schema.
    fn prepare<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), CodecError>> {
        let _ = topic;
        ready(Ok(())).boxed()
    }

    /// Fetches what a [`CodecError::NotLoaded`] named.
    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>> {
        ready(Err(CodecError::invalid(format!("nothing to load for id {id}")))).boxed()
    }

    /// The event time of an input's value in milliseconds since the epoch; `None` (the default) is the record's timestamp.
    fn event_time(&self, value: &T) -> Option<i64> {
        let _ = value;
        None
    }

    /// Whether [`event_time`](Self::event_time) gives times, so that a record without a value has no event time. `false` by
    /// default.
    fn reads_event_time(&self) -> bool {
        false
    }

    /// Whether everything that [`encode`](Self::encode) writes can be decoded again, whatever the value. `false` by default:
    /// then a value is decoded once before it becomes state, and one for which that fails is an encode error.
    fn reads_back(&self) -> bool {
        false
    }

    /// The name of the format of the bytes: a word or two with a version, such as `json` or `avro:v2`. Part of a store's
    /// fingerprint: a store written under another name is refused, not misread.
    fn name(&self) -> &str {
        "custom"
    }
}

/// Decodes a value; a panic of the codec is an error.
pub(crate) fn caught<T, C: Codec<T> + ?Sized>(codec: &C, bytes: &[u8]) -> Result<T, CodecError> {
    catch_unwind(AssertUnwindSafe(|| codec.decode(bytes)))
        .unwrap_or_else(|panic| Err(CodecError::Invalid(format!("the codec panicked: {}", panic_text(&*panic)))))
}

/// A value that can't be encoded or bytes that can't be decoded.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes are no such value, or the value has no bytes.
    #[error("{0}")]
    Invalid(String),
    /// Something must be loaded first, such as a schema by its id.
    #[error("id {0} is not loaded")]
    NotLoaded(u32),
    /// The schema registry, or whatever stands behind the codec, failed. Trying again may help.
    #[error("{0}")]
    Unavailable(String),
}

crate::chain::debug_as_chain!(CodecError);

impl CodecError {
    /// An [`Invalid`](Self::Invalid) with that reason.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }
}

impl<T: 'static, C: Codec<T> + ?Sized> Codec<T> for Arc<C> {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (**self).encode(value, out)
    }
    fn encode_str(&self, text: &str, out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        (**self).encode_str(text, out)
    }
    fn encode_slice(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        (**self).encode_slice(bytes, out)
    }
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        (**self).decode(bytes)
    }
    fn null(&self) -> Option<T> {
        (**self).null()
    }
    fn is_null(&self, value: &T) -> bool {
        (**self).is_null(value)
    }
    fn prepare<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), CodecError>> {
        (**self).prepare(topic)
    }
    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>> {
        (**self).load(id)
    }
    fn event_time(&self, value: &T) -> Option<i64> {
        (**self).event_time(value)
    }
    fn reads_event_time(&self) -> bool {
        (**self).reads_event_time()
    }
    fn reads_back(&self) -> bool {
        (**self).reads_back()
    }
    fn name(&self) -> &str {
        (**self).name()
    }
}
