//! Batches of a group's definition.

use std::sync::Arc;

use crate::codec::Codec;
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::time::closing::{Closes, sealed::Sealed};
use crate::time::define_entry::unreadable;
use crate::topology::{BatchHandle, CallbackResult, EntryKind, batch_topic};
use crate::window::Batches;
use crate::window::batches::Batch;

impl<S: 'static> GroupBuilder<S> {
    /// Records of a key that are taken together, by their number or by the wall clock, in the topic
    /// `<group>-batch-<name>`: added to by [`Ctx::collect`], given to the callback that [`on_close`](Self::on_close)
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
    /// let lines = g.batch("lines", Batches::of(10).gap(Duration::from_secs(3)), Text);
    /// g.input("messages", Text, move |ctx, message| ctx.collect(lines, message));
    /// g.on_close(lines, move |ctx, messages| ctx.emit(out, ctx.key(), &messages.join("\n")));
    /// let graph = g.build()?;
    /// # assert!(graph.describe().contains("chat-batch-lines"));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn batch<T: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        batches: Batches,
        codec: impl Codec<T>,
    ) -> BatchHandle<T> {
        let name = name.into();
        let topic = batch_topic(&self.graph.name, &name);
        BatchHandle::new(self.graph.id, self.add_due_entry(name, topic, EntryKind::Batch(batches), codec))
    }
}

impl<T> Sealed for BatchHandle<T> {}

impl<T: 'static> Closes for BatchHandle<T> {
    type Closed = Vec<T>;

    fn set_on_close<S: 'static>(
        self,
        group: &mut GroupBuilder<S>,
        callback: impl Fn(&mut Ctx<'_, S>, Self::Closed) -> CallbackResult + Send + Sync + 'static,
    ) {
        let read = |codec: &dyn Codec<T>, body: &[u8]| {
            let batch = Batch::read(body).ok_or_else(unreadable)?;
            let all = batch.items().map(|(_, value)| codec.decode(value)).collect::<Result<Vec<_>, _>>()?;
            if all.len() == batch.count() { Ok(all) } else { Err(unreadable()) }
        };
        let call = move |ctx: &mut Ctx<'_, S>, all, _| callback(ctx, all);
        group.on_due("batch", (self.graph, self.index), read, call);
    }
}
