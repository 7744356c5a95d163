//! The formats of earlier versions: a state that one of them wrote starts exactly, or is refused with the way on.
//!
//! The files in `fixtures/before-positions` were written by the version before positions (commit 443d1b0), which ran
//! [`fixture::graph`] with three records in `in`, one in `left` and the clock at [`fixture::T`] + 10 s, once with each
//! guarantee: all of its topics and offsets (`log.txt`), and its state directory.

mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stream_core::log::LogHandle;
use stream_core::processor::{Guarantee, OnLostPosition, Processor};

use self::fixture::{Fixture, T, graph, texts, write};

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
            let fixture = Fixture::of(guarantee);
            let (log, dir) = (fixture.log(true).await, tempfile::tempdir().unwrap());
            if machine {
                fixture.state(dir.path());
            }
            gone_on(&log, start(&log, dir.path(), guarantee)).await;
            let mut told = texts(&log, "out").await;
            told.sort_unstable();
            let expected = [
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
            assert_eq!(told, expected, "{guarantee:?}, its machine: {machine}");
            let table = fixture::table(&log).await;
            let counts = [("a", 3), ("b", 1), ("z", 1)].map(|(k, n): (&str, i64)| (k.to_owned(), n));
            assert_eq!(table, BTreeMap::from(counts), "{guarantee:?}, its machine: {machine}");
        }
    }
}

#[tokio::test]
async fn the_state_of_a_version_before_positions_is_refused_with_the_way_on_where_its_offsets_are_gone() {
    for guarantee in BOTH {
        let fixture = Fixture::of(guarantee);
        let (log, dir) = (fixture.log(false).await, tempfile::tempdir().unwrap());
        fixture.state(dir.path());
        let refused = start(&log, dir.path(), guarantee).run().await.unwrap_err().to_string();
        assert!(refused.contains("no committed offset") && refused.contains("on_lost_position"), "{refused}");
        let latest = start(&log, dir.path(), guarantee).on_lost_position(OnLostPosition::Latest);
        gone_on(&log, latest).await;
        let table = fixture::table(&log).await;
        assert_eq!(table.get("a"), Some(&3), "{guarantee:?}: {table:?}");
    }
}
