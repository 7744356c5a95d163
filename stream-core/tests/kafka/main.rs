//! Groups, views and tables on a real Kafka, and some on librdkafka's mock cluster. Tests share the broker, each with topics
//! and groups of its own; one that stops, freezes or slows a broker starts one for itself.
//!
//! What kills processes is in the test binary `processes`.

#[macro_use]
#[path = "../support/kafka/mod.rs"]
mod kafka_support;
#[cfg(feature = "monitor")]
#[path = "../support/http.rs"]
mod http_support;
#[path = "../support/join.rs"]
mod join_support;
#[path = "../support/view/mod.rs"]
mod view_support;

mod cases;

mod bad_input;
mod clock;
mod cluster;
mod compression;
mod delivery;
mod faults;
mod given_up;
mod joins;
mod mock_moves;
mod mock_rules;
mod moves;
mod odd;
mod own_topics;
mod positions;
mod refusals;
mod rekey;
mod restart;
mod rules;
#[cfg(feature = "monitor")]
mod tables;
mod tiny_topics;
mod trusted_state;
mod view;
mod windows;
