//! Sessions and batches of a group's definition.

use std::sync::Arc;

use super::builder::GroupBuilder;
use super::error::CallbackResult;
use super::graph::{OpenEdge, Opened};
use super::handler::{Batched, CodecOf, Sessioned};
use super::policy::ErrorPolicy;
use super::timed::OnDue;
use super::topics::{batch_topic, session_topic};
use crate::codec::{Codec, CodecError};
use crate::context::Ctx;
use crate::window::batches::Batch;
use crate::window::{Batches, Session, Sessions, keys};

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

    /// Records of a key that are taken together, by their number or by the wall clock, in the topic
    /// `<group>-batch-<name>`: added to by [`Ctx::collect`], given to the callback that [`on_batch`](Self::on_batch)
    /// sets when the batch closes, without a further record. A batch is state: it survives a crash, and moves with its
    /// partition. It is one value of its topic, rewritten with each record, so that it is for tens or hundreds of small
    /// ones; one that would get larger than its topic takes closes earlier.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stream_core::prelude::*;
    ///
    /// // What a user says in one go: up to ten lines, or those before a pause.
    /// let mut g = Group::define("chat");
    /// let out = g.output("said", Text);
    /// let lines = g.batch_window("lines", Batches::of(10).gap(Duration::from_secs(3)), Text);
    /// g.input("messages", Text, move |ctx, message| ctx.collect(lines, message));
    /// g.on_batch(lines, move |ctx, messages| ctx.emit(out, ctx.key(), &messages.join("\n")));
    /// let graph = g.build()?;
    /// # assert!(graph.describe().contains("chat-batch-lines"));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn batch_window<T: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        batches: Batches,
        codec: impl Codec<T>,
    ) -> Batched<T> {
        let name = name.into();
        let topic = batch_topic(&self.graph.name, &name);
        Batched::new(self.graph.id, self.add_open(name, topic, Opened::Batch(batches), codec))
    }

    /// Is called with each batch when it closes, in the order in which its records came. Its time is the largest event time
    /// among them. An error follows [`on_due_error`](Self::on_due_error): by default it fails the instance, and the batch
    /// closes again when that is restarted.
    pub fn on_batch<T: 'static, F>(&mut self, batches: Batched<T>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, Vec<T>) -> CallbackResult + Send + Sync + 'static,
    {
        let read = |codec: &dyn Codec<T>, body: &[u8]| {
            let batch = Batch::read(body).ok_or_else(unreadable)?;
            let all = batch.items().map(|(_, value)| codec.decode(value)).collect::<Result<Vec<_>, _>>()?;
            if all.len() == batch.count() { Ok(all) } else { Err(unreadable()) }
        };
        let call = move |ctx: &mut Ctx<'_, S>, all, _| callback(ctx, all);
        self.on_due("batch", (batches.graph, batches.index), read, call)
    }

    fn add_open<T: 'static>(&mut self, name: Arc<str>, topic: Arc<str>, kind: Opened, codec: impl Codec<T>) -> usize {
        let state = self.add_state(topic, codec);
        self.graph.open.push(OpenEdge { name, kind, state, handler: None, policy: ErrorPolicy::fail() });
        self.graph.open.len() - 1
    }

    fn on_due<T: 'static, V: 'static>(
        &mut self,
        what: &'static str,
        (graph, index): (u64, usize),
        read: fn(&dyn Codec<T>, &[u8]) -> Result<V, CodecError>,
        call: impl Fn(&mut Ctx<'_, S>, V, i64) -> CallbackResult + Send + Sync + 'static,
    ) -> &mut Self {
        let edge = self.graph.open.get_mut(index).filter(|_| graph == self.graph.id);
        match edge.and_then(|edge| self.graph.state.get(edge.state).map(|state| (edge, state))) {
            None => self.foreign = Some(what),
            Some((edge, state)) => {
                let (codec, of) = (Arc::clone(&state.codec), CodecOf::State(edge.state));
                edge.handler = Some(OnDue::<T, V, S, _>::boxed(codec, of, read, call));
            }
        }
        self
    }
}

fn unreadable() -> CodecError {
    CodecError::invalid("an entry of the library's own table can't be read: was its topic written by something else?")
}
