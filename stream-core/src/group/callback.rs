//! Where types end and bytes begin: the callbacks of inputs and visitors behind erased traits.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::LocalBoxFuture;

use super::around::Layer;
use crate::codec::{Codec, CodecError, caught};
use crate::context::{Blocker, Core, Ctx, OwnedRecord, Source, Stage};
use crate::log::{RecordBatch, RecordRef};
use crate::topology::{CallbackError, CallbackResult, Calls, CodecOf, Failure, NoTable, Table};

/// A record of a batch callback.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record<M> {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its decoded value.
    pub value: M,
    /// Its offset.
    pub offset: i64,
    /// Its time in milliseconds since the epoch.
    pub timestamp: i64,
    /// Its headers: names with values; `None` is a null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl<M> Record<M> {
    /// The value of the last header of this name, as Kafka's `lastHeader`; `None` if there is none, or it is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(of, _)| of == name)?.1.as_deref()
    }
}

/// An input's callback.
pub(crate) enum Handler {
    Sync(Box<dyn SyncHandler>),
    Async(Box<dyn AsyncHandler>),
    Batch(Box<dyn BatchHandler>),
}

/// Knows a record's event time without a call of its callback.
pub(crate) trait Timed: Send + Sync {
    /// `None` where stream time does not move.
    ///
    /// # Errors
    /// For a value that can't be decoded, or a time that is too far ahead or below zero: its callback is not called.
    fn event_time(&self, core: &Core, input: usize, record: RecordRef<'_>) -> Result<Option<i64>, CallbackError>;

    /// Puts a middleware around the callback.
    fn surround(&mut self, layer: Layer);
}

impl Handler {
    pub(crate) fn calls(&self) -> Calls {
        match self {
            Self::Sync(_) => Calls::Sync,
            Self::Async(_) => Calls::Async,
            Self::Batch(_) => Calls::Batch,
        }
    }

    pub(crate) fn event_time(
        &self,
        core: &Core,
        input: usize,
        record: RecordRef<'_>,
    ) -> Result<Option<i64>, CallbackError> {
        match self {
            Self::Sync(handler) => handler.event_time(core, input, record),
            Self::Async(handler) => handler.event_time(core, input, record),
            Self::Batch(handler) => handler.event_time(core, input, record),
        }
    }
}

/// Called for each record, on the task's own thread; never boxed, never awaits.
pub(crate) trait SyncHandler: Timed {
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult;
}

/// Called for each record; the future stays on the task's thread. Gives the stage back with what was staged.
pub(crate) trait AsyncHandler: Timed {
    fn call(&self, core: Rc<Core>, record: Rc<OwnedRecord>, stage: Stage) -> StagedFuture;
}

/// Called for some records at a time.
pub(crate) trait BatchHandler: Timed {
    fn call(&self, core: Rc<Core>, input: usize, records: Rc<RecordBatch>, stage: Stage) -> StagedFuture;
}

pub(crate) type StagedFuture = LocalBoxFuture<'static, (Stage, CallbackResult)>;

/// Called for each key of the table.
pub(crate) trait VisitHandler: Send + Sync {
    /// Puts a middleware around the callback.
    fn surround(&mut self, layer: Layer);

