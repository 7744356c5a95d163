//! Partitions move between instances: joining, leaving, crashing, losing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{Log, TopicPartition};
use stream_core::processor::{Rebalance, State, TaskState};
use stream_core::testing::Tester;

use crate::support::{Done, Gate, Notes, ms, table, values};

/// Counts what comes for a key by two inputs, and emits each count.
fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("out", Text);
    for topic in ["left", "right"] {
        g.input(topic, Text, move |ctx, text: String| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), format!("{text}={n}"))?;
            ctx.set(n)
        });
    }
    g.build().unwrap()
}

/// Pushes records with numbers, and knows what must come of them.
struct Traffic<'t> {
    tester: &'t Tester,
    sent: usize,
    counts: BTreeMap<String, i64>,
}

impl Traffic<'_> {
    fn push(&mut self, n: usize) -> Done {
        for _ in 0..n {
            let key = format!("k{}", self.sent * 31 % 23);
            let topic = ["left", "right"][self.sent % 2];
            self.tester.input(topic, Text).push(&key, self.sent.to_string())?;
            *self.counts.entry(key).or_default() += 1;
            self.sent += 1;
        }
        Ok(())
    }
}

/// How often each record was counted, by the output.
fn emitted(tester: &Tester) -> BTreeMap<usize, usize> {
    let mut seen = BTreeMap::new();
    for text in values(&tester.output("out", Text)) {
        *seen.entry(text.split('=').next().unwrap().parse().unwrap()).or_default() += 1;
    }
    seen
}

fn owners(tester: &Tester, instances: usize) -> Vec<usize> {
    (0..instances).map(|i| tester.handle("count", i).unwrap().status().tasks.len()).collect()
}

#[test]
fn counts_are_exact_while_instances_join_and_leave_in_order() -> Done {
    let tester = Tester::with_partitions(6);
    tester.add(counter())?;
    let mut traffic = Traffic { tester: &tester, sent: 0, counts: BTreeMap::new() };
    traffic.push(100)?;
    tester.add_instance("count")?;
    traffic.push(100)?;
    tester.run_for(ms(30));
    tester.add_instance("count")?;
    traffic.push(100)?;
    tester.wait_until("all have a share", || owners(&tester, 3) == [4, 4, 4])?;
    traffic.push(100)?;
    tester.stop_instance("count", 0)?;
    traffic.push(100)?;
    tester.run_for(ms(10));
    tester.log().faults().rebalance("count");
    traffic.push(100)?;
    tester.start_instance("count", 0)?;
    tester.stop_instance("count", 1)?;
    traffic.push(100)?;
    tester.stop_instance("count", 2)?;
    traffic.push(100)?;
    tester.drain()?;
    let everything: BTreeMap<usize, usize> = (0..traffic.sent).map(|i| (i, 1)).collect();
    assert_eq!(emitted(&tester), everything, "each record once");
    assert_eq!(table(&tester, "count", Int64), traffic.counts);
    // And from an instance that has nothing of its own.
    tester.stop("count")?;
    tester.add_instance("count")?;
    traffic.push(100)?;
    tester.drain()?;
    assert_eq!(table(&tester, "count", Int64), traffic.counts);
    Ok(())
}

#[test]
fn counts_are_exact_through_many_rebalances_under_load() -> Done {
    let tester = Tester::with_partitions(4);
    tester.add(counter())?;
    tester.add_instance("count")?;
    tester.add_instance("count")?;
    let slow = tester.log().faults().on(|r| r.topic == "out" && r.partition == 1).delay(ms(15));
    let mut traffic = Traffic { tester: &tester, sent: 0, counts: BTreeMap::new() };
    for round in 0..30 {
        traffic.push(20)?;
        tester.run_for(ms(round % 7 * 3));
        tester.log().faults().rebalance("count");
    }
    drop(slow);
    tester.drain()?;
    let everything: BTreeMap<usize, usize> = (0..traffic.sent).map(|i| (i, 1)).collect();
    assert_eq!(emitted(&tester), everything, "each record once");
    assert_eq!(table(&tester, "count", Int64), traffic.counts);
    Ok(())
}

#[test]
fn a_crash_loses_nothing() -> Done {
    let tester = Tester::with_partitions(4);
    tester.add(counter())?;
    tester.add_instance("count")?;
    let mut traffic = Traffic { tester: &tester, sent: 0, counts: BTreeMap::new() };
    for round in 0..6 {
        traffic.push(50)?;
        tester.run_for(ms(round));
        tester.crash_instance("count", 1)?;
        traffic.push(50)?;
        tester.run_for(ms(round * 2));
        tester.start_instance("count", 1)?;
    }
    tester.drain()?;
    let emitted = emitted(&tester);
    let lost: Vec<usize> = (0..traffic.sent).filter(|i| !emitted.contains_key(i)).collect();
    assert_eq!(lost, Vec::<usize>::new());
    let counts = table(&tester, "count", Int64);
    assert!(traffic.counts.iter().all(|(key, n)| counts[key] >= *n), "{counts:?}");
    Ok(())
}

