//! The shop, in memory and on a real Kafka: its groups, its binaries, its demo.

mod expected;
#[cfg(feature = "avro")]
#[path = "../../../../stream-core/tests/support/registry.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod fake_registry;
#[cfg(feature = "kafka")]
mod on_kafka;

#[cfg(feature = "avro")]
mod avro;
#[cfg(all(feature = "kafka", feature = "http"))]
mod binaries;
#[cfg(feature = "http")]
mod demo;
mod filter;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(all(feature = "kafka", feature = "http"))]
mod kafka_recommendations;
mod recommendations;
mod sell;
