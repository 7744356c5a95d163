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

/// A library that is loaded before the C library refuses what is written: only Linux has it as the tests need it.
#[cfg(not(target_os = "linux"))]
#[test]
fn full_disks_are_not_tried_here() {
    use std::io::Write;
    // Not by a macro, whose output the test harness keeps to itself.
    std::io::stderr().write_all(b"NOT RUN: tests of full disks: they need Linux\n").unwrap();
}
