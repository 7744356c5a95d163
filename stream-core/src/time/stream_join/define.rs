//! A windowed join of two topics in a group's definition.

use std::fmt;
use std::sync::Arc;

use super::callback::{Arrival, Both, JoinCodec, KeyOf, LeftOf, Null, ReKey, RightOf, SideOf};
use super::keys::JoinLayout;
use crate::codec::{Bytes, Codec};
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::group::callback::Handler;
use crate::group::graph::{Due, Unmatched};
use crate::topology::{
    CallbackResult, ErrorPolicy, Input, NullKey, NullValue, OutputEdge, Passage, StreamJoinEdge, erase, join_topic,
    repartition_topic,
};
use crate::window::{JoinWindows, Nulls, Which};

/// A side of a [join of two topics](GroupBuilder::stream_join): a topic with records of `M`.
///
/// Its records are joined by their own keys, or by the keys that [`key_by`](Self::key_by) computes from their values.
/// Records with a null value are left out and counted. Records with a null key are, too, except on the outer side of a
/// join: there they are emitted immediately as unmatched, because they can match nothing
/// ([J5](crate::semantics#j5-nulls)).
///
/// ```
/// # use stream_core::codec::Text;
/// # use stream_core::group::{ErrorPolicy, Input, Side};
/// let orders = Side::topic(Input::topic("orders").on_error(ErrorPolicy::skip()), Text)
///     .key_by(|order: &String| order.split(' ').next().unwrap_or_default().to_owned());
/// ```
pub struct Side<M> {
    input: Input,
    codec: Arc<dyn Codec<M>>,
    key: Option<KeyOf<M>>,
}

impl<M: 'static> Side<M> {
    /// The records of a topic.
    pub fn topic(input: impl Into<Input>, codec: impl Codec<M>) -> Self {
        Self { input: input.into(), codec: Arc::new(codec), key: None }
    }

    /// Joins by this key instead of the records' own; an empty one is no key. The records go through a topic of the group,
    /// `<group>-<join>-<left|right>-repartition`, so that those of one key come together
    /// ([J7](crate::semantics#j7-joins-on-another-key)).
    ///
    /// They come to the join later than to their topic, and those of several partitions out of order. So the partitions
    /// are read in step over all instances, also after a stop: by half of the grace, or by 1 s if that is more. The
    /// rest of the grace is left for records that are out of order in the inputs themselves. Give such a join a grace
    /// of 2 s or longer.
    #[must_use]
    pub fn key_by<K: AsRef<[u8]>>(mut self, key: impl Fn(&M) -> K + Send + Sync + 'static) -> Self {
        self.key = Some(Box::new(move |message, to| to.extend_from_slice(key(message).as_ref())));
        self
    }
}

impl<M> fmt::Debug for Side<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("topic", &self.input.topic).finish_non_exhaustive()
    }
}

/// A join of two topics that is being defined: what is called for it says which kind it is.
#[must_use = "nothing is joined before inner(), left() or outer() says what is done with a match"]
pub struct StreamJoin<'g, S, L, R> {
    group: &'g mut GroupBuilder<S>,
    name: Arc<str>,
    windows: JoinWindows,
    left: Side<L>,
    right: Side<R>,
    nulls: Nulls,
    policy: ErrorPolicy,
}

impl<S: 'static> GroupBuilder<S> {
    /// Joins the records of two topics that have the same key and lie near each other in event time. Each is kept, in
    /// `<group>-kept-<name>`, for as long as a match may come.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stream_core::group::Side;
    /// use stream_core::prelude::*;
    ///
    /// const HOUR: Duration = Duration::from_secs(3600);
    /// const MINUTE: Duration = Duration::from_secs(60);
    ///
    /// let mut g = Group::define("delivered");
    /// let out = g.output("delivered", Text);
    /// let (orders, parcels) = (Side::topic("orders", Text), Side::topic("parcels", Text));
    /// g.stream_join("order-parcel", JoinWindows::after(HOUR).grace(MINUTE), orders, parcels)
    ///     .inner(move |ctx, order, parcel| ctx.emit(out, ctx.key(), &format!("{order} in {parcel}")));
    /// let graph = g.build()?;
    /// # assert!(graph.describe().contains("delivered-kept-order-parcel"));
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// The callback may do what an input's may. Its key is the one that was joined by, its time the larger one of the two
    /// records' ([J1](crate::semantics#j1-matches)); everything else is that of the record which came second. An error follows
    /// that one's policy. A record that comes when it could no longer be matched in full is late: left out, and counted
    /// ([J3](crate::semantics#j3-matches-or-one-null)).
    pub fn stream_join<L: 'static, R: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        windows: JoinWindows,
        left: Side<L>,
        right: Side<R>,
    ) -> StreamJoin<'_, S, L, R> {
        let (name, nulls, policy) = (name.into(), Nulls::OnClose, ErrorPolicy::fail());
        StreamJoin { group: self, name, windows, left, right, nulls, policy }
    }
}

