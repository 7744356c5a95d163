//! The rules of delivery (semantics D1 to D10) on a real Kafka with both guarantees. Crashes, moves and faults are in
//! `kafka_kill`, `kafka_moves`, `kafka_restart`, `kafka_faults` and `kafka_chaos`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod kafka_support;

use kafka_support::{bounded, delivery, kafka};
use stream_core::processor::Guarantee::{AtLeastOnce, ExactlyOnce};

macro_rules! with_both {
    ($($case:ident),* $(,)?) => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a real Kafka: make test starts one where Java is"]
            async fn at_least_once() {
                super::bounded(180, super::delivery::$case(&super::kafka(), super::AtLeastOnce)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a real Kafka: make test starts one where Java is"]
            async fn exactly_once() {
                super::bounded(180, super::delivery::$case(&super::kafka(), super::ExactlyOnce)).await;
            }
        }
    )*};
}

with_both!(
    d1_the_commit_is_contiguous,
    d2_the_store_is_what_the_changelog_says,
    d3_a_restore_waits_for_an_open_transaction,
    d4_one_order_a_partition,
    d5_nulls,
    d6_policies,
    d7_effects_are_staged,
    d8_what_is_too_large_is_its_records_error,
    d9_positions_are_committed_at_the_assignment,
    d10_a_store_that_was_away_too_long_is_wiped,
);
