//! D5 with `Nullable`: a null is a value, on the way in and on the way out.

use stream_core::codec::{EventTime, Int64, Json, Nullable, Text};
use stream_core::emitter::Emitter;
use stream_core::group::{Group, Input, LeftOut, NullValue, TableSide};
use stream_core::log::{Cleanup, LogHandle, TopicConfig, TopicSpec};
use stream_core::testing::Tester;
use stream_core::topics::ensure_topic;
use stream_core::window::Windows;

use crate::support::{Done, Notes, ms, pairs, table, with_both};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sync,
    Async,
    Batch,
}

#[test]
fn a_null_reaches_the_callback_and_goes_on_as_a_null() -> Done {
    with_both(|guarantee| {
        for kind in [Kind::Sync, Kind::Async, Kind::Batch] {
            let mut g = Group::define("g");
            let out = g.output("out", Nullable::of(Int64));
            let codec = Nullable::of(Int64);
            match kind {
                Kind::Sync => g.input("in", codec, move |ctx, n: Option<i64>| {
                    assert_eq!(ctx.value_is_null(), n.is_none());
                    ctx.emit(out, ctx.key(), n)
                }),
                Kind::Async => g.input_async("in", codec, async move |ctx, n| ctx.emit(out, ctx.key(), n)),
                Kind::Batch => g.input_batch("in", codec, async move |ctx, records| {
                    records.iter().try_for_each(|r| ctx.emit(out, r.key.as_ref(), r.value))
                }),
            };
            let tester = Tester::new();
            tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
            let input = tester.input("in", Nullable::of(Int64));
            for n in [Some(1), None, Some(2)] {
                input.push("k", n)?;
            }
            tester.drain()?;
            let found = tester.output("out", Int64).read()?;
            assert_eq!(found.iter().map(|r| r.value).collect::<Vec<_>>(), [Some(1), None, Some(2)], "{kind:?}");
            assert_eq!(tester.left_out("g", LeftOut::NullValue)?, 0);
        }
        Ok(())
    })
}

#[test]
fn a_rule_that_is_set_counts_more() -> Done {
    let mut g = Group::define("g");
    let out = g.output("out", Nullable::of(Int64));
    let input = Input::topic("in").null_value(NullValue::Skip);
    g.input(input, Nullable::of(Int64), move |ctx, n| ctx.emit(out, ctx.key(), n));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Nullable::of(Int64)).send("k", None)?;
    assert!(tester.output("out", Int64).read()?.is_empty());
    assert_eq!(tester.left_out("g", LeftOut::NullValue)?, 1);
    Ok(())
}

#[test]
fn a_null_in_a_table_removes_the_key() -> Done {
    with_both(|guarantee| {
        let seen = Notes::new();
        let notes = seen.clone();
        let mut g = Group::define("g").table(Nullable::of(Int64));
        g.input("in", Nullable::of(Int64), move |ctx, n| {
            ctx.set(Some(7))?;
            ctx.set(n)?;
            notes.add(ctx.value()?);
            ctx.set(n)
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let input = tester.input("in", Nullable::of(Int64));
        for (key, n) in [("a", Some(1)), ("b", Some(2)), ("a", None)] {
            input.send(key, n)?;
        }
        assert_eq!(table(&tester, "g", Int64), pairs([("b", 2)]));
        assert_eq!(seen.all(), [Some(Some(1)), Some(Some(2)), None]);
        Ok(())
    })
}

/// What is kept by key and time has no record that could be without a value.
#[test]
fn a_null_in_a_window_is_an_error_of_its_record() -> Done {
    let mut g = Group::define("g");
    let sums = g.window("sums", Windows::tumbling(ms(100)).grace(ms(0)), Nullable::of(Int64));
    g.input("in", Nullable::of(Int64), move |ctx, n| {
        ctx.aggregate(sums, |_| n)?;
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let ended = tester.input("in", Nullable::of(Int64)).send_at("k", None, 1);
    let error = format!("{:?}", ended.unwrap_err());
    assert!(error.contains("a null has no bytes"), "{error}");
    Ok(())
}

#[test]
fn its_event_time_is_that_of_a_value_and_a_null_has_none() -> Done {
    let seen = Notes::new();
    let notes = seen.clone();
    let mut g = Group::define("g");
    let timer = g.timer("unused", Text);
    g.on_timer(timer, |_, _| Ok(()));
    let codec = Nullable::of(EventTime::by(Int64, |n: &i64| *n));
    g.input("in", codec, move |ctx, n| {
        notes.add((n, ctx.timestamp(), ctx.stream_time()));
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Nullable::of(Int64));
    input.send_at("k", Some(500), 3)?;
    input.send_at("k", None, 900)?;
    assert_eq!(seen.all(), [(Some(500), 500, Some(500)), (None, 900, Some(500))]);
    Ok(())
}

#[test]
fn a_side_of_a_table_join_takes_a_null_as_a_deletion() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("g").table(Json::<(Option<i64>, Option<i64>)>::new());
        let side = |topic: &str| TableSide::topic(topic, Int64);
        g.table_join("t", side("one"), side("two")).outer(|one, two| (one.copied(), two.copied()));
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let (one, two) = (tester.input("one", Nullable::of(Int64)), tester.input("two", Nullable::of(Int64)));
        one.send("k", Some(1))?;
        two.send("k", Some(2))?;
        one.send("k", None)?;
        let codec = Json::<(Option<i64>, Option<i64>)>::new();
        assert_eq!(table(&tester, "g", codec), pairs([("k", (None, Some(2)))]));
        two.send("k", None)?;
        assert!(tester.table("g", Json::<(Option<i64>, Option<i64>)>::new()).all()?.is_empty());
        Ok(())
    })
}

#[tokio::test]
async fn an_emitter_writes_it_as_a_null() -> Done {
    let log: LogHandle = stream_core::InMemory::new();
    let table = TopicSpec::new("topic").partitions(1).config(TopicConfig::new().cleanup(Cleanup::Compact));
    ensure_topic(&log, table).await?;
    let emitter = Emitter::builder("topic", Nullable::of(Int64), log.clone()).open().await?;
    emitter.emit_acknowledged("k", Some(1)).await?;
    emitter.emit_acknowledged("k", None).await?;
    let view = stream_core::View::builder("topic", Int64, log).open().await?;
    view.wait_caught_up().await?;
    assert_eq!(view.get("k")?, None);
    assert_eq!(view.iter().count(), 0);
    Ok(())
}
