//! Records that a broker refuses (semantics D8, D12): who is blamed, what is sent again, what ends the run.

with_both!(
    120,
    crate::cases::refusals:
    a_record_above_the_limit_is_blamed_and_no_other_of_four_partitions,
    records_that_fit_are_delivered_however_the_client_packs_them,
    a_record_with_a_refused_time_is_blamed_and_its_neighbours_are_sent_again,
    one_refused_record_does_not_slow_down_the_backlog_behind_it,
    the_last_value_of_each_key_is_the_newest_with_five_requests_in_flight,
);
