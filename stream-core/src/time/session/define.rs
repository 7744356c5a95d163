//! Sessions of a group's definition.

use std::sync::Arc;

use crate::codec::Codec;
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::time::define_entry::unreadable;
use crate::topology::{CallbackResult, Opened, Sessioned, session_topic};
use crate::window::{Session, Sessions, keys};

impl<S: 'static> GroupBuilder<S> {
    /// Accumulators of `A`, one for each key and [session](crate::window), in the topic `<group>-session-<name>`: written by
    /// [`Ctx::aggregate_session`], deleted when their session closes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stream_core::prelude::*;
    ///
    /// // Pages that a user saw, counted until there is no click for half an hour.
    /// let mut g = Group::define("visits");
    /// let out = g.output("pages-per-visit", Int64);
    /// let visits = g.session("visits", Sessions::gap(Duration::from_secs(30 * 60)), Int64);
    /// g.input("clicks", Text, move |ctx, _click| {
    ///     ctx.aggregate_session(visits, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
    ///     Ok(())
    /// });
    /// g.on_session_close(visits, move |ctx, _session, n| ctx.emit(out, ctx.key(), &n));
    /// let graph = g.build()?;
    /// # assert!(graph.describe().contains("visits-session-visits"));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn session<A: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        sessions: Sessions,
        codec: impl Codec<A>,
    ) -> Sessioned<A> {
        let name = name.into();
        let topic = session_topic(&self.graph.name, &name);
        Sessioned::new(self.graph.id, self.add_open(name, topic, Opened::Session(sessions), codec))
    }

    /// Is called once for each session when it closes, with its final accumulator: when stream time is past its end, gap and
    /// grace. Its time is the session's end. An error follows [`on_due_error`](Self::on_due_error): by default it fails the
    /// instance, and the session closes again when that is restarted.
    pub fn on_session_close<A: 'static, F>(&mut self, sessions: Sessioned<A>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, Session, A) -> CallbackResult + Send + Sync + 'static,
    {
        let read = |codec: &dyn Codec<A>, body: &[u8]| {
            let (start, rest) = keys::read_time(body).ok_or_else(unreadable)?;
            Ok((start, codec.decode(rest)?))
        };
        let call = move |ctx: &mut Ctx<'_, S>, (start, value), end| callback(ctx, Session { start, end }, value);
        self.on_due("session", (sessions.graph, sessions.index), read, call)
    }
}
