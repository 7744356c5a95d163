//! Odd data (semantics T1, D6, D14) on a real Kafka with both guarantees.

with_both!(
    180,
    crate::cases::odd:
    t1_limits,
    a_clock_that_is_behind,
    due_work_that_fails,
    garbage_and_nulls_have_their_own_ways,
);
