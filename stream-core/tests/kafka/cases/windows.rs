//! The cases of `kafka_windows` that are of windows, sessions and batches.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::context::Emit;
use stream_core::group::{Group, GroupGraph, batch_topic, session_topic, window_topic};
use stream_core::log::LogHandle;
use stream_core::processor::Guarantee;
use stream_core::window::{Batches, SessionChange, Sessions, Windows};

use super::world::{World, ms};
use crate::kafka_support::until;

/// Counts by window, and emits what each record changes.
fn counting(world: &World, windows: Windows) -> Arc<GroupGraph> {
    let mut g = Group::define(&*world.group);
    let out = g.output(&*world.out, Text);
    let counts = g.window("counts", windows, Int64);
    g.input(&*world.input, Text, move |ctx, _| {
        let updated = ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        let updated = updated.iter().map(|(window, n)| format!("{window} {n}")).collect::<Vec<_>>();
        ctx.emit(out, ctx.key(), updated.join(" "))
    });
    g.build().unwrap()
}

/// What records (key, time) change in windows.
async fn changes(log: &LogHandle, guarantee: Guarantee, windows: Windows, records: &[(&str, i64)]) -> Vec<String> {
    let world = World::new(log, guarantee, "windows").await;
    let running = world.start(counting(&world, windows)).await;
    let records: Vec<_> = records.iter().map(|(key, at)| (*key, "", *at)).collect();
    world.say(&records).await;
    running.stop().await;
    world.words().await
}

pub async fn w1_tumbling_and_hopping(log: &LogHandle, guarantee: Guarantee) {
    let hopping = Windows::hopping(ms(60), ms(20));
    let emitted = changes(log, guarantee, hopping, &[("b", 10), ("a", 45), ("c", 60)]).await;
    assert_eq!(emitted, ["[0, 60) 1", "[0, 60) 1 [20, 80) 1 [40, 100) 1", "[20, 80) 1 [40, 100) 1 [60, 120) 1"]);
    let tumbling = Windows::tumbling(ms(60));
    let emitted = changes(log, guarantee, tumbling, &[("a", 0), ("a", 59), ("b", 59), ("a", 60), ("b", 119)]).await;
    assert_eq!(emitted, ["[0, 60) 1", "[0, 60) 2", "[0, 60) 1", "[60, 120) 1", "[60, 120) 1"]);
}

pub async fn w2_late(log: &LogHandle, guarantee: Guarantee) {
    let windows = Windows::tumbling(ms(60)).grace(ms(10));
    let emitted = changes(log, guarantee, windows, &[("k", 59), ("o", 69), ("k", 59), ("o", 70), ("k", 59)]).await;
    assert_eq!(emitted, ["[0, 60) 1", "[60, 120) 1", "[0, 60) 2", "[60, 120) 2", ""]);
    // For that window only.
    let emitted = changes(log, guarantee, Windows::hopping(ms(60), ms(20)), &[("k", 85), ("k", 59)]).await;
    assert_eq!(emitted, ["[40, 100) 1 [60, 120) 1 [80, 140) 1", "[40, 100) 2"]);
}

pub async fn w3_final_results(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "w3").await;
    let graph = || {
        let mut g = Group::define(&*world.group);
        let out = g.output(&*world.out, Text);
        let counts = g.window("counts", Windows::tumbling(ms(60)).grace(ms(10)), Int64);
        g.input(&*world.input, Text, move |ctx, _| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            Ok(())
        });
        g.on_close(counts, move |ctx, (window, n)| {
            let key = ctx.key_text()?;
            ctx.emit(out, key, format!("{key} {window} {n}"))
        });
        g.build().unwrap()
    };
    let running = world.start(graph()).await;
    world.say(&[("b", "", 5), ("a", "", 10), ("a", "", 59), ("a", "", 60), ("a", "", 69)]).await;
    running.stop().await;
    let running = world.start(graph()).await;
    world.say(&[("b", "", 58)]).await;
    assert_eq!(world.words().await.len(), 0);
    world.say(&[("c", "", 70), ("a", "", 59), ("c", "", 129)]).await;
    let first = [(59, "a [0, 60) 2".to_owned()), (59, "b [0, 60) 2".to_owned())];
    assert_eq!(world.emitted().await, first);
    world.until_live(&window_topic(&world.group, "counts"), 3).await;
    running.stop().await;
    let running = world.start(graph()).await;
    world.say(&[("c", "", 1000)]).await;
    let all = ["a [0, 60) 2", "b [0, 60) 2", "a [60, 120) 2", "c [60, 120) 1", "c [120, 180) 1"];
    assert_eq!(world.words().await, all);
    world.until_live(&window_topic(&world.group, "counts"), 1).await;
    running.stop().await;
}

