//! Odd data on a real Kafka: times that make no sense, clocks that are wrong, work that fails when it is due.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::clock::{Clock, SystemClock};
use stream_core::codec::{Int64, Nullable, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupGraph, Input, LeftOut, dead_letter};
use stream_core::log::{LogHandle, NewRecord, ProduceBatch, ProducerOptions, TimestampType, TopicConfig};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::window::Windows;

use super::world::{World, ms};
use crate::kafka_support::behind::Behind;
use crate::kafka_support::{Rec, Running, read, table, topic_with, unique, until};

const HOUR_MS: i64 = 3_600_000;

/// Emits stream time with each record; what fails is put aside.
fn teller(group: &str, input: Input, out: &Arc<str>) -> Arc<GroupGraph> {
    let mut g = Group::define(group);
    let out = g.output(Arc::clone(out), Int64);
    let unused = g.timer("unused", Text);
    g.on_timer(unused, |_, _| Ok(()));
    g.input(input, Text, move |ctx, _| ctx.emit(out, ctx.key(), ctx.stream_time().unwrap_or(-1)));
    g.build().unwrap()
}

/// A topic that takes records of any time, or stamps them itself.
async fn any_time(log: &LogHandle, partitions: i32, stamps: TimestampType) -> Arc<str> {
    let config = TopicConfig::new()
        .retention_ms(-1)
        .timestamp_type(stamps)
        .timestamp_before_max_ms(i64::MAX)
        .timestamp_after_max_ms(i64::MAX);
    topic_with(log, "in", partitions, config).await
}

/// With a processor's defaults: what is too far ahead or below zero is put aside, and stream time stays.
pub async fn t1_limits(log: &LogHandle, guarantee: Guarantee) {
    let mut world = World::new(log, guarantee, "t1-limits").await;
    world.input = any_time(log, 1, TimestampType::CreateTime).await;
    let dead: Arc<str> = unique("dead").into();
    let input = || Input::topic(&*world.input).on_error(ErrorPolicy::dead_letter(Arc::clone(&dead)));
    let running = world.start(teller(&world.group, input(), &world.out)).await;
    let now = SystemClock.now_ms();
    for at in [now + 2 * HOUR_MS, now * 1000, -250, -1] {
        world.write(&world.input, &[("k", Some(b"odd"), at)]).await;
    }
    world.write(&world.input, &[("k", None, now + 2 * HOUR_MS)]).await;
    world.say(&[("k", "fine", now)]).await;
    let left_out = running.handle.status().left_out;
    running.stop().await;
    // After a restart, too.
    let running = world.start(teller(&world.group, input(), &world.out)).await;
    world.say(&[("k", "fine", now - 1000)]).await;
    running.stop().await;
    assert_eq!(world.words().await, [now.to_string(), now.to_string()]);
    let letters = read(log, &dead, 1).await;
    let times: Vec<_> = letters.iter().map(|r| r.headers[dead_letter::TIMESTAMP].clone()).collect();
    // Kafka takes and keeps -1, which it means as no time.
    assert_eq!(times, [now + 2 * HOUR_MS, now * 1000, -250, -1, now + 2 * HOUR_MS].map(|at| at.to_string()));
    assert!(letters[1].headers[dead_letter::REASON].contains("microseconds"));
    assert_eq!(left_out, BTreeMap::from([(LeftOut::Ahead, 3), (LeftOut::Negative, 2)]));
}

/// A topic with the broker's times has none ahead, whatever its producers say. But if this host's clock is behind, all are,
/// and the error says so.
pub async fn a_clock_that_is_behind(log: &LogHandle, guarantee: Guarantee) {
    let stamped = any_time(log, 4, TimestampType::LogAppendTime).await;
    let mut batch = ProduceBatch::new();
    for n in 0..40 {
        let (partition, timestamp) = (Some(n % 4), Some(SystemClock.now_ms() + 2 * HOUR_MS));
        let record = NewRecord { topic: &stamped, partition, timestamp, key: Some(b"k"), value: Some(b"v") };
        batch.push(record, std::iter::empty());
    }
    let writer = log.producer(ProducerOptions::default()).await.unwrap();
    assert!(writer.send(Arc::new(batch)).await.failed.is_empty());
    let start = |log: LogHandle, group: &str, input: Input, out: &Arc<str>| {
        let processor = Processor::new(teller(group, input, out), log).stores(Arc::new(MemoryStores::new()));
        Running::start(processor.guarantee(guarantee).commit_interval(ms(100)).session_timeout(ms(6000)))
    };
    let out = topic_with(log, "out", 4, TopicConfig::default()).await;
    let running = start(Arc::clone(log), &unique("append"), Input::topic(&*stamped), &out);
    until("all results are there", async || read(log, &out, 4).await.len() == 40).await;
    running.stop().await;

    let behind: LogHandle = Arc::new(Behind(Arc::clone(log), 3 * HOUR_MS));
    let running = start(behind, &unique("behind"), Input::topic(&*stamped), &out);
    let error = running.failure().await;
    assert!(error.contains("ahead of this host's clock"), "{error}");
    assert!(error.contains("the newest records of 4 of 4 partitions are ahead, so this host's clock"), "{error}");
}

