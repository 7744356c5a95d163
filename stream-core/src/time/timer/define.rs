//! Timers of a group's definition.

use std::sync::Arc;

use crate::codec::Codec;
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::time::due_callback::OnDue;
use crate::topology::{CallbackResult, CodecOf, ErrorPolicy, Timer, TimerEdge, erase};
use crate::window::keys::By;

impl<S: 'static> GroupBuilder<S> {
    /// A timer of [stream time](crate::window): set for a key by [`Ctx::set_timer`] with a value of `T`, its callback, set
    /// by [`on_timer`](Self::on_timer), gets it once stream time has reached the due time. A key has one timer of a name at
    /// most; to set it again moves it.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// // Says so when a key has been quiet for an hour of event time.
    /// let mut g = Group::define("quiet");
    /// let out = g.output("quiet", Text);
    /// let quiet = g.timer("quiet", Text);
    /// g.input("words", Text, move |ctx, word| match &*word {
    ///     "stop" => ctx.cancel_timer(quiet),
    ///     _ => ctx.set_timer(quiet, ctx.timestamp() + 3_600_000, &word),
    /// });
    /// g.on_timer(quiet, move |ctx, last| ctx.emit(out, ctx.key(), format!("{last} was the last")));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn timer<T: 'static>(&mut self, name: impl Into<Arc<str>>, codec: impl Codec<T>) -> Timer<T> {
        self.add_timer(name.into(), By::StreamTime, codec)
    }

    /// A timer of the wall clock, which needs no further record to fire; used as a [`timer`](Self::timer), with times such as
    /// `ctx.now_ms() + 1000`.
    pub fn wall_timer<T: 'static>(&mut self, name: impl Into<Arc<str>>, codec: impl Codec<T>) -> Timer<T> {
        self.add_timer(name.into(), By::WallClock, codec)
    }

    fn add_timer<T: 'static>(&mut self, name: Arc<str>, by: By, codec: impl Codec<T>) -> Timer<T> {
        self.keep_time();
        let codec = erase::<T>(Arc::new(codec));
        self.edges().timers.push(TimerEdge { name, by, codec, policy: ErrorPolicy::fail() });
        self.callbacks.timers.push(None);
        Timer::new(self.graph.id, self.graph.timers.len() - 1)
    }

    /// The callback of a timer. Its key is the timer's, its time the due time, and it may do what an input's callback may,
    /// such as to set the timer again. An error follows [`on_due_error`](Self::on_due_error): by default it fails the
    /// instance, and the timer fires again when that is restarted.
    pub fn on_timer<T: 'static, F>(&mut self, timer: Timer<T>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, T) -> CallbackResult + Send + Sync + 'static,
    {
        let edge = self.graph.timers.get(timer.index).filter(|_| timer.graph == self.graph.id);
        match edge.zip(self.callbacks.timers.get_mut(timer.index)) {
            None => self.name_foreign("timer"),
            Some((edge, set)) => {
                let call = move |ctx: &mut Ctx<'_, S>, value, _| callback(ctx, value);
                let (codec, of) = (Arc::clone(&edge.codec), CodecOf::Timer(timer.index));
                *set = Some(OnDue::<T, T, S, _>::boxed(codec, of, |codec, bytes| codec.decode(bytes), call));
            }
        }
        self
    }
}
