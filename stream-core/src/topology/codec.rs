//! Codecs without their value types, and the way back to the type.

use std::any::Any;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::tables::TableId;
use crate::codec::{Codec, CodecError};

/// A codec whose value type is not named: what the runtime needs of it, and a way back to the type.
pub(crate) trait AnyCodec: Send + Sync {
    fn prepare<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), CodecError>>;
    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>>;
    fn reads_event_time(&self) -> bool;
    /// Whether a record without a value has one for it.
    fn takes_nulls(&self) -> bool;
    fn name(&self) -> &str;
    /// The `Arc<dyn Codec<T>>` inside.
    fn typed(&self) -> &dyn Any;
}

pub(crate) struct Erased<T>(pub(crate) Arc<dyn Codec<T>>);

impl<T: 'static> AnyCodec for Erased<T> {
    fn prepare<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), CodecError>> {
        self.0.prepare(topic)
    }
    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>> {
        self.0.load(id)
    }
    fn reads_event_time(&self) -> bool {
        self.0.reads_event_time()
    }
    fn takes_nulls(&self) -> bool {
        self.0.null().is_some()
    }
    fn name(&self) -> &str {
        self.0.name()
    }
    fn typed(&self) -> &dyn Any {
        &self.0
    }
}

/// Whose codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodecOf {
    Input(usize),
    Join(usize),
    Lookup(usize),
    Table(TableId),
    Timer(usize),
}

/// The typed codec behind an erased one.
pub(crate) fn typed<T: 'static>(codec: &Arc<dyn AnyCodec>) -> Option<&Arc<dyn Codec<T>>> {
    codec.typed().downcast_ref()
}

pub(crate) fn erase<T: 'static>(codec: Arc<impl Codec<T>>) -> Arc<dyn AnyCodec> {
    Arc::new(Erased::<T>(codec))
}
