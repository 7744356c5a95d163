//! What every log must do, on the embedded one, on a real Kafka and on librdkafka's mock cluster; and what is each one's own.

#[macro_use]
#[path = "suite/mod.rs"]
mod log_suite;

mod embedded;
mod embedded_faults;
mod embedded_members;
mod embedded_network;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_mock;
#[cfg(feature = "kafka")]
mod kafka_mock_members;
