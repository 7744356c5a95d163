//! The rules of delivery (semantics D1 to D10) on a real Kafka with both guarantees. Crashes, moves and faults are in
//! `kafka_kill`, `kafka_moves`, `kafka_restart`, `kafka_faults` and `kafka_chaos`.

with_both!(
    180,
    crate::cases::delivery:
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
