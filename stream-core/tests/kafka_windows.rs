//! The rules of time and of windows (semantics T1 to T3, W1 to W5), and joins of tables, on a real Kafka with both guarantees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod kafka_support;

use kafka_support::{bounded, kafka, windows};
use stream_core::processor::Guarantee::{AtLeastOnce, ExactlyOnce};

macro_rules! with_both {
    ($($case:ident),* $(,)?) => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a real Kafka: make test starts one where Java is"]
            async fn at_least_once() {
                super::bounded(180, super::windows::$case(&super::kafka(), super::AtLeastOnce)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a real Kafka: make test starts one where Java is"]
            async fn exactly_once() {
                super::bounded(180, super::windows::$case(&super::kafka(), super::ExactlyOnce)).await;
            }
        }
    )*};
}

with_both!(
    t1_stream_time,
    t2_timers,
    t3_event_time,
    w1_tumbling_and_hopping,
    w2_late,
    w3_final_results,
    w4_sessions,
    w5_batches,
    everything_after_a_crash,
    table_joins,
);
