//! D6: a panic of anything of the user's is an error of its record, and what was staged until then is gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stream_core::codec::{Codec, CodecError, EventTime, Int64, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input, LeftOut, Side, TableSide, Visitor, dead_letter};
use stream_core::processor::{Guarantee, State};
use stream_core::testing::Tester;
use stream_core::view::View;
use stream_core::window::{JoinWindows, Sessions, Windows};

use crate::support::{Done, logged, ms, pairs, table, values, with_both};

/// Panics at words of the tester's choice.
#[derive(Clone, Copy)]
struct Panicky;

impl Codec<String> for Panicky {
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_bytes());
        assert!(value != "encode", "in the encoder");
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
        assert!(bytes != b"decode", "in the decoder");
        Text.decode(bytes)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sync,
    Async,
    Batch,
}

/// Keeps time, and passes on what it gets.
fn passing_on(kind: Kind, input: Input) -> Arc<GroupGraph> {
    let codec = EventTime::by(Panicky, |text: &String| {
        assert!(text != "time", "in the event time");
        100
    });
    let mut g = Group::define("g");
    let out = g.output("out", Panicky);
    let unused = g.timer("unused", Text);
    g.on_timer(unused, |_, _| Ok(()));
    match kind {
        Kind::Sync => g.input(input, codec, move |ctx, text| ctx.emit(out, "k", &text)),
        Kind::Async => g.input_async(input, codec, async move |ctx, text| {
            tokio::time::sleep(ms(1)).await;
            ctx.emit(out, "k", &text)
        }),
        Kind::Batch => g.input_batch(input, codec, async move |ctx, records| {
            records.iter().try_for_each(|r| ctx.emit(out, "k", &r.value))
        }),
    };
    g.build().unwrap()
}

#[test]
fn a_decoder_an_event_time_or_an_encoder_that_panics_fails_its_record() -> Done {
    with_both(|guarantee| {
        for kind in [Kind::Sync, Kind::Async, Kind::Batch] {
            let tester = Tester::new();
            let input = Input::topic("in").on_error(ErrorPolicy::dead_letter("dead"));
            tester.add_with(passing_on(kind, input), move |p| p.guarantee(guarantee))?;
            tester.stop("g")?;
            let input = tester.input("in", Text);
            for text in ["a", "decode", "b", "time", "c", "encode", "d"] {
                input.push("k", text.to_owned())?;
            }
            tester.restart("g")?;
            tester.drain()?;
            assert_eq!(values(&tester.output("out", Text)), ["a", "b", "c", "d"], "{kind:?}");
            assert_eq!(values(&tester.output("dead", Text)), ["decode", "time", "encode"], "{kind:?}");
            assert_eq!(tester.committed("g", "in", 0)?, Some(7));
        }
        Ok(())
    })
}

#[test]
fn a_function_of_a_join_that_panics_fails_its_record() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("g").table(Text);
        let out = g.output("out", Text);
        let input = |topic: &str| Input::topic(topic).on_error(ErrorPolicy::skip());
        let panics = |text: &str, at: &str| assert!(text != at, "in the {at}");
        let left = Side::topic(input("left"), Text).key_by(move |text: &String| {
            panics(text, "key");
            "k"
        });
        let windows = JoinWindows::around(ms(100)).grace(ms(100));
        g.stream_join("j", windows, left, Side::topic(input("right"), Text)).inner(move |ctx, l, r| {
            panics(l, "match");
            ctx.emit(out, ctx.key(), format!("{l}{r}"))
        });
        g.table_join("t", TableSide::topic(input("one"), Text), TableSide::topic(input("two"), Text)).outer(
            move |one, two| {
                let (one, two) = (one.map_or("", |s| s), two.map_or("", |s| s));
                panics(one, "merge");
                format!("{one}{two}")
            },
        );
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for (topic, text) in
            [("left", "key"), ("left", "a"), ("right", "b"), ("one", "merge"), ("one", "c"), ("two", "d")]
        {
            tester.input(topic, Text).send_at("k", text.to_owned(), 100)?;
        }
        tester.input("left", Text).send_at("k", "match".to_owned(), 100)?;
        assert_eq!(values(&tester.output("out", Text)), ["ab"]);
        assert_eq!(table(&tester, "g", Text), pairs([("k", "cd".to_owned())]));
        assert_eq!(tester.left_out("g", LeftOut::Failed)?, 3);
        Ok(())
    })
}

