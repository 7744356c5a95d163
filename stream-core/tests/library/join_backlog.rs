//! J7 after a stop: a backlog is joined as if it had come in its time, whatever is re-keyed, and nobody is held for good.

use std::time::Duration;

use stream_core::codec::Text;
use stream_core::group::{ErrorPolicy, Input, Side, repartition_topic};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{JoinWindows, Nulls};

use crate::join_support::{Case, Kind};
use crate::support::{Done, ms, values, with_both};

/// An hour of it, one a second on each side.
const RECORDS: i64 = 3_600;

fn windows() -> JoinWindows {
    JoinWindows::around(ms(60_000)).grace(ms(60_000))
}

/// Everything is joined, and nothing is late.
fn backlog(partitions: i32, instances: usize, keyed: [bool; 2], guarantee: Guarantee) -> Done {
    let case = Case { name: "", kind: Kind::Inner, windows: windows(), nulls: Nulls::OnClose, script: &[] };
    let side = |side: &str, keyed: bool| {
        let side = Side::topic(format!("join-{side}"), Text);
        if keyed { side.key_by(|text: &String| text.clone()) } else { side }
    };
    let tester = Tester::with_partitions(partitions);
    let graph = case.graph_of("join", side("left", keyed[0]), side("right", keyed[1]));
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    for _ in 1..instances {
        tester.add_instance("join")?;
    }
    tester.stop("join")?;
    let [left, right] = ["left", "right"].map(|side| tester.input(&format!("join-{side}"), Text));
    for n in 0..RECORDS {
        let (value, at) = (n.to_string(), 1_000_000 + n * 1000);
        let key = |side: usize| if keyed[side] { format!("{side} {n}") } else { value.clone() };
        left.push_at(key(0), Some(&value), Some(at), None)?;
        right.push_at(key(1), Some(&value), Some(at + 500), None)?;
    }
    tester.restart("join")?;
    tester.drain()?;
    let emitted = values(&tester.output("join-out", Text)).len();
    let what = format!("{guarantee:?}, {partitions} partitions, {instances} instances, {keyed:?}");
    assert_eq!((emitted, tester.late("join")?), (usize::try_from(RECORDS)?, 0), "{what}");
    Ok(())
}

#[test]
fn j7_a_backlog_of_one_partition() -> Done {
    with_both(|guarantee| {
        backlog(1, 1, [true, false], guarantee)?;
        backlog(1, 1, [true, true], guarantee)
    })
}

#[test]
fn j7_a_backlog_of_several_partitions() -> Done {
    with_both(|guarantee| {
        backlog(4, 1, [false, true], guarantee)?;
        backlog(4, 1, [true, true], guarantee)
    })
}

#[test]
fn j7_a_backlog_of_several_instances() -> Done {
    with_both(|guarantee| backlog(3, 2, [true, true], guarantee))
}

/// A partition that does not move on for long: the others wait for a while, and go on.
#[test]
fn j7_nobody_waits_for_good() -> Done {
    with_both(|guarantee| {
        let side = |side: &str| {
            let policy = ErrorPolicy::skip().retry(3, Duration::from_secs(1000));
            let side = Side::topic(Input::topic(format!("join-{side}")).on_error(policy), Text);
            side.key_by(|text: &String| if text == "stuck" { panic!("on purpose") } else { text.clone() })
        };
        let case = Case { name: "", kind: Kind::Inner, windows: windows(), nulls: Nulls::OnClose, script: &[] };
        let tester = Tester::with_partitions(2);
        tester.add_with(case.graph_of("join", side("left"), side("right")), move |p| p.guarantee(guarantee))?;
        let left = tester.input("join-left", Text);
        left.push_at("k", Some(&"stuck".to_owned()), Some(0), Some(0))?;
        for n in 1..=5 {
            // Far ahead of the one that is stuck, and of each other.
            left.push_at("k", Some(&n.to_string()), Some(n * 100_000), Some(1))?;
        }
        let sent = tester.output(&repartition_topic("join", "pairs", "left"), Text);
        let mut found = Vec::new();
        tester.wait_until("all others are sent on", || {
            found.extend(values(&sent));
            found.len() == 5
        })?;
        assert!(tester.committed("join", "join-left", 0)?.unwrap_or_default() == 0, "it is stuck still");
        Ok(())
    })
}

/// Where nothing is to be re-keyed, nothing is waited for.
#[test]
fn j7_an_idle_side_holds_nobody_up() -> Done {
    with_both(|guarantee| {
        let case = Case { name: "", kind: Kind::Left, windows: windows(), nulls: Nulls::OnClose, script: &[] };
        let right = Side::topic("join-right", Text).key_by(|text: &String| text.clone());
        let tester = Tester::with_partitions(2);
        let graph = case.graph_of("join", Side::topic("join-left", Text), right);
        tester.add_with(graph, move |p| p.guarantee(guarantee).max_task_idle(ms(0)))?;
        let now = || tester.block_on(async { tokio::time::Instant::now() });
        let (left, began) = (tester.input("join-left", Text), now());
        for n in 0..50 {
            left.push_at("k", Some(&n.to_string()), Some(n * 1_000_000), None)?;
        }
        tester.drain()?;
        // Each was too far ahead of the one before.
        assert!(now() - began < Duration::from_secs(9), "somebody's patience was over");
        assert_eq!(values(&tester.output("join-out", Text)).len(), 49);
        Ok(())
    })
}
