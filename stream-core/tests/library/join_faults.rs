//! Joins while something breaks: whatever is not acknowledged is done again, and neither a match nor a null gets lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stream_core::codec::{Bytes, Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupGraph, Input, Side, repartition_topic};
use stream_core::processor::Guarantee;
use stream_core::testing::{TestOutput, Tester};
use stream_core::window::{JoinWindows, Nulls};

use crate::join_support::{Case, Kind, Step, emitted, usual};
use crate::support::{Done, live_keys, ms, passing, table, values, with_both};

/// What comes: a match, an unmatched record on either side, and much that makes them due.
const RECORDS: [&str; 8] =
    ["L a@0", "L q:b@10", "R x@30", "L c@40", "R w:y@50", "R v:v@100", "L u:u@160", "R z:z@1000"];

/// What is to be emitted for it, in order.
const EMITTED: [&str; 6] = ["[a,x]@30", "[c,x]@40", "[b,-]@10", "[-,y]@50", "[-,v]@100", "[u,-]@160"];

/// The topics that are written to, with about as many records as they get.
const WRITTEN: [(&str, usize); 3] = [("join-out", 6), ("join-kept-pairs", 16), ("join-time", 6)];

fn outer() -> Case {
    Case { name: "", kind: Kind::Outer, windows: usual(), nulls: Nulls::OnClose, script: &[] }
}