impl<'g, S: 'static, L: 'static, R: 'static> StreamJoin<'g, S, L, R> {
    /// Sets when a record without a match is emitted; [`Nulls::OnClose`] by default.
    pub fn nulls(mut self, nulls: Nulls) -> Self {
        self.nulls = nulls;
        self
    }

    /// Sets the error policy of the call for a record without a match ([`Nulls::OnClose`]). By default the instance fails, and
    /// the record is called for again after a restart. [`on_due_error`](GroupBuilder::on_due_error) says what each policy
    /// means; a dead letter has the record's key and value.
    pub fn on_null_error(mut self, policy: ErrorPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Calls for each match.
    pub fn inner<F>(self, callback: F) -> &'g mut GroupBuilder<S>
    where
        F: Fn(&mut Ctx<'_, S>, &L, &R) -> CallbackResult + Send + Sync + 'static,
    {
        self.add("inner", (false, false), move |ctx, left, right| match (left, right) {
            (Some(left), Some(right)) => callback(ctx, left, right),
            _ => Ok(()),
        })
    }

    /// Calls for each match, and for each left record that has none ([J2](crate::semantics#j2-nulls-on-close)).
    ///
    /// An error in the call for a record without a match follows [`on_null_error`](Self::on_null_error).
    pub fn left<F>(self, callback: F) -> &'g mut GroupBuilder<S>
    where
        F: Fn(&mut Ctx<'_, S>, &L, Option<&R>) -> CallbackResult + Send + Sync + 'static,
    {
        self.add("left", (true, false), move |ctx, left, right| match left {
            Some(left) => callback(ctx, left, right),
            None => Ok(()),
        })
    }

    /// Calls for each match, and for each record of either side that has none. At least one of the two is given.
    ///
    /// Errors are met as in a [left](Self::left) join.
    pub fn outer<F>(self, callback: F) -> &'g mut GroupBuilder<S>
    where
        F: Fn(&mut Ctx<'_, S>, Option<&L>, Option<&R>) -> CallbackResult + Send + Sync + 'static,
    {
        self.add("outer", (true, true), callback)
    }

    fn add(
        self,
        kind: &'static str,
        (left_outer, right_outer): (bool, bool),
        call: impl Fn(&mut Ctx<'_, S>, Option<&L>, Option<&R>) -> CallbackResult + Send + Sync + 'static,
    ) -> &'g mut GroupBuilder<S> {
        let Self { group, name, windows, left, right, nulls, policy } = self;
        let codec = JoinCodec::of(left.codec.name(), right.codec.name());
        let table = group.add_state::<Vec<u8>>(join_topic(&group.graph.name, &name), codec);
        if let Some(edge) = group.edges().tables.get_mut(table) {
            edge.layout = Some(JoinLayout::LAYOUT);
        }

        let left = left.arrives(group, &name, Which::Left, left_outer);
        let right = right.arrives(group, &name, Which::Right, right_outer);
        let first = group.graph.inputs.len();
        let both = Arc::new(Both {
            windows,
            table,
            nulls,
            left: left.side(Which::Left, first, left_outer),
            right: right.side(Which::Right, first + 1, right_outer),
            call: Box::new(call),
        });
        let handler = Box::new(Arrival(LeftOf(Arc::clone(&both)), None));
        group.add_input::<L>(left.input, left.own, Arc::new(left.codec), Handler::Sync(handler));
        let handler = Box::new(Arrival(RightOf(Arc::clone(&both)), None));
        group.add_input::<R>(right.input, right.own, Arc::new(right.codec), Handler::Sync(handler));

        let re_keys = left.own || right.own;
        let nulls_of = (nulls == Nulls::OnClose && left_outer, nulls == Nulls::OnClose && right_outer);
        let (mut left, mut right): (Due, Due) = (None, None);
        if nulls_of.0 {
            left = Some(Box::new(Null(LeftOf(Arc::clone(&both)), None)));
        }
        if nulls_of.1 {
            right = Some(Box::new(Null(RightOf(both), None)));
        }
        group.edges().stream_joins.push(StreamJoinEdge {
            name,
            windows,
            kind,
            nulls: nulls_of,
            table,
            re_keys,
            policy,
        });
        group.callbacks.stream_joins.push(Unmatched { left, right });
        group
    }
}

/// How a side's records come to the join.
struct Arrives<M> {
    input: Input,
    own: bool,
    codec: Arc<dyn Codec<M>>,
}

impl<M> Arrives<M> {
    fn side(&self, which: Which, input: usize, outer: bool) -> SideOf<M> {
        SideOf { which, re_keyed: self.own, input, codec: Arc::clone(&self.codec), outer }
    }
}

impl<M: 'static> Side<M> {
    fn arrives<S: 'static>(self, group: &mut GroupBuilder<S>, join: &str, side: Which, outer: bool) -> Arrives<M> {
        let Self { input, codec, key } = self;
        // What nulls mean is the join's to say.
        let input = input.null_value(NullValue::Pass).null_key(NullKey::Pass);
        let Some(key) = key else { return Arrives { input, own: false, codec } };
        let topic = repartition_topic(&group.graph.name, join, side.name());
        let bytes = erase::<Vec<u8>>(Arc::new(Bytes));
        group.edges().outputs.push(OutputEdge { topic: Arc::clone(&topic), own: Some(Passage::Side), codec: bytes });
        let output = group.graph.outputs.len() - 1;
        let joined = Input { topic, ..input.clone() };
        let handler = Box::new(ReKey { codec: Arc::clone(&codec), key, output, outer });
        group.add_input::<M>(input, false, Arc::new(Arc::clone(&codec)), Handler::Sync(handler));
        if let Some(edge) = group.graph.inputs.last_mut() {
            edge.re_keys = true;
        }
        Arrives { input: joined, own: true, codec }
    }
}