/// A visitor that writes to a window and a session of its key.
fn two_states() -> (Arc<GroupGraph>, Visitor<String>) {
    let mut g = Group::define("g").table(Panicky);
    let (windows, sessions) = (g.output("windows", Text), g.output("sessions", Text));
    let window = g.window("w", Windows::tumbling(ms(1000)), Panicky);
    let session = g.session("s", Sessions::gap(ms(10)), Panicky);
    g.on_close(window, move |ctx, (_, text)| ctx.emit(windows, ctx.key(), &text));
    g.on_close(session, move |ctx, (_, text)| ctx.emit(sessions, ctx.key(), &text));
    g.input("in", Panicky, |ctx, text| ctx.set(text));
    let visitor = g.visitor("put", move |ctx, suffix: &String, text| {
        if text == "bad" {
            ctx.aggregate(window, |_| "encode".to_owned())?;
        }
        ctx.aggregate_session(session, |_| format!("s-{text}{suffix}"), |a, _| a)?;
        ctx.aggregate(window, |_| format!("w-{text}{suffix}"))?;
        Ok(())
    });
    (g.build().unwrap(), visitor)
}

#[test]
fn an_encoder_that_panics_in_a_visitor_leaves_each_table_its_own_writes() -> Done {
    with_both(|guarantee| {
        let (graph, visitor) = two_states();
        let tester = Tester::new();
        tester.add_with(graph, move |p| p.guarantee(guarantee))?;
        let input = tester.input("in", Text);
        input.send("a", "bad".to_owned())?;
        let error = format!("{:?}", tester.visit("g", visitor, String::new()).unwrap_err());
        assert!(error.contains("in the encoder"), "{error}");
        input.send("a", "good".to_owned())?;
        tester.visit("g", visitor, "!".to_owned())?;
        let flush = tester.now_ms() + 100_000;
        input.send_at("z", "z".to_owned(), flush)?;
        assert_eq!(values(&tester.output("windows", Text)), ["w-good!"]);
        assert_eq!(values(&tester.output("sessions", Text)), ["s-good!"]);
        Ok(())
    })
}

#[test]
fn a_callback_that_catches_a_panic_has_not_done_the_half_of_a_call() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("g");
        let (windows, sessions) = (g.output("windows", Text), g.output("sessions", Text));
        let window = g.window("w", Windows::hopping(ms(100), ms(50)), Panicky);
        let session = g.session("s", Sessions::gap(ms(10)), Text);
        g.on_close(window, move |ctx, (w, text)| ctx.emit(windows, ctx.key(), format!("{} {text}", w.start)));
        g.on_close(session, move |ctx, (_, text)| ctx.emit(sessions, ctx.key(), &text));
        g.input("in", Text, move |ctx, text: String| {
            let mut calls = 0;
            let caught = catch_unwind(AssertUnwindSafe(|| {
                ctx.aggregate(window, |_| {
                    calls += 1;
                    if text == "bad" && calls == 2 { "encode".to_owned() } else { text.clone() }
                })
            }));
            let emitted = catch_unwind(AssertUnwindSafe(|| drop(ctx.aggregate(window, |_| "encode".to_owned()))));
            assert!(emitted.is_err());
            assert_eq!(caught.is_err(), text == "bad");
            ctx.aggregate_session(session, |_| text, |a, _| a)?;
            Ok(())
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let input = tester.input("in", Text);
        for (key, text) in [("a", "bad"), ("b", "good")] {
            input.send_at(key, text.to_owned(), 75)?;
        }
        input.send_at("z", "z".to_owned(), 10_000)?;
        assert_eq!(values(&tester.output("windows", Text)), ["0 good", "50 good"]);
        assert_eq!(values(&tester.output("sessions", Text)), ["bad", "good"]);
        Ok(())
    })
}

