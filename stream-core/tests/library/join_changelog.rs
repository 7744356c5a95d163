//! J9: what a join of two topics writes to its changelog, and what a store has of it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Bytes, Codec as _, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Side};
use stream_core::log::{Cleanup, Isolation, Log as _, OffsetSpec, TopicConfig, TopicPartition, TopicSpec};
use stream_core::processor::{Guarantee, Standbys};
use stream_core::store::{Direction, KeyRange, StoreBackend as _, StoreId};
use stream_core::testing::{TestOutput, TestRecord, Tester};
use stream_core::window::{JoinWindows, Nulls};

use crate::join_support::{Case, Kind, Step, emitted, usual};
use crate::support::{Done, live_keys, move_to_second, ms, passing, values, with_both};

const KEPT: &str = "join-kept-pairs";
/// The first bytes of the keys of what a join's changelog has (`time/stream_join/keys.rs`).
const RECORD: u8 = 1;
const MARK: u8 = 2;
const BOUND: u8 = 3;

fn graph(kind: Kind) -> Arc<GroupGraph> {
    Case { name: "", kind, windows: usual(), nulls: Nulls::OnClose, script: &[] }.graph("join")
}

/// A left join with a policy for its nulls.
fn with_policy(policy: ErrorPolicy) -> Arc<GroupGraph> {
    let mut g = Group::define("join");
    let out = g.output("join-out", Text);
    let (left, right) = (Side::topic("join-left", Text), Side::topic("join-right", Text));
    let windows = JoinWindows::around(ms(60)).grace(ms(10));
    g.stream_join("pairs", windows, left, right)
        .on_null_error(policy)
        .left(move |ctx, left, right| ctx.emit(out, ctx.key(), emitted(Some(left), right, ctx.timestamp())));
    g.build().unwrap()
}

type Made = Result<(Tester, TestOutput<String>), Box<dyn std::error::Error>>;

fn tester(graph: Arc<GroupGraph>, guarantee: Guarantee) -> Made {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    let out = tester.output("join-out", Text);
    Ok((tester, out))
}

fn push(tester: &Tester, records: &[&str]) -> Done {
    for step in records.iter().map(|record| Step::read(record)) {
        let input = tester.input(&format!("join-{}", step.side), Text);
        input.push_at(step.key.as_deref(), step.value.as_ref(), Some(step.at), None)?;
    }
    Ok(())
}

fn changelog(tester: &Tester) -> Vec<TestRecord<Vec<u8>>> {
    tester.output(KEPT, Bytes).read().unwrap()
}

/// How many records of the changelog have a kind of key.
fn count(tester: &Tester, kind: u8) -> usize {
    changelog(tester).iter().filter(|r| r.key.as_ref().unwrap()[0] == kind).count()
}

/// The time below which left records are closed.
fn closed(tester: &Tester) -> Option<i64> {
    let bound = changelog(tester).into_iter().rfind(|r| r.key.as_ref().unwrap()[0] == BOUND)?.value?;
    Some(i64::from_be_bytes(bound[8..].try_into().unwrap()) ^ i64::MIN)
}

/// Another instance takes over, which has nothing but the topics.
fn lose_the_machine(tester: &Tester) -> Done {
    tester.crash("join")?;
    tester.add_instance("join")?;
    let second = tester.handle("join", 1)?;
    tester.wait_until("the second has it", || !second.status().tasks.is_empty())?;
    Ok(())
}

/// How many entries the store of an instance has.
fn stored(tester: &Tester, instance: usize) -> usize {
    let name = format!("join:v2 of {0} and {0}", Text.name());
    let store = tester.stores("join", instance).unwrap().open(&StoreId::new(KEPT, 0), &name).unwrap();
    store.range(KeyRange::ALL, Direction::Forward).count()
}

