//! Every kind of group under every kind of fault, seed by seed: nothing is lost, and exactly once nothing is doubled.
//!
//! The normal tests run the same few seeds each time. Many more: `make simulate SEEDS=1000` (from `FROM`, only the groups
//! whose name contains `GROUP`, with the kinds of faults in `FAULTS`, on `JOBS` threads). One again, with its log: `make simulate SEED=42 GROUP=count RUST_LOG=debug`.
//! A seed draws other faults where `FAULTS` are other ones: that it passes then proves nothing of the run before.

#![cfg(feature = "testing")]

mod due;
mod failing;
mod groups;
mod joined;
mod open;
mod positions;
mod refused;
mod rekeys;
mod timed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use stream_core::processor::Guarantee;
use stream_core::testing::simulator::{Fault, Faults, Simulation, SimulationError, SimulationReport};

const GUARANTEES: [(&str, Guarantee); 2] =
    [("at_least_once", Guarantee::AtLeastOnce), ("exactly_once", Guarantee::ExactlyOnce)];

fn simulate(
    group: fn(Simulation) -> Simulation,
    guarantee: Guarantee,
    seed: u64,
) -> Result<SimulationReport, SimulationError> {
    group(Simulation::new(seed).guarantee(guarantee).faults(faults())).run()
}

/// All kinds of faults, but for what `FAULTS` says: `+Name` adds one, `-Name` takes one away, `Name` leaves only those named.
fn faults() -> Faults {
    let text = std::env::var("FAULTS").unwrap_or_default();
    let words: Vec<&str> = text.split([',', ' ']).filter(|w| !w.is_empty()).collect();
    let only = words.iter().any(|w| !w.starts_with(['+', '-']));
    words.iter().fold(if only { Faults::none() } else { Faults::all() }, |faults, word| {
        let name = word.trim_start_matches(['+', '-']);
        let fault = Fault::named(name).unwrap_or_else(|| panic!("FAULTS: there is no fault {name}"));
        if word.starts_with('-') { faults.without(fault) } else { faults.with(fault) }
    })
}

fn group(name: &str) -> fn(Simulation) -> Simulation {
    groups::ALL.iter().find(|(n, _)| *n == name).expect("a group of that name").1
}

/// Runs seeds and names all that fail.
fn all_hold(name: &str, guarantee: Guarantee, seeds: impl Iterator<Item = u64>) {
    let failed: Vec<String> = seeds
        .filter_map(|seed| simulate(group(name), guarantee, seed).err().map(|e| format!("seed {seed}: {e}")))
        .collect();
    assert!(failed.is_empty(), "{name}, {guarantee:?}:\n{}", failed.join("\n"));
}

macro_rules! fixed_seeds {
    ($($group:ident),*) => {$(
        mod $group {
            use stream_core::processor::Guarantee;

            #[test]
            fn at_least_once() {
                super::all_hold(stringify!($group), Guarantee::AtLeastOnce, 0..40);
            }

            #[test]
            fn exactly_once() {
                super::all_hold(stringify!($group), Guarantee::ExactlyOnce, 0..40);
            }
        }
    )*};
}

fixed_seeds!(
    count,
    absolute,
    looped,
    named_loops,
    rekeyed,
    chain,
    chained_counts,
    awaiting,
    two_inputs,
    deferred,
    joining,
    sink,
    dead_letters,
    taken_back,
    windowed,
    late,
    due_letters,
    due_retries,
    hopping,
    debounced,
    delayed,
    joined_inner,
    joined_re_keyed,
    joined_left,
    joined_nulls,
    sessions,
    late_sessions,
    batches,
    table_join,
    blamed,
    crowded,
    expired,
    recreated,
    reset,
    never_taken
);

/// Seeds that failed once, by their cause. A change of what the simulator draws makes them other runs: where a test is
/// named, it holds the cause itself.
mod failed_once {
    use stream_core::processor::Guarantee;

    /// Also `a_stop_whose_commit_fails_does_not_set_the_next_owner_back`.
    #[test]
    fn a_commit_for_a_stop_came_after_the_one_for_the_revocation() {
        super::all_hold("looped", Guarantee::AtLeastOnce, [54, 90, 183].into_iter());
    }

