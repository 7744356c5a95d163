//! Batches of a group's definition.

use std::sync::Arc;

use crate::codec::Codec;
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::time::define_entry::unreadable;
use crate::topology::{Batched, CallbackResult, Opened, batch_topic};
use crate::window::Batches;
use crate::window::batches::Batch;

impl<S: 'static> GroupBuilder<S> {
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
}
