//! The formats of this version and of earlier ones: a state that one of them wrote starts exactly, or is refused with the way on.
//!
//! The files in `fixtures` were written by these versions, which ran [`fixture::graph`] with three records in `in`, one in `left`
//! and the clock at [`fixture::T`] + 10 s, once with each guarantee: all of its topics and offsets (`log.txt`), and its state
//! directory. `before-positions` is of the version before positions (commit 443d1b0), `positions-1` of the one whose state has
//! positions and meanings of version 1. `kept-1` has what a join keeps in another format, which these two are refused for until
//! the topic of it is deleted.
//!
//! `KEEP_FIXTURE=name` has the test of what this version writes keep that under a new name: for a format that gets a version.

mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stream_core::clock::ManualClock;
use stream_core::log::embedded::InMemory;
use stream_core::log::{LogHandle, TopicSpec};
use stream_core::processor::{Guarantee, OnLostPosition, Processor};

use self::fixture::{Fixture, T, graph, texts, write};

const BEFORE: &str = "before-positions";
const POSITIONS: &str = "positions-1";
const NOW: &str = "kept-1";
/// What the first two kept of the join.
const EARLIER_JOIN: &str = "before-join-pairs";
const BOTH: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];

fn start(log: &LogHandle, dir: &Path, guarantee: Guarantee) -> Processor {
    let every = Duration::from_millis(20);
    Processor::new(graph(), Arc::clone(log)).state_dir(dir).workers(1).guarantee(guarantee).commit_interval(every)
}

/// Runs the group on what there is and on some records more, until it has committed all of it.
async fn gone_on(log: &LogHandle, start: Processor) {
    let handle = start.handle();
    let task = tokio::spawn(start.run());
    assert!(handle.running().await.is_ok(), "it does not start: {:?}", task.await);
    write(log, "in", &[("a", "four", T + 4_000)]).await;
    write(log, "right", &[("j", "r", T + 30_000)]).await;
    // Later than all that is open, and than its own timer.
    write(log, "in", &[("z", "end", T + 200_000)]).await;
    fixture::done(log, &[("in", 5), ("left", 1), ("right", 1), ("before-loop", 5)]).await;
    handle.stop();
    task.await.unwrap().expect("it stops in order");
}

#[tokio::test]
async fn the_state_of_a_version_before_positions_starts_exactly() {
    for guarantee in BOTH {
        // On the machine that has its stores, and on another one.
        for machine in [true, false] {
            for version in [BEFORE, POSITIONS] {
                starts_exactly(&Fixture::of(version, guarantee), true, machine, guarantee).await;
            }
        }
    }
}

#[tokio::test]
async fn what_an_earlier_version_kept_of_a_join_is_refused_with_the_way_on() {
    for guarantee in BOTH {
        for version in [BEFORE, POSITIONS] {
            let fixture = Fixture::of(version, guarantee);
            let (log, dir) = (fixture.log(true).await, tempfile::tempdir().unwrap());
            fixture.state(dir.path());
            let refused = format!("{:?}", start(&log, dir.path(), guarantee).run().await.unwrap_err());
            assert!(refused.contains(EARLIER_JOIN) && refused.contains("--delete --topic"), "{refused}");
        }
    }
}

/// The join's matches are done without.
async fn give_up_the_join(log: &LogHandle) -> bool {
    log.delete_topics(vec![EARLIER_JOIN.into()]).await.is_ok()
}

/// The state's positions stand for offsets that the group has no more.
#[tokio::test]
async fn the_state_of_this_version_starts_exactly_with_its_offsets_and_without() {
    for guarantee in BOTH {
        for machine in [true, false] {
            for committed in [true, false] {
                starts_exactly(&Fixture::of(NOW, guarantee), committed, machine, guarantee).await;
            }
        }
    }
}

async fn starts_exactly(fixture: &Fixture, committed: bool, machine: bool, guarantee: Guarantee) {
    let what = format!("{guarantee:?}, its machine: {machine}, its offsets: {committed}");
    let (log, dir) = (fixture.log(committed).await, tempfile::tempdir().unwrap());
    if machine {
        fixture.state(dir.path());
    }
    let is_earlier = give_up_the_join(&log).await;
    gone_on(&log, start(&log, dir.path(), guarantee)).await;
    let mut results = texts(&log, "out").await;
    results.sort_unstable();
    let mut expected = vec![
        "alarm end",
        "alarm four",
        "alarm three",
        "batch one two four",
        "pair l r",
        "session 1",
        "session 3",
        "window 0 1",
        "window 0 3",
    ];
    expected.retain(|text| !is_earlier || *text != "pair l r");
    assert_eq!(results, expected, "{what}");
    let table = fixture::table(&log).await;
    let counts = [("a", 3), ("b", 1), ("z", 1)].map(|(k, n): (&str, i64)| (k.to_owned(), n));
    assert_eq!(table, BTreeMap::from(counts), "{what}");
}

/// No format changes unnoticed: another format gets another version, or another topic name.
#[tokio::test]
async fn this_version_writes_what_its_fixture_has() {
    for guarantee in BOTH {
        let log: LogHandle = InMemory::with_clock(Arc::new(ManualClock::new(T + 10_000)));
        let one = |name: &&str| TopicSpec::new(*name).partitions(1);
        log.create_topics(["in", "left", "right", "out"].iter().map(one).collect()).await.unwrap();
        write(&log, "in", &[("a", "one", T + 1_000), ("a", "two", T + 2_000), ("b", "three", T + 3_000)]).await;
        write(&log, "left", &[("j", "l", T + 5_000)]).await;
        let dir = tempfile::tempdir().unwrap();
        let processor = start(&log, dir.path(), guarantee);
        let handle = processor.handle();
        let task = tokio::spawn(processor.run());
        fixture::done(&log, &[("in", 3), ("left", 1), ("right", 0), ("before-loop", 3)]).await;
        handle.stop();
        task.await.unwrap().unwrap();
        if let Ok(name) = std::env::var("KEEP_FIXTURE") {
            Fixture::of(&name, guarantee).keep(&log, dir.path()).await;
        }
        let kept = Fixture::of(NOW, guarantee).log(false).await;
        assert_eq!(fixture::live(&log).await, fixture::live(&kept).await, "{guarantee:?}");
    }
}

#[tokio::test]
async fn the_state_of_a_version_before_positions_is_refused_with_the_way_on_where_its_offsets_are_gone() {
    for guarantee in BOTH {
        let fixture = Fixture::of(BEFORE, guarantee);
        let (log, dir) = (fixture.log(false).await, tempfile::tempdir().unwrap());
        fixture.state(dir.path());
        give_up_the_join(&log).await;
        let refused = format!("{:?}", start(&log, dir.path(), guarantee).run().await.unwrap_err());
        assert!(refused.contains("no committed offset") && refused.contains("on_lost_position"), "{refused}");
        let latest = start(&log, dir.path(), guarantee).on_lost_position(OnLostPosition::Latest);
        gone_on(&log, latest).await;
        let table = fixture::table(&log).await;
        assert_eq!(table.get("a"), Some(&3), "{guarantee:?}: {table:?}");
    }
}
