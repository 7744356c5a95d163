//! Looking at running processors over HTTP (feature `monitor`).
//!
//! [`Tables`] shows the committed state of groups' tables. It asks the processor's [`Handle`](crate::processor::Handle)
//! and nothing else: it must never read a store or a log directly, and never change anything.

mod answer;
mod base64;
mod params;
mod tables;

pub use self::tables::Tables;