/// Joins the words of a session; emits changes and, with a `=`, final results.
fn visits(world: &World, sessions: Sessions) -> Arc<GroupGraph> {
    let mut g = Group::define(&*world.group);
    let out = g.output(&*world.out, Text);
    let visits = g.session("visits", sessions, Text);
    g.input(&*world.input, Text, move |ctx, word| {
        let fold = |all: Option<String>| all.map_or_else(|| word.clone(), |all| format!("{all} {word}"));
        for change in ctx.aggregate_session(visits, fold, |a, b| format!("{a} {b}"))? {
            let (end, change) = match change {
                SessionChange::Retracted(session) => (session.end, format!("- {session}")),
                SessionChange::Updated(session, all) => (session.end, format!("{session} {all}")),
            };
            ctx.emit_with(out, ctx.key(), &change, Emit::new().timestamp(end))?;
        }
        Ok(())
    });
    g.on_close(visits, move |ctx, (session, all)| ctx.emit(out, ctx.key(), format!("= {session} {all}")));
    g.build().unwrap()
}

pub async fn w4_sessions(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "w4").await;
    let graph = || visits(&world, Sessions::gap(ms(30)).grace(ms(100)));
    let running = world.start(graph()).await;
    world.say(&[("a", "x", 1000), ("a", "y", 1030), ("b", "x", 1000), ("b", "y", 1031)]).await;
    let mut emitted = vec!["[1000, 1000] x", "- [1000, 1000]", "[1000, 1030] x y", "[1000, 1000] x", "[1031, 1031] y"];
    running.stop().await;
    // A restart, and a record that brings two sessions together.
    let running = world.start(graph()).await;
    world.say(&[("b", "between", 1015)]).await;
    emitted.extend(["- [1000, 1000]", "- [1031, 1031]", "[1000, 1031] x y between"]);
    // Nothing is late, nor closed, at the very end of gap and grace; one later it is.
    world.say(&[("c", "c", 1160), ("a", "z", 1000), ("c", "c", 1161), ("a", "late", 1000), ("d", "d", 1162)]).await;
    emitted.extend(["[1160, 1160] c", "[1000, 1030] x y z", "= [1000, 1030] x y z"]);
    emitted.extend(["- [1160, 1160]", "[1160, 1161] c c", "= [1000, 1031] x y between", "[1162, 1162] d"]);
    assert_eq!(world.words().await, emitted);
    // The time of a change and of a final result is its session's end.
    let end = |text: &str| text.split([' ', ']']).filter_map(|word| word.parse::<i64>().ok()).next_back();
    for (at, text) in world.emitted().await {
        assert_eq!(Some(at), end(&text), "{text}");
    }
    world.say(&[("e", "flush", 10_000)]).await;
    let finals = world.words().await.split_off(emitted.len());
    assert_eq!(finals, ["= [1160, 1161] c c", "= [1162, 1162] d", "[10000, 10000] flush"]);
    world.until_live(&session_topic(&world.group, "visits"), 2).await;
    running.stop().await;
}