/// The group, and all the records before it begins: they are read in the order of their times.
fn tester(
    guarantee: Guarantee,
    graph: &Arc<GroupGraph>,
) -> Result<(Tester, TestOutput<String>), Box<dyn std::error::Error>> {
    let tester = Tester::new();
    // A batch for each record or two, so that a part of the work is acknowledged.
    tester.add_with(Arc::clone(graph), move |p| p.guarantee(guarantee).in_flight_bytes(400))?;
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

/// Exactly once the same is emitted in the same order; at least once nothing is missing, nothing comes from nowhere, and no
/// null comes after a match. In the end nothing but the last record is kept.
fn holds(tester: &Tester, out: &TestOutput<String>, guarantee: Guarantee, what: &str) -> Done {
    let found = values(out);
    if guarantee == Guarantee::ExactlyOnce {
        assert_eq!(found, EMITTED, "{what}");
    } else {
        let set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(set(&found), set(&EMITTED.map(ToOwned::to_owned)), "{what}: {found:?}");
    }
    tester.wait_until("the rest is closed", || live_keys(tester, "join-kept-pairs") == 1)?;
    Ok(())
}

/// Each record of each topic that the group writes fails once: not written, or written and not acknowledged.
#[test]
fn a_delivery_that_fails_loses_and_doubles_nothing() -> Done {
    with_both(|guarantee| {
        let graph = outer().graph("join");
        for (topic, records) in WRITTEN {
            for nth in 0..records {
                for written in [false, true] {
                    let what = format!("{guarantee:?}: record {nth} of {topic}, written: {written}");
                    let (tester, out) = tester(guarantee, &graph)?;
                    let mut seen = 0;
                    let fault = tester.log().faults().on(move |r| {
                        let hit = r.topic == topic && seen == nth;
                        seen += usize::from(r.topic == topic);
                        hit
                    });
                    let fault = fault.times(1);
                    let _fault = if written { fault.fail_after_write(passing()) } else { fault.fail(passing()) };
                    push(&tester, &RECORDS)?;
                    tester.drain().map_err(|e| format!("{what}: {e}"))?;
                    holds(&tester, &out, guarantee, &what)?;
                }
            }
        }
        Ok(())
    })
}

/// The process dies while the acknowledgement of each record of each topic is on its way.
#[test]
fn a_crash_at_any_moment_loses_and_doubles_nothing() -> Done {
    with_both(|guarantee| {
        let graph = outer().graph("join");
        for (topic, records) in WRITTEN {
            for nth in 0..records {
                let what = format!("{guarantee:?}: record {nth} of {topic}");
                let (tester, out) = tester(guarantee, &graph)?;
                let mut seen = 0;
                let held = tester.log().faults().on(move |r| {
                    seen += usize::from(r.topic == topic);
                    r.topic == topic && seen > nth
                });
                let held = held.hold_acks();
                push(&tester, &RECORDS)?;
                tester.run_for(ms(2000));
                tester.crash("join")?;
                drop(held);
                tester.start_instance("join", 0)?;
                tester.drain().map_err(|e| format!("{what}: {e}"))?;
                holds(&tester, &out, guarantee, &what)?;
            }
        }
        Ok(())
    })
}

/// A record that is done again finds what came after it the first time, and what it had found.
#[test]
fn a_match_that_came_later_is_not_forgotten_when_a_record_is_done_again() -> Done {
    let (tester, out) = tester(Guarantee::AtLeastOnce, &outer().graph("join"))?;
    // Nothing is committed, but everything is written. The left record is over before the right one.
    tester.log().faults().set_coordinating(false);
    push(&tester, &["R x@60"])?;
    tester.wait_until("it is kept", || live_keys(&tester, "join-kept-pairs") == 1)?;
    push(&tester, &["L a@0"])?;
    tester.wait_until("it is kept, too", || live_keys(&tester, "join-kept-pairs") == 2)?;
    push(&tester, &["L q:q@71"])?;
    // The time below which left records are closed.
    let closed = || {
        let bounds = tester.output("join-kept-pairs", Bytes).read().unwrap();
        let bound = bounds.into_iter().rfind(|r| r.key.as_deref() == Some(&[3]))?.value?;
        Some(i64::from_be_bytes(bound[8..].try_into().unwrap()) ^ i64::MIN)
    };
    tester.wait_until("the first left one is closed", || closed() == Some(1))?;
    tester.crash("join")?;
    tester.log().faults().set_coordinating(true);
    tester.start_instance("join", 0)?;
    push(&tester, &["L z:z@1000"])?;
    tester.drain()?;
    let found = values(&out);
    assert!(found.contains(&"[a,x]@60".to_owned()), "{found:?}");
    assert!(!found.contains(&"[-,x]@60".to_owned()) && !found.contains(&"[a,-]@0".to_owned()), "{found:?}");
    Ok(())
}

/// The match is not written, though all else of its record is; and when its record is done again, it is skipped.
#[test]
fn a_match_that_was_lost_leaves_its_record_the_null() -> Done {
    with_both(|guarantee| {
        let is_bad = Arc::new(AtomicBool::new(false));
        let graph = {
            let is_bad = Arc::clone(&is_bad);
            let mut g = Group::define("join");
            let out = g.output("join-out", Text);
            let side =
                |side: &str| Side::topic(Input::topic(format!("join-{side}")).on_error(ErrorPolicy::skip()), Text);
            g.stream_join("pairs", usual(), side("left"), side("right")).outer(move |ctx, left, right| {
                if is_bad.load(Ordering::SeqCst) && left.is_some() && right.is_some() {
                    return Err(CallbackError::msg("on purpose"));
                }
                ctx.emit(out, ctx.key(), emitted(left, right, ctx.timestamp()))
            });
            g.build()?
        };
        for first in [["L a@0", "R x@20"], ["R x@20", "L a@0"]] {
            is_bad.store(false, Ordering::SeqCst);
            let (tester, out) = tester(guarantee, &graph)?;
            push(&tester, &first[..1])?;
            tester.wait_until("it is kept", || live_keys(&tester, "join-kept-pairs") == 1)?;
            let lost = tester.log().faults().on(|r| r.topic == "join-out").fail(passing());
            // Without it the instance would take back what it has written.
            let held = tester.log().faults().on(|r| r.topic == "join-kept-pairs").hold_acks();
            push(&tester, &first[1..])?;
            tester.run_for(ms(2000));
            tester.crash("join")?;
            drop((lost, held));
            is_bad.store(true, Ordering::SeqCst);
            tester.start_instance("join", 0)?;
            tester.drain()?;
            push(&tester, &["L z:z@1000", "R z:z@1000"])?;
            is_bad.store(false, Ordering::SeqCst);
            tester.drain()?;
            let found = values(&out);
            let kept = if first[0].starts_with('L') { "[a,-]@0" } else { "[-,x]@20" };
            assert!(found.contains(&kept.to_owned()), "{guarantee:?}, {first:?}: {found:?}");
        }
        Ok(())
    })
}

fn with_policy(policy: &ErrorPolicy) -> Arc<GroupGraph> {
    let mut g = Group::define("join").table(Int64);
    let out = g.output("join-out", Text);
    let side = |side: &str| Side::topic(Input::topic(format!("join-{side}")).on_error(policy.clone()), Text);
    g.stream_join("pairs", usual(), side("left"), side("right")).outer(move |ctx, left, right| {
        ctx.set(ctx.timestamp())?;
        ctx.emit(out, ctx.key(), emitted(left, right, ctx.timestamp()))?;
        match right {
            Some(right) if right == "bad" && left.is_some() => Err(CallbackError::msg("on purpose")),
            _ => Ok(()),
        }
    });
    g.build().unwrap()
}

#[test]
fn an_error_leaves_the_record_out_as_if_it_had_not_come() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, &with_policy(&ErrorPolicy::dead_letter("dead")))?;
        push(&tester, &["L a@0", "L b@5", "R bad@10", "R z:z@1000"])?;
        tester.drain()?;
        // It matched both, and of neither something is left.
        assert_eq!(values(&out), ["[a,-]@0", "[b,-]@5"]);
        assert_eq!(values(&tester.output("dead", Text)), ["bad"]);
        assert_eq!(table(&tester, "join", Int64), crate::support::pairs([("k", 5)]));
        Ok(())
    })
}