#[test]
fn j9_a_kept_record_is_one_record_and_a_mark_at_most() -> Done {
    with_both(|guarantee| {
        let ranges: [(Kind, RangeInclusive<usize>); 3] =
            [(Kind::Inner, 0..=0), (Kind::Left, 300..=300), (Kind::Outer, 300..=300)];
        for (kind, marks) in ranges {
            let (tester, out) = tester(graph(kind), guarantee)?;
            let (left, right) = (tester.input("join-left", Text), tester.input("join-right", Text));
            for n in 0..400 {
                let (at, key) = (n * 20, format!("k{}", n % 7));
                left.push_at(&key, Some(&format!("l{n}")), Some(at), None)?;
                // Three of four have a match, and some of these a second one.
                if n % 4 > 0 {
                    right.push_at(&key, Some(&format!("r{n}")), Some(at + 1), None)?;
                }
                if n % 4 == 1 {
                    right.push_at(&key, Some(&format!("s{n}")), Some(at + 2), None)?;
                }
            }
            tester.drain()?;
            assert!(values(&out).len() >= 400);
            let (records, found) = (count(&tester, RECORD), count(&tester, MARK));
            assert_eq!(records, 800, "{kind:?}");
            // With exactly-once delivery some that were emitted may have one; with at-least-once delivery also what comes with
            // a match.
            let with_a_match = if kind == Kind::Outer { 400 } else { 0 };
            let (least, most) = if guarantee == Guarantee::ExactlyOnce { (0, 5) } else { (with_a_match, with_a_match) };
            assert!((marks.start() + least..=marks.end() + most).contains(&found), "{kind:?}: {found} marks");
            assert!(changelog(&tester).iter().all(|r| r.value.is_some()), "nothing is deleted");
            let bounds = count(&tester, BOUND);
            assert!((1..80).contains(&bounds), "{kind:?}: {bounds} bounds");
        }
        Ok(())
    })
}

/// The null is written neither before the crash nor, if the bound were ahead of it, after.
#[test]
fn j9_the_bound_does_not_close_a_null_that_is_not_acknowledged() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(graph(Kind::Left), guarantee)?;
        push(&tester, &["L a@0"])?;
        tester.drain()?;
        let refused = tester.log().faults().on(|r| r.topic == "join-out").fail(passing());
        push(&tester, &["L q:b@71"])?;
        for _ in 0..40 {
            tester.run_for(ms(50));
            assert!(closed(&tester) <= Some(0), "it is closed before its null is written");
        }
        assert!(refused.hits() > 1);
        tester.crash("join")?;
        drop(refused);
        tester.add_instance("join")?;
        tester.drain()?;
        assert_eq!(values(&out), ["[a,-]@0"]);
        tester.wait_until("it is closed", || closed(&tester) == Some(1))?;
        Ok(())
    })
}

#[test]
fn j9_a_match_is_not_forgotten_by_a_restore() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(graph(Kind::Outer), guarantee)?;
        push(&tester, &["L a@0", "R w:y@1"])?;
        tester.drain()?;
        push(&tester, &["R x@30", "L w:c@31"])?;
        tester.drain()?;
        // At least once, what comes with a match has a mark, too.
        let marks = if guarantee == Guarantee::ExactlyOnce { 2 } else { 4 };
        tester.wait_until("they are marked", || count(&tester, MARK) == marks)?;
        lose_the_machine(&tester)?;
        push(&tester, &["L z:z@1000"])?;
        tester.drain()?;
        assert_eq!(values(&out), ["[a,x]@30", "[c,y]@31"], "and no null");
        Ok(())
    })
}

#[test]
fn j9_a_standby_that_takes_over_has_the_order_by_time() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(graph(Kind::Left), move |p| p.guarantee(guarantee).standbys(Standbys::All))?;
        let out = tester.output("join-out", Text);
        tester.add_instance("join")?;
        push(&tester, &["L b@20", "L q:a@10", "L w:m@5", "R w:x@6"])?;
        tester.drain()?;
        tester.run_for(ms(5000));
        let owner = usize::from(tester.handle("join", 0)?.status().tasks.is_empty());
        assert!(stored(&tester, 1 - owner) >= 8, "the standby has read it: the records, each by key and by time");
        tester.crash_instance("join", owner)?;
        let other = tester.handle("join", 1 - owner)?;
        tester.wait_until("the standby's instance has it", || !other.status().tasks.is_empty())?;
        push(&tester, &["L z:z@1000"])?;
        tester.drain()?;
        assert_eq!(values(&out), ["[m,x]@6", "[a,-]@10", "[b,-]@20"]);
        Ok(())
    })
}

