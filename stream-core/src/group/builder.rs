//! Defining a group, edge by edge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::around::Around;
use super::callback::{Handler, OnRecord, Record};
use super::checks::{check_name, check_passages, check_topics};
use super::graph::{Callbacks, GroupGraph};
use crate::codec::Codec;
use crate::context::Ctx;
use crate::topology::{
    BuildError, CallbackResult, Input, InputEdge, Join, Lookup, NoTable, Output, OutputEdge, Table, TableEdge, Tables,
    Topology, erase, table_topic,
};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Where a group's definition begins.
#[derive(Debug)]
pub struct Group;

impl Group {
    /// Begins the definition of a group. The name is its Kafka consumer group and the prefix of its topics.
    pub fn define(name: impl Into<Arc<str>>) -> GroupBuilder<NoTable> {
        let (graph, callbacks) = (empty(name.into()), Callbacks::default());
        GroupBuilder {
            graph,
            callbacks,
            around: None,
            foreign: None,
            rekeyed: BTreeMap::new(),
            is_built: false,
            is_late: false,
            of: PhantomData,
        }
    }
}

/// A group without edges, with an id that no handle has yet.
fn empty(name: Arc<str>) -> Topology {
    Topology {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        name,
        inputs: Vec::new(),
        outputs: Vec::new(),
        tables: Tables::default(),
        timers: Vec::new(),
        windows: Vec::new(),
        stream_joins: Vec::new(),
        due_entries: Vec::new(),
        joins: Vec::new(),
        lookups: Vec::new(),
        visitors: Vec::new(),
    }
}

/// A group being defined. `S` is [`NoTable`] or [`Table<V>`]: it decides what callbacks may do with the table.
pub struct GroupBuilder<S> {
    pub(crate) graph: Topology,
    pub(crate) callbacks: Callbacks,
    /// The middleware around them.
    pub(crate) around: Option<Arc<dyn Around>>,
    /// A handle of another builder that was passed in, for `build` to report.
    foreign: Option<&'static str>,
    /// How the topics of re-keyed records are read, by the index of their output.
    pub(super) rekeyed: BTreeMap<usize, Input>,
    /// The graph was taken out by `build`.
    is_built: bool,
    /// An edge came after that, and the log says so.
    is_late: bool,
    of: PhantomData<fn(S)>,
}

impl<S> fmt::Debug for GroupBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder").field("graph", &self.graph).finish_non_exhaustive()
    }
}

impl GroupBuilder<NoTable> {
    /// Gives the group a table: a value of `V` for each key, in the topic `<group>-table`. Comes before the inputs, so
    /// that their callbacks know its type.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("last-word").table(Text);
    /// g.input("words", Text, |ctx, word| ctx.set(word));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    #[must_use]
    pub fn table<V: 'static>(mut self, codec: impl Codec<V>) -> GroupBuilder<Table<V>> {
        let topic = table_topic(&self.graph.name);
        self.graph.tables.group = Some(TableEdge { topic, codec: erase::<V>(Arc::new(codec)), layout: None });
        GroupBuilder {
            graph: self.graph,
            callbacks: self.callbacks,
            around: self.around,
            foreign: self.foreign,
            rekeyed: self.rekeyed,
            is_built: self.is_built,
            is_late: self.is_late,
            of: PhantomData,
        }
    }
}

