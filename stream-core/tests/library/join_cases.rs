//! The numbered cases of the windowed join of two topics, with both guarantees.

use crate::join_support::{case, run};
use crate::support::{Done, with_both};

fn holds(name: &str) -> Done {
    with_both(|guarantee| run(case(name), guarantee).map(drop))
}

macro_rules! cases {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() -> Done { holds($name) })*
    };
}

cases! {
    j_case_01_a_match_at_the_end_of_the_window: "01",
    j_case_02_just_behind_it_there_is_none: "02",
    j_case_03_the_right_record_may_come_first: "03",
    j_case_04_each_pair_once_in_the_order_of_stored_times: "04",
    j_case_05_a_match_and_no_null: "05",
    j_case_06_a_null_once_stream_time_is_past_the_grace: "06",
    j_case_07_either_side_closes: "07",
    j_case_08_two_left_records_of_one_time: "08",
    j_case_11_only_after_without_grace: "11",
    j_case_12_eager_nulls: "12",
    j_case_13_stream_time_is_per_partition: "13",
    j_case_14_a_record_is_kept_for_those_to_come: "14",
}

#[test]
fn j_case_09_a_null_key_is_emitted_at_once_or_dropped() -> Done {
    with_both(|guarantee| {
        assert_eq!(run(case("09"), guarantee)?.dropped("join")?, 0);
        assert_eq!(run(case("09-inner"), guarantee)?.dropped("join")?, 1);
        Ok(())
    })
}

#[test]
fn j_case_10_a_null_value_is_dropped() -> Done {
    with_both(|guarantee| {
        assert_eq!(run(case("10"), guarantee)?.dropped("join")?, 1);
        Ok(())
    })
}

#[test]
fn j_case_15_a_late_record_is_dropped_and_counted() -> Done {
    with_both(|guarantee| {
        let tester = run(case("15"), guarantee)?;
        assert_eq!((tester.late("join")?, tester.dropped("join")?), (1, 0));
        Ok(())
    })
}