#[test]
fn j9_a_null_that_is_tried_again_holds_the_bound_back() -> Done {
    with_both(|guarantee| {
        let policy = ErrorPolicy::dead_letter("dead").retry(3, Duration::from_secs(10));
        let (tester, out) = tester(with_policy(policy), guarantee)?;
        push(&tester, &["L a@0"])?;
        tester.drain()?;
        tester.fail_callbacks(KEPT, 100, "on purpose");
        push(&tester, &["L q:b@71", "L q:c@300"])?;
        tester.run_for(ms(15_000));
        assert!(closed(&tester) <= Some(0), "it is tried again");
        lose_the_machine(&tester)?;
        assert_eq!(values(&out).len(), 0);
        tester.run_for(ms(120_000));
        tester.drain()?;
        tester.wait_until("it is closed", || closed(&tester) > Some(1))?;
        assert_eq!(values(&tester.output("dead", Text)), ["a", "b"], "they are put aside");
        assert_eq!(live_keys(&tester, KEPT), 1);
        Ok(())
    })
}

/// A crash between nulls of one time, of which some are in a transaction that is committed.
#[test]
fn j9_of_nulls_that_are_due_together_none_comes_twice() -> Done {
    let mut marked = 0;
    for nth in 0..8 {
        let tester = Tester::new();
        let exact = |p: stream_core::processor::Processor| p.guarantee(Guarantee::ExactlyOnce).in_flight_bytes(300);
        tester.add_with(graph(Kind::Left), exact)?;
        let out = tester.output("join-out", Text);
        let lefts: Vec<String> = (0..8).map(|n| format!("L k{n}:v{n}@5")).collect();
        for left in &lefts {
            push(&tester, &[left])?;
        }
        tester.drain()?;
        let mut seen = 0;
        let held = tester.log().faults().on(move |r| {
            seen += usize::from(r.topic == "join-out");
            r.topic == "join-out" && seen > nth
        });
        let held = held.hold_acks();
        push(&tester, &["L z:z@1000"])?;
        tester.run_for(ms(2000));
        marked += count(&tester, MARK);
        tester.crash("join")?;
        drop(held);
        tester.add_instance("join")?;
        tester.drain()?;
        let expected: Vec<_> = (0..8).map(|n| format!("[v{n},-]@5")).collect();
        assert_eq!(values(&out), expected, "{nth}");
        tester.wait_until("they are closed", || live_keys(&tester, KEPT) == 1)?;
    }
    assert!(marked > 0, "no transaction ended between them");
    Ok(())
}

/// A record that was passed over before it was due, for it has a match, and of which the store has no mark.
#[test]
fn j9_what_the_bound_closes_is_not_looked_at_again() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(graph(Kind::Left), move |p| p.guarantee(guarantee).checkpoint_interval(ms(20_000)))?;
        let out = tester.output("join-out", Text);
        push(&tester, &["L e:e@0", "L a@5"])?;
        tester.drain()?;
        // They are in the store now.
        tester.run_for(ms(21_000));
        for records in [&["R x@6", "L b:b@50"][..], &["R y:y@72"], &["R y:y@80"], &["R y:y@300"]] {
            push(&tester, records)?;
            tester.drain()?;
        }
        assert_eq!(values(&out), ["[a,x]@6", "[e,-]@0", "[b,-]@50"]);
        Ok(())
    })
}

#[test]
fn j9_stores_do_not_grow() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        let often = move |p: stream_core::processor::Processor| {
            p.guarantee(guarantee).standbys(Standbys::All).checkpoint_interval(ms(50))
        };
        tester.add_with(graph(Kind::Outer), often)?;
        tester.add_instance("join")?;
        let (left, right) = (tester.input("join-left", Text), tester.input("join-right", Text));
        for round in 0..20 {
            for n in 0..20 {
                let (at, key) = (round * 100 + n * 5, format!("k{}", n % 7));
                left.push_at(&key, Some(&"l".to_owned()), Some(at), None)?;
                right.push_at(&key, Some(&"r".to_owned()), Some(at + 1), None)?;
            }
            tester.drain()?;
            tester.run_for(ms(300));
            for instance in 0..2 {
                // 71 ms of records 5 ms apart on two sides: by key, by time, and a mark.
                let most = stored(&tester, instance);
                assert!(most <= 100, "{most} in store {instance} after round {round}");
            }
        }
        push(&tester, &["L z:z@100000"])?;
        tester.drain()?;
        let few = || (0..2).all(|instance| stored(&tester, instance) == 3);
        tester.wait_until("the last record, by key and by time, and the bound are left", few)?;
        Ok(())
    })
}

