//! W4: records of a key that are no further apart than the gap are one session. One that brings sessions together retracts
//! them and gives the new one; it is late once its session's end, gap and grace are before stream time.

use std::collections::BTreeSet;
use std::sync::Arc;

use stream_core::codec::{Bytes, Text};
use stream_core::context::Emit;
use stream_core::group::{BuildError, Group, GroupGraph, Input};
use stream_core::prelude::{Ctx, NoTable};
use stream_core::processor::{Guarantee, Standbys};
use stream_core::testing::{TestOutput, Tester};
use stream_core::window::{SessionChange, Sessions};

use crate::support::{Done, Outcome, live_keys, move_to_second, ms, passing, values, with_both};

const SESSIONS: &str = "visits-session-visits";

/// Joins the words of a session, emits each change in `changes` and each final result in `finals`.
fn joiner(sessions: Sessions) -> Arc<GroupGraph> {
    let mut g = Group::define("visits");
    let (changes, finals) = (g.output("changes", Text), g.output("finals", Text));
    let visits = g.session("visits", sessions, Text);
    g.input("in", Text, move |ctx, word| {
        let joined = |a: String, b: String| format!("{a} {b}");
        let all = ctx.aggregate_session(visits, |a| a.map_or(word.clone(), |a| joined(a, word)), joined)?;
        for change in all {
            let (end, change) = match change {
                SessionChange::Retracted(session) => (session.end, format!("- {session}")),
                SessionChange::Updated(session, words) => (session.end, format!("{session} {words}")),
            };
            ctx.emit_with(changes, ctx.key(), &change, Emit::new().timestamp(end))?;
        }
        Ok(())
    });
    g.on_close(visits, move |ctx, (session, words)| {
        let key = ctx.key_text()?;
        ctx.emit(finals, key, format!("{key} {session} {words}"))
    });
    g.build().unwrap()
}

struct World {
    tester: Tester,
    changes: TestOutput<String>,
    finals: TestOutput<String>,
}

fn world(guarantee: Guarantee, sessions: Sessions) -> Outcome<World> {
    let tester = Tester::new();
    tester.add_with(joiner(sessions), move |p| p.guarantee(guarantee).standbys(Standbys::All))?;
    let (changes, finals) = (tester.output("changes", Text), tester.output("finals", Text));
    Ok(World { tester, changes, finals })
}

impl World {
    fn push(&self, records: &[(&str, &str, i64)]) -> Done {
        for (key, word, at) in records {
            self.tester.input("in", Text).push_at(*key, Some(&(*word).to_owned()), Some(*at), None)?;
        }
        Ok(self.tester.drain()?)
    }
}

/// The sessions in the table: the first byte of their keys distinguishes them from their markers.
fn open_sessions(tester: &Tester) -> usize {
    let mut open = BTreeSet::new();
    for record in tester.output(SESSIONS, Bytes).read().unwrap() {
        let key = record.key.filter(|key| key.starts_with(&[0]));
        let _ = key.map(|key| if record.value.is_some() { open.insert(key) } else { open.remove(&key) });
    }
    open.len()
}

#[test]
fn w4_the_gap_is_inclusive() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)))?;
        world.push(&[("a", "x", 0), ("a", "y", 30), ("b", "x", 0), ("b", "y", 31)])?;
        let all = values(&world.changes);
        assert_eq!(all, ["[0, 0] x", "- [0, 0]", "[0, 30] x y", "[0, 0] x", "[31, 31] y"]);
        Ok(())
    })
}

#[test]
fn w4_a_record_within_its_session_retracts_nothing() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)).grace(ms(100)))?;
        world.push(&[("a", "x", 0), ("a", "y", 20), ("a", "z", 10)])?;
        assert_eq!(values(&world.changes), ["[0, 0] x", "- [0, 0]", "[0, 20] x y", "[0, 20] x y z"]);
        Ok(())
    })
}

#[test]
fn w4_a_merge_retracts_the_old_sessions_then_gives_the_new_one_at_its_end() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)).grace(ms(1000)))?;
        world.push(&[("a", "3", 100), ("a", "1", 0), ("b", "other", 50), ("a", "2", 50)])?;
        assert_eq!(values(&world.changes), ["[100, 100] 3", "[0, 0] 1", "[50, 50] other", "[50, 50] 2"]);
        assert_eq!(open_sessions(&world.tester), 4);
        world.push(&[("a", "between", 75), ("a", "first", 25)])?;
        let emitted = world.changes.read()?;
        let emitted: Vec<_> = emitted.iter().map(|r| (r.timestamp, r.value.as_deref().unwrap_or_default())).collect();
        let expected = [
            (50, "- [50, 50]"),
            (100, "- [100, 100]"),
            (100, "[50, 100] 2 3 between"),
            (0, "- [0, 0]"),
            (100, "- [50, 100]"),
            (100, "[0, 100] 1 2 3 between first"),
        ];
        assert_eq!(emitted, expected);
        assert_eq!(open_sessions(&world.tester), 2);
        world.push(&[("c", "flush", 5000)])?;
        assert_eq!(values(&world.finals), ["b [50, 50] other", "a [0, 100] 1 2 3 between first"]);
        assert_eq!(live_keys(&world.tester, SESSIONS), 2, "the last one, and its marker");
        Ok(())
    })
}

