//! Graceful moves of co-partitioned inputs on a real Kafka, with both group protocols.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod kafka_support;

use kafka_support::moves::{Plan, three_instances_join_and_leave};
use kafka_support::{bounded, kafka};
use stream_core::processor::Guarantee;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn classic_protocol() {
    let plan = Plan { new_protocol: false, guarantee: Guarantee::AtLeastOnce, moves: 14, seed: 0x5eed_0001 };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn new_protocol() {
    let plan = Plan { new_protocol: true, guarantee: Guarantee::AtLeastOnce, moves: 8, seed: 0x5eed_0002 };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn classic_protocol_exactly_once() {
    let plan = Plan { new_protocol: false, guarantee: Guarantee::ExactlyOnce, moves: 14, seed: 0x5eed_0004 };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn new_protocol_exactly_once() {
    let plan = Plan { new_protocol: true, guarantee: Guarantee::ExactlyOnce, moves: 8, seed: 0x5eed_0005 };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}
