//! The cases of `kafka_windows`: time, windows and joins of tables, on a real Kafka.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{EventTime, Int64, Text};
use stream_core::context::Emit;
use stream_core::group::{
    CallbackError, ErrorPolicy, Group, GroupGraph, Input, TableSide, batch_topic, loop_topic, session_topic,
    table_topic, window_topic,
};
use stream_core::log::{LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::window::{Batches, SessionChange, Sessions, Windows};

use super::{Rec, Running, done, read, topic_with, unique, until};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A group's topics. Each start begins without a local store, so that everything comes back from Kafka.
struct World {
    log: LogHandle,
    guarantee: Guarantee,
    group: String,
    input: Arc<str>,
    out: Arc<str>,
}

/// Times are near 0: by the broker's clock they are long over.
async fn kept_topic(log: &LogHandle, what: &str) -> Arc<str> {
    topic_with(log, what, 1, TopicConfig { retention_ms: Some(-1), ..TopicConfig::default() }).await
}

impl World {
    async fn new(log: &LogHandle, guarantee: Guarantee, what: &str) -> Self {
        let (input, out) = (kept_topic(log, "in").await, kept_topic(log, "out").await);
        Self { log: Arc::clone(log), guarantee, group: unique(what), input, out }
    }

    async fn start(&self, graph: Arc<GroupGraph>) -> Running {
        let processor = Processor::new(graph, Arc::clone(&self.log)).stores(Arc::new(MemoryStores::new())).workers(1);
        let processor = processor.guarantee(self.guarantee).commit_interval(ms(100)).session_timeout(ms(6000));
        Running::up(processor).await
    }

    /// Writes records (key, value, time) to an input, without waiting for the group.
    async fn write(&self, to: &Arc<str>, records: &[(&str, Option<&[u8]>, i64)]) {
        let mut batch = ProduceBatch::new();
        for (key, value, at) in records {
            let (partition, timestamp, key) = (Some(0), Some(*at), Some(key.as_bytes()));
            let record = NewRecord { topic: to, partition, timestamp, key, value: *value };
            batch.push(record, std::iter::empty());
        }
        let writer = self.log.producer(ProducerOptions::default()).await.unwrap();
        assert!(writer.send(Arc::new(batch)).await.failed.is_empty());
    }

    /// Writes texts, and waits until the group is done with them.
    async fn say(&self, records: &[(&str, &str, i64)]) {
        let records: Vec<_> = records.iter().map(|(k, v, at)| (*k, Some(v.as_bytes()), *at)).collect();
        self.write(&self.input, &records).await;
        self.done().await;
    }

    async fn done(&self) {
        done(&self.log, &self.group, &[(&self.input, 1)]).await;
    }

    async fn records(&self) -> Vec<Rec> {
        read(&self.log, &self.out, 1).await
    }

    /// Everything that was told, and when.
    async fn told(&self) -> Vec<(i64, String)> {
        self.records().await.into_iter().map(|r| (r.timestamp, r.value.unwrap_or_default())).collect()
    }

    async fn words(&self) -> Vec<String> {
        self.told().await.into_iter().map(|(_, text)| text).collect()
    }

    async fn until_told(&self, words: &[&str]) {
        until(&format!("{words:?} is told"), async || self.words().await == words).await;
    }

    /// Waits until a table of the group has so many values.
    async fn until_live(&self, topic: &str, wanted: usize) {
        let live = async || {
            let mut live = BTreeSet::new();
            for record in read(&self.log, topic, 1).await {
                let key = record.key.unwrap();
                if record.value.is_some() {
                    live.insert(key)
                } else {
                    live.remove(&key)
                };
            }
            live.len() == wanted
        };
        until(&format!("{topic} has {wanted} values"), live).await;
    }
}

/// Stream time, told with each record: over all inputs, of records that are null or fail, not of undecodable ones nor of
/// those too far ahead; it survives a restart.
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
                ctx.emit(out, ctx.key(), &at)?;
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
    // The times come from the values; a null's is its record's.
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
    assert_eq!(world.words().await, ["100", "100", "130", "130", "140", "150", "150"]);
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
    world.until_told(&["fifty"]).await;
    // And survive a restart. What is due comes before the record that makes it due, in the order of time.
    second.stop().await;
    let third = world.start(timers(&world)).await;
    world.say(&[("z", "-", 200)]).await;
    assert_eq!(world.told().await, [(50, "fifty".into()), (90, "ninety".into()), (100, "hundred".into())]);
    // No further record, and nobody there when it is due.
    world.say(&[("a", "w 100 wall", 201)]).await;
    third.stop().await;
    let fourth = world.start(timers(&world)).await;
    world.until_told(&["fifty", "ninety", "hundred", "wall"]).await;
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
        ctx.set_timer(timer, ctx.timestamp() + 100, &"timer".to_owned())?;
        ctx.set(text)
    });
    g.on_loop(again, move |ctx, _| {
        let told = format!("{} looped", ctx.timestamp());
        ctx.emit(out, ctx.key(), &told)
    });
    g.on_timer(timer, move |ctx, text| ctx.emit(out, ctx.key(), &text));
    let running = world.start(g.build().unwrap()).await;
    world.say(&[("k", "first", 1000)]).await;
    world.until_told(&["first", "1000 looped"]).await;
    world.say(&[("k2", "second", 5000)]).await;
    world.until_told(&["first", "1000 looped", "timer", "second", "5000 looped"]).await;
    running.stop().await;
    let told = world.told().await;
    let expected = [(1000, "first"), (1000, "1000 looped"), (1100, "timer"), (5000, "second"), (5000, "5000 looped")];
    assert_eq!(told, expected.map(|(at, text)| (at, text.to_owned())));
    let table = read(log, &table_topic(&world.group), 1).await;
    assert_eq!(table.iter().map(|r| r.timestamp).collect::<Vec<_>>(), [1000, 5000]);
    let looped = log.topics(vec![loop_topic(&world.group)]).await.unwrap().remove(0).unwrap();
    assert_eq!(looped.config.retention_ms, Some(-1));
}