#[test]
fn a_listener_that_panics_is_logged_and_the_group_goes_on() -> Done {
    let mut g = Group::define("g").table(Panicky);
    let out = g.output("out", Text);
    g.on_update(|_, _, _| panic!("in the listener"));
    g.input("in", Text, move |ctx, text: String| {
        ctx.emit(out, ctx.key(), &text)?;
        ctx.set(text)
    });
    let tester = Tester::new();
    let (done, logged) = logged(|| -> Done {
        tester.add_with(g.build()?, |p| {
            p.on_state(|status| assert!(status.state != State::Running, "at the state"))
                .on_rebalance(|_| panic!("at the rebalance"))
        })?;
        for text in ["a", "decode", "b"] {
            let sent = tester.input("in", Text).send("k", text.to_owned());
            // What its decoder refuses never becomes state.
            assert_eq!(sent.is_err(), text == "decode");
            if text == "decode" {
                break;
            }
        }
        Ok(())
    });
    done?;
    assert_eq!(values(&tester.output("out", Text)), ["a"]);
    for part in
        ["a listener panicked", "at the state", "at the rebalance", "a listener of the table's updates panicked"]
    {
        assert!(logged.contains(part), "{part}: {logged}");
    }
    Ok(())
}

#[test]
fn a_decoder_that_panics_for_a_views_listener_does_not_end_the_view() -> Done {
    let mut g = Group::define("g").table(Text);
    g.input("in", Text, |ctx, text: String| ctx.set(text));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let seen = crate::support::Notes::new();
    let noted = seen.clone();
    let log = std::sync::Arc::clone(tester.log()) as stream_core::log::LogHandle;
    let view = View::builder(stream_core::group::table_topic("g"), Panicky, log)
        .stores(Arc::new(stream_core::store::MemoryStores::new()))
        .on_this_runtime()
        .on_update(move |_, _, text: Option<&String>| noted.add(text.cloned()));
    let view = tester.block_on(view.open())?;
    for text in ["a", "decode", "b"] {
        tester.input("in", Text).send("k", text.to_owned())?;
    }
    tester.wait_until("the view has them", || seen.len() == 2)?;
    assert_eq!(seen.all(), [Some("a".to_owned()), Some("b".to_owned())]);
    assert_eq!(view.get("k")?, Some("b".to_owned()));
    Ok(())
}

/// An error of the user's whose text can't be made.
#[derive(Debug)]
struct NoText;

impl std::fmt::Display for NoText {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in the error's text")
    }
}

impl std::error::Error for NoText {}

#[test]
fn an_error_whose_text_panics_is_an_error_all_the_same() -> Done {
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let mut g = Group::define("g");
    let out = g.output("out", Text);
    let input = Input::topic("in").on_error(ErrorPolicy::dead_letter("dead"));
    g.input(input, Text, move |ctx, text: String| {
        if fails.swap(false, Ordering::Relaxed) {
            return Err(NoText.into());
        }
        ctx.emit(out, ctx.key(), &text)
    });
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| p.guarantee(Guarantee::AtLeastOnce))?;
    for text in ["a", "b"] {
        tester.input("in", Text).send("k", text.to_owned())?;
    }
    assert_eq!(values(&tester.output("out", Text)), ["b"]);
    let dead = tester.output("dead", Text).read()?;
    assert!(dead[0].header(dead_letter::REASON).is_some_and(|reason| reason.contains("panicked")));
    Ok(())
}

#[test]
fn a_fold_that_panics_leaves_its_window_as_it_was() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("g");
        let out = g.output("out", Int64);
        let window = g.window("w", Windows::hopping(ms(100), ms(50)), Int64);
        let session = g.session("s", Sessions::gap(ms(10)).grace(ms(100)), Int64);
        g.on_close(window, move |ctx, (_, n)| ctx.emit(out, "window", n));
        g.on_close(session, move |ctx, (_, n)| ctx.emit(out, "session", n));
        g.input(Input::topic("in").on_error(ErrorPolicy::skip()), Int64, move |ctx, n| {
            let add = |a: Option<i64>| {
                let sum = a.unwrap_or(0) + n;
                assert!(sum != 7, "in the fold");
                sum
            };
            ctx.aggregate(window, add)?;
            let merge = |a: i64, b: i64| {
                assert!(a != 1, "in the merge");
                a + b
            };
            ctx.aggregate_session(session, add, merge)?;
            Ok(())
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        // 6 makes 7 in the windows; 2 would bring two sessions together.
        for (n, at) in [(1, 75), (6, 75), (3, 90), (2, 82), (1, 10_000)] {
            tester.input("in", Int64).send_at("k", n, at)?;
        }
        assert_eq!(values(&tester.output("out", Int64)), [4, 4, 1, 3]);
        Ok(())
    })
}
