//! The group graph: what a processor reads, writes and keeps, as typed edges.
//!
//! A group is defined once and checked by [`GroupBuilder::build`]; a [`Processor`](crate::processor::Processor) or the
//! tester (`testing`, with the feature of that name) then runs it. This module does no I/O and must never know which log a
//! group runs on.
//!
//! ```
//! use stream_core::codec::{Json, Text};
//! use stream_core::group::Group;
//!
//! let mut g = Group::define("user-clicks").table(Json::<u64>::new());
//! let big = g.output("big-clickers", Text);
//! g.input("clicks", Text, move |ctx, click| {
//!     let n = ctx.value()?.unwrap_or(0) + 1;
//!     if n == 1000 {
//!         ctx.emit(big, ctx.key(), &click)?;
//!     }
//!     ctx.set(n)
//! });
//! let graph = g.build()?;
//! assert!(graph.describe().contains("user-clicks-table"));
//! # Ok::<(), stream_core::group::BuildError>(())
//! ```

pub(crate) mod around;
mod builder;
pub(crate) mod callback;
mod checks;
pub mod dead_letter;
mod define_around;
pub(crate) mod graph;
mod loops;
#[cfg(doctest)]
pub mod mistakes;
mod rekey;
mod state;
mod table;
mod table_join;

pub use self::around::{Call, Called, Next, Ran};
pub use self::builder::{Group, GroupBuilder};
pub(crate) use self::callback::Handler;
pub use self::callback::Record;
pub use self::graph::GroupGraph;
pub use self::rekey::RekeySource;
pub use self::table_join::{TableJoin, TableSide};
pub use crate::time::{Closes, DueWork, Side, StreamJoin};
pub use crate::topology::{
    BatchHandle, BuildError, CallbackError, CallbackResult, ErrorPolicy, Failure, HasTable, Input, Join,
    KeyPartitioner, LeftOut, LeftOutRecord, Lookup, Loop, NoTable, NullKey, NullValue, Output, Route, SessionHandle,
    Table, Timer, Visitor, WindowHandle,
};
pub use crate::topology::{
    batch_topic, join_topic, lead_topic, loop_topic, named_loop_topic, positions_topic, rekey_topic, repartition_topic,
    session_topic, side_topic, table_topic, time_topic, window_topic,
};