/// The first offset of the changelog.
fn start(tester: &Tester) -> i64 {
    let of = vec![(TopicPartition::new(KEPT, 0), OffsetSpec::Earliest)];
    tester.block_on(tester.log().offsets(of, Isolation::ReadCommitted)).unwrap()[0]
}

#[test]
fn j9_the_changelog_is_cut_below_what_is_kept() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(graph(Kind::Outer), guarantee)?;
        let mut open = 0;
        for round in 0..6 {
            // An open record, then others that are closed no sooner.
            push(&tester, &[&format!("L o{round}:open{round}@{}", round * 1000)])?;
            tester.drain()?;
            let records = changelog(&tester).into_iter().filter(|r| r.key.as_ref().unwrap()[0] == RECORD);
            let first = records.map(|r| r.offset).next_back().unwrap();
            for n in 0..10 {
                let (left, right) = (format!("L k:l@{}", round * 1000 + n), format!("R k:r@{}", round * 1000 + n));
                push(&tester, &[&left, &right])?;
                tester.drain()?;
            }
            tester.run_for(ms(65_000));
            let start = start(&tester);
            assert!(start <= first, "round {round}: an open record is cut off: {start} > {first}");
            assert!(round < 2 || start > open, "round {round}: {start} <= {open}");
            open = first;
        }
        lose_the_machine(&tester)?;
        push(&tester, &["L z:z@100000"])?;
        tester.drain()?;
        let nulls: Vec<_> = values(&out).into_iter().filter(|result| result.contains("open")).collect();
        let expected: Vec<_> = (0..6).map(|round| format!("[open{round},-]@{}", round * 1000)).collect();
        assert_eq!(nulls, expected);
        Ok(())
    })
}

/// The store of an instance that was away.
#[test]
fn j9_a_copy_behind_the_cut_goes_on_from_there() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(graph(Kind::Left), guarantee)?;
        push(&tester, &["L a@0", "R x@1"])?;
        tester.drain()?;
        move_to_second(&tester, "join")?;
        for round in 1..4 {
            push(&tester, &[&format!("L k:l@{}", round * 1000), &format!("L q:q@{}", round * 1000 + 1)])?;
            tester.drain()?;
            tester.run_for(ms(65_000));
        }
        assert!(start(&tester) > 2, "it was cut");
        tester.stop_instance("join", 1)?;
        tester.start_instance("join", 0)?;
        assert!(stored(&tester, 0) < 8, "what lies below is swept");
        push(&tester, &["L z:z@100000"])?;
        tester.drain()?;
        let last: Vec<_> = values(&out).into_iter().rev().take(2).collect();
        assert_eq!(last, ["[q,-]@3001", "[l,-]@3000"]);
        Ok(())
    })
}

/// A topic that can't be cut only grows, and the group goes on.
#[test]
fn j9_a_topic_that_is_only_compacted_is_not_cut() -> Done {
    let tester = Tester::new();
    let config = TopicConfig::new().cleanup(Cleanup::Compact).retention_ms(-1);
    tester.block_on(tester.log().create_topics(vec![TopicSpec::new(KEPT).partitions(1).config(config)]))?;
    tester.add(graph(Kind::Left))?;
    let out = tester.output("join-out", Text);
    for round in 0..4 {
        push(&tester, &[&format!("L k:l@{}", round * 1000)])?;
        tester.drain()?;
        tester.run_for(ms(65_000));
    }
    assert_eq!((start(&tester), values(&out).len()), (0, 3));
    Ok(())
}

#[test]
fn j9_what_an_earlier_version_kept_is_refused_with_the_way_on() -> Done {
    let old = "join-join-pairs";
    let tester = Tester::new();
    let config = TopicConfig::new().cleanup(Cleanup::Compact);
    tester.block_on(tester.log().create_topics(vec![TopicSpec::new(old).partitions(1).config(config)]))?;
    tester.add(graph(Kind::Left))?;
    tester.stop("join")?;
    tester.input(old, Bytes).push("k", vec![1])?;
    let error = tester.start_instance("join", 0).unwrap_err().to_string();
    assert!(error.contains(old) && error.contains("--delete"), "{error}");
    tester.block_on(tester.log().delete_topics(vec![old.into()]))?;
    tester.start_instance("join", 0)?;
    Ok(())
}
