//! Defining a group, edge by edge, and the checks at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::callback::{Handler, OnRecord, OnVisit, Record};
use super::graph::{Callbacks, GroupGraph, UpdateListener};
use crate::codec::Codec;
use crate::context::Ctx;
use crate::topology::{
    BuildError, CallbackResult, Input, InputEdge, Join, Lookup, Loop, NoTable, Output, OutputEdge, Table, TableEdge,
    Topology, Visitor, VisitorEdge, erase, lead_topic, loop_topic, table_topic, typed,
};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Where a group's definition begins.
#[derive(Debug)]
pub struct Group;

impl Group {
    /// Begins the definition of a group. The name is its Kafka consumer group and the prefix of its topics.
    pub fn define(name: impl Into<Arc<str>>) -> GroupBuilder<NoTable> {
        let (graph, callbacks) = (empty(name.into()), Callbacks::default());
        GroupBuilder { graph, callbacks, foreign: None, loops: 0, is_built: false, of: PhantomData }
    }
}

/// A group without edges, with an id that no handle has yet.
fn empty(name: Arc<str>) -> Topology {
    Topology {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        name,
        inputs: Vec::new(),
        outputs: Vec::new(),
        table: None,
        state: Vec::new(),
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
#[derive(Debug)]
pub struct GroupBuilder<S> {
    pub(crate) graph: Topology,
    pub(crate) callbacks: Callbacks,
    /// A handle of another builder that was passed in, for `build` to report.
    pub(crate) foreign: Option<&'static str>,
    loops: usize,
    /// The graph was taken out by `build`.
    is_built: bool,
    of: PhantomData<fn(S)>,
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
        self.graph.table = Some(TableEdge { topic, codec: erase::<V>(Arc::new(codec)) });
        GroupBuilder {
            graph: self.graph,
            callbacks: self.callbacks,
            foreign: self.foreign,
            loops: self.loops,
            is_built: self.is_built,
            of: PhantomData,
        }
    }
}

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
        let handler = Box::new(OnVisit { callback, of: PhantomData::<fn(A, V)> });
        self.graph.visitors.push(VisitorEdge { name: name.into() });
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
        let Some(table) = &self.graph.table else { return self };
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

    /// Declares the topic `<group>-loop`, by which the group sends records to itself under other keys. Its callback
    /// is set by [`on_loop`](Self::on_loop).
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
        self.graph.outputs.push(OutputEdge { topic, own: true, codec: erase::<M>(Arc::new(codec)) });
        let index = self.graph.outputs.len() - 1;
        self.loops += 1;
        Loop::new(self.graph.id, index)
    }

    /// The callback for records that arrive by the loop; see [`loopback`](Self::loopback).
    pub fn on_loop<M: 'static, F>(&mut self, handle: Loop<M>, callback: F) -> &mut Self
    where
        F: Fn(&mut Ctx<'_, S>, M) -> CallbackResult + Send + Sync + 'static,
    {
        let edge = self.graph.outputs.get(handle.index).filter(|_| handle.graph == self.graph.id);
        let Some((topic, codec)) = edge.and_then(|e| Some((Arc::clone(&e.topic), typed::<M>(&e.codec)?.clone())))
        else {
            self.foreign = Some("loop");
            return self;
        };
        let codec = Arc::new(codec);
        let handler = Handler::Sync(Box::new(OnRecord::<M, S, _, F>::new(Arc::clone(&codec), callback)));
        self.add_input::<M>(Input::topic(topic), true, codec, handler)
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
        self.graph.outputs.push(OutputEdge { topic: topic.into(), own: false, codec: erase::<M>(Arc::new(codec)) });
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
        self.graph.joins.push(TableEdge { topic: table.into(), codec: erase::<T>(Arc::new(codec)) });
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
        self.graph.lookups.push(TableEdge { topic: table.into(), codec: erase::<T>(Arc::new(codec)) });
        Lookup::new(self.graph.id, self.graph.lookups.len() - 1)
    }

    pub(crate) fn add_input<M: 'static>(
        &mut self,
        input: Input,
        own: bool,
        codec: Arc<impl Codec<M>>,
        handler: Handler,
    ) -> &mut Self {
        let calls = handler.calls();
        self.graph.inputs.push(InputEdge { input, own, re_keys: false, codec: erase::<M>(codec), calls });
        self.callbacks.inputs.push(handler);
        self
    }

    /// Checks the group, and takes it out of the builder: once, so that no edge can follow.
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
        if self.loops > 1 {
            return Err(BuildError::TwoLoops { group });
        }
        if self.graph.inputs.is_empty() {
            return Err(BuildError::NoInput { group });
        }
        let read = |topic: &Arc<str>| self.graph.inputs.iter().any(|e| e.own && e.input.topic == *topic);
        if self.graph.own_topics().any(|topic| !read(topic)) {
            return Err(BuildError::LoopUnread { group });
        }
        self.check_timed(&group)?;
        self.check_topics(&group)?;
        let mut names = BTreeSet::new();
        for visitor in &self.graph.visitors {
            if !names.insert(&*visitor.name) {
                return Err(BuildError::TwoVisitors { group, name: visitor.name.to_string() });
            }
        }
        self.is_built = true;
        // Handles of the group no longer fit what is left.
        let left = empty(Arc::clone(&self.graph.name));
        let topology = Arc::new(std::mem::replace(&mut self.graph, left));
        Ok(Arc::new(GroupGraph { topology, callbacks: std::mem::take(&mut self.callbacks) }))
    }

    fn check_topics(&self, group: &str) -> Result<(), BuildError> {
        const OWN: &str = "loop";
        let graph = &self.graph;
        let mut read: BTreeMap<&str, String> = BTreeMap::new();
        let inputs = graph.inputs.iter().map(|e| (if e.own { OWN } else { "input" }, &e.input.topic));
        let state = graph.state.iter().map(|e| (Arc::clone(&e.topic), "timers and windows", "their handles"));
        let owned = [(table_topic(group), "table", "ctx.value()"), (loop_topic(group), "loop", "on_loop()")];
        let owned: Vec<_> = owned.into_iter().chain(state.clone()).collect();
        let joins = graph.joins.iter().map(|e| ("join", &e.topic));
        let lookups = graph.lookups.iter().map(|e| ("lookup", &e.topic));
        for (kind, topic) in inputs.chain(joins).chain(lookups) {
            let edge = format!("{kind} {topic:?}");
            check_name(&edge, topic)?;
            // A copy of the own table would share its store with the table itself, and lag behind it.
            if kind != OWN
                && let Some((_, owned, instead)) = owned.iter().find(|(own, ..)| own == topic)
            {
                let (owned, instead) = ((*owned).to_owned(), (*instead).to_owned());
                return Err(BuildError::OwnTopic { group: group.to_owned(), edge, owned, instead });
            }
            if let Some(other) = read.insert(topic, edge.clone()) {
                return Err(BuildError::Twice { group: group.to_owned(), edge, other });
            }
        }
        for edge in &graph.inputs {
            let named = || format!("input {:?}", edge.input.topic);
            for (what, n) in [("concurrency", edge.input.concurrency), ("batch", edge.input.batch)] {
                if n == 0 {
                    return Err(BuildError::Zero { edge: named(), what: what.to_owned() });
                }
            }
        }
        let owned = [(table_topic(group), "table", "ctx.set()"), (loop_topic(group), "loop", "loopback()")];
        let owned: Vec<_> = owned.into_iter().chain(state).collect();
        let own = graph.own_topics().map(|t| (Arc::clone(t), "repartition topic", "key_by()"));
        let owned: Vec<_> = owned.into_iter().chain(own).collect();
        self.check_dead_letters(group, &read, &owned)?;
        for output in graph.outputs.iter().filter(|e| !e.own) {
            let edge = format!("output {:?}", output.topic);
            check_name(&edge, &output.topic)?;
            if let Some((_, owned, instead)) = owned.iter().find(|(topic, ..)| *topic == output.topic) {
                let (owned, instead) = ((*owned).to_owned(), (*instead).to_owned());
                return Err(BuildError::OwnTopic { group: group.to_owned(), edge, owned, instead });
            }
        }
        Ok(())
    }
}

