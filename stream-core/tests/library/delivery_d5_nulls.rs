//! D5: null values and null keys, by the input's rule.

use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::context::Ctx;
use stream_core::group::{CallbackResult, ErrorPolicy, Group, Input, LeftOut, NullKey, NullValue, Table};
use stream_core::testing::Tester;
use stream_core::window::{Batches, Sessions, Windows};

use crate::support::{Done, Notes, pairs, small_topic, table, values};

const NO_KEY: Option<&str> = None;

/// How a callback is called.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Sync,
    Async,
}

const KINDS: [Kind; 2] = [Kind::Sync, Kind::Async];

/// Counts its keys, and notes each call: its key, its value, and whether that is null.
fn group(kind: Kind, input: Input, calls: &Notes<String>) -> std::sync::Arc<stream_core::group::GroupGraph> {
    fn work(ctx: &mut Ctx<'_, Table<i64>>, text: &str, calls: &Notes<String>) -> CallbackResult {
        let key = ctx.key().map(|k| String::from_utf8_lossy(k).into_owned());
        calls.add(format!("{key:?} {text:?} {}", ctx.value_is_null()));
        if ctx.key().is_none() {
            assert!(ctx.value().is_err() && ctx.set(1).is_err() && ctx.delete().is_err() && ctx.has_value().is_err());
            return Ok(());
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    }
    let mut g = Group::define("nil").table(Int64);
    let calls = calls.clone();
    match kind {
        Kind::Sync => g.input(input, Text, move |ctx, text: String| work(ctx, &text, &calls)),
        Kind::Async => g.input_async(input, Text, async move |ctx, text: String| work(ctx, &text, &calls)),
    };
    g.build().unwrap()
}

#[test]
fn null_values_are_left_out_unless_the_input_passes_them_on() -> Done {
    for kind in KINDS {
        for pass in [false, true] {
            let rule = if pass { NullValue::Pass } else { NullValue::Skip };
            let calls = Notes::new();
            let tester = Tester::new();
            tester.add(group(kind, Input::topic("in").null_value(rule), &calls))?;
            let input = tester.input("in", Text);
            input.push("a", "1".to_owned())?;
            input.send_null("b")?;
            input.send("c", String::new())?;
            let mut expected = vec![r#"Some("a") "1" false"#, r#"Some("b") "" true"#, r#"Some("c") "" false"#];
            let mut counts = pairs([("a", 1), ("b", 1), ("c", 1)]);
            if !pass {
                expected.remove(1);
                counts.remove("b");
            }
            assert_eq!(calls.all(), expected, "{kind:?}");
            assert_eq!(table(&tester, "nil", Int64), counts);
            assert_eq!(tester.committed("nil", "in", 0)?, Some(3));
        }
    }
    Ok(())
}

#[test]
fn a_null_key_is_an_error_for_a_group_with_a_table() -> Done {
    for kind in KINDS {
        let calls = Notes::new();
        let tester = Tester::new();
        tester.add(group(kind, Input::topic("in"), &calls))?;
        let input = tester.input("in", Text);
        input.send("a", "1".to_owned())?;
        let error = format!("{:?}", input.send(NO_KEY, "2".to_owned()).unwrap_err());
        assert!(error.contains("in[0]@1") && error.contains("the record has no key"), "{error}");
        assert_eq!(calls.len(), 1, "the callback is not called");
        assert_eq!(tester.committed("nil", "in", 0)?, Some(1));
    }
    Ok(())
}

#[test]
fn a_null_key_follows_the_error_policy_and_the_option() -> Done {
    for kind in KINDS {
        let cases: [(&str, Input, usize); 4] = [
            ("policy skip", Input::topic("in").on_error(ErrorPolicy::skip()), 2),
            ("policy dead letter", Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), 2),
            ("rule skip", Input::topic("in").null_key(NullKey::Skip), 2),
            ("rule pass", Input::topic("in").null_key(NullKey::Pass), 3),
        ];
        for (case, input, called) in cases {
            let calls = Notes::new();
            let tester = Tester::new();
            tester.add(group(kind, input, &calls))?;
            let input = tester.input("in", Text);
            input.push("a", "1".to_owned())?;
            input.push(NO_KEY, "2".to_owned())?;
            input.push("a", "3".to_owned())?;
            tester.drain()?;
            assert_eq!(calls.len(), called, "{case} {kind:?}");
            assert_eq!(table(&tester, "nil", Int64), pairs([("a", 2)]), "{case}");
            assert_eq!(tester.committed("nil", "in", 0)?, Some(3));
            if case == "policy dead letter" {
                let dead = tester.output("dead", Text).read()?;
                assert_eq!((dead.len(), &dead[0].key, dead[0].value.as_deref()), (1, &None, Some("2")));
            }
        }
    }
    Ok(())
}

#[test]
fn a_null_key_with_a_null_value_is_left_out_by_the_first_rule() -> Done {
    let calls = Notes::new();
    let tester = Tester::new();
    tester.add(group(Kind::Sync, Input::topic("in"), &calls))?;
    tester.input("in", Text).send_null(NO_KEY)?;
    assert_eq!((calls.len(), tester.committed("nil", "in", 0)?), (0, Some(1)));
    Ok(())
}

#[test]
fn without_a_table_a_null_key_is_as_good_as_any() -> Done {
    let mut g = Group::define("plain");
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send(NO_KEY, "1".to_owned())?;
    tester.input("in", Text).send("", "2".to_owned())?;
    let keys: Vec<_> = tester.output("out", Text).read()?.into_iter().map(|r| r.key).collect();
    assert_eq!(keys, [None, Some(Vec::new())], "an empty key is not a null one");
    Ok(())
}

#[test]
fn batches_follow_the_rules_record_by_record() -> Done {
    let cases = [
        (NullValue::Skip, NullKey::Skip, vec!["a1", "b2"]),
        (NullValue::Pass, NullKey::Skip, vec!["a1", "-", "b2"]),
        (NullValue::Skip, NullKey::Pass, vec!["a1", "x", "b2"]),
    ];
    for (value, key, expected) in cases {
        let mut g = Group::define("sink").table(Int64);
        let out = g.output("out", Text);
        g.input_batch(Input::topic("in").null_value(value).null_key(key), Text, async move |ctx, records| {
            for r in records {
                let text = if r.value.is_empty() { "-" } else { &r.value };
                ctx.emit(out, "k", text.to_owned())?;
            }
            Ok(())
        });
        let tester = Tester::new();
        tester.add(g.build()?)?;
        let input = tester.input("in", Text);
        input.push("a", "a1".to_owned())?;
        input.push_at("n", None, None, None)?;
        input.push(NO_KEY, "x".to_owned())?;
        input.push("b", "b2".to_owned())?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), expected);
        assert_eq!(tester.committed("sink", "in", 0)?, Some(4));
    }
    Ok(())
}