    fn call(
        &self,
        core: &Core,
        source: Source<'_>,
        record: RecordRef<'_>,
        arg: &(dyn std::any::Any + Send + Sync),
        stage: &mut Stage,
    ) -> CallbackResult;
}

/// Decodes an input's value. What the codec misses is noted on the stage, so that the task can load it.
pub(crate) fn decode<M>(
    codec: &impl Codec<M>,
    value: Option<&[u8]>,
    source: CodecOf,
    stage: &mut Stage,
) -> Result<M, CallbackError> {
    if value.is_none()
        && let Some(null) = codec.null()
    {
        return Ok(null);
    }
    caught(codec, value.unwrap_or_default()).map_err(|error| {
        if let CodecError::NotLoaded(id) = error {
            stage.blocker = Some(Blocker::Load(source, id));
        }
        CallbackError::of(Failure::Decode(error))
    })
}

/// A record's event time (semantics T1). A null has none where times are read from values.
pub(crate) fn event_time<M>(
    codec: &impl Codec<M>,
    message: Option<&M>,
    core: &Core,
    input: usize,
    record: RecordRef<'_>,
) -> Result<Option<i64>, CallbackError> {
    let at = match message.filter(|_| record.value.is_some()) {
        Some(message) => codec.event_time(message).unwrap_or(record.timestamp),
        None if codec.reads_event_time() => return core.check_no_time(record.timestamp).map(|()| None),
        None => record.timestamp,
    };
    core.check_time(input, at).map(Some)
}

/// A record's event time, of its bytes.
pub(crate) fn event_time_of<M>(
    codec: &impl Codec<M>,
    core: &Core,
    input: usize,
    record: RecordRef<'_>,
) -> Result<Option<i64>, CallbackError> {
    let message = record.value.map(|value| caught(codec, value)).transpose();
    let message = message.map_err(|error| CallbackError::of(Failure::Decode(error)))?;
    event_time(codec, message.as_ref(), core, input, record)
}

impl<M, S, C, F> Timed for OnRecord<M, S, C, F>
where
    M: 'static,
    S: 'static,
    C: Codec<M>,
    F: Send + Sync,
{
    fn event_time(&self, core: &Core, input: usize, record: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        event_time_of(&*self.codec, core, input, record)
    }

    fn surround(&mut self, layer: Layer) {
        self.layer = Some(layer);
    }
}

pub(crate) struct OnRecord<M, S, C, F> {
    pub(crate) codec: Arc<C>,
    pub(crate) callback: Arc<F>,
    layer: Option<Layer>,
    pub(crate) of: PhantomData<fn(M, S)>,
}

impl<M, S, C, F> OnRecord<M, S, C, F> {
    pub(crate) fn new(codec: Arc<C>, callback: F) -> Self {
        Self { codec, callback: Arc::new(callback), layer: None, of: PhantomData }
    }
}

impl<M, S, C, F> SyncHandler for OnRecord<M, S, C, F>
where
    M: 'static,
    S: 'static,
    C: Codec<M>,
    F: Fn(&mut Ctx<'_, S>, M) -> CallbackResult + Send + Sync + 'static,
{
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        let message = decode(&*self.codec, record.value, CodecOf::Input(source.input), stage)?;
        let at = event_time(&*self.codec, Some(&message), core, source.input, record)?;
        let record = stage.arrive(at, record)?;
        let mut ctx = Ctx::new(core, source, record, stage);
        Layer::call(self.layer.as_ref(), &mut ctx, |ctx| (self.callback)(ctx, message))
    }
}

impl<M, S, C, F> AsyncHandler for OnRecord<M, S, C, F>
where
    M: 'static,
    S: 'static,
    C: Codec<M>,
    F: AsyncFn(&mut Ctx<'_, S>, M) -> CallbackResult + Send + Sync + 'static,
{
    fn call(&self, core: Rc<Core>, record: Rc<OwnedRecord>, mut stage: Stage) -> StagedFuture {
        let (codec, callback, layer) = (Arc::clone(&self.codec), Arc::clone(&self.callback), self.layer.clone());
        Box::pin(async move {
            let (source, view) = (record.source(), record.view());
            let result = match decode(&*codec, view.value, CodecOf::Input(source.input), &mut stage) {
                Ok(message) => match event_time(&*codec, Some(&message), &core, source.input, view) {
                    Ok(at) => {
                        let timestamp = at.unwrap_or(view.timestamp);
                        stage.at = timestamp;
                        // Stream time has got there with the dispatch, unless the record was ahead of the clock then.
                        stage.time = stage.time.max(at.unwrap_or(i64::MIN));
                        let record = RecordRef { timestamp, ..view };
                        let mut ctx = Ctx::new(&core, source, record, &mut stage);
                        Layer::call_async(layer.as_ref(), &mut ctx, async |ctx| callback(ctx, message).await).await
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            (stage, result)
        })
    }
}

impl<M, S, C, F> BatchHandler for OnRecord<M, S, C, F>
where
    M: 'static,
    S: 'static,
    C: Codec<M>,
    F: AsyncFn(&mut Ctx<'_, NoTable>, &[Record<M>]) -> CallbackResult + Send + Sync + 'static,
{
    fn call(&self, core: Rc<Core>, input: usize, records: Rc<RecordBatch>, mut stage: Stage) -> StagedFuture {
        let (codec, callback, layer) = (Arc::clone(&self.codec), Arc::clone(&self.callback), self.layer.clone());
        Box::pin(async move {
            let mut typed = Vec::with_capacity(records.len());
            for record in records.iter() {
                let decoded = decode(&*codec, record.value, CodecOf::Input(input), &mut stage);
                let timed = decoded.and_then(|value| {
                    let at = event_time(&*codec, Some(&value), &core, input, record)?;
                    Ok((value, at.unwrap_or(record.timestamp)))
                });
                match timed {
                    Ok((value, timestamp)) => typed.push(Record {
                        key: record.key.map(<[u8]>::to_vec),
                        value,
                        offset: record.offset,
                        timestamp,
                        headers: record.headers.iter().map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect(),
                    }),
                    Err(error) if records.len() == 1 => return (stage, Err(error)),
                    Err(error) => return (stage, Err(error.within(format!("offset {}", record.offset)))),
                }
            }
            let Some(last) = records.len().checked_sub(1).and_then(|i| records.get(i)) else {
                return (stage, Ok(()));
            };
            let topic = core.input_topic(input);
            let timestamp = typed.last().map_or(last.timestamp, |r| r.timestamp);
            let last = RecordRef { key: None, value: None, timestamp, ..last };
            let mut ctx = Ctx::new(&core, Source { input, topic: &topic }, last, &mut stage);
            let result = Layer::call_async(layer.as_ref(), &mut ctx, async |ctx| callback(ctx, &typed).await).await;
            (stage, result)
        })
    }
}

/// A visitor over a table of `V` with an argument of `A`.
pub(crate) struct OnVisit<A, V, F> {
    callback: F,
    layer: Option<Layer>,
    of: PhantomData<fn(A, V)>,
}

impl<A, V, F> OnVisit<A, V, F> {
    pub(crate) fn new(callback: F) -> Self {
        Self { callback, layer: None, of: PhantomData }
    }
}

impl<A, V, F> VisitHandler for OnVisit<A, V, F>
where
    A: Send + Sync + 'static,
    V: 'static,
    F: Fn(&mut Ctx<'_, Table<V>>, &A, V) -> CallbackResult + Send + Sync + 'static,
{
    fn surround(&mut self, layer: Layer) {
        self.layer = Some(layer);
    }

    fn call(
        &self,
        core: &Core,
        source: Source<'_>,
        record: RecordRef<'_>,
        arg: &(dyn std::any::Any + Send + Sync),
        stage: &mut Stage,
    ) -> CallbackResult {
        let Some(arg) = arg.downcast_ref::<A>() else {
            return Err(CallbackError::of(Failure::ForeignHandle("visitor")));
        };
        let mut ctx = Ctx::<Table<V>>::new(core, source, record, stage);
        match ctx.value()? {
            Some(value) => Layer::call(self.layer.as_ref(), &mut ctx, |ctx| (self.callback)(ctx, arg, value)),
            None => Ok(()),
        }
    }
}
