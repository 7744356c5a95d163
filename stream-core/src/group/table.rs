//! What a group with a table may have besides: visitors of its keys, and listeners to its writes.

use std::sync::Arc;

use super::builder::GroupBuilder;
use super::callback::OnVisit;
use super::graph::UpdateListener;
use crate::context::Ctx;
use crate::topology::{CallbackResult, Table, Visitor, VisitorEdge, typed};

impl<V: 'static> GroupBuilder<Table<V>> {
    /// A function over every key of the table, called by [`Handle::visit`](crate::processor::Handle::visit) with an
    /// argument. It may write its key's value and emit, as an input's callback may.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("stock").table(Int64);
    /// let add = g.visitor("add", |ctx, more: &i64, n| ctx.set(n + more));
    /// g.input("delivered", Int64, |ctx, n| ctx.set(n));
    /// let processor = Processor::new(g.build()?, InMemory::new());
    /// let handle = processor.handle();
    /// # async move {
    /// // While it runs: 10 more of everything that is in stock on this instance.
    /// let keys = handle.visit(add, 10).await?;
    /// # Ok::<(), ProcessorError>(())
    /// # };
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn visitor<A, F>(&mut self, name: impl Into<Arc<str>>, callback: F) -> Visitor<A>
    where
        A: Send + Sync + 'static,
        F: Fn(&mut Ctx<'_, Table<V>>, &A, V) -> CallbackResult + Send + Sync + 'static,
    {
        let handler = Box::new(OnVisit::<A, V, F>::new(callback));
        self.edges().visitors.push(VisitorEdge { name: name.into() });
        self.callbacks.visitors.push(handler);
        Visitor::new(self.graph.id, self.graph.visitors.len() - 1)
    }

    /// Is called with each write to the table once it is acknowledged (exactly-once: committed): the partition, the
    /// key, and the new value, `None` if it was deleted. Not called for what a restore brings back.
    ///
    /// It runs on the partition's worker while the table is in use, so it must return soon and never wait for a read of the
    /// table ([`Handle::get`](crate::processor::Handle::get)), which that worker would have to answer.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("prices").table(Int64);
    /// g.on_update(|_partition, key, price| println!("{}: {price:?}", String::from_utf8_lossy(key)));
    /// g.input("offers", Int64, |ctx, price| ctx.set(price));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn on_update<F>(&mut self, listener: F) -> &mut Self
    where
        F: Fn(i32, &[u8], Option<&V>) + Send + Sync + 'static,
    {
        let Some(table) = &self.edges().tables.group else { return self };
        let codec = Arc::clone(&table.codec);
        let erased: UpdateListener = Box::new(move |partition, key, value| {
            let Some(codec) = typed::<V>(&codec) else { return };
            match value.map(|bytes| codec.decode(bytes)).transpose() {
                Ok(value) => listener(partition, key, value.as_ref()),
                Err(error) => tracing::error!(%error, partition, "an update's value can't be decoded for its listener"),
            }
        });
        self.callbacks.updates.push(erased);
        self
    }
}