#[test]
fn a_null_that_fails_stops_the_group_and_comes_when_it_is_started_again() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, &outer().graph("join"))?;
        push(&tester, &["L a@0"])?;
        tester.drain()?;
        tester.fail_callbacks("join-kept-pairs", 1, "on purpose");
        push(&tester, &["L q:b@71"])?;
        let error = tester.drain().unwrap_err();
        assert!(format!("{error:?}").contains("on purpose"), "{error}");
        tester.start_instance("join", 0)?;
        tester.drain()?;
        assert_eq!(values(&out), ["[a,-]@0"]);
        Ok(())
    })
}

/// A callback's timers and table writes are its key's, as an input's are.
#[test]
fn a_match_may_set_timers_and_the_table() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("join").table(Int64);
        let out = g.output("join-out", Text);
        let later = g.timer("later", Text);
        let (left, right) = (Side::topic("join-left", Text), Side::topic("join-right", Text));
        let windows = JoinWindows::around(ms(60)).grace(ms(10));
        g.stream_join("pairs", windows, left, right).inner(move |ctx, left, right| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set_timer(later, ctx.timestamp() + 100, format!("{left}{right}{n}"))?;
            ctx.set(n)
        });
        g.on_timer(later, move |ctx, text| ctx.emit(out, ctx.key(), &text));
        let (tester, out) = tester(guarantee, &g.build()?)?;
        push(&tester, &["L a@0", "L b@10", "R x@20", "R q:q@119"])?;
        tester.drain()?;
        assert_eq!(values(&out).len(), 0);
        push(&tester, &["R q:q@120"])?;
        tester.drain()?;
        assert_eq!(values(&out), ["bx2"]);
        assert_eq!(table(&tester, "join", Int64), crate::support::pairs([("k", 2)]));
        Ok(())
    })
}

/// Both sides by what their values begin with; what has no such thing panics.
fn re_keyed() -> Arc<GroupGraph> {
    let side = |side: &str| {
        let input = Input::topic(format!("join-{side}")).on_error(ErrorPolicy::dead_letter("dead"));
        Side::topic(input, Text).key_by(|text: &String| text.split_once('-').expect("a key").0.to_owned())
    };
    outer().graph_of("join", side("left"), side("right"))
}

/// At least once, too: what is sent on once more under another key is the same record, not another one.
#[test]
fn a_record_that_is_re_keyed_twice_is_kept_once() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, &re_keyed())?;
        let topic = repartition_topic("join", "pairs", "left");
        let fault = tester.log().faults().on(move |r| *r.topic == *topic).times(1).fail_after_write(passing());
        push(&tester, &["L k-a@0", "L q-b@0"])?;
        tester.drain()?;
        assert_eq!(fault.hits(), 1);
        assert_eq!(live_keys(&tester, "join-kept-pairs"), 2);
        push(&tester, &["R k-x@30", "R z-z@1000"])?;
        tester.drain()?;
        assert_eq!(values(&out), ["[k-a,k-x]@30", "[q-b,-]@0"]);
        Ok(())
    })
}

#[test]
fn a_record_without_the_key_that_it_should_have_follows_its_policy() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, &re_keyed())?;
        push(&tester, &["L none@5000", "L k-a@0", "R k-x@30"])?;
        tester.drain()?;
        assert_eq!(values(&out), ["[k-a,k-x]@30"], "its time has moved nothing");
        assert_eq!(values(&tester.output("dead", Text)), ["none"]);
        Ok(())
    })
}
