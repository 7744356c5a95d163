//! D6: middleware around every callback sees each call, may turn an error into another one, and can't hide one.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Call, CallbackError, Called, ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, Side};
use stream_core::group::{NoTable, Table, Visitor, dead_letter};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{Batches, JoinWindows, Sessions, Windows};

use crate::support::{Done, Notes, ms, values, with_both};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sync,
    Async,
    Batch,
}

const KINDS: [Kind; 3] = [Kind::Sync, Kind::Async, Kind::Batch];

fn text(call: Call<'_>) -> String {
    let key = String::from_utf8_lossy(call.key.unwrap_or(b"-")).into_owned();
    let offset = call.offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    format!("{:?} {} {key} {offset} {}", call.called, call.name, call.timestamp)
}

/// Passes records on; `bad` fails after its emit, `panic` panics there.
fn passing_on(kind: Kind) -> GroupBuilder<NoTable> {
    let mut g = Group::define("g");
    let out = g.output("out", Text);
    let input = Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")).batch(1);
    let judge = |text: &str| match text {
        "bad" => Err("it is bad"),
        "panic" => panic!("on purpose"),
        _ => Ok(()),
    };
    match kind {
        Kind::Sync => g.input(input, Text, move |ctx, text| {
            ctx.emit(out, "k", &text)?;
            Ok(judge(&text)?)
        }),
        Kind::Async => g.input_async(input, Text, async move |ctx, text| {
            ctx.emit(out, "k", &text)?;
            tokio::time::sleep(ms(1)).await;
            Ok(judge(&text)?)
        }),
        Kind::Batch => g.input_batch(input, Text, async move |ctx, records| {
            tokio::time::sleep(ms(1)).await;
            records.iter().try_for_each(|r| {
                ctx.emit(out, "k", &r.value)?;
                Ok(judge(&r.value)?)
            })
        }),
    };
    g
}

fn run(graph: Arc<GroupGraph>, guarantee: Guarantee, texts: &[&str]) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    let input = tester.input("in", Text);
    for (i, text) in texts.iter().enumerate() {
        input.push_at("k", Some(&(*text).to_owned()), Some(i64::try_from(i)?), None)?;
    }
    tester.drain()?;
    Ok(tester)
}

fn reasons(tester: &Tester) -> Vec<String> {
    let dead = tester.output("dead", Text).read().unwrap();
    dead.iter().map(|r| r.header(dead_letter::REASON).unwrap_or_default()).collect()
}

#[test]
fn it_is_around_every_call_and_an_error_that_it_returns_is_the_callbacks() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let (begun, ended) = (Notes::new(), Notes::new());
            let mut g = passing_on(kind);
            let (begins, ends) = (begun.clone(), ended.clone());
            g.around(async move |call, next| {
                begins.add(text(call));
                let result = next.run().await;
                ends.add(result.is_ok());
                result.map_err(|error| CallbackError::msg(format!("{}: {error}", call.group)))
            });
            let tester = run(g.build()?, guarantee, &["1", "bad", "2"])?;
            assert_eq!(values(&tester.output("out", Text)), ["1", "2"], "{kind:?}");
            let (called, key) = if kind == Kind::Batch { ("Records", "-") } else { ("Record", "k") };
            let expected = [0, 1, 2].map(|i| format!("{called} in {key} {i} {i}"));
            assert_eq!(begun.all(), expected, "{kind:?}");
            assert_eq!(ended.all(), [true, false, true], "{kind:?}");
            let reasons = reasons(&tester);
            assert!(matches!(&*reasons, [reason] if reason.contains("g: it is bad")), "{kind:?}: {reasons:?}");
        }
        Ok(())
    })
}

#[test]
fn an_error_after_the_callback_discards_what_that_has_done() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let mut g = passing_on(kind);
            g.around(async |call, next| {
                let ran = next.run().await?;
                if call.offset == Some(1) { Err("too slow".into()) } else { Ok(ran) }
            });
            let tester = run(g.build()?, guarantee, &["1", "2", "3"])?;
            assert_eq!(values(&tester.output("out", Text)), ["1", "3"], "{kind:?}");
            assert!(reasons(&tester)[0].contains("too slow"), "{kind:?}");
        }
        Ok(())
    })
}

#[test]
fn a_panic_in_it_or_in_the_callback_is_an_error_of_the_record() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let mut g = passing_on(kind);
            g.around(async |call, next| {
                assert!(call.offset != Some(0), "in the middleware");
                next.run().await
            });
            let tester = run(g.build()?, guarantee, &["1", "panic", "3"])?;
            assert_eq!(values(&tester.output("out", Text)), ["3"], "{kind:?}");
            let reasons = reasons(&tester);
            assert!(reasons[0].contains("in the middleware"), "{kind:?}: {reasons:?}");
            assert!(reasons[1].contains("on purpose"), "{kind:?}: {reasons:?}");
        }
        Ok(())
    })
}