/// A window and a timer whose callbacks fail for a key: it is put aside, and the others go on, also after a restart.
pub async fn due_work_that_fails(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "due").await;
    let dead: Arc<str> = unique("dead").into();
    let graph = || {
        let mut g = Group::define(&*world.group);
        let out = g.output(&*world.out, Text);
        let window = g.window("w", Windows::tumbling(ms(100)), Text);
        let timer = g.timer("t", Text);
        g.input(&*world.input, Text, move |ctx, text: String| {
            ctx.set_timer(timer, ctx.timestamp() + 200, &text)?;
            ctx.aggregate(window, |_| text.clone()).map(drop)
        });
        let judge = |key: Option<&[u8]>| if key == Some(b"bad") { Err(CallbackError::msg("bad key")) } else { Ok(()) };
        g.on_close(window, move |ctx, (w, text)| {
            ctx.emit(out, ctx.key(), format!("{w} {text}"))?;
            judge(ctx.key())
        });
        g.on_timer(timer, move |ctx, text| {
            ctx.emit(out, ctx.key(), format!("timer {text}"))?;
            judge(ctx.key())
        });
        let policy = ErrorPolicy::dead_letter(Arc::clone(&dead)).retry(1, ms(50));
        g.on_due_error(window, policy.clone()).on_due_error(timer, policy);
        g.build().unwrap()
    };
    let running = world.start(graph()).await;
    world.say(&[("a", "one", 10), ("bad", "two", 20), ("z", "three", 30), ("flush", "-", 150)]).await;
    running.stop().await;
    let running = world.start(graph()).await;
    world.say(&[("flush", "-", 1000)]).await;
    let expected = ["[0, 100) one", "[0, 100) three", "[100, 200) -", "timer one", "timer three", "timer -"];
    world.until_emitted(&expected).await;
    running.stop().await;
    let letters: Vec<Rec> = read(log, &dead, 1).await;
    let header = |letter: &Rec, name: &str| letter.headers.get(name).cloned().unwrap_or_default();
    let found: Vec<_> = letters
        .iter()
        .map(|r| {
            let span = format!("{} {}", header(r, dead_letter::WINDOW_START), header(r, dead_letter::WINDOW_END));
            (r.key.clone().unwrap(), r.value.clone().unwrap(), header(r, dead_letter::DUE), span)
        })
        .collect();
    let letter = |what: &str, span: &str| ("bad".to_owned(), "two".to_owned(), what.to_owned(), span.to_owned());
    assert_eq!(found, [letter("window", "0 100"), letter("timer", " ")]);
}

/// What can't be decoded goes to its own topic; a null is a value, on the way in, in the table and on the way out.
pub async fn garbage_and_nulls_have_their_own_ways(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "garbage").await;
    let garbage: Arc<str> = unique("garbage").into();
    let graph = || {
        let mut g = Group::define(&*world.group).table(Nullable::of(Int64));
        let out = g.output(Arc::clone(&world.out), Nullable::of(Int64));
        let input = Input::topic(&*world.input).on_decode_error(ErrorPolicy::dead_letter(Arc::clone(&garbage)));
        g.input(input, Nullable::of(Int64), move |ctx, n| {
            ctx.emit(out, ctx.key(), n)?;
            ctx.set(n)
        });
        g.build().unwrap()
    };
    let now = SystemClock.now_ms();
    for records in [[("a", Some("1")), ("b", Some("x"))], [("b", Some("2")), ("a", None)]] {
        let running = world.start(graph()).await;
        let records = records.map(|(key, value)| (key, value.map(str::as_bytes), now));
        world.write(&world.input, &records).await;
        world.done().await;
        running.stop().await;
    }
    let found = world.records().await.into_iter().map(|r| (r.key.unwrap(), r.value));
    let wanted = [("a", Some("1")), ("b", Some("2")), ("a", None)];
    assert_eq!(found.collect::<Vec<_>>(), wanted.map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))));
    assert_eq!(read(log, &garbage, 1).await.into_iter().map(|r| r.value.unwrap()).collect::<Vec<_>>(), ["x"]);
    assert_eq!(table(log, &world.group, 1).await, BTreeMap::from([("b".to_owned(), "2".to_owned())]));
}
