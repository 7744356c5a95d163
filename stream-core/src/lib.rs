//! Stateful stream processing on Kafka.

pub mod clock;
pub mod codec;
pub mod context;
pub mod emitter;
pub mod group;
pub mod log;
pub mod processor;
pub mod store;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topics;
pub mod view;