    #[test]
    fn a_revocation_committed_what_the_stop_had_handed_back() {
        for (name, _) in super::groups::ALL {
            super::all_hold(name, Guarantee::AtLeastOnce, [8053, 8410].into_iter());
        }
    }

    /// A batch got the place of one that was over, before those that were open still.
    #[test]
    fn batches_of_one_moment_changed_places() {
        super::all_hold("batches", Guarantee::ExactlyOnce, std::iter::once(239));
    }

    /// The simulator's own fault: it ended before what was due by the clock had fired.
    #[test]
    fn the_end_came_before_a_timer() {
        super::all_hold("delayed", Guarantee::AtLeastOnce, std::iter::once(1712));
    }

    /// The simulator's own fault: a dead process's records got to the log when an outage ended, long after its successor's.
    #[test]
    fn the_dead_wrote_after_their_successors() {
        super::all_hold("two_inputs", Guarantee::AtLeastOnce, std::iter::once(1674));
        super::all_hold("awaiting", Guarantee::AtLeastOnce, std::iter::once(1551));
    }

    /// A timer fired again before its entry was in the changelog again. The crash left its second result behind the first one of
    /// a later timer, which the changelog had as fired.
    #[test]
    fn an_earlier_result_came_again_behind_a_later_one() {
        super::all_hold("delayed", Guarantee::AtLeastOnce, std::iter::once(7115));
    }

    /// A write that takes another back was refused and not written again: a restore gave what had been taken back. Also
    /// `a_write_stays_suspect_until_the_changelog_has_what_takes_it_back`.
    #[test]
    fn a_write_was_taken_back_in_vain() {
        super::all_hold("delayed", Guarantee::AtLeastOnce, [44, 153, 217, 482].into_iter());
        super::all_hold("batches", Guarantee::AtLeastOnce, [81, 153, 168].into_iter());
        super::all_hold("late_sessions", Guarantee::AtLeastOnce, std::iter::once(182));
        super::all_hold("hopping", Guarantee::AtLeastOnce, std::iter::once(417));
    }

    /// A batch that was to be sent alone was sent after its partition had moved. Also
    /// `what_waits_to_be_sent_alone_is_not_sent_when_its_task_is_gone`.
    #[test]
    fn a_task_that_was_gone_wrote_behind_its_successor() {
        super::all_hold("two_inputs", Guarantee::AtLeastOnce, std::iter::once(97));
    }

    /// The simulator's own fault: an instance that was frozen for longer than its session wrote over a session that its
    /// successor had extended, and deleted what a join had gathered, which is a limit of at-least-once delivery. (On the
    /// simulator of that time.)
    #[test]
    fn the_frozen_wrote_behind_their_successors() {
        super::all_hold("sessions", Guarantee::AtLeastOnce, std::iter::once(6680));
        super::all_hold("joined_re_keyed", Guarantee::AtLeastOnce, std::iter::once(6680));
        super::all_hold("joined_inner", Guarantee::AtLeastOnce, std::iter::once(3049));
    }

    /// A join's record was passed over before it was due, and then closed; its mark was gone before its entry. Also
    /// `j9_what_the_bound_closes_is_not_looked_at_again`.
    #[test]
    fn a_record_of_a_join_was_closed_and_looked_at_again() {
        super::all_hold("joined_left", Guarantee::ExactlyOnce, std::iter::once(117));
    }

    /// The mark of a match was accepted, and the match was not; when its record was done again, the other one was closed. It gave
    /// neither a match nor a null. Also `a_match_that_was_lost_leaves_its_record_the_null`.
    #[test]
    fn a_match_that_was_lost_took_the_null_with_it() {
        super::all_hold("joined_left", Guarantee::AtLeastOnce, std::iter::once(3381));
    }

    /// The simulator's own fault: an instance gave up a batch that it could not take back any more, which is a limit of
    /// at-least-once delivery, as a crash is.
    #[test]
    fn a_partition_moved_before_its_writes_were_taken_back() {
        super::all_hold("taken_back", Guarantee::AtLeastOnce, std::iter::once(4601));
    }

    /// An aborted first transaction took the positions of the assignment with it. Also
    /// `positions_of_an_assignment_are_committed_though_the_first_transaction_is_aborted`.
    #[test]
    fn an_assignment_s_positions_were_never_committed() {
        super::all_hold("count", Guarantee::ExactlyOnce, [4, 46, 85].into_iter());
        super::all_hold("chained_counts", Guarantee::ExactlyOnce, [3, 4].into_iter());
    }

