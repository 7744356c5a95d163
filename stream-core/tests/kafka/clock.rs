//! A task looks at the clock in time (semantics D15, T1a, J7), on a real Kafka with both guarantees.

with_both!(
    300,
    crate::cases::clock:
    commits_and_effects_do_not_wait_for_the_end_of_a_backlog,
    a_stop_waits_for_the_callback_at_hand_only,
    a_backlog_goes_round_the_loop_in_step,
    a_quiet_partition_closes_its_windows,
);
