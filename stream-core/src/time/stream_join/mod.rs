//! Joins of two topics: each record is kept for as long as a match may come.

pub(crate) mod buffer;
mod callback;
mod define;
pub(crate) mod keys;
pub(crate) mod queue;

pub use self::define::{Side, StreamJoin};