#[test]
fn w4_late_is_strictly_past_end_gap_and_grace() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)).grace(ms(10)))?;
        world.push(&[("other", "o", 40), ("a", "in time", 0)])?;
        assert_eq!(values(&world.changes), ["[40, 40] o", "[0, 0] in time"]);
        assert_eq!((world.tester.late("visits")?, values(&world.finals).len()), (0, 0));
        world.push(&[("other", "o", 41)])?;
        assert_eq!(values(&world.finals), ["a [0, 0] in time"]);
        world.push(&[("a", "late", 0)])?;
        assert_eq!(values(&world.changes), ["- [40, 40]", "[40, 41] o o"]);
        assert_eq!((world.tester.late("visits")?, values(&world.finals).len()), (1, 0));
        // What is too late by itself is not if its session is open.
        world.push(&[("a", "open", 20), ("a", "late no more", 0)])?;
        assert_eq!(values(&world.changes), ["[20, 20] open", "- [20, 20]", "[0, 20] open late no more"]);
        assert_eq!(world.tester.late("visits")?, 1);
        Ok(())
    })
}

#[test]
fn w4_final_results_come_once_in_the_order_of_time_and_closed_sessions_are_deleted() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)))?;
        // a goes on, so that its session ends after those that began later.
        world.push(&[("a", "1", 0), ("b", "1", 10), ("a", "2", 25), ("c", "1", 30), ("bb", "1", 10)])?;
        assert_eq!(live_keys(&world.tester, SESSIONS), 8);
        world.push(&[("z", "1", 40)])?;
        assert_eq!(values(&world.finals).len(), 0);
        world.push(&[("z", "2", 41)])?;
        assert_eq!(values(&world.finals), ["b [10, 10] 1", "bb [10, 10] 1"]);
        world.push(&[("z", "3", 1000)])?;
        let finals = world.finals.read()?;
        let emitted: Vec<_> = finals.iter().map(|r| (r.timestamp, r.value.as_deref().unwrap_or_default())).collect();
        assert_eq!(emitted, [(25, "a [0, 25] 1 2"), (30, "c [30, 30] 1"), (41, "z [40, 41] 1 2")]);
        assert_eq!(live_keys(&world.tester, SESSIONS), 2, "the last one of z, and its marker");
        Ok(())
    })
}

#[test]
fn w4_a_key_may_have_many_open_sessions_each_an_entry_of_its_own() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(1)).grace(ms(10_000)))?;
        let records: Vec<_> = (0..300).map(|i| ("a", "x", i * 10)).collect();
        world.push(&records)?;
        assert_eq!(values(&world.changes).len(), 300);
        // The earliest, one in the middle and the latest are found among them.
        world.push(&[("a", "y", 1), ("a", "y", 1499), ("a", "y", 2990)])?;
        let found = ["- [0, 0]", "[0, 1] x y", "- [1500, 1500]", "[1499, 1500] x y", "[2990, 2990] x y"];
        assert_eq!(values(&world.changes), found);
        world.push(&[("b", "z", 1_000_000)])?;
        assert_eq!(values(&world.finals).len(), 300);
        assert_eq!(live_keys(&world.tester, SESSIONS), 2);
        Ok(())
    })
}

#[test]
fn w4_once_across_crashes_restarts_and_moves() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)).grace(ms(10)))?;
        let tester = &world.tester;
        world.push(&[("a", "1", 0), ("a", "2", 20)])?;
        tester.crash("visits")?;
        tester.start_instance("visits", 0)?;
        world.push(&[("a", "3", 40)])?;
        tester.restart("visits")?;
        world.push(&[("a", "4", 50), ("b", "1", 80)])?;
        move_to_second(tester, "visits")?;
        world.push(&[("b", "2", 91)])?;
        assert_eq!(values(&world.finals), ["a [0, 50] 1 2 3 4"]);
        tester.crash_instance("visits", 1)?;
        tester.start_instance("visits", 0)?;
        world.push(&[("b", "3", 1000)])?;
        assert_eq!(values(&world.finals), ["b [80, 91] 1 2"]);
        Ok(())
    })
}

