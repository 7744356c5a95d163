//! Features of time, a folder each: timers, windows, sessions, batches, and joins of two topics.
//!
//! Each has its part of a group's definition (`define.rs`) and what a callback can do with it (`ops.rs`); what is due fires in
//! `processor/task`. The public types that say when something is due are those of [`window`](crate::window). Everything here is
//! entries of the library's own tables, so that it survives a crash and moves with its partition.

mod batch;
mod closing;
mod define_entry;
pub(crate) mod due;
mod due_callback;
pub(crate) mod due_entry;
mod due_error;
mod entry_ops;
mod session;
pub(crate) mod stream_join;
mod timer;
mod window;

pub use self::closing::Closes;
pub use self::due_error::DueWork;
pub use self::stream_join::{Side, StreamJoin};
