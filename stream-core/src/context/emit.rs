//! Emits of a callback: records for output topics, and for the group itself.

use std::sync::Arc;

use super::{Ctx, too_large};
use crate::codec::{ValueOf, encode_state};
use crate::key::Key;
use crate::log::NewRecord;
use crate::topology::{CallbackError, CallbackResult, Failure, Loop, Output, typed};

impl<S> Ctx<'_, S> {
    /// Writes to an output topic, with the record's own time.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("copies");
    /// let out = g.output("copies", Text);
    /// g.input("words", Text, move |ctx, word| {
    ///     ctx.emit(out, ctx.key(), &word)?;
    ///     ctx.emit(out, "all", "one more")
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// When the value can't be encoded, or is larger than the topic takes.
    pub fn emit<M: 'static>(&mut self, to: Output<M>, key: impl Key, value: impl ValueOf<M>) -> CallbackResult {
        self.emit_with(to, key, value, Emit::default())
    }

    /// Writes to an output topic with headers, a time or a partition of the caller's.
    ///
    /// ```
    /// use stream_core::context::Emit;
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("stamped");
    /// let out = g.output("stamped", Text);
    /// g.input("words", Text, move |ctx, word| {
    ///     let headers = [("by", ctx.group().as_bytes())];
    ///     ctx.emit_with(out, ctx.key(), word, Emit::new().headers(&headers).timestamp(ctx.now_ms()))
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn emit_with<M: 'static>(
        &mut self,
        to: Output<M>,
        key: impl Key,
        value: impl ValueOf<M>,
        with: Emit<'_>,
    ) -> CallbackResult {
        self.push::<M, _>((to.graph, to.index), "output", None, key.bytes().as_deref(), Some(&value), with)
    }

    /// Writes to another topic in an output's stead: one whose name is known only once there is a record for it, such as
    /// a topic for each customer. Who calls this has seen to it that the topic exists: the group does not make it, and
    /// what its limits are is found out by writing. The output says how values are encoded, and takes part in nothing else.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("by-customer");
    /// let orders = g.output("orders-other", Text);
    /// g.input("orders", Text, move |ctx, order| {
    ///     let topic: Arc<str> = format!("orders-{}", ctx.key_text()?).into();
    ///     ctx.emit_to_topic(orders, &topic, ctx.key(), order)
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// When the topic is the group's own table or loop, or the value can't be encoded or is larger than the output takes.
    pub fn emit_to_topic<M: 'static>(
        &mut self,
        of: Output<M>,
        topic: &Arc<str>,
        key: impl Key,
        value: impl ValueOf<M>,
    ) -> CallbackResult {
        let graph = &self.core.graph;
        if graph.tables.group.as_ref().is_some_and(|t| t.topic == *topic) || graph.own_topics().any(|own| own == topic)
        {
            let problem = format_args!("topic {topic} is the group's own: it is written by set() or loopback()");
            return Err(CallbackError::msg(problem));
        }
        self.push::<M, _>(
            (of.graph, of.index),
            "output",
            Some(topic),
            key.bytes().as_deref(),
            Some(&value),
            Emit::default(),
        )
    }

    /// Writes a null value, which is a tombstone on a compacted topic.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("prices");
    /// let prices = g.output("prices", Int64);
    /// g.input("offers", Int64, move |ctx, price| match price {
    ///     0 => ctx.emit_tombstone(prices, ctx.key()),
    ///     price => ctx.emit(prices, ctx.key(), price),
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// When the key alone is larger than the topic takes.
    pub fn emit_tombstone<M: 'static>(&mut self, to: Output<M>, key: impl Key) -> CallbackResult {
        self.push::<M, _>((to.graph, to.index), "output", None, key.bytes().as_deref(), None::<&M>, Emit::default())
    }

    /// Sends a record to this group itself, under another key; see
    /// [`GroupBuilder::loopback`](crate::group::GroupBuilder::loopback).
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn loopback<M: 'static>(&mut self, to: Loop<M>, key: impl Key, value: impl ValueOf<M>) -> CallbackResult {
        self.push::<M, _>((to.graph, to.index), "loop", None, key.bytes().as_deref(), Some(&value), Emit::default())
    }

    fn push<M: 'static, V: ValueOf<M>>(
        &mut self,
        (graph, index): (u64, usize),
        what: &'static str,
        instead: Option<&Arc<str>>,
        key: Option<&[u8]>,
        value: Option<&V>,
        with: Emit<'_>,
    ) -> CallbackResult {
        let foreign = || CallbackError::of(Failure::ForeignHandle(what));
        let edge = self.core.graph.outputs.get(index).filter(|_| graph == self.core.graph.id).ok_or_else(foreign)?;
        let codec = typed::<M>(&edge.codec).ok_or_else(foreign)?;
        let topic = instead.unwrap_or(&edge.topic);
        let before = self.stage.out.savepoint();
        let size = self.stage.out.bytes();
        if let Some(at) = with.timestamp.filter(|at| *at < 0) {
            return Err(CallbackError::of(Failure::Negative { at }));
        }
        // Of an entry that an earlier version has kept, or a null without an event time.
        let timestamp = Some(with.timestamp.unwrap_or(self.record.timestamp.max(0)));
        let record = NewRecord { topic, partition: with.partition, timestamp, key, value: None };
        let headers = with.headers.iter().map(|(name, value)| (*name, Some(*value)));
        match value.filter(|value| !V::is_null_by(value, &**codec)) {
            None => self.stage.out.push(record, headers),
            Some(value) => self.stage.out.push_with(record, headers, |out| {
                // What the group itself reads must be readable, as its state must.
                let encoded = if edge.own.is_some() {
                    encode_state(&**codec, value, out)
                } else {
                    value.encode_by(&**codec, out)
                };
                encoded.map_err(|error| CallbackError::of(Failure::Encode { edge: format!("{what} {topic:?}"), error }))
            })?,
        }
        let size = self.stage.out.bytes() - size;
        let limit = self.core.limits.get(index).copied().unwrap_or(usize::MAX);
        let limit = self.core.limit(topic, limit);
        if size > limit {
            self.stage.out.truncate(before);
            return Err(CallbackError::of(Failure::Emit(too_large(topic, size, limit))));
        }
        Ok(())
    }
}

/// How to write a record, for [`Ctx::emit_with`] and [`Emitter::emit_with`](crate::emitter::Emitter::emit_with).
#[derive(Clone, Copy, Debug, Default)]
pub struct Emit<'a> {
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    pub(crate) timestamp: Option<i64>,
    pub(crate) partition: Option<i32>,
}

impl<'a> Emit<'a> {
    /// As a plain [`Ctx::emit`].
    pub fn new() -> Self {
        Self::default()
    }

    /// With these headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, &'a [u8])]) -> Self {
        self.headers = headers;
        self
    }

    /// With this time in milliseconds since the epoch, instead of the record's.
    #[must_use]
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// To this partition, instead of the key's.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}