/// Counts by window, and tells what each record changes.
fn counting(world: &World, windows: Windows) -> Arc<GroupGraph> {
    let mut g = Group::define(&*world.group);
    let out = g.output(&*world.out, Text);
    let counts = g.window("counts", windows, Int64);
    g.input(&*world.input, Text, move |ctx, _| {
        let updated = ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        let told = updated.iter().map(|(window, n)| format!("{window} {n}")).collect::<Vec<_>>();
        ctx.emit(out, ctx.key(), &told.join(" "))
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
    let told = changes(log, guarantee, hopping, &[("b", 10), ("a", 45), ("c", 60)]).await;
    assert_eq!(told, ["[0, 60) 1", "[0, 60) 1 [20, 80) 1 [40, 100) 1", "[20, 80) 1 [40, 100) 1 [60, 120) 1"]);
    let tumbling = Windows::tumbling(ms(60));
    let told = changes(log, guarantee, tumbling, &[("a", 0), ("a", 59), ("b", 59), ("a", 60), ("b", 119)]).await;
    assert_eq!(told, ["[0, 60) 1", "[0, 60) 2", "[0, 60) 1", "[60, 120) 1", "[60, 120) 1"]);
}

pub async fn w2_late(log: &LogHandle, guarantee: Guarantee) {
    let windows = Windows::tumbling(ms(60)).grace(ms(10));
    let told = changes(log, guarantee, windows, &[("k", 59), ("o", 69), ("k", 59), ("o", 70), ("k", 59)]).await;
    assert_eq!(told, ["[0, 60) 1", "[60, 120) 1", "[0, 60) 2", "[60, 120) 2", ""]);
    // For that window only.
    let told = changes(log, guarantee, Windows::hopping(ms(60), ms(20)), &[("k", 85), ("k", 59)]).await;
    assert_eq!(told, ["[40, 100) 1 [60, 120) 1 [80, 140) 1", "[40, 100) 2"]);
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
        g.on_close(counts, move |ctx, window, n| {
            let key = ctx.key_text()?;
            ctx.emit(out, key, &format!("{key} {window} {n}"))
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
    assert_eq!(world.told().await, first);
    world.until_live(&window_topic(&world.group, "counts"), 3).await;
    running.stop().await;
    let running = world.start(graph()).await;
    world.say(&[("c", "", 1000)]).await;
    let all = ["a [0, 60) 2", "b [0, 60) 2", "a [60, 120) 2", "c [60, 120) 1", "c [120, 180) 1"];
    assert_eq!(world.words().await, all);
    world.until_live(&window_topic(&world.group, "counts"), 1).await;
    running.stop().await;
}

/// Joins the words of a session; tells changes and, with a `=`, final results.
fn visits(world: &World, sessions: Sessions) -> Arc<GroupGraph> {
    let mut g = Group::define(&*world.group);
    let out = g.output(&*world.out, Text);
    let visits = g.session("visits", sessions, Text);
    g.input(&*world.input, Text, move |ctx, word| {
        let fold = |all: Option<String>| all.map_or_else(|| word.clone(), |all| format!("{all} {word}"));
        for change in ctx.aggregate_session(visits, fold, |a, b| format!("{a} {b}"))? {
            let (end, told) = match change {
                SessionChange::Retracted(session) => (session.end, format!("- {session}")),
                SessionChange::Updated(session, all) => (session.end, format!("{session} {all}")),
            };
            ctx.emit_with(out, ctx.key(), &told, Emit::new().timestamp(end))?;
        }
        Ok(())
    });
    g.on_session_close(visits, move |ctx, session, all| ctx.emit(out, ctx.key(), &format!("= {session} {all}")));
    g.build().unwrap()
}

pub async fn w4_sessions(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "w4").await;
    let graph = || visits(&world, Sessions::gap(ms(30)).grace(ms(100)));
    let running = world.start(graph()).await;
    world.say(&[("a", "x", 1000), ("a", "y", 1030), ("b", "x", 1000), ("b", "y", 1031)]).await;
    let mut told = vec!["[1000, 1000] x", "- [1000, 1000]", "[1000, 1030] x y", "[1000, 1000] x", "[1031, 1031] y"];
    running.stop().await;
    // A restart, and a record that brings two sessions together.
    let running = world.start(graph()).await;
    world.say(&[("b", "between", 1015)]).await;
    told.extend(["- [1000, 1000]", "- [1031, 1031]", "[1000, 1031] x y between"]);
    // Nothing is late, nor closed, at the very end of gap and grace; one later it is.
    world.say(&[("c", "c", 1160), ("a", "z", 1000), ("c", "c", 1161), ("a", "late", 1000), ("d", "d", 1162)]).await;
    told.extend(["[1160, 1160] c", "[1000, 1030] x y z", "= [1000, 1030] x y z"]);
    told.extend(["- [1160, 1160]", "[1160, 1161] c c", "= [1000, 1031] x y between", "[1162, 1162] d"]);
    assert_eq!(world.words().await, told);
    // The time of a change and of a final result is its session's end.
    let end = |text: &str| text.split([' ', ']']).filter_map(|word| word.parse::<i64>().ok()).next_back();
    for (at, text) in world.told().await {
        assert_eq!(Some(at), end(&text), "{text}");
    }
    world.say(&[("e", "flush", 10_000)]).await;
    let finals = world.words().await.split_off(told.len());
    assert_eq!(finals, ["= [1160, 1161] c c", "= [1162, 1162] d", "[10000, 10000] flush"]);
    world.until_live(&session_topic(&world.group, "visits"), 2).await;
    running.stop().await;
}

pub async fn w5_batches(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "w5").await;
    let graph = || {
        let mut g = Group::define(&*world.group);
        let out = g.output(&*world.out, Text);
        let lines = g.batch_window("lines", Batches::of(4).gap(ms(400)), Text);
        g.input(&*world.input, Text, move |ctx, words| {
            words.split(' ').try_for_each(|word| ctx.collect(lines, word.to_owned()))
        });
        g.on_batch(lines, move |ctx, all| ctx.emit(out, ctx.key(), &all.join(" ")));
        g.build().unwrap()
    };
    let running = world.start(graph()).await;
    // The number closes at once, the gap without a further record.
    world.say(&[("a", "1 2 3 4 5 6", 7)]).await;
    world.until_told(&["1 2 3 4", "5 6"]).await;
    assert_eq!(world.told().await[1].0, 7);
    // Open while it stops; whoever has it then closes it.
    world.say(&[("a", "7", 8)]).await;
    running.stop().await;
    let running = world.start(graph()).await;
    world.until_told(&["1 2 3 4", "5 6", "7"]).await;
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
        let lines = g.batch_window("b", Batches::of(7).gap(ms(500)), Text);
        let timer = g.timer("t", Text);
        g.input(&*world.input, Text, move |ctx, word| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            ctx.aggregate_session(visits, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
            ctx.set_timer(timer, ctx.timestamp() + 30, &word)?;
            ctx.collect(lines, word)
        });
        g.on_close(counts, move |ctx, window, n| ctx.emit(out, ctx.key(), &format!("w {window} {n}")));
        g.on_session_close(visits, move |ctx, session, n| ctx.emit(out, ctx.key(), &format!("s {session} {n}")));
        g.on_batch(lines, move |ctx, all| {
            all.iter().try_for_each(|word| ctx.emit(out, ctx.key(), &format!("b {word}")))
        });
        g.on_timer(timer, move |ctx, word| ctx.emit(out, ctx.key(), &format!("t {word}")));
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
    until("something is told", async || !world.words().await.is_empty()).await;
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

/// Every way in which a side can change, in the order of the records' times; then the same by each kind of join.
pub async fn table_joins(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "sides").await;
    let (a, b) = (kept_topic(log, "a").await, kept_topic(log, "b").await);
    let steps = "a=1 b=x a=2 b=y b=- b=- b=z a=- a=- b=w b=- a=3 a=- b=v a=4";
    for (at, step) in (1_i64..).zip(steps.split(' ')) {
        let (side, value) = step.split_once('=').unwrap();
        let value = (value != "-").then_some(value.as_bytes());
        world.write(if side == "a" { &a } else { &b }, &[("k", value, at)]).await;
    }
    let none = |side: Option<&String>| side.cloned().unwrap_or_else(|| "null".to_owned());
    let expected = [
        ("inner", "1+x 2+x 2+y - 2+z - 4+v"),
        ("left", "1+null 1+x 2+x 2+y 2+null 2+null 2+z - 3+null - 4+v"),
        ("outer", "1+null 1+x 2+x 2+y 2+null 2+null 2+z null+z null+z null+w - 3+null - null+v 4+v"),
    ];
    for (kind, expected) in expected {
        let group = unique(kind);
        let mut g = Group::define(&*group).table(Text);
        let join = g.table_join("ab", TableSide::topic(&*a, Text), TableSide::topic(&*b, Text));
        match kind {
            "inner" => join.inner(|a, b| format!("{a}+{b}")),
            "left" => join.left(move |a, b| format!("{a}+{}", none(b))),
            _ => join.outer(move |a, b| format!("{}+{}", none(a), none(b))),
        };
        let running = world.start(g.build().unwrap()).await;
        done(log, &group, &[(&a, 1), (&b, 1)]).await;
        running.stop().await;
        let told = read(log, &table_topic(&group), 1).await;
        let told: Vec<_> = told.into_iter().map(|r| r.value.unwrap_or_else(|| "-".to_owned())).collect();
        assert_eq!(told.join(" "), expected, "{kind}");
    }
}
