//! D11: a position belongs to a topic's id and to the state that contains it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{Log, MemberEvent, MemberOptions, Subscription, TopicPartition, TopicSpec};
use stream_core::processor::{Guarantee, OnLostPosition, OnPositionMismatch, Processor, ProcessorError};
use stream_core::store::StoreBackend as _;
use stream_core::testing::Tester;

use crate::support::{Done, Outcome, pairs, table, values, with_both};

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("counter").table(Int64);
    g.input("in", Text, |ctx, _text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

/// One that keeps time as well.
fn timed_counter() -> Arc<GroupGraph> {
    let mut g = Group::define("counter").table(Int64);
    let timer = g.timer("never", Text);
    g.on_timer(timer, |_ctx, _text: String| Ok(()));
    g.input("in", Text, |ctx, _text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

fn copier() -> Arc<GroupGraph> {
    let mut g = Group::define("counter");
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    g.build().unwrap()
}

fn with(guarantee: Guarantee) -> impl Fn(Processor) -> Processor + Clone {
    move |p| p.guarantee(guarantee)
}

/// A stopped group that has counted three records of one key.
fn three_counted(graph: Arc<GroupGraph>, guarantee: Guarantee) -> Outcome<Tester> {
    let tester = Tester::new();
    tester.add_with(graph, with(guarantee))?;
    for text in ["a", "b", "c"] {
        tester.input("in", Text).send("k", text.to_owned())?;
    }
    assert_eq!(table(&tester, "counter", Int64), pairs([("k", 3)]));
    tester.stop("counter")?;
    Ok(tester)
}

/// Sets an offset of the stopped group, as `kafka-consumer-groups.sh` does: without metadata.
fn set_offset(tester: &Tester, topic: &str, to: i64) -> Done {
    let log = tester.log();
    let options = MemberOptions::new("counter", Subscription::Topics(vec![topic.into()]));
    Ok(tester.block_on(async {
        let mut member = log.member(options)?;
        let MemberEvent::Assigned(assigned) = member.next().await? else { panic!("an assignment") };
        member.group().commit(vec![(TopicPartition::new(topic, 0), to)]).await?;
        drop(assigned);
        member.close().await
    })?)
}

fn recreate(tester: &Tester, topic: &str) -> Done {
    let log = tester.log();
    tester.block_on(log.delete_topics(vec![topic.into()]))?;
    Ok(tester.block_on(log.create_topics(vec![TopicSpec::new(topic)]))?)
}

fn failure(tester: &Tester) -> ProcessorError {
    let failed = || tester.failure("counter").is_some();
    tester.wait_until("it fails", failed).expect("it fails");
    tester.failure("counter").expect("it is refused")
}

#[test]
fn offsets_that_are_forgotten_are_found_in_the_state() -> Done {
    for graph in [counter, timed_counter] {
        with_both(|guarantee| {
            let tester = three_counted(graph(), guarantee)?;
            tester.log().faults().forget_offsets("counter", None);
            assert_eq!(tester.committed("counter", "in", 0)?, None);
            tester.restart("counter")?;
            tester.drain()?;
            assert_eq!(table(&tester, "counter", Int64), pairs([("k", 3)]));
            assert_eq!(tester.committed("counter", "in", 0)?, Some(3));
            tester.input("in", Text).send("k", "d".to_owned())?;
            assert_eq!(table(&tester, "counter", Int64), pairs([("k", 4)]));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn another_machine_finds_them_too() -> Done {
    for graph in [counter, timed_counter] {
        with_both(|guarantee| {
            let tester = three_counted(graph(), guarantee)?;
            tester.log().faults().forget_offsets("counter", None);
            let stores = tester.stores("counter", 0)?;
            for id in stores.list()? {
                stores.destroy(&id)?;
            }
            tester.restart("counter")?;
            tester.drain()?;
            assert_eq!(table(&tester, "counter", Int64), pairs([("k", 3)]));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_topic_that_is_recreated_while_the_group_is_stopped_is_refused() -> Done {
    for graph in [counter, timed_counter] {
        with_both(|guarantee| {
            let tester = three_counted(graph(), guarantee)?;
            recreate(&tester, "in")?;
            for text in ["x", "y", "z", "w"] {
                tester.input("in", Text).push("k", text.to_owned())?;
            }
            tester.spawn_instance("counter", 0)?;
            let error = format!("{:?}", failure(&tester));
            assert!(error.contains("in[0]") && error.contains("recreated") && error.contains("position 3"), "{error}");
            assert!(error.contains("on_lost_position"), "the way on: {error}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_topic_that_is_recreated_while_the_group_runs_keeps_no_old_position() -> Done {
    for graph in [counter, copier] {
        with_both(|guarantee| {
            let tester = Tester::new();
            tester.add_with(graph(), with(guarantee))?;
            for _ in 0..10 {
                tester.input("in", Text).send("k", "old".to_owned())?;
            }
            recreate(&tester, "in")?;
            for _ in 0..20 {
                tester.input("in", Text).push("k", "new".to_owned())?;
            }
            let error = format!("{:?}", failure(&tester));
            assert!(error.contains("recreated"), "{error}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_group_goes_on_in_a_recreated_topic_where_the_option_says() -> Done {
    for (policy, new) in [(OnLostPosition::Earliest, 4), (OnLostPosition::Latest, 0)] {
        with_both(|guarantee| {
            let tester = Tester::new();
            tester.add_with(counter(), move |p| p.guarantee(guarantee).on_lost_position(policy))?;
            for _ in 0..10 {
                tester.input("in", Text).send("k", "old".to_owned())?;
            }
            tester.stop("counter")?;
            recreate(&tester, "in")?;
            for _ in 0..4 {
                tester.input("in", Text).push("k", "new".to_owned())?;
            }
            tester.restart("counter")?;
            tester.drain()?;
            assert_eq!(table(&tester, "counter", Int64), pairs([("k", 10 + new)]));
            assert_eq!(tester.committed("counter", "in", 0)?, Some(4));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_running_group_goes_on_in_a_recreated_topic_where_the_option_says() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(counter(), move |p| p.guarantee(guarantee).on_lost_position(OnLostPosition::Earliest))?;
        for _ in 0..10 {
            tester.input("in", Text).send("k", "old".to_owned())?;
        }
        recreate(&tester, "in")?;
        for _ in 0..4 {
            tester.input("in", Text).push("k", "new".to_owned())?;
        }
        tester.run_for(Duration::from_secs(60));
        assert_eq!(tester.failure("counter").map(|e| format!("{e:?}")), None);
        assert_eq!(table(&tester, "counter", Int64), pairs([("k", 14)]));
        Ok(())
    })
}

#[test]
fn a_position_that_retention_has_passed_is_reported_with_both_numbers_and_the_way_on() -> Done {
    for (graph, policy) in [
        (counter as fn() -> _, OnLostPosition::Fail),
        (copier, OnLostPosition::Fail),
        (counter, OnLostPosition::Earliest),
    ] {
        with_both(|guarantee| {
            let tester = Tester::new();
            tester.add_with(graph(), move |p| p.guarantee(guarantee).on_lost_position(policy))?;
            tester.input("in", Text).send("k", "0".to_owned())?;
            tester.stop("counter")?;
            for text in 1..10 {
                tester.input("in", Text).push("k", text.to_string())?;
            }
            tester.block_on(tester.log().delete_records(vec![(TopicPartition::new("in", 0), 5)]))?;
            if policy == OnLostPosition::Fail {
                tester.spawn_instance("counter", 0)?;
                let error = format!("{:?}", failure(&tester));
                assert!(error.contains("in[0] has no offset 1 (its records are 5..10)"), "{error}");
                assert!(error.contains("on_lost_position") && error.contains("--reset-offsets"), "{error}");
            } else {
                tester.restart("counter")?;
                tester.drain()?;
                assert_eq!(table(&tester, "counter", Int64), pairs([("k", 6)]));
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_position_that_retention_passes_while_the_group_runs_is_reported_as_well() -> Done {
    let mut g = Group::define("counter");
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| p.on_lost_position(OnLostPosition::Earliest))?;
    tester.input("in", Text).send("k", "0".to_owned())?;
    let hold = tester.log().faults().hold_fetches("in");
    for text in 1..10 {
        tester.input("in", Text).push("k", text.to_string())?;
    }
    tester.block_on(tester.log().delete_records(vec![(TopicPartition::new("in", 0), 5)]))?;
    drop(hold);
    tester.drain()?;
    assert_eq!(values(&tester.output("out", Text)), ["0", "5", "6", "7", "8", "9"]);
    Ok(())
}

#[test]
fn offsets_set_by_a_tool_count_with_at_least_once() -> Done {
    for graph in [counter, timed_counter] {
        let tester = three_counted(graph(), Guarantee::AtLeastOnce)?;
        set_offset(&tester, "in", 1)?;
        tester.restart("counter")?;
        tester.drain()?;
        assert_eq!(table(&tester, "counter", Int64), pairs([("k", 5)]));
    }
    Ok(())
}

#[test]
fn offsets_set_by_a_tool_are_refused_with_exactly_once_until_somebody_says_which_count() -> Done {
    for graph in [counter, timed_counter] {
        let tester = three_counted(graph(), Guarantee::ExactlyOnce)?;
        set_offset(&tester, "in", 1)?;
        tester.spawn_instance("counter", 0)?;
        let error = format!("{:?}", failure(&tester));
        assert!(error.contains("committed offset is 1") && error.contains("below 3"), "{error}");
        assert!(error.contains("on_position_mismatch"), "{error}");
        for (which, count) in [(OnPositionMismatch::State, 3), (OnPositionMismatch::Committed, 5)] {
            let tester = Tester::new();
            tester.add_with(graph(), move |p| p.guarantee(Guarantee::ExactlyOnce).on_position_mismatch(which))?;
            for text in ["a", "b", "c"] {
                tester.input("in", Text).send("k", text.to_owned())?;
            }
            tester.stop("counter")?;
            set_offset(&tester, "in", 1)?;
            tester.restart("counter")?;
            tester.drain()?;
            assert_eq!(table(&tester, "counter", Int64), pairs([("k", count)]));
            assert_eq!(tester.committed("counter", "in", 0)?, Some(3));
        }
    }
    Ok(())
}

#[test]
fn a_change_of_the_guarantee_is_no_difference() -> Done {
    for (first, second) in
        [(Guarantee::AtLeastOnce, Guarantee::ExactlyOnce), (Guarantee::ExactlyOnce, Guarantee::AtLeastOnce)]
    {
        let now = Arc::new(Mutex::new(first));
        let set = Arc::clone(&now);
        let tester = Tester::new();
        tester.add_with(counter(), move |p| p.guarantee(*set.lock().unwrap()))?;
        for text in ["a", "b", "c"] {
            tester.input("in", Text).send("k", text.to_owned())?;
        }
        tester.stop("counter")?;
        *now.lock().unwrap() = second;
        tester.restart("counter")?;
        tester.input("in", Text).send("k", "d".to_owned())?;
        assert_eq!(table(&tester, "counter", Int64), pairs([("k", 4)]));
        assert_eq!(tester.failure("counter").map(|e| format!("{e:?}")), None);
    }
    Ok(())
}