#[test]
fn it_may_await_around_callbacks_that_await_and_fails_the_others() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let mut g = passing_on(kind);
            g.around(async |_, next| {
                let ran = next.run().await?;
                tokio::time::sleep(ms(5)).await;
                Ok(ran)
            });
            let tester = run(g.build()?, guarantee, &["1"])?;
            let (out, reasons) = (values(&tester.output("out", Text)), reasons(&tester));
            if kind == Kind::Sync {
                assert!(out.is_empty(), "{out:?}");
                assert!(reasons[0].contains("awaits something besides"), "{reasons:?}");
            } else {
                assert_eq!((out.len(), reasons.len()), (1, 0), "{kind:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn the_first_of_several_is_the_outermost_and_each_retry_is_a_call() -> Done {
    let notes = Notes::new();
    let mut g = Group::define("g");
    // Before the inputs, and behind them.
    let outer = notes.clone();
    g.around(async move |_, next| {
        outer.add("outer");
        next.run().await
    });
    let input = Input::topic("in").on_error(ErrorPolicy::skip().retry(1, ms(10)));
    g.input(input, Text, |_, _| Err("never".into()));
    let inner = notes.clone();
    g.around(async move |_, next| {
        inner.add("inner");
        let result = next.run().await;
        inner.add("end");
        result
    });
    run(g.build()?, Guarantee::AtLeastOnce, &["1"])?;
    assert_eq!(notes.all(), ["outer", "inner", "end"].repeat(2));
    Ok(())
}

#[test]
fn a_value_that_can_not_be_decoded_does_not_come_here() -> Done {
    for kind in KINDS {
        let notes = Notes::new();
        let mut g = passing_on(kind);
        let calls = notes.clone();
        g.around(async move |call, next| {
            calls.add(call.offset);
            next.run().await
        });
        let tester = Tester::new();
        tester.add(g.build()?)?;
        let input = tester.input("in", Text);
        input.push_bytes("k", Some(b"\xff"), None, None)?;
        input.push("k", "1")?;
        tester.drain()?;
        assert_eq!(notes.all(), [Some(1)], "{kind:?}");
    }
    Ok(())
}

/// Everything that can fall due, and a visitor.
fn due_work(notes: &Notes<String>) -> (Arc<GroupGraph>, Visitor<()>) {
    let mut g: GroupBuilder<Table<i64>> = Group::define("due").table(Int64);
    let out = g.output("out", Text);
    let timer = g.timer("remind", Text);
    let window = g.window("minute", Windows::tumbling(ms(100)), Int64);
    let session = g.session("visit", Sessions::gap(ms(100)), Int64);
    let batch = g.batch("pair", Batches::of(2).gap(ms(500)), Text);
    g.input("in", Text, move |ctx, text| {
        ctx.set(1)?;
        ctx.set_timer(timer, ctx.timestamp() + 50, &text)?;
        ctx.aggregate(window, |n| n.unwrap_or(0) + 1)?;
        ctx.aggregate_session(session, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
        ctx.collect(batch, text)
    });
    g.on_timer(timer, move |ctx, text| ctx.emit(out, ctx.key(), text));
    g.on_close(window, move |ctx, _| ctx.emit(out, ctx.key(), "window"));
    g.on_close(session, move |ctx, _| ctx.emit(out, ctx.key(), "session"));
    g.on_close(batch, move |ctx, _| ctx.emit(out, ctx.key(), "batch"));
    g.stream_join(
        "found",
        JoinWindows::around(ms(10)).grace(ms(0)),
        Side::topic("left", Text),
        Side::topic("right", Text),
    )
    .left(move |ctx, left, _| ctx.emit(out, ctx.key(), left));
    let visitor = g.visitor("look", |_, (), _| Ok(()));
    let calls = notes.clone();
    g.around(async move |call, next| {
        calls.add(text(call));
        next.run().await
    });
    (g.build().unwrap(), visitor)
}

#[test]
fn due_work_and_visitors_have_their_names_and_no_offset() -> Done {
    with_both(|guarantee| {
        let notes = Notes::new();
        let (graph, look) = due_work(&notes);
        let tester = Tester::new();
        tester.add_with(graph, move |p| p.guarantee(guarantee))?;
        tester.input("left", Text).send_at("k", "l", 10)?;
        tester.input("in", Text).send_at("k", "a", 20)?;
        tester.input("in", Text).send_at("k", "b", 30)?;
        tester.input("in", Text).send_at("other", "c", 1000)?;
        let seen = notes.take();
        for expected in [
            "Record in k 0 20",
            "Record in k 1 30",
            "Unmatched found k - 10",
            "Timer remind k - 80",
            "Window minute k - 99",
            "Record in other 2 1000",
        ] {
            assert!(seen.iter().any(|call| call == expected), "{expected}: {seen:#?}");
        }
        for begin in ["Session visit k - ", "Batch pair k - "] {
            assert!(seen.iter().any(|call| call.starts_with(begin)), "{begin}: {seen:#?}");
        }
        tester.visit("due", look, ())?;
        let seen = notes.take();
        assert_eq!(seen.iter().filter(|call| call.starts_with(&format!("{:?} look ", Called::Visitor))).count(), 2);
        Ok(())
    })
}

#[test]
fn an_error_of_it_around_due_work_follows_that_policy() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("due");
        let out = g.output("out", Text);
        let timer = g.timer("remind", Text);
        g.input("in", Text, move |ctx, text| ctx.set_timer(timer, ctx.timestamp() + 10, text));
        g.on_timer(timer, move |ctx, text| ctx.emit(out, ctx.key(), text));
        g.on_due_error(timer, ErrorPolicy::dead_letter("dead"));
        g.around(async |call, next| {
            let ran = next.run().await?;
            if call.called == Called::Timer && call.key == Some(b"bad".as_slice()) {
                Err("not now".into())
            } else {
                Ok(ran)
            }
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for key in ["good", "bad", "end"] {
            tester.input("in", Text).send_at(key, key, if key == "end" { 100 } else { 1 })?;
        }
        assert_eq!(values(&tester.output("out", Text)), ["good"]);
        assert!(reasons(&tester)[0].contains("not now"));
        Ok(())
    })
}
