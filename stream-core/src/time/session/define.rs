//! Sessions of a group's definition.

use std::sync::Arc;

use crate::codec::Codec;
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::time::closing::{Closes, sealed::Sealed};
use crate::time::define_entry::unreadable;
use crate::topology::{CallbackResult, EntryKind, SessionHandle, session_topic};
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
    /// g.on_close(visits, move |ctx, (_session, n)| ctx.emit(out, ctx.key(), &n));
    /// let graph = g.build()?;
    /// # assert!(graph.describe().contains("visits-session-visits"));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn session<A: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        sessions: Sessions,
        codec: impl Codec<A>,
    ) -> SessionHandle<A> {
        let name = name.into();
        let topic = session_topic(&self.graph.name, &name);
        SessionHandle::new(self.graph.id, self.add_due_entry(name, topic, EntryKind::Session(sessions), codec))
    }
}

impl<A> Sealed for SessionHandle<A> {}

impl<A: 'static> Closes for SessionHandle<A> {
    type Closed = (Session, A);

    fn set_on_close<S: 'static>(
        self,
        group: &mut GroupBuilder<S>,
        callback: impl Fn(&mut Ctx<'_, S>, Self::Closed) -> CallbackResult + Send + Sync + 'static,
    ) {
        let read = |codec: &dyn Codec<A>, body: &[u8]| {
            let (start, rest) = keys::read_time(body).ok_or_else(unreadable)?;
            Ok((start, codec.decode(rest)?))
        };
        let call = move |ctx: &mut Ctx<'_, S>, (start, value), end| callback(ctx, (Session { start, end }, value));
        group.on_due("session", (self.graph, self.index), read, call);
    }
}
