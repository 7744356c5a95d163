//! Timers and windows of a group's definition, and the callbacks behind them.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use super::builder::{GroupBuilder, check_name};
use super::error::{BuildError, CallbackError, CallbackResult, Failure};
use super::graph::{AnyCodec, TableEdge, TimerEdge, WindowEdge, time_topic, window_topic};
use super::handler::{CodecOf, SyncHandler, Timed, Timer, Windowed, erase, typed};
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
        self.graph.timers.push(TimerEdge { name, by, codec, handler: None });
        Timer::new(self.graph.id, self.graph.timers.len() - 1)
    }

    /// The callback of a timer. Its key is the timer's, its time the due time, and it may do what an input's callback may,
    /// such as to set the timer again. An error fails the instance, and the timer fires again when it is restarted.
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
                edge.handler = Some(Box::new(OnDue::<T, S, _> { codec, of, call, types: PhantomData }));
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
        self.keep_time();
        let name = name.into();
        let topic = window_topic(&self.graph.name, &name);
        self.graph.state.push(TableEdge { topic, codec: erase::<A>(Arc::new(codec)) });
        let state = self.graph.state.len() - 1;
        self.graph.windows.push(WindowEdge { name, windows, state, handler: None });
        Windowed::new(self.graph.id, self.graph.windows.len() - 1)
    }

    /// Is called once for each key and window when it closes, with its final accumulator (semantics W3). Its time is the
    /// window's last millisecond. An error fails the instance, and the window closes again when it is restarted.
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
        edge.handler = Some(Box::new(OnDue::<A, S, _> { codec, of, call, types: PhantomData }));
        self
    }

    /// The first of the library's own tables is that of stream time and timers.
    pub(super) fn keep_time(&mut self) {
        if self.graph.state.is_empty() {
            let topic = time_topic(&self.graph.name);
            self.graph.state.push(TableEdge { topic, codec: erase::<Vec<u8>>(Arc::new(Bytes)) });
        }
    }

    pub(super) fn check_timed(&self, group: &str) -> Result<(), BuildError> {
        let graph = &self.graph;
        let timers = graph.timers.iter().map(|e| ("timer", &e.name));
        let mut names = BTreeSet::new();
        let windows = graph.windows.iter().map(|e| ("window", &e.name));
        let joins = graph.stream_joins.iter().map(|e| ("join", &e.name));
        for (what, name) in timers.chain(windows).chain(joins) {
            check_name(&format!("{what} {name:?}"), name)?;
            if !names.insert((what, name)) {
                let (what, name) = (what.to_owned(), name.to_string());
                return Err(BuildError::TwoOfAName { group: group.to_owned(), what, name });
            }
        }
        for edge in &graph.state {
            check_name(&format!("topic {:?}", edge.topic), &edge.topic)?;
        }
        if let Some(timer) = graph.timers.iter().find(|e| e.handler.is_none()) {
            return Err(BuildError::TimerUnread { group: group.to_owned(), name: timer.name.to_string() });
        }
        for edge in &graph.windows {
            if let Some(reason) = edge.windows.fault() {
                let (name, reason) = (edge.name.to_string(), reason.to_owned());
                return Err(BuildError::Windows { group: group.to_owned(), name, reason });
            }
        }
        Ok(())
    }
}

/// Decodes what a timer carries or a window has, and calls with it and the time.
struct OnDue<T, S, F> {
    codec: Arc<dyn AnyCodec>,
    of: CodecOf,
    call: F,
    types: PhantomData<fn(T, S)>,
}

impl<T, S, F: Send + Sync> Timed for OnDue<T, S, F> {
    fn event_time(&self, _: &Core, _: usize, record: RecordRef<'_>) -> Option<i64> {
        Some(record.timestamp)
    }
}

impl<T, S, F> SyncHandler for OnDue<T, S, F>
where
    T: 'static,
    S: 'static,
    F: Fn(&mut Ctx<'_, S>, T, i64) -> CallbackResult + Send + Sync,
{
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        let codec = typed::<T>(&self.codec).ok_or_else(|| CallbackError::of(Failure::ForeignHandle("timer")))?;
        let value = codec.decode(record.value.unwrap_or_default()).map_err(|error| {
            if let CodecError::NotLoaded(id) = error {
                stage.obstacle = Some(Obstacle::Load(self.of, id));
            }
            CallbackError::of(Failure::Decode(error))
        })?;
        (self.call)(&mut Ctx::new(core, source, record, stage), value, record.timestamp)
    }
}