#[test]
fn a_null_key_in_a_batch_fails_alone() -> Done {
    let batches = Notes::new();
    let noted = batches.clone();
    let mut g = Group::define("sink").table(Int64);
    let input = Input::topic("in").on_error(ErrorPolicy::dead_letter("dead"));
    g.input_batch(input, Text, async move |_ctx, records| {
        noted.add(records.iter().map(|r| r.value.clone()).collect::<Vec<_>>());
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.stop("sink")?;
    let input = tester.input("in", Text);
    for (key, value) in [(Some("a"), "1"), (Some("b"), "2"), (None, "bad"), (Some("c"), "3")] {
        input.push(key, value.to_owned())?;
    }
    tester.restart("sink")?;
    tester.drain()?;
    assert_eq!(batches.all(), [vec!["1", "2"], vec!["3"]]);
    assert_eq!(values(&tester.output("dead", Text)), ["bad"]);
    assert_eq!(tester.committed("sink", "in", 0)?, Some(4));
    Ok(())
}

/// To try again what is refused makes no sense, and must not call the callback after all.
#[test]
fn a_null_key_is_not_tried_again() -> Done {
    let policy = || ErrorPolicy::dead_letter("dead").retry(3, Duration::from_secs(3600));
    for kind in KINDS {
        let calls = Notes::new();
        let tester = Tester::new();
        tester.add(group(kind, Input::topic("in").on_error(policy()), &calls))?;
        let input = tester.input("in", Text);
        input.push("a", "1".to_owned())?;
        input.push(NO_KEY, "2".to_owned())?;
        tester.drain()?;
        assert_eq!((calls.len(), tester.committed("nil", "in", 0)?), (1, Some(2)), "{kind:?}");
        assert_eq!(values(&tester.output("dead", Text)), ["2"]);
    }
    let batches = Notes::new();
    let noted = batches.clone();
    let mut g = Group::define("sink").table(Int64);
    g.input_batch(Input::topic("in").on_error(policy()), Text, async move |_ctx, records| {
        noted.add(records.len());
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).push(NO_KEY, "2".to_owned())?;
    tester.drain()?;
    assert_eq!((batches.len(), values(&tester.output("dead", Text))), (0, vec!["2".to_owned()]));
    Ok(())
}

/// A group with one kind of state by key, and no table.
fn keyed(kind: &str, input: Input) -> std::sync::Arc<stream_core::group::GroupGraph> {
    let mut g = Group::define("keyed");
    let out = g.output("out", Text);
    match kind {
        "window" => _ = g.window("w", Windows::tumbling(Duration::from_millis(100)), Int64),
        "session" => _ = g.session("s", Sessions::gap(Duration::from_millis(100)), Int64),
        "batch" => {
            let batch = g.batch("b", Batches::of(5).gap(Duration::from_secs(1)), Int64);
            g.on_close(batch, |_, _| Ok(()));
        }
        "timer" => {
            let timer = g.timer("t", Text);
            g.on_timer(timer, |_, _| Ok(()));
        }
        "join" => _ = g.join("other-table", Int64),
        _ => {}
    }
    g.input(input, Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    g.build().unwrap()
}

#[test]
fn state_by_key_is_more_than_the_table() -> Done {
    for kind in ["window", "session", "batch", "timer", "join"] {
        let tester = Tester::new();
        small_topic(&tester, "other-table", 1_000_000)?;
        tester.add(keyed(kind, Input::topic("in").null_key(NullKey::Skip)))?;
        let input = tester.input("in", Text);
        input.send(NO_KEY, "1".to_owned())?;
        input.send("k", "2".to_owned())?;
        assert_eq!(values(&tester.output("out", Text)), ["2"], "{kind}");
        assert_eq!(tester.left_out("keyed", LeftOut::NullKey)?, 1, "{kind}");

        let tester = Tester::new();
        small_topic(&tester, "other-table", 1_000_000)?;
        tester.add(keyed(kind, Input::topic("in")))?;
        let error = format!("{:?}", tester.input("in", Text).send(NO_KEY, "1".to_owned()).unwrap_err());
        assert!(error.contains("the record has no key, and a group with state by key needs one"), "{kind}: {error}");
    }
    Ok(())
}
