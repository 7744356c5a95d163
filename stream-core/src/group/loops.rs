//! Loops in a group's definition: topics by which its callbacks send records to the group itself, under other keys.

use std::sync::Arc;

use super::builder::GroupBuilder;
use super::callback::{Handler, OnRecord};
use crate::codec::Codec;
use crate::context::Ctx;
use crate::topology::{CallbackResult, Input, Loop, OutputEdge, Passage, erase, loop_topic, named_loop_topic, typed};

impl<S: 'static> GroupBuilder<S> {
    /// Declares the topic `<group>-loop`, by which the group sends records to itself under other keys. Its callback
    /// is set by [`on_loop`](Self::on_loop). For more than one loop, give each a [name](Self::named_loop). Where the records
    /// stay as they are but for their keys, [`rekey`](Self::rekey) is shorter.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// // Counts the words in lines: each word goes to the partition of its key.
    /// let mut g = Group::define("words").table(Int64);
    /// let words = g.loopback(Text);
    /// g.input("lines", Text, move |ctx, line| {
    ///     for word in line.split_whitespace() {
    ///         ctx.loopback(words, word, "")?;
    ///     }
    ///     Ok(())
    /// });
    /// g.on_loop(words, |ctx, _| {
    ///     let n = ctx.value()?.unwrap_or(0);
    ///     ctx.set(n + 1)
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn loopback<M: 'static>(&mut self, codec: impl Codec<M>) -> Loop<M> {
        let topic = loop_topic(&self.graph.name);
        self.add_loop(topic, codec)
    }

    /// Declares a [loop](Self::loopback) of a name, by the topic `<group>-<name>-loop`. A group may have any number of them, each
    /// with its codec and its callback.
    ///
    /// Where records go through several loops, define these in the order in which they are gone through: so the partitions of the
    /// group are kept in step ([J7](crate::semantics#j7-joins-on-another-key)).
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// // Counts the letters that each user has sent, and those that each has got.
    /// let mut g = Group::define("letters").table(Json::<(u64, u64)>::new());
    /// let sent = g.named_loop("sent", Text);
    /// let got = g.named_loop("got", UInt64);
    /// g.input("letters", Text, move |ctx, letter| {
    ///     let (from, to) = letter.split_once(' ').ok_or("no names")?;
    ///     ctx.loopback(sent, from, to)?;
    ///     ctx.loopback(got, to, letter.len() as u64)
    /// });
    /// g.on_loop(sent, |ctx, _to| {
    ///     let (sent, got) = ctx.value()?.unwrap_or_default();
    ///     ctx.set((sent + 1, got))
    /// });
    /// g.on_loop(got, |ctx, bytes| {
    ///     let (sent, got) = ctx.value()?.unwrap_or_default();
    ///     ctx.set((sent, got + bytes))
    /// });
    /// let graph = g.build()?;
    /// # assert!(graph.describe().contains("letters-sent-loop") && graph.describe().contains("letters-got-loop"));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn named_loop<M: 'static>(&mut self, name: impl AsRef<str>, codec: impl Codec<M>) -> Loop<M> {
        let topic = named_loop_topic(&self.graph.name, name.as_ref());
        self.add_loop(topic, codec)
    }

    fn add_loop<M: 'static>(&mut self, topic: Arc<str>, codec: impl Codec<M>) -> Loop<M> {
        let codec = erase::<M>(Arc::new(codec));
        self.edges().outputs.push(OutputEdge { topic, own: Some(Passage::Loop), codec });
        Loop::new(self.graph.id, self.graph.outputs.len() - 1)
    }

    /// The callback for records that arrive by a loop, or under the keys of a re-key; see [`loopback`](Self::loopback),
    /// [`named_loop`](Self::named_loop) and [`rekey`](Self::rekey).
    pub fn on_loop<M: 'static, F>(&mut self, handle: Loop<M>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, M) -> CallbackResult + Send + Sync + 'static,
    {
        let Some((input, codec)) = self.arrives(handle) else { return self };
        let codec = Arc::new(codec);
        let handler = Handler::Sync(Box::new(OnRecord::<M, S, _, F>::new(Arc::clone(&codec), callback)));
        self.add_input::<M>(input, true, codec, handler)
    }

    /// How a loop's records are read, and by which codec; `None`, which `build` reports, for the handle of another group.
    pub(super) fn arrives<M: 'static>(&mut self, handle: Loop<M>) -> Option<(Input, Arc<dyn Codec<M>>)> {
        let edge = self.graph.outputs.get(handle.index).filter(|_| handle.graph == self.graph.id);
        let found = edge.and_then(|e| Some((Arc::clone(&e.topic), Arc::clone(typed::<M>(&e.codec)?))));
        let Some((topic, codec)) = found else {
            self.name_foreign("loop");
            return None;
        };
        let input = self.rekeyed.get(&handle.index).cloned().unwrap_or_else(|| Input::topic(topic));
        Some((input, codec))
    }
}