pub async fn w5_batches(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "w5").await;
    let graph = || {
        let mut g = Group::define(&*world.group);
        let out = g.output(&*world.out, Text);
        let lines = g.batch("lines", Batches::of(4).gap(ms(400)), Text);
        g.input(&*world.input, Text, move |ctx, words| {
            words.split(' ').try_for_each(|word| ctx.collect(lines, word.to_owned()))
        });
        g.on_close(lines, move |ctx, all| ctx.emit(out, ctx.key(), all.join(" ")));
        g.build().unwrap()
    };
    let running = world.start(graph()).await;
    // The number closes at once, the gap without a further record.
    world.say(&[("a", "1 2 3 4 5 6", 7)]).await;
    world.until_emitted(&["1 2 3 4", "5 6"]).await;
    assert_eq!(world.emitted().await[1].0, 7);
    // Open while it stops; whoever has it then closes it.
    world.say(&[("a", "7", 8)]).await;
    running.stop().await;
    let running = world.start(graph()).await;
    world.until_emitted(&["1 2 3 4", "5 6", "7"]).await;
    world.until_live(&batch_topic(&world.group, "lines"), 0).await;
    running.stop().await;
}

/// An instance that dies in the middle loses nothing of timers, windows, sessions and batches.
pub async fn everything_after_a_crash(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "crash").await;
    let graph = || {
        let mut g = Group::define(&*world.group);
        let out = g.output(&*world.out, Text);
        let counts = g.window("w", Windows::tumbling(ms(100)), Int64);
        let visits = g.session("s", Sessions::gap(ms(50)), Int64);
        let lines = g.batch("b", Batches::of(7).gap(ms(500)), Text);
        let timer = g.timer("t", Text);
        g.input(&*world.input, Text, move |ctx, word| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            ctx.aggregate_session(visits, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
            ctx.set_timer(timer, ctx.timestamp() + 30, &word)?;
            ctx.collect(lines, word)
        });
        g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("w {window} {n}")));
        g.on_close(visits, move |ctx, (session, n)| ctx.emit(out, ctx.key(), format!("s {session} {n}")));
        g.on_close(lines, move |ctx, all| {
            all.iter().try_for_each(|word| ctx.emit(out, ctx.key(), format!("b {word}")))
        });
        g.on_timer(timer, move |ctx, word| ctx.emit(out, ctx.key(), format!("t {word}")));
        g.build().unwrap()
    };
    let running = world.start(graph()).await;
    let records: Vec<_> = (0..60).map(|n| (n.to_string(), 1000 + n * 10)).collect();
    let (before, after) = records.split_at(30);
    let of = |some: &[(String, i64)]| -> Vec<(String, i64)> { some.to_vec() };
    let say = async |some: Vec<(String, i64)>| {
        let some: Vec<_> = some.iter().map(|(word, at)| ("k", Some(word.as_bytes()), *at)).collect();
        world.write(&world.input, &some).await;
    };
    say(of(before)).await;
    // Some of it is done, and perhaps committed.
    until("something is emitted", async || !world.words().await.is_empty()).await;
    say(of(after)).await;
    running.task.abort();
    _ = running.task.await;
    let running = world.start(graph()).await;
    world.say(&[("flush", "flush", 5000)]).await;
    let batched = async || world.words().await.iter().any(|w| w == "b flush");
    until("the last batch is closed", batched).await;
    running.stop().await;
    let of_k = world.records().await.into_iter().filter(|r| r.key.as_deref() == Some("k"));
    let words: Vec<_> = of_k.filter_map(|r| r.value).collect();
    let count = |word: &str| words.iter().filter(|w| *w == word).count();
    let mut expected: Vec<String> = (0..60).map(|n| format!("b {n}")).collect();
    expected.push("t 59".to_owned());
    if guarantee == Guarantee::ExactlyOnce {
        expected.extend((10..16).map(|n| format!("w [{}, {}) 10", n * 100, n * 100 + 100)));
        expected.push("s [1000, 1590] 60".to_owned());
        for word in &expected {
            assert_eq!(count(word), 1, "{word}: {words:?}");
        }
    } else {
        for word in &expected {
            assert!(count(word) > 0, "{word} is lost: {words:?}");
        }
        // A count may have counted twice what was done again, and is never too small.
        let of = |begin: String| words.iter().filter_map(move |w| w.strip_prefix(&*begin)?.parse::<i64>().ok()).min();
        for n in 10..16 {
            assert!(of(format!("w [{}, {}) ", n * 100, n * 100 + 100)).is_some_and(|n| n >= 10), "{words:?}");
        }
        assert!(of("s [1000, 1590] ".to_owned()).is_some_and(|n| n >= 60), "{words:?}");
    }
}