/// The revocation is held until what is under way is done and committed.
#[test]
fn a_partition_is_handed_over_with_all_that_was_begun() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let mut g = Group::define("count").table(Int64);
    let (passed, noted) = (gate.clone(), begun.clone());
    g.input_async("in", Text, async move |ctx, text: String| {
        noted.add(text.clone());
        passed.pass(&text).await;
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| p.drain_timeout(Duration::from_secs(20)))?;
    let input = tester.input("in", Text);
    for key in ["a", "b", "a"] {
        input.push(key, key.to_owned())?;
    }
    tester.wait_until("two callbacks begin", || begun.len() == 2)?;
    let two = tester.add_instance("count")?;
    // The one partition goes to the other instance.
    tester.log().faults().rebalance("count");
    tester.run_for(ms(500));
    let states: Vec<_> = tester.handle("count", 0)?.status().tasks.into_values().collect();
    assert_eq!(states, [TaskState::Draining]);
    assert_eq!(tester.handle("count", two)?.status().tasks.len(), 0);
    gate.open_all();
    tester.drain()?;
    assert_eq!(
        begun.all(),
        ["a", "b", "a"],
        "what had not begun was left to the next owner, and nothing is done twice"
    );
    assert_eq!(tester.handle("count", two)?.status().tasks.len(), 1);
    assert_eq!(table(&tester, "count", Int64), crate::support::pairs([("a", 2), ("b", 1)]));
    Ok(())
}

#[test]
fn work_that_does_not_end_in_time_is_left_to_the_next_owner() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let mut g = Group::define("count").table(Int64);
    let (passed, noted) = (gate.clone(), begun.clone());
    g.input_async("in", Text, async move |ctx, text: String| {
        noted.add(text.clone());
        passed.pass(&text).await;
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| p.drain_timeout(Duration::from_secs(5)))?;
    gate.open("quick");
    let input = tester.input("in", Text);
    input.push("quick", "quick".to_owned())?;
    input.push("slow", "slow".to_owned())?;
    input.push("quick", "quick".to_owned())?;
    tester.run_for(ms(100));
    tester.add_instance("count")?;
    tester.log().faults().rebalance("count");
    tester.run_for(Duration::from_secs(20));
    assert_eq!(tester.committed("count", "in", 0)?, Some(1));
    assert_eq!(begun.all(), ["quick", "slow", "quick", "slow", "quick"], "both have begun it");
    gate.open_all();
    tester.drain()?;
    assert_eq!(table(&tester, "count", Int64), crate::support::pairs([("quick", 2), ("slow", 1)]));
    tester.restart("count")?;
    tester.run_for(ms(100));
    assert_eq!(table(&tester, "count", Int64), crate::support::pairs([("quick", 2), ("slow", 1)]));
    Ok(())
}

#[test]
fn a_lost_partition_is_not_committed_by_who_lost_it() -> Done {
    let events = Notes::new();
    let noted = events.clone();
    let tester = Tester::with_partitions(2);
    tester.add_with(counter(), move |p| {
        let noted = noted.clone();
        p.on_rebalance(move |event| noted.add(event.clone()))
    })?;
    let input = tester.input("left", Text);
    for partition in [0, 1] {
        input.push_at(format!("p{partition}"), Some(&"0".to_owned()), None, Some(partition))?;
    }
    tester.drain()?;
    let hold = tester.log().faults().on(|r| r.topic == "out").hold_acks();
    for partition in [0, 1] {
        input.push_at(format!("p{partition}"), Some(&"1".to_owned()), None, Some(partition))?;
    }
    tester.run_for(ms(50));
    let members = tester.block_on(tester.log().group_members("count".into()))?;
    assert!(tester.log().faults().expire_member("count", &members[0].member_id));
    tester.run_for(ms(1));
    let lost = |e: &Rebalance| matches!(e, Rebalance::Lost(p) if p.len() == 4);
    tester.wait_until("it learns of it", || events.all().iter().any(lost))?;
    // It comes back, and does again what was not committed.
    tester.run_for(ms(50));
    assert_eq!(tester.committed("count", "left", 0)?, Some(1));
    drop(hold);
    tester.drain()?;
    assert_eq!(tester.committed("count", "left", 0)?, Some(2));
    let counts = table(&tester, "count", Int64);
    // The changelog had it already: at least once.
    assert!(counts.values().all(|n| (2..=3).contains(n)), "{counts:?}");
    Ok(())
}

