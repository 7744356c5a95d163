//! The callback of something that is due: decodes what its entry carries, and calls.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::codec::{Codec, CodecError};
use crate::context::{Blocker, Core, Ctx, Source, Stage};
use crate::group::around::Layer;
use crate::group::callback::{SyncHandler, Timed};
use crate::log::RecordRef;
use crate::topology::{AnyCodec, CallbackError, CallbackResult, CodecOf, Failure, typed};

/// Reads what a timer carries or a window has, a `V` of `T`s, and calls with it and the time.
pub(super) struct OnDue<T, V, S, F> {
    codec: Arc<dyn AnyCodec>,
    of: CodecOf,
    read: fn(&dyn Codec<T>, &[u8]) -> Result<V, CodecError>,
    call: F,
    layer: Option<Layer>,
    types: PhantomData<fn(S)>,
}

impl<T: 'static, V: 'static, S: 'static, F> OnDue<T, V, S, F>
where
    F: Fn(&mut Ctx<'_, S>, V, i64) -> CallbackResult + Send + Sync + 'static,
{
    pub(super) fn boxed(
        codec: Arc<dyn AnyCodec>,
        of: CodecOf,
        read: fn(&dyn Codec<T>, &[u8]) -> Result<V, CodecError>,
        call: F,
    ) -> Box<dyn SyncHandler> {
        Box::new(Self { codec, of, read, call, layer: None, types: PhantomData })
    }
}

impl<T, V, S, F: Send + Sync> Timed for OnDue<T, V, S, F> {
    fn event_time(&self, _: &Core, _: usize, record: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        Ok(Some(record.timestamp))
    }

    fn surround(&mut self, layer: Layer) {
        self.layer = Some(layer);
    }
}

impl<T, V, S, F> SyncHandler for OnDue<T, V, S, F>
where
    T: 'static,
    V: 'static,
    S: 'static,
    F: Fn(&mut Ctx<'_, S>, V, i64) -> CallbackResult + Send + Sync,
{
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        let codec = typed::<T>(&self.codec).ok_or_else(|| CallbackError::of(Failure::ForeignHandle("timer")))?;
        let value = (self.read)(&**codec, record.value.unwrap_or_default()).map_err(|error| {
            if let CodecError::NotLoaded(id) = error {
                stage.blocker = Some(Blocker::Load(self.of, id));
            }
            CallbackError::of(Failure::Decode(error))
        })?;
        let mut ctx = Ctx::new(core, source, record, stage);
        Layer::call(self.layer.as_ref(), &mut ctx, |ctx| (self.call)(ctx, value, record.timestamp))
    }
}