    /// A task handed a batch over behind one that waited to be sent alone, when its search had just ended. Another task's batch
    /// was being sent alone, and once that was done, the later one was sent first: an old value came behind a newer one.
    #[test]
    fn a_batch_overtook_one_that_was_to_be_sent_alone() {
        super::all_hold("hopping", Guarantee::AtLeastOnce, std::iter::once(396));
    }

    /// An instance on a slow link lost a partition and got it back at once. It restored the table before its own last write had
    /// arrived, and went on with a store that lacked it. Also
    /// `what_was_purged_on_its_way_has_arrived_once_its_partition_is_settled`.
    #[test]
    fn a_restore_did_not_wait_for_the_instance_s_own_writes() {
        super::all_hold("batches", Guarantee::AtLeastOnce, std::iter::once(10177));
    }

    /// The simulator's own fault: an instance that was asked to stop, while it waited for a record that is never taken, counted as
    /// one that failed.
    #[test]
    fn a_stop_that_comes_before_a_refusal_is_final_is_no_failure() {
        super::all_hold("never_taken", Guarantee::AtLeastOnce, [1960, 2490].into_iter());
    }

    /// The simulator's own fault: two limits on one topic overlapped, and the second one was restored as what it was before.
    #[test]
    fn a_topic_s_limit_stayed_small() {
        super::all_hold("delayed", Guarantee::ExactlyOnce, std::iter::once(3046));
    }

    /// The embedded log's own fault: a batch that was on its way at its delivery time-out, and found too few replicas, was
    /// sent again for ever.
    #[test]
    fn what_was_given_up_was_sent_again() {
        super::all_hold("count", Guarantee::AtLeastOnce, std::iter::once(709));
        super::all_hold("deferred", Guarantee::AtLeastOnce, std::iter::once(709));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..2 {
        for (name, group) in groups::ALL {
            for (_, guarantee) in GUARANTEES {
                let runs = [0, 1].map(|_| simulate(group, guarantee, seed).map_err(|e| format!("{e:?}")));
                assert_eq!(runs[0], runs[1], "{name}, {guarantee:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn another_seed_is_another_run() {
    let trace = |seed| simulate(group("count"), Guarantee::ExactlyOnce, seed).map(|report| report.trace);
    assert_ne!(trace(1).expect("seed 1 holds"), trace(2).expect("seed 2 holds"));
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs a seed for the groups whose name contains `wanted`, and gives those that fail.
fn one_seed(seed: u64, wanted: &str, show: bool) -> Vec<(u64, &'static str, &'static str)> {
    let mut failed = Vec::new();
    for (name, group) in groups::ALL {
        for (promise, guarantee) in GUARANTEES {
            if !format!("{name} {promise}").contains(wanted) {
                continue;
            }
            let text = match catch_unwind(AssertUnwindSafe(|| simulate(group, guarantee, seed))) {
                Ok(Ok(report)) => {
                    if show {
                        println!("{name} {promise}: {report}");
                    }
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "panicked".to_owned(),
            };
            println!("FAILED seed {seed}, {name} {promise}: {text}\n  again: SEED={seed} GROUP='{name} {promise}'");
            failed.push((seed, name, promise));
        }
    }
    failed
}

/// What `make simulate` runs.
#[test]
#[ignore = "long: make simulate SEEDS=1000"]
fn many_seeds() {
    let wanted = std::env::var("GROUP").unwrap_or_default();
    let (from, count) = match number("SEED") {
        Some(seed) => {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).init();
            (seed, 1)
        }
        None => (number("FROM").unwrap_or(0), number("SEEDS").unwrap_or(10)),
    };
    let (next, failed) = (AtomicU64::new(from), Mutex::new(Vec::new()));
    // Each seed is on one thread, so that their number changes nothing but the time.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..number("JOBS").map_or(threads, |n| usize::try_from(n).unwrap_or(1)) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|s| *s < from + count) {
                    let found = one_seed(seed, &wanted, count == 1);
                    failed.lock().expect("no thread panics").extend(found);
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("no thread panics");
    failed.sort_unstable();
    assert!(failed.is_empty(), "{} failed: {failed:?}", failed.len());
}