/// Lost while it is being handed over: what was done before counts no more, for somebody else may have gone further.
#[test]
fn a_hand_over_past_its_bound_commits_nothing() -> Done {
    let tester = Tester::new();
    // The log gives up waiting ten seconds after the drain's own bound.
    tester.add_with(counter(), |p| {
        p.drain_timeout(Duration::from_secs(3600))
            .session_timeout(Duration::from_secs(9000))
            .commit_interval(Duration::from_secs(2))
    })?;
    let input = tester.input("left", Text);
    input.send("k", "0".to_owned())?;
    let hold = tester.log().faults().on(|r| r.topic == "out").times(1).hold_acks();
    input.push("k", "1".to_owned())?;
    tester.run_for(ms(50));
    let two = tester.add_instance("count")?;
    tester.log().faults().rebalance("count");
    tester.run_for(ms(50));
    assert_eq!(tester.handle("count", two)?.status().tasks.len(), 0, "the other one waits");
    let members = tester.block_on(tester.log().group_members("count".into()))?;
    assert!(tester.log().faults().expire_member("count", &members[0].member_id));
    tester.wait_until("the other one has it", || tester.handle("count", two).unwrap().status().tasks.len() == 2)?;
    input.push("k", "2".to_owned())?;
    tester.wait_until("it goes on", || tester.committed("count", "left", 0).unwrap() == Some(3))?;
    drop(hold);
    tester.run_for(Duration::from_secs(7200));
    assert_eq!(tester.committed("count", "left", 0)?, Some(3), "nobody goes back");
    assert!(tester.failure("count").is_none());
    assert_eq!(emitted(&tester).keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    Ok(())
}

#[test]
fn an_instance_without_a_share_runs_all_the_same() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let spare = tester.add_instance("count")?;
    assert_eq!(tester.handle("count", spare)?.status().state, State::Running);
    tester.input("left", Text).send("k", "0".to_owned())?;
    tester.crash_instance("count", 0)?;
    tester.input("left", Text).push("k", "1".to_owned())?;
    tester.drain()?;
    assert_eq!(table(&tester, "count", Int64), crate::support::pairs([("k", 2)]));
    let of: Vec<TopicPartition> = tester.handle("count", spare)?.status().tasks.into_keys().collect();
    assert_eq!(of, [TopicPartition::new("left", 0), TopicPartition::new("right", 0)]);
    Ok(())
}

#[test]
fn a_stop_while_partitions_are_revoked_finishes_both() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let mut g = Group::define("count").table(Int64);
    let (passed, noted) = (gate.clone(), begun.clone());
    g.input_async("in", Text, async move |ctx, text: String| {
        noted.add(text.clone());
        passed.pass("door").await;
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let other = tester.add_instance("count")?;
    tester.stop_instance("count", other)?;
    let input = tester.input("in", Text);
    for key in ["a", "b"] {
        input.push(key, "x".to_owned())?;
    }
    tester.wait_until("both begin", || begun.len() == 2)?;
    // First a stop, then the revocation, then the end of the work: both ask the same tasks to end.
    tester.handle("count", 0)?.stop();
    tester.run_for(ms(50));
    // Not waited for: it gets its share when the first one lets go.
    tester.spawn_instance("count", other)?;
    tester.run_for(ms(50));
    tester.log().faults().rebalance("count");
    tester.run_for(ms(50));
    gate.open_all();
    tester.stop_instance("count", 0)?;
    tester.drain()?;
    assert_eq!(begun.len(), 2, "nothing is done again");
    assert_eq!(table(&tester, "count", Int64), crate::support::pairs([("a", 1), ("b", 1)]));
    Ok(())
}

/// Both commit at last. The one for the stop fails for now and is tried again, and must not come after the one for the
/// revocation: the next owner has gone further by then.
#[test]
fn a_stop_whose_commit_fails_does_not_set_the_next_owner_back() -> Done {
    let tester = Tester::new();
    tester.add_with(counter(), |p| p.commit_interval(Duration::from_secs(3600)))?;
    let other = tester.add_instance("count")?;
    let owner = usize::from(owners(&tester, 2)[0] == 0);
    let next = if owner == 0 { other } else { 0 };
    let input = tester.input("left", Text);
    input.push("k", "0".to_owned())?;
    tester.run_for(ms(50));
    tester.log().faults().fail_offset_commit(crate::support::passing());
    tester.handle("count", owner)?.stop();
    tester.run_for(ms(10));
    tester.log().faults().rebalance("count");
    let taken_over = || tester.handle("count", next).unwrap().status().tasks.len() == 2;
    tester.wait_until("the other one has it", taken_over)?;
    input.push("k", "1".to_owned())?;
    tester.run_for(ms(50));
    tester.stop_instance("count", next)?;
    tester.run_for(Duration::from_secs(10));
    assert_eq!(tester.committed("count", "left", 0)?, Some(2), "nobody goes back");
    assert_eq!(emitted(&tester), BTreeMap::from([(0, 1), (1, 1)]), "each record once");
    Ok(())
}
