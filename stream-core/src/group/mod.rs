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

mod builder;
pub mod dead_letter;
mod describe;
mod due;
mod error;
pub(crate) mod graph;
pub(crate) mod handler;
mod left_out;
mod open;
mod policy;
mod stream_join;
mod stream_join_handler;
mod table_join;
mod timed;
mod topics;

pub use self::builder::{Group, GroupBuilder};
pub use self::due::DueWork;
pub use self::error::{BuildError, CallbackError, CallbackResult, Failure};
pub use self::graph::GroupGraph;
pub(crate) use self::graph::{AnyCodec, InputEdge, TableEdge};
pub(crate) use self::handler::Handler;
pub use self::handler::{
    Batched, Join, Lookup, Loop, NoTable, Output, Record, Sessioned, Table, Timer, Visitor, Windowed,
};
pub(crate) use self::left_out::To;
pub use self::left_out::{LeftOut, LeftOutRecord, Route};
pub use self::policy::{ErrorPolicy, Input, KeyPartitioner, NilKey, NilValue};
pub(crate) use self::policy::{OnError, limit_ms};
pub use self::stream_join::{Side, StreamJoin};
pub use self::table_join::{TableJoin, TableSide};
pub use self::topics::{
    batch_topic, join_topic, lead_topic, loop_topic, positions_topic, repartition_topic, session_topic, side_topic,
    table_topic, time_topic, window_topic,
};
