//! Table-table joins: inner, left and outer, as Kafka Streams' KTable-KTable joins: the result follows both sides, and a
//! tombstone is written only where there was a result before.

use std::sync::Arc;

use stream_core::codec::{EventTime, Int64, Text};
use stream_core::group::{BuildError, ErrorPolicy, Group, GroupGraph, Input, TableSide};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;

use crate::support::{Done, move_to_second, ms, pairs, table, values, with_both};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Inner,
    Left,
    Outer,
}

fn joined(kind: Kind) -> Arc<GroupGraph> {
    let mut g = Group::define("both").table(Text);
    let join = g.table_join("ab", TableSide::topic("a", Text), TableSide::topic("b", Text));
    let none = |side: Option<&String>| side.cloned().unwrap_or_else(|| "null".to_owned());
    match kind {
        Kind::Inner => join.inner(|a, b| format!("{a}+{b}")),
        Kind::Left => join.left(move |a, b| format!("{a}+{}", none(b))),
        Kind::Outer => join.outer(move |a, b| format!("{}+{}", none(a), none(b))),
    };
    g.build().unwrap()
}

fn tester(guarantee: Guarantee, graph: Arc<GroupGraph>) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee).max_task_idle(ms(0)))?;
    Ok(tester)
}

/// A null is `-`.
fn put(tester: &Tester, topic: &str, key: &str, value: &str) -> Done {
    let input = tester.input(topic, Text);
    if value == "-" {
        input.send_null(key)?;
    } else {
        input.send(key, value.to_owned())?;
    }
    Ok(())
}

/// What each change of a side (`a=1`, `b=-`) writes to the group table: `-` for a tombstone, nothing for nothing.
fn changes(guarantee: Guarantee, kind: Kind, steps: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let tester = tester(guarantee, joined(kind))?;
    let mut found = Vec::new();
    let written = tester.output("both-table", Text);
    for step in steps.split(' ') {
        let (topic, value) = step.split_once('=').ok_or("a step without a value")?;
        put(&tester, topic, "k", value)?;
        let now: Vec<_> = written.read()?.into_iter().map(|r| r.value.unwrap_or_else(|| "-".to_owned())).collect();
        found.push(now.join(","));
    }
    Ok(found)
}

/// Every way in which a side can change.
const STEPS: &str = "a=1 b=x a=2 b=y b=- b=- b=z a=- a=- b=w b=- a=3 a=- b=v a=4";

#[test]
fn an_inner_join_needs_both_sides() -> Done {
    with_both(|guarantee| {
        let expected = ["", "1+x", "2+x", "2+y", "-", "", "2+z", "-", "", "", "", "", "", "", "4+v"];
        assert_eq!(changes(guarantee, Kind::Inner, STEPS)?, expected);
        Ok(())
    })
}

#[test]
fn a_left_join_needs_the_left_side() -> Done {
    with_both(|guarantee| {
        let expected =
            ["1+null", "1+x", "2+x", "2+y", "2+null", "2+null", "2+z", "-", "", "", "", "3+null", "-", "", "4+v"];
        assert_eq!(changes(guarantee, Kind::Left, STEPS)?, expected);
        Ok(())
    })
}

#[test]
fn an_outer_join_needs_either_side() -> Done {
    with_both(|guarantee| {
        let expected = [
            "1+null", "1+x", "2+x", "2+y", "2+null", "2+null", "2+z", "null+z", "null+z", "null+w", "-", "3+null", "-",
            "null+v", "4+v",
        ];
        assert_eq!(changes(guarantee, Kind::Outer, STEPS)?, expected);
        Ok(())
    })
}

