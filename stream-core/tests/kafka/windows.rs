//! The rules of time and of windows (semantics T1 to T3, W1 to W5), and joins of tables, on a real Kafka with both guarantees.

with_both!(
    180,
    crate::cases::time:
    t1_stream_time,
    t2_timers,
    t3_event_time,
);

with_both!(
    180,
    crate::cases::windows:
    w1_tumbling_and_hopping,
    w2_late,
    w3_final_results,
    w4_sessions,
    w5_batches,
    everything_after_a_crash,
);

with_both!(180, crate::cases::table_joins: table_joins);