impl<S> GroupBuilder<S> {
    /// A dead letter is evidence (semantics D14): what leads back into the group is no place for it.
    fn check_dead_letters(
        &self,
        group: &str,
        read: &BTreeMap<&str, String>,
        owned: &[(Arc<str>, &str, &str)],
    ) -> Result<(), BuildError> {
        let named = |input: &InputEdge| format!("input {:?}", input.input.topic);
        let inputs = self.graph.inputs.iter().flat_map(|e| e.input.dead_letters().map(move |t| (named(e), t)));
        let due = self.graph.due_policies().filter_map(|(name, policy)| Some((name, policy.dead_letter_topic()?)));
        for (edge, topic) in inputs.chain(due) {
            check_name(&format!("dead letter topic {topic:?}"), topic)?;
            let owned = owned.iter().find(|(own, ..)| own == topic).map(|(_, what, _)| format!("its own {what}"));
            let lead = (*topic == lead_topic(group)).then(|| "its own lead".to_owned());
            if let Some(other) = read.get(&**topic).cloned().or(owned).or(lead) {
                let group = group.to_owned();
                return Err(BuildError::DeadLetterBack { group, edge, topic: topic.to_string(), other });
            }
        }
        Ok(())
    }
}

/// Kafka's rule for topic names, which are also names of directories here.
pub(super) fn check_name(edge: &str, name: &str) -> Result<(), BuildError> {
    let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid && !matches!(name, "" | "." | "..") && name.len() <= 249 {
        return Ok(());
    }
    Err(BuildError::Name { edge: edge.to_owned(), name: name.to_owned() })
}
