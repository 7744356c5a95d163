//! A backlog that goes through a chain of re-keys is counted in windows as if it had come in its time, with any number of
//! instances, and whatever is restarted meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::Windows;

use crate::support::{Done, ms, values, with_both};

const MINUTE: i64 = 60_000;
const SECONDS: i64 = 900;
const PARTITIONS: i32 = 4;

/// Counts records by their minute, behind two re-keys.
fn counter(grace: u64) -> Arc<GroupGraph> {
    let mut g = Group::define("count");
    let out = g.output("finals", Text);
    let counts = g.window("counts", Windows::tumbling(ms(60_000)).grace(ms(grace)), Int64);
    let by_len = g.rekey(("in", Text), |_, text: &String| Ok(format!("length {}", text.len() % 5)));
    let by_user = g.rekey(by_len, |ctx, text: &String| Ok(format!("user {} {}", ctx.key_text()?, text.len() % 7)));
    g.on_loop(by_user, move |ctx, _| {
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{} {n}", window.start)));
    g.build().unwrap()
}

fn counted(grace: u64, instances: usize, restarts: bool, guarantee: Guarantee) -> Done {
    let tester = Tester::with_partitions(PARTITIONS);
    tester.add_with(counter(grace), move |p| p.guarantee(guarantee))?;
    for _ in 1..instances {
        tester.add_instance("count")?;
    }
    tester.stop("count")?;
    let input = tester.input("in", Text);
    for partition in 0..PARTITIONS {
        for n in 0..SECONDS {
            let text = "x".repeat(usize::try_from(n * 31 % 40 + i64::from(partition))?);
            input.push_at("k", Some(&text), Some(n * 1000), Some(partition))?;
        }
    }
    tester.restart("count")?;
    for _ in 0..if restarts { 3 } else { 0 } {
        tester.run_for(ms(400));
        tester.restart("count")?;
    }
    tester.drain()?;
    let what = format!("{guarantee:?}, grace {grace}, {instances} instances");
    assert_eq!(tester.late("count")?, 0, "{what}");
    // What closes the last windows: enough of them for each partition behind.
    for n in 0..400_u16 {
        let text = "x".repeat(usize::from(n));
        input.push_at("k", Some(&text), Some(SECONDS * 10_000), None)?;
    }
    tester.drain()?;
    let mut of: BTreeMap<i64, i64> = BTreeMap::new();
    for result in values(&tester.output("finals", Text)) {
        let (start, n) = result.split_once(' ').ok_or("a count")?;
        *of.entry(start.parse()?).or_default() += n.parse::<i64>()?;
    }
    let each = 60 * i64::from(PARTITIONS);
    let all: BTreeMap<i64, i64> = (0..SECONDS * 1000 / MINUTE).map(|minute| (minute * MINUTE, each)).collect();
    if guarantee == Guarantee::ExactlyOnce || !restarts {
        assert_eq!(of, all, "{what}");
    } else {
        assert!(all.iter().all(|(minute, n)| of.get(minute).is_some_and(|found| found >= n)), "{what}: {of:?}");
    }
    Ok(())
}

#[test]
fn d16_a_backlog_through_a_chain_is_counted_as_if_it_had_come_in_its_time() -> Done {
    with_both(|guarantee| [0, 10_000].into_iter().try_for_each(|grace| counted(grace, 1, false, guarantee)))
}

#[test]
fn d16_it_is_by_several_instances_and_restarts() -> Done {
    with_both(|guarantee| counted(10_000, 2, false, guarantee))?;
    with_both(|guarantee| counted(10_000, 3, true, guarantee))
}
