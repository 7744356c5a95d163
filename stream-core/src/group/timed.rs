//! Timers and windows of a group's definition, and the callbacks behind them.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use super::builder::{GroupBuilder, check_name};
use super::error::{BuildError, CallbackError, CallbackResult, Failure};
use super::graph::{AnyCodec, Opened, TableEdge, TimerEdge, WindowEdge};
use super::handler::{CodecOf, SyncHandler, Timed, Timer, Windowed, erase, typed};
use super::policy::ErrorPolicy;
use super::topics::{time_topic, window_topic};
use crate::codec::{Bytes, Codec, CodecError};
use crate::context::{Core, Ctx, Obstacle, Source, Stage};
use crate::log::RecordRef;
use crate::window::keys::By;
use crate::window::{Window, Windows};

impl<S: 'static> GroupBuilder<S> {
    /// A timer of [stream time](crate::window): set for a key by [`Ctx::set_timer`] with a value of `T`, its callback, set
    /// by [`on_timer`](Self::on_timer), gets it once stream time has reached the due time. A key has one timer of a name at
    /// most; to set it again moves it.
    pub fn timer<T: 'static>(&mut self, name: impl Into<Arc<str>>, codec: impl Codec<T>) -> Timer<T> {
        self.add_timer(name.into(), By::StreamTime, codec)
    }

    /// A timer of the wall clock: it needs no further record to fire.
    pub fn wall_timer<T: 'static>(&mut self, name: impl Into<Arc<str>>, codec: impl Codec<T>) -> Timer<T> {
        self.add_timer(name.into(), By::WallClock, codec)
    }

    fn add_timer<T: 'static>(&mut self, name: Arc<str>, by: By, codec: impl Codec<T>) -> Timer<T> {
        self.keep_time();
        let codec = erase::<T>(Arc::new(codec));
        self.graph.timers.push(TimerEdge { name, by, codec, handler: None, policy: ErrorPolicy::fail() });
        Timer::new(self.graph.id, self.graph.timers.len() - 1)
    }

    /// The callback of a timer. Its key is the timer's, its time the due time, and it may do what an input's callback may,
    /// such as to set the timer again. An error follows [`on_due_error`](Self::on_due_error): by default it fails the
    /// instance, and the timer fires again when that is restarted.
    pub fn on_timer<T: 'static, F>(&mut self, timer: Timer<T>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, T) -> CallbackResult + Send + Sync + 'static,
    {
        let edge = self.graph.timers.get_mut(timer.index).filter(|_| timer.graph == self.graph.id);
        match edge {
            None => self.foreign = Some("timer"),
            Some(edge) => {
                let call = move |ctx: &mut Ctx<'_, S>, value, _| callback(ctx, value);
                let (codec, of) = (Arc::clone(&edge.codec), CodecOf::Timer(timer.index));
                edge.handler = Some(OnDue::<T, T, S, _>::boxed(codec, of, |codec, bytes| codec.decode(bytes), call));
            }
        }
        self
    }

    /// Accumulators of `A`, one for each key and window, in the topic `<group>-window-<name>`: written by
    /// [`Ctx::aggregate`], deleted when their window closes.
    pub fn window<A: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        windows: Windows,
        codec: impl Codec<A>,
    ) -> Windowed<A> {
        let name = name.into();
        let state = self.add_state(window_topic(&self.graph.name, &name), codec);
        self.graph.windows.push(WindowEdge { name, windows, state, handler: None, policy: ErrorPolicy::fail() });
        Windowed::new(self.graph.id, self.graph.windows.len() - 1)
    }

    /// Sets the callback that gets the final accumulator of each key and window, once, when the window closes
    /// ([W3](crate::semantics#w3-a-final-result-comes-once)). Its time is the window's last millisecond. An error
    /// follows [`on_due_error`](Self::on_due_error): by default it fails the instance, and the window closes again when
    /// that is restarted.
    pub fn on_close<A: 'static, F>(&mut self, window: Windowed<A>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, Window, A) -> CallbackResult + Send + Sync + 'static,
    {
        let edge = self.graph.windows.get_mut(window.index).filter(|_| window.graph == self.graph.id);
        let Some((edge, state)) = edge.and_then(|edge| self.graph.state.get(edge.state).map(|state| (edge, state)))
        else {
            self.foreign = Some("window");
            return self;
        };
        let windows = edge.windows;
        let call = move |ctx: &mut Ctx<'_, S>, value, last: i64| {
            let end = last.saturating_add(1);
            callback(ctx, windows.starting(end.saturating_sub(windows.size)), value)
        };
        let (codec, of) = (Arc::clone(&state.codec), CodecOf::State(edge.state));
        edge.handler = Some(OnDue::<A, A, S, _>::boxed(codec, of, |codec, bytes| codec.decode(bytes), call));
        self
    }

    /// The first of the library's own tables is that of stream time and timers.
    fn keep_time(&mut self) {
        if self.graph.state.is_empty() {
            let topic = time_topic(&self.graph.name);
            self.graph.state.push(TableEdge { topic, codec: erase::<Vec<u8>>(Arc::new(Bytes)) });
        }
    }

    /// Adds one of the library's own tables, and gives its index in `GroupGraph::state`.
    pub(super) fn add_state<T: 'static>(&mut self, topic: Arc<str>, codec: impl Codec<T>) -> usize {
        self.keep_time();
        self.graph.state.push(TableEdge { topic, codec: erase::<T>(Arc::new(codec)) });
        self.graph.state.len() - 1
    }

    pub(super) fn check_timed(&self, group: &str) -> Result<(), BuildError> {
        let graph = &self.graph;
        let timers = graph.timers.iter().map(|e| ("timer", &e.name));
        let mut names = BTreeSet::new();
        let windows = graph.windows.iter().map(|e| ("window", &e.name));
        let open = graph.open.iter().map(|e| (e.kind.what(), &e.name));
        let joins = graph.stream_joins.iter().map(|e| ("join", &e.name));
        for (what, name) in timers.chain(windows).chain(open).chain(joins) {
            check_name(&format!("{what} {name:?}"), name)?;
            if !names.insert((what, name)) {
                let (what, name) = (what.to_owned(), name.to_string());
                return Err(BuildError::TwoOfAName { group: group.to_owned(), what, name });
            }
        }
        let mut topics = BTreeSet::new();
        for edge in &graph.state {
            check_name(&format!("topic {:?}", edge.topic), &edge.topic)?;
            if !topics.insert(&edge.topic) {
                let (what, name) = ("table".to_owned(), edge.topic.to_string());
                return Err(BuildError::TwoOfAName { group: group.to_owned(), what, name });
            }
        }
        if let Some(timer) = graph.timers.iter().find(|e| e.handler.is_none()) {
            return Err(BuildError::TimerUnread { group: group.to_owned(), name: timer.name.to_string() });
        }
        let batch = graph.open.iter().find(|e| matches!(e.kind, Opened::Batch(_)) && e.handler.is_none());
        if let Some(batch) = batch {
            return Err(BuildError::BatchUnread { group: group.to_owned(), name: batch.name.to_string() });
        }
        let windows = graph.windows.iter().map(|e| (&e.name, e.windows.fault()));
        for (name, fault) in windows.chain(graph.open.iter().map(|e| (&e.name, e.kind.fault()))) {
            if let Some(reason) = fault {
                let (name, reason) = (name.to_string(), reason.to_owned());
                return Err(BuildError::Windows { group: group.to_owned(), name, reason });
            }
        }
        Ok(())
    }
}

/// Reads what a timer carries or a window has, a `V` of `T`s, and calls with it and the time.
pub(super) struct OnDue<T, V, S, F> {
    codec: Arc<dyn AnyCodec>,
    of: CodecOf,
    read: fn(&dyn Codec<T>, &[u8]) -> Result<V, CodecError>,
    call: F,
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
        Box::new(Self { codec, of, read, call, types: PhantomData })
    }
}

impl<T, V, S, F: Send + Sync> Timed for OnDue<T, V, S, F> {
    fn event_time(&self, _: &Core, _: usize, record: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        Ok(Some(record.timestamp))
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
                stage.obstacle = Some(Obstacle::Load(self.of, id));
            }
            CallbackError::of(Failure::Decode(error))
        })?;
        (self.call)(&mut Ctx::new(core, source, record, stage), value, record.timestamp)
    }
}
