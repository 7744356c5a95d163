//! The cases of `kafka_windows` that are of time: stream time, timers and event time.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{EventTime, Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupGraph, Input, loop_topic, table_topic};
use stream_core::log::LogHandle;
use stream_core::processor::Guarantee;

use super::world::{World, kept_topic};
use crate::kafka_support::{done, read};

/// Stream time, emitted with each record: over all inputs, also of records that fail, not of undecodable ones, of nulls (whose
/// times would be in their values), nor of those too far ahead; it survives a restart.
pub async fn t1_stream_time(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "t1").await;
    let other = kept_topic(log, "other").await;
    let graph = || {
        let mut g = Group::define(&*world.group);
        let out = g.output(&*world.out, Int64);
        let unused = g.timer("unused", Text);
        g.on_timer(unused, |_, _| Ok(()));
        for topic in [&world.input, &other] {
            let input = Input::topic(&**topic).on_error(ErrorPolicy::skip()).max_ahead(Duration::from_secs(3600));
            g.input(input, EventTime::by(Int64, |n: &i64| n.abs()), move |ctx, n| {
                let at = ctx.stream_time().unwrap_or(-1);
                ctx.emit(out, ctx.key(), at)?;
                if n < 0 { Err(CallbackError::msg("on purpose")) } else { Ok(()) }
            });
        }
        g.build().unwrap()
    };
    let to = async |topic: &Arc<str>, value: Option<&[u8]>, at: i64| {
        world.write(topic, &[("k", value, at)]).await;
        done(log, &world.group, &[(topic, 1)]).await;
    };
    let running = world.start(graph()).await;
    // The times come from the values.
    to(&world.input, Some(b"100"), 5).await;
    to(&other, Some(b"70"), 5).await;
    to(&other, Some(b"130"), 5).await;
    to(&world.input, Some(b"90"), 5).await;
    to(&world.input, None, 140).await;
    to(&world.input, Some(b"1"), 5).await;
    to(&world.input, Some(b"-150"), 5).await;
    to(&world.input, Some(b"no number"), 5000).await;
    to(&world.input, Some(b"99999999999999"), 5).await;
    to(&world.input, Some(b"1"), 5).await;
    running.stop().await;
    let running = world.start(graph()).await;
    to(&world.input, Some(b"1"), 5).await;
    running.stop().await;
    assert_eq!(world.words().await, ["100", "100", "130", "130", "130", "150", "150"]);
}

/// `s 100 text`: a timer of stream time; `w 100 text`: one of the wall clock, so much later.
fn timers(world: &World) -> Arc<GroupGraph> {
    let mut g = Group::define(&*world.group);
    let out = g.output(&*world.out, Text);
    let (stream, wall) = (g.timer("stream", Text), g.wall_timer("wall", Text));
    g.input(&*world.input, Text, move |ctx, text| {
        let mut words = text.split(' ');
        let (by, at) = (words.next().unwrap_or_default(), words.next().and_then(|n| n.parse::<i64>().ok()));
        let carried = words.collect::<Vec<_>>().join(" ");
        match (by, at) {
            ("s", Some(at)) => ctx.set_timer(stream, at, &carried),
            ("w", Some(ms)) => ctx.set_timer(wall, ctx.now_ms() + ms, &carried),
            _ => Ok(()),
        }
    });
    g.on_timer(stream, move |ctx, text| ctx.emit(out, ctx.key(), &text));
    g.on_timer(wall, move |ctx, text| ctx.emit(out, ctx.key(), &text));
    g.build().unwrap()
}

pub async fn t2_timers(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "t2").await;
    let first = world.start(timers(&world)).await;
    world
        .say(&[("a", "s 100 hundred", 10), ("b", "s 50 fifty", 20), ("c", "s 60 moved", 30), ("c", "s 90 ninety", 31)])
        .await;
    // They move with their partition.
    let second = world.start(timers(&world)).await;
    first.stop().await;
    second.has(1).await;
    world.say(&[("z", "-", 89)]).await;
    world.until_emitted(&["fifty"]).await;
    // And survive a restart. What is due comes before the record that makes it due, in the order of time.
    second.stop().await;
    let third = world.start(timers(&world)).await;
    world.say(&[("z", "-", 200)]).await;
    assert_eq!(world.emitted().await, [(50, "fifty".into()), (90, "ninety".into()), (100, "hundred".into())]);
    // No further record, and nobody there when it is due.
    world.say(&[("a", "w 100 wall", 201)]).await;
    third.stop().await;
    let fourth = world.start(timers(&world)).await;
    world.until_emitted(&["fifty", "ninety", "hundred", "wall"]).await;
    fourth.stop().await;
}

pub async fn t3_event_time(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "t3").await;
    let mut g = Group::define(&*world.group).table(Text);
    let out = g.output(&*world.out, Text);
    let again = g.loopback(Text);
    let timer = g.timer("timer", Text);
    g.input(&*world.input, Text, move |ctx, text| {
        ctx.emit(out, ctx.key(), &text)?;
        ctx.loopback(again, "looped", &text)?;
        ctx.set_timer(timer, ctx.timestamp() + 100, "timer".to_owned())?;
        ctx.set(text)
    });
    g.on_loop(again, move |ctx, _| {
        let text = format!("{} looped", ctx.timestamp());
        ctx.emit(out, ctx.key(), &text)
    });
    g.on_timer(timer, move |ctx, text| ctx.emit(out, ctx.key(), &text));
    let running = world.start(g.build().unwrap()).await;
    world.say(&[("k", "first", 1000)]).await;
    world.until_emitted(&["first", "1000 looped"]).await;
    world.say(&[("k2", "second", 5000)]).await;
    world.until_emitted(&["first", "1000 looped", "timer", "second", "5000 looped"]).await;
    running.stop().await;
    let emitted = world.emitted().await;
    let expected = [(1000, "first"), (1000, "1000 looped"), (1100, "timer"), (5000, "second"), (5000, "5000 looped")];
    assert_eq!(emitted, expected.map(|(at, text)| (at, text.to_owned())));
    let table = read(log, &table_topic(&world.group), 1).await;
    assert_eq!(table.iter().map(|r| r.timestamp).collect::<Vec<_>>(), [1000, 5000]);
    let looped = log.topics(vec![loop_topic(&world.group)]).await.unwrap().remove(0).unwrap();
    assert_eq!(looped.config.retention_ms, Some(-1));
}
