//! The chat, in memory and on a real Kafka: its groups, its binaries, its demo.

mod server;

mod accounts;
mod aggregator;
mod api;
#[cfg(feature = "kafka")]
mod binaries;
mod demo;
mod history;
#[cfg(feature = "kafka")]
mod kafka;
