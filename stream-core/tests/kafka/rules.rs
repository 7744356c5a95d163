//! What a group must do on a real Kafka: its membership, its offsets, its edges, and records that can't be written.

use crate::cases::rules;
use crate::kafka_support::{bounded, kafka};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_member_that_subscribes_to_something_else_is_refused() {
    bounded(120, rules::other_member(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn instances_that_start_at_once_make_their_topics_together() {
    bounded(120, rules::started_together(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_static_member_comes_back_without_a_rebalance_classic() {
    bounded(120, rules::static_member(&kafka(), false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_static_member_comes_back_without_a_rebalance_new_protocol() {
    bounded(120, rules::static_member(&kafka(), true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_restart_goes_on_at_the_committed_offset() {
    bounded(120, rules::resume(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn offsets_are_committed_at_the_assignment() {
    bounded(120, rules::committed_at_assignment(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_loop_comes_back_under_another_key() {
    bounded(120, rules::looped(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn joins_and_lookups_read_other_groups_tables() {
    bounded(120, rules::joined_and_looked_up(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn dead_letters_say_why_and_where_from() {
    bounded(120, rules::dead_letters(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_record_above_its_topics_limit_follows_the_policy() {
    bounded(120, rules::above_the_limit(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_topics_limit_is_met_exactly() {
    bounded(120, rules::exactly_the_limit(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn two_megabytes_on_a_default_topic_are_too_large() {
    bounded(120, rules::two_megabytes(&kafka())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_limit_that_sinks_meanwhile_is_found_by_the_delivery() {
    bounded(120, rules::limit_sinks(&kafka(), &crate::kafka_support::brokers())).await;
}
