//! A group as data: its edges and their policies, the handles that name them, codecs without their types, the names of its
//! topics, and the errors of definitions and callbacks.
//!
//! Everything that runs a group reads it. It does no I/O, and it must never name what makes a group or what runs one. Its public
//! items are those of [`group`](crate::group).

mod codec;
mod describe;
mod error;
mod graph;
mod handles;
mod left_out;
mod names;
mod policy;
mod route;
mod tables;

pub(crate) use self::codec::{AnyCodec, CodecOf, erase, typed};
pub use self::error::{BuildError, CallbackError, CallbackResult, Failure};
pub(crate) use self::graph::Topology;
pub(crate) use self::graph::{
    Calls, DueEntryEdge, EntryKind, InputEdge, OutputEdge, Passage, StreamJoinEdge, TableEdge, TimerEdge, VisitorEdge,
    WindowEdge,
};
pub use self::handles::{
    BatchHandle, HasTable, Join, Lookup, Loop, NoTable, Output, SessionHandle, Table, Timer, Visitor, WindowHandle,
};
pub use self::left_out::LeftOut;
pub(crate) use self::names::earlier_join_topic;
pub use self::names::{
    batch_topic, join_topic, lead_topic, loop_topic, named_loop_topic, positions_topic, rekey_topic, repartition_topic,
    session_topic, side_topic, table_topic, time_topic, window_topic,
};
pub use self::policy::{ErrorPolicy, Input, KeyPartitioner, NullKey, NullValue};
pub(crate) use self::policy::{OnError, limit_ms};
pub(crate) use self::route::To;
pub use self::route::{LeftOutRecord, Route};
pub(crate) use self::tables::{TableId, Tables};
