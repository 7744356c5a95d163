//! Telling listeners what changes in a view, typed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};

use crate::codec::{Codec, CodecError, caught};

/// Listeners of a copy, whose value type is not named.
pub(crate) trait Updates: Send + Sync {
    /// Notifies them; false if something must be loaded first to decode the value.
    fn notify(&self, partition: i32, key: &[u8], value: Option<&[u8]>) -> bool;

    /// Loads what the value needs and notifies them.
    fn load_and_notify<'a>(&'a self, partition: i32, key: &'a [u8], value: Option<&'a [u8]>) -> BoxFuture<'a, ()>;
}

/// Called with the partition, the key, and the new value; `None` if it was deleted.
pub(crate) type Listener<V> = Box<dyn Fn(i32, &[u8], Option<&V>) + Send + Sync>;

pub(crate) struct Listeners<V> {
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) topic: Arc<str>,
    pub(crate) all: Vec<Listener<V>>,
}

impl<V: 'static> Updates for Listeners<V> {
    fn notify(&self, partition: i32, key: &[u8], value: Option<&[u8]>) -> bool {
        match value.map(|bytes| caught(&*self.codec, bytes)).transpose() {
            Ok(value) => self.call(partition, key, value.as_ref()),
            Err(CodecError::NotLoaded(_)) => return false,
            Err(error) => self.undecodable(partition, key, &error),
        }
        true
    }

    fn load_and_notify<'a>(&'a self, partition: i32, key: &'a [u8], value: Option<&'a [u8]>) -> BoxFuture<'a, ()> {
        async move {
            match value {
                None => self.call(partition, key, None),
                Some(bytes) => match decode_loading(&*self.codec, bytes).await {
                    Ok(value) => self.call(partition, key, Some(&value)),
                    Err(error) => self.undecodable(partition, key, &error),
                },
            }
        }
        .boxed()
    }
}

impl<V> Listeners<V> {
    fn call(&self, partition: i32, key: &[u8], value: Option<&V>) {
        for listener in &self.all {
            // A listener's panic is its own: the copy goes on.
            if catch_unwind(AssertUnwindSafe(|| listener(partition, key, value))).is_err() {
                tracing::error!(topic = %self.topic, partition, "a listener of a view panicked");
            }
        }
    }

    fn undecodable(&self, partition: i32, key: &[u8], error: &CodecError) {
        let key = String::from_utf8_lossy(key);
        tracing::error!(topic = %self.topic, partition, %key, ?error, "an update's value can't be decoded for its listener");
    }
}

/// Values can need several layers of things to load.
const MAX_LOADS: usize = 8;

/// Decodes a value, and loads what it needs for that.
pub(crate) async fn decode_loading<V: 'static>(codec: &dyn Codec<V>, bytes: &[u8]) -> Result<V, CodecError> {
    for _ in 0..MAX_LOADS {
        let id = match caught(codec, bytes) {
            Err(CodecError::NotLoaded(id)) => id,
            decoded => return decoded,
        };
        let loaded = AssertUnwindSafe(async { codec.load(id).await }).catch_unwind().await;
        loaded.unwrap_or_else(|_| Err(CodecError::invalid("the codec panicked")))?;
    }
    caught(codec, bytes)
}