impl<S: 'static> GroupBuilder<S> {
    /// Reads a topic; the callback is called for each record, in order, and does not await.
    ///
    /// The callback returns `Ok`, and its effects are released, or any error, and none of them is. An `async` closure goes
    /// to [`input_async`](Self::input_async).
    ///
    /// ```
    /// use stream_core::Input;
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("sums").table(Int64);
    /// let large = g.output("large-sums", Int64);
    /// let numbers = Input::topic("numbers").on_error(ErrorPolicy::dead_letter("numbers-dead"));
    /// g.input(numbers, Text, move |ctx, text| {
    ///     let n: i64 = text.parse()?; // an error puts the record aside
    ///     let sum = ctx.value()?.unwrap_or(0) + n;
    ///     if sum > 1_000_000 {
    ///         ctx.emit(large, ctx.key(), sum)?;
    ///     }
    ///     ctx.set(sum)
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn input<M: 'static, C, F>(&mut self, topic: impl Into<Input>, codec: C, callback: F) -> &mut Self
    where
        C: Codec<M>,
        F: Fn(&mut Ctx<'_, S>, M) -> CallbackResult + Send + Sync + 'static,
    {
        let codec = Arc::new(codec);
        let handler = Handler::Sync(Box::new(OnRecord::<M, S, C, F>::new(Arc::clone(&codec), callback)));
        self.add_input::<M>(topic.into(), false, codec, handler)
    }

    /// Reads a topic with a callback that awaits. Records of different keys are under way at once, up to
    /// [`Input::concurrency`]; those of one key one after the other. What they do is released in offset order.
    ///
    /// The callback is an `async` closure, `async move |ctx, value|`, or an `async fn`.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// # async fn convert(price: i64) -> Result<i64, std::io::Error> { Ok(price) }
    /// let mut g = Group::define("prices").table(Int64);
    /// g.input_async("offers", Int64, async move |ctx, price| {
    ///     let euros = convert(price).await?; // asks a service
    ///     ctx.set(euros)
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn input_async<M: 'static, C, F>(&mut self, topic: impl Into<Input>, codec: C, callback: F) -> &mut Self
    where
        C: Codec<M>,
        F: AsyncFn(&mut Ctx<'_, S>, M) -> CallbackResult + Send + Sync + 'static,
    {
        let codec = Arc::new(codec);
        let handler = Handler::Async(Box::new(OnRecord::<M, S, C, F>::new(Arc::clone(&codec), callback)));
        self.add_input::<M>(topic.into(), false, codec, handler)
    }

    /// Reads a topic some records at a time, for sinks. The batch is one unit: all of its offsets are done when the
    /// callback returns, and an error concerns them all. It may emit; it has no table.
    ///
    /// ```
    /// use stream_core::Input;
    /// use stream_core::prelude::*;
    ///
    /// # async fn insert(rows: Vec<&str>) -> Result<(), std::io::Error> { Ok(()) }
    /// let mut g = Group::define("rows");
    /// g.input_batch(Input::topic("lines").batch(100), Text, async move |_ctx, records| {
    ///     insert(records.iter().map(|r| r.value.as_str()).collect()).await?;
    ///     Ok(())
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn input_batch<M: 'static, C, F>(&mut self, topic: impl Into<Input>, codec: C, callback: F) -> &mut Self
    where
        C: Codec<M>,
        F: AsyncFn(&mut Ctx<'_, NoTable>, &[Record<M>]) -> CallbackResult + Send + Sync + 'static,
    {
        let codec = Arc::new(codec);
        let handler = Handler::Batch(Box::new(OnRecord::<M, S, C, F>::new(Arc::clone(&codec), callback)));
        self.add_input::<M>(topic.into(), false, codec, handler)
    }

    /// A topic to write to, by [`Ctx::emit`].
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("loud");
    /// let loud = g.output("loud-words", Text);
    /// g.input("words", Text, move |ctx, word| ctx.emit(loud, ctx.key(), word.to_uppercase()));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn output<M: 'static>(&mut self, topic: impl Into<Arc<str>>, codec: impl Codec<M>) -> Output<M> {
        self.edges().outputs.push(OutputEdge { topic: topic.into(), own: None, codec: erase::<M>(Arc::new(codec)) });
        Output::new(self.graph.id, self.graph.outputs.len() - 1)
    }

    /// A table of another group with the same number of partitions, read by the record's own key with [`Ctx::join`].
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("greeted");
    /// let names = g.join("users-table", Text);
    /// let out = g.output("greetings", Text);
    /// g.input("logins", Text, move |ctx, _| match ctx.join(names)? {
    ///     Some(name) => ctx.emit(out, ctx.key(), format!("hello {name}")),
    ///     None => Ok(()),
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn join<T: 'static>(&mut self, table: impl Into<Arc<str>>, codec: impl Codec<T>) -> Join<T> {
        self.edges().joins.push(TableEdge { topic: table.into(), codec: erase::<T>(Arc::new(codec)), layout: None });
        Join::new(self.graph.id, self.graph.joins.len() - 1)
    }

    /// Any table, of which each instance keeps a full copy, read by any key with [`Ctx::lookup`].
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("priced");
    /// let prices = g.lookup("prices-table", Int64);
    /// let out = g.output("priced-orders", Int64);
    /// g.input("orders", Text, move |ctx, product| {
    ///     let price = ctx.lookup(prices, &product)?.ok_or("no such product")?;
    ///     ctx.emit(out, ctx.key(), price)
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn lookup<T: 'static>(&mut self, table: impl Into<Arc<str>>, codec: impl Codec<T>) -> Lookup<T> {
        self.edges().lookups.push(TableEdge { topic: table.into(), codec: erase::<T>(Arc::new(codec)), layout: None });
        Lookup::new(self.graph.id, self.graph.lookups.len() - 1)
    }

    /// The edges, for one more. After `build` it is in no graph, and a log line says so: there is no result to say it with.
    pub(crate) fn edges(&mut self) -> &mut Topology {
        if self.is_built && !std::mem::replace(&mut self.is_late, true) {
            let group = &self.graph.name;
            tracing::error!(%group, "an edge was added after build(): it is in no graph, and does nothing; add it before");
        }
        &mut self.graph
    }

    /// A handle of another builder, or of a graph that is built, was passed in.
    pub(crate) fn name_foreign(&mut self, what: &'static str) {
        self.edges();
        self.foreign = Some(what);
    }

    pub(crate) fn add_input<M: 'static>(
        &mut self,
        input: Input,
        own: bool,
        codec: Arc<impl Codec<M>>,
        handler: Handler,
    ) -> &mut Self {
        let calls = handler.calls();
        self.edges().inputs.push(InputEdge { input, own, re_keys: false, codec: erase::<M>(codec), calls });
        self.callbacks.inputs.push(handler);
        self
    }

    /// Checks the group, and takes it out of the builder, once. An edge that is added afterwards is in no graph; an error in the
    /// log says so.
    ///
    /// A group of few edges is a single chain:
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let counts = Group::define("counts")
    ///     .table(Int64)
    ///     .input("words", Text, |ctx, _word| {
    ///         let n = ctx.value()?.unwrap_or(0);
    ///         ctx.set(n + 1)
    ///     })
    ///     .build()?;
    /// # assert_eq!(counts.name(), "counts");
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// A [`BuildError`] that names the edge which makes no sense.
    pub fn build(&mut self) -> Result<Arc<GroupGraph>, BuildError> {
        let group = self.graph.name.to_string();
        if self.is_built {
            return Err(BuildError::Built { group });
        }
        check_name("the group's name", &group)?;
        if let Some(what) = self.foreign {
            return Err(BuildError::ForeignHandle { group, what: what.to_owned() });
        }
        if self.graph.inputs.is_empty() {
            return Err(BuildError::NoInput { group });
        }
        check_passages(&self.graph, &group)?;
        self.check_timed(&group)?;
        check_topics(&self.graph, &group)?;
        let mut names = BTreeSet::new();
        for visitor in &self.graph.visitors {
            if !names.insert(&*visitor.name) {
                return Err(BuildError::TwoVisitors { group, name: visitor.name.to_string() });
            }
        }
        self.is_built = true;
        if let Some(around) = self.around.take() {
            self.callbacks.surround(&around, &self.graph);
        }
        // Handles of the group no longer fit what is left.
        let left = empty(Arc::clone(&self.graph.name));
        let topology = Arc::new(std::mem::replace(&mut self.graph, left));
        Ok(Arc::new(GroupGraph { topology, callbacks: std::mem::take(&mut self.callbacks) }))
    }
}
