//! Joins of two tables into the group's own, and the callbacks behind them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::around::Layer;
use super::builder::GroupBuilder;
use super::callback::{Handler, SyncHandler, Timed, decode, event_time, event_time_of};
use crate::codec::Codec;
use crate::context::{Core, Ctx, Source, Stage};
use crate::log::RecordRef;
use crate::topology::{CallbackError, CallbackResult, CodecOf, Failure, Input, NullValue, Table, TableId, side_topic};

/// One side of a [table join](GroupBuilder::table_join): a topic of which each record is the newest value of its key, and a
/// null deletes it.
pub struct TableSide<T> {
    input: Input,
    codec: Arc<dyn Codec<T>>,
}

impl<T: 'static> TableSide<T> {
    /// The table in this topic. With an [`Input`], an error policy comes with it; its nulls are tombstones whatever that
    /// says.
    pub fn topic(topic: impl Into<Input>, codec: impl Codec<T>) -> Self {
        Self { input: topic.into().null_value(NullValue::Pass), codec: Arc::new(codec) }
    }
}

impl<T> fmt::Debug for TableSide<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableSide({})", self.input.topic)
    }
}

/// A join of two tables whose kind (inner, left or outer) is still to be set.
#[must_use = "it does nothing before inner(), left() or outer() is called"]
#[derive(Debug)]
pub struct TableJoin<'g, L, R, V> {
    group: &'g mut GroupBuilder<Table<V>>,
    name: Arc<str>,
    left: TableSide<L>,
    right: TableSide<R>,
}

impl<V: 'static> GroupBuilder<Table<V>> {
    /// Joins two tables into the group's own, key by key: whenever a side changes, the group table gets the result of both
    /// last values, and loses it when there is none any more. [`inner`](TableJoin::inner), [`left`](TableJoin::left) or
    /// [`outer`](TableJoin::outer) says when there is one.
    ///
    /// Both topics have the same number of partitions, and are inputs of the group, read in the order of their times. The
    /// last value of each side lies in a table of the group's, `<group>-<name>-left` and `<group>-<name>-right`.
    ///
    /// ```
    /// use stream_core::group::TableSide;
    /// use stream_core::prelude::*;
    ///
    /// // Each user's name with the city, as long as the user is there.
    /// let mut g = Group::define("addressed").table(Text);
    /// g.table_join("users", TableSide::topic("names", Text), TableSide::topic("cities", Text))
    ///     .left(|name, city| format!("{name} of {}", city.map_or("nowhere", |city| city)));
    /// let graph = g.build()?;
    /// # assert!(graph.describe().contains("names"));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn table_join<L: 'static, R: 'static>(
        &mut self,
        name: impl Into<Arc<str>>,
        left: TableSide<L>,
        right: TableSide<R>,
    ) -> TableJoin<'_, L, R, V> {
        TableJoin { group: self, name: name.into(), left, right }
    }
}

impl<'g, L: 'static, R: 'static, V: 'static> TableJoin<'g, L, R, V> {
    /// There is a result where both sides have a value.
    pub fn inner(self, join: impl Fn(&L, &R) -> V + Send + Sync + 'static) -> &'g mut GroupBuilder<Table<V>> {
        self.with(move |left, right| Some(join(left?, right?)))
    }

    /// There is a result where the left side has a value.
    pub fn left(self, join: impl Fn(&L, Option<&R>) -> V + Send + Sync + 'static) -> &'g mut GroupBuilder<Table<V>> {
        self.with(move |left, right| Some(join(left?, right)))
    }

    /// There is a result where either side has a value; `join` is never called without any.
    pub fn outer(
        self,
        join: impl Fn(Option<&L>, Option<&R>) -> V + Send + Sync + 'static,
    ) -> &'g mut GroupBuilder<Table<V>> {
        self.with(move |left, right| (left.is_some() || right.is_some()).then(|| join(left, right)))
    }

    fn with(
        self,
        join: impl Fn(Option<&L>, Option<&R>) -> Option<V> + Send + Sync + 'static,
    ) -> &'g mut GroupBuilder<Table<V>> {
        let Self { group, name, left, right } = self;
        let left_at = group.add_state(side_topic(&group.graph.name, &name, "left"), Arc::clone(&left.codec));
        let right_at = group.add_state(side_topic(&group.graph.name, &name, "right"), Arc::clone(&right.codec));
        let join = Arc::new(join);
        let mirrored = Arc::clone(&join);
        let (own, other) = ((left.codec, left_at), right_at);
        let call =
            OnSide { own, other, join: move |l: Option<&L>, r: Option<&R>| join(l, r), layer: None, of: PhantomData };
        group.add_side(left.input, call);
        let (own, other) = ((right.codec, right_at), left_at);
        let call = OnSide {
            own,
            other,
            join: move |r: Option<&R>, l: Option<&L>| mirrored(l, r),
            layer: None,
            of: PhantomData,
        };
        group.add_side(right.input, call);
        group
    }
}

impl<V: 'static> GroupBuilder<Table<V>> {
    fn add_side<T: 'static, O: 'static, F>(&mut self, input: Input, side: OnSide<T, O, V, F>)
    where
        F: Fn(Option<&T>, Option<&O>) -> Option<V> + Send + Sync + 'static,
    {
        let codec = Arc::new(Arc::clone(&side.own.0));
        self.add_input::<T>(input, false, codec, Handler::Sync(Box::new(side)));
    }
}

/// Keeps a side's value, and sets the result of both.
struct OnSide<T, O, V, F> {
    /// The side's codec, and its table.
    own: (Arc<dyn Codec<T>>, TableId),
    /// The other side's table.
    other: TableId,
    join: F,
    layer: Option<Layer>,
    of: PhantomData<fn(O, V)>,
}

impl<T: 'static, O, V, F: Send + Sync> Timed for OnSide<T, O, V, F> {
    fn event_time(&self, core: &Core, input: usize, record: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        event_time_of(&self.own.0, core, input, record)
    }

    fn surround(&mut self, layer: Layer) {
        self.layer = Some(layer);
    }
}

impl<T, O, V, F> SyncHandler for OnSide<T, O, V, F>
where
    T: 'static,
    O: 'static,
    V: 'static,
    F: Fn(Option<&T>, Option<&O>) -> Option<V> + Send + Sync,
{
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        let (codec, kept) = &self.own;
        let own = record.value.map(|value| decode(codec, Some(value), CodecOf::Input(source.input), stage));
        let own = own.transpose()?;
        let at = event_time(codec, own.as_ref(), core, source.input, record)?;
        let bytes = record.value;
        let record = stage.arrive(at, record)?;
        let mut ctx = Ctx::<Table<V>>::new(core, source, record, stage);
        let key = record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("table_join()")))?;
        Layer::call(self.layer.as_ref(), &mut ctx, |ctx| {
            ctx.keep(*kept, key, bytes)?;
            let other = ctx.kept::<O>(self.other, key)?;
            match (self.join)(own.as_ref(), other.as_ref()) {
                Some(result) => ctx.set(result),
                None if ctx.has_value()? => ctx.delete(),
                None => Ok(()),
            }
        })
    }
}