#[test]
fn keys_do_not_mix_and_the_table_is_what_both_sides_say() -> Done {
    with_both(|guarantee| {
        let tester = tester(guarantee, joined(Kind::Left))?;
        let all =
            [("a", "k", "1"), ("b", "k2", "x"), ("a", "k2", "2"), ("a", "", "e"), ("b", "", "f"), ("b", "k", "y")];
        for (topic, key, value) in all {
            put(&tester, topic, key, value)?;
        }
        assert_eq!(
            table(&tester, "both", Text),
            pairs(
                ["e+f"; 1]
                    .map(|v| ("", v.to_owned()))
                    .into_iter()
                    .chain([("k", "1+y".to_owned()), ("k2", "2+x".to_owned())])
            )
        );
        Ok(())
    })
}

#[test]
fn both_sides_survive_a_crash_a_restart_and_a_move() -> Done {
    with_both(|guarantee| {
        let tester = tester(guarantee, joined(Kind::Inner))?;
        put(&tester, "a", "k", "1")?;
        tester.crash("both")?;
        tester.start_instance("both", 0)?;
        put(&tester, "b", "k", "x")?;
        tester.restart("both")?;
        put(&tester, "a", "k", "2")?;
        move_to_second(&tester, "both")?;
        put(&tester, "b", "k", "-")?;
        put(&tester, "b", "k", "y")?;
        let emitted: Vec<_> = tester.output("both-table", Text).read()?.into_iter().map(|r| r.value).collect();
        assert_eq!(emitted, [Some("1+x".to_owned()), Some("2+x".to_owned()), None, Some("2+y".to_owned())]);
        Ok(())
    })
}

#[test]
fn both_topics_are_read_in_the_order_of_their_times() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        let (a, b) = (tester.input("a", Text), tester.input("b", Text));
        tester.add_with(joined(Kind::Outer), move |p| p.guarantee(guarantee))?;
        tester.stop("both")?;
        for (value, at) in [("1", 10), ("2", 30)] {
            a.push_at("k", Some(&value.to_owned()), Some(at), None)?;
        }
        for (value, at) in [(Some("x"), 20), (None, 40)] {
            b.push_at("k", value.map(str::to_owned).as_ref(), Some(at), None)?;
        }
        tester.start_instance("both", 0)?;
        tester.drain()?;
        let emitted = values(&tester.output("both-table", Text));
        assert_eq!(emitted, ["1+null", "1+x", "2+x", "2+null"]);
        Ok(())
    })
}

#[test]
fn sides_of_two_types_with_event_times_and_a_policy() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("both").table(Text);
        let names = Input::topic("names").on_error(ErrorPolicy::dead_letter("bad-names"));
        let ages = TableSide::topic("ages", EventTime::by(Int64, |age: &i64| age * 100));
        g.table_join("people", TableSide::topic(names, Text), ages).inner(|name, age| format!("{name}, {age}"));
        let tester = tester(guarantee, g.build()?)?;
        tester.input("ages", Int64).send("k", 42)?;
        tester.input("names", Text).send_at("k", "Ann".to_owned(), 5000)?;
        tester.input("ages", Int64).send("k", 43)?;
        tester.input("names", Text).push_bytes("k", Some(&[0xff]), None, None)?;
        tester.input("names", Text).push_bytes(None::<&str>, Some(b"keyless"), None, None)?;
        tester.drain()?;
        let emitted = tester.output("both-table", Text).read()?;
        let emitted: Vec<_> = emitted.iter().map(|r| (r.timestamp, r.value.as_deref().unwrap_or_default())).collect();
        assert_eq!(emitted, [(5000, "Ann, 42"), (4300, "Ann, 43")]);
        assert_eq!(tester.output("bad-names", stream_core::codec::Bytes).read()?.len(), 2);
        Ok(())
    })
}

#[test]
fn two_joins_of_one_name_are_refused() {
    let mut g = Group::define("both").table(Text);
    for (a, b) in [("a", "b"), ("c", "d")] {
        g.table_join("ab", TableSide::topic(a, Text), TableSide::topic(b, Text)).inner(|a, b| format!("{a}{b}"));
    }
    assert!(matches!(g.build(), Err(BuildError::TwoOfAName { .. })));
}