#[test]
fn w4_a_final_result_that_is_not_delivered_comes_again_whole() -> Done {
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)))?;
        world.push(&[("a", "1", 0), ("a", "2", 20)])?;
        let fault = world.tester.log().faults().on(|r| r.topic == "finals").times(2).fail(passing());
        world.push(&[("b", "1", 70)])?;
        assert_eq!(fault.hits(), 2);
        assert_eq!(values(&world.finals), ["a [0, 20] 1 2"]);
        world.push(&[("b", "2", 1000)])?;
        assert_eq!(live_keys(&world.tester, SESSIONS), 2);
        Ok(())
    })
}

#[test]
fn w4_a_closed_session_is_there_until_its_result_is() -> Done {
    // While the result of one session is on its way, another of the same key begins at the very same time.
    with_both(|guarantee| {
        let world = world(guarantee, Sessions::gap(ms(30)))?;
        let tester = &world.tester;
        world.push(&[("a", "1", 0)])?;
        let slow = tester.log().faults().on(|r| r.topic == "finals").delay(ms(3_600_000));
        let input = tester.input("in", Text);
        for (key, word, at) in [("b", "1", 31), ("a", "later", 20), ("a", "again", 0)] {
            input.push_at(key, Some(&word.to_owned()), Some(at), None)?;
        }
        if guarantee == Guarantee::AtLeastOnce {
            let written =
                || values(&tester.output("changes", Text)).iter().any(|change| change == "[0, 20] later again");
            tester.wait_until("what comes after it is written", || slow.hits() > 0 && written())?;
        } else {
            tester.wait_until("it is on its way", || slow.hits() > 0)?;
        }
        tester.crash("visits")?;
        drop(slow);
        assert_eq!(values(&world.finals).len(), 0);
        tester.start_instance("visits", 0)?;
        tester.drain()?;
        world.push(&[("b", "2", 1000)])?;
        let finals = values(&world.finals);
        if guarantee == Guarantee::ExactlyOnce {
            assert_eq!(finals, ["a [0, 0] 1", "a [0, 20] later again", "b [31, 31] 1"]);
        }
        for word in ["1", "later", "again"] {
            let has_word = |result: &String| result.starts_with("a ") && result.split(' ').any(|w| w == word);
            assert!(finals.iter().any(has_word), "{word} is lost: {finals:?}");
        }
        Ok(())
    })
}

#[test]
fn w4_callbacks_that_await_keep_the_order_of_a_key() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("visits");
        let finals = g.output("finals", Text);
        let visits = g.session("visits", Sessions::gap(ms(30)), Text);
        g.input_async(
            Input::topic("in").concurrency(8),
            Text,
            async move |ctx: &mut Ctx<'_, NoTable>, word: String| {
                tokio::time::sleep(ms(300 - ctx.timestamp().unsigned_abs().min(300))).await;
                ctx.aggregate_session(visits, |a| a.unwrap_or_default() + &word, |a, b| a + &b)?;
                Ok(())
            },
        );
        g.on_close(visits, move |ctx, (session, words)| {
            let key = ctx.key_text()?;
            ctx.emit(finals, key, format!("{key} {session} {words}"))
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for (key, word, at) in [("a", "1", 0), ("b", "1", 1), ("a", "2", 30), ("b", "2", 40), ("a", "3", 200)] {
            tester.input("in", Text).push_at(key, Some(&word.to_owned()), Some(at), None)?;
        }
        tester.drain()?;
        assert_eq!(values(&tester.output("finals", Text)), ["b [1, 1] 1", "a [0, 30] 12", "b [40, 40] 2"]);
        Ok(())
    })
}

#[test]
fn w4_two_records_of_one_callback_see_each_other() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("visits");
        let finals = g.output("finals", Text);
        let visits = g.session("visits", Sessions::gap(ms(30)), Text);
        g.input("in", Text, move |ctx, word| {
            for letter in word.chars() {
                ctx.aggregate_session(visits, |a| a.unwrap_or_default() + &letter.to_string(), |a, b| a + &b)?;
            }
            Ok(())
        });
        g.on_close(visits, move |ctx, (_, words)| ctx.emit(finals, ctx.key(), &words));
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for (word, at) in [("abc", 0), ("def", 30), ("", 30), ("z", 100)] {
            tester.input("in", Text).push_at("k", Some(&word.to_owned()), Some(at), None)?;
        }
        tester.drain()?;
        assert_eq!(values(&tester.output("finals", Text)), ["abcdef"]);
        assert_eq!(live_keys(&tester, SESSIONS), 2);
        Ok(())
    })
}

#[test]
fn w4_sessions_without_a_gap_are_refused() {
    let mut g = Group::define("g");
    g.input("in", Text, |_, _: String| Ok(()));
    g.session("s", Sessions::gap(ms(0)), Text);
    assert!(matches!(g.build(), Err(BuildError::Windows { .. })));
}
