//! The rules of time and of windows (semantics T1 to T3, W1 to W5), and joins of tables, on a real Kafka with both guarantees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[macro_use]
mod kafka_support;

with_both!(
    180,
    crate::kafka_support::time:
    t1_stream_time,
    t2_timers,
    t3_event_time,
);

with_both!(
    180,
    crate::kafka_support::windows:
    w1_tumbling_and_hopping,
    w2_late,
    w3_final_results,
    w4_sessions,
    w5_batches,
    everything_after_a_crash,
);

with_both!(180, crate::kafka_support::table_joins: table_joins);
