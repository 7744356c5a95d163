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

with_both!(
    200,
    crate::cases::refusals:
    an_event_time_that_a_topic_refuses_is_no_trouble_of_the_library_s_own_records,
    a_topic_that_refuses_the_library_s_own_records_ends_the_run,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_slow_link_gets_small_transactions() {
    crate::kafka_support::bounded(400, crate::cases::refusals::a_slow_link_gets_small_transactions()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_write_that_takes_another_back_is_repeated_when_it_is_refused() {
    use crate::cases::refusals::a_write_that_takes_another_back_is_repeated_when_it_is_refused as case;
    crate::kafka_support::bounded(400, case()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn too_few_replicas_are_waited_for_and_shown_at_least_once() {
    use crate::cases::refusals::too_few_replicas_are_waited_for_and_shown as case;
    crate::kafka_support::bounded(400, case(stream_core::processor::Guarantee::AtLeastOnce)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn too_few_replicas_are_waited_for_and_shown_exactly_once() {
    use crate::cases::refusals::too_few_replicas_are_waited_for_and_shown as case;
    crate::kafka_support::bounded(400, case(stream_core::processor::Guarantee::ExactlyOnce)).await;
}
