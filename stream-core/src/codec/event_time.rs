//! The event time of a value, read from the value itself.

use futures::future::BoxFuture;

use super::{Codec, CodecError};

/// Another codec, with a function that reads a record's event time from its value, in milliseconds since the epoch. For
/// inputs; without it, a record's event time is its timestamp.
///
/// Which of several inputs is read next goes by the records' timestamps all the same.
///
/// ```
/// use stream_core::codec::{Codec, EventTime, Int64};
///
/// let codec = EventTime::by(Int64, |at: &i64| *at);
/// assert_eq!(codec.event_time(&1_700_000_000_000), Some(1_700_000_000_000));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EventTime<C, F> {
    codec: C,
    read: F,
}

impl<C, F> EventTime<C, F> {
    /// Values as `codec` has them, at the time that `read` gives.
    pub fn by<T>(codec: C, read: F) -> Self
    where
        C: Codec<T>,
        F: Fn(&T) -> i64 + Send + Sync + 'static,
    {
        Self { codec, read }
    }
}

impl<T, C, F> Codec<T> for EventTime<C, F>
where
    C: Codec<T>,
    F: Fn(&T) -> i64 + Send + Sync + 'static,
{
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.codec.encode(value, out)
    }
    fn encode_str(&self, text: &str, out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        self.codec.encode_str(text, out)
    }
    fn encode_slice(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        self.codec.encode_slice(bytes, out)
    }
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        self.codec.decode(bytes)
    }
    fn null(&self) -> Option<T> {
        self.codec.null()
    }
    fn is_null(&self, value: &T) -> bool {
        self.codec.is_null(value)
    }
    fn prepare<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), CodecError>> {
        self.codec.prepare(topic)
    }
    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>> {
        self.codec.load(id)
    }
    fn event_time(&self, value: &T) -> Option<i64> {
        Some((self.read)(value))
    }
    fn reads_event_time(&self) -> bool {
        true
    }
    fn reads_back(&self) -> bool {
        self.codec.reads_back()
    }
    fn name(&self) -> &str {
        self.codec.name()
    }
}
