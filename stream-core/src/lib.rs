//! Stateful stream processing on Kafka.

pub mod clock;
pub mod codec;
pub mod log;
pub mod store;
