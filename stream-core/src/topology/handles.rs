//! The handles that a definition gives and callbacks hold: each names an edge of one graph.

use std::fmt;
use std::marker::PhantomData;

/// Marks a group without a table.
#[derive(Debug)]
pub struct NoTable;

/// Marks a group whose table holds values of `V`.
#[derive(Debug)]
pub struct Table<V>(PhantomData<fn(V)>);

mod sealed {
    #[allow(missing_docs, reason = "only a seal")]
    pub trait Sealed {}
    impl<V> Sealed for super::Table<V> {}
}

/// A group with a table: [`Table<V>`], not [`NoTable`].
#[diagnostic::on_unimplemented(
    message = "the group of this callback has no table",
    label = "needs a group with a table",
    note = "give the group its table before its inputs: `let mut g = Group::define(\"name\").table(Int64);`",
    note = "in a function that takes the context, name the table's type: `ctx: &mut Ctx<'_, Table<i64>>`"
)]
pub trait HasTable: sealed::Sealed {
    /// The type of the table's values.
    type Value: 'static;
}

impl<V: 'static> HasTable for Table<V> {
    type Value = V;
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<T> {
            pub(crate) graph: u64,
            pub(crate) index: usize,
            pub(crate) of: PhantomData<fn(T)>,
        }
        impl<T> $name<T> {
            pub(crate) fn new(graph: u64, index: usize) -> Self {
                Self { graph, index, of: PhantomData }
            }
        }
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for $name<T> {}
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.index)
            }
        }
    };
}

handle! {
    /// A topic that a group's callbacks write to.
    Output
}
handle! {
    /// A topic by which a group sends records to itself under other keys: a loop, or what is re-keyed.
    Loop
}
handle! {
    /// A co-partitioned table of another group, read by the record's own key.
    Join
}
handle! {
    /// A full copy of a table of another group, read by any key.
    Lookup
}
handle! {
    /// A function over every key of the group's table, called from outside with an argument.
    Visitor
}

handle! {
    /// Calls back for a key when its time has come: set, moved and cancelled by a callback's [`Ctx`](crate::context::Ctx).
    Timer
}
handle! {
    /// Accumulators for each key and window, written by [`Ctx::aggregate`](crate::context::Ctx::aggregate).
    WindowHandle
}

handle! {
    /// Accumulators for each key and session, written by [`Ctx::aggregate_session`](crate::context::Ctx::aggregate_session).
    SessionHandle
}
handle! {
    /// Records of a key that are taken together, written by [`Ctx::collect`](crate::context::Ctx::collect).
    BatchHandle
}
