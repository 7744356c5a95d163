//! Processes that are killed, stopped and frozen: of a store, and of groups on a real Kafka.

#[cfg(feature = "kafka")]
#[path = "../support/kafka/mod.rs"]
mod kafka_support;
#[path = "../support/store.rs"]
mod store_support;

#[cfg(target_os = "linux")]
mod disk_full;
#[cfg(all(feature = "kafka", unix))]
mod kafka_chaos;
#[cfg(feature = "kafka")]
mod kafka_kill;
mod store_kill;
