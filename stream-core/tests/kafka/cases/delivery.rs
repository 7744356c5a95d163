//! The cases of `kafka_delivery`: the rules of delivery (semantics D1 to D10) on a real Kafka.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{
    CallbackError, ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, NullKey, NullValue, Table, table_topic,
};
use stream_core::log::{
    AutoOffsetReset, Cleanup, LogHandle, NewRecord, ProduceBatch, Producer, ProducerOptions, TopicConfig, TopicSpec,
};
use stream_core::processor::{Guarantee, Processor, State};
use stream_core::store::{MemoryStores, Store, StoreBackend, StoreId};
use tokio::sync::Semaphore;

use crate::kafka_support::{Running, committed, done, read, table, topic, topic_with, unique, until, write};

/// A group's names, and its stores, which outlive its processors.
struct World {
    log: LogHandle,
    guarantee: Guarantee,
    group: String,
    input: Arc<str>,
    stores: MemoryStores,
}

type Plain<'a> = (Option<&'a str>, Option<&'a str>, i64);

impl World {
    async fn new(log: &LogHandle, guarantee: Guarantee, what: &str) -> Self {
        let (input, group) = (topic(log, "in", 2).await, unique(what));
        Self { log: Arc::clone(log), guarantee, group, input, stores: MemoryStores::new() }
    }

    fn processor(&self, graph: Arc<GroupGraph>) -> Processor {
        let processor = Processor::new(graph, Arc::clone(&self.log)).stores(Arc::new(self.stores.clone())).workers(1);
        processor.guarantee(self.guarantee).commit_interval(Duration::from_millis(100))
    }

    async fn up(&self, graph: Arc<GroupGraph>) -> Running {
        Running::up(self.processor(graph)).await
    }

    fn define(&self) -> GroupBuilder<Table<i64>> {
        Group::define(&*self.group).table(Int64)
    }

    /// Counts the records of each key.
    fn counter(&self) -> Arc<GroupGraph> {
        let mut g = self.define();
        g.input(&*self.input, Text, |ctx, _| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)
        });
        g.build().unwrap()
    }

    /// Writes to partition 0: key, value, time.
    async fn put(&self, to: &Arc<str>, records: &[Plain<'_>]) {
        let writer = self.log.producer(ProducerOptions::default()).await.unwrap();
        put(&*writer, to, records).await;
    }

    async fn done(&self) {
        done(&self.log, &self.group, &[(&self.input, 2)]).await;
    }

    fn store(&self, partition: i32) -> Arc<dyn Store> {
        let id = StoreId::new(table_topic(&self.group), partition);
        self.stores.open(&id, Codec::<i64>::name(&Int64)).unwrap()
    }

    async fn values(&self, topic: &str) -> Vec<String> {
        read(&self.log, topic, 1).await.into_iter().map(|r| r.value.unwrap_or_default()).collect()
    }
}

async fn put(writer: &dyn Producer, to: &Arc<str>, records: &[Plain<'_>]) {
    let mut batch = ProduceBatch::new();
    for (key, value, at) in records {
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        let record = NewRecord { topic: to, partition: Some(0), timestamp: Some(*at), key, value };
        batch.push(record, std::iter::empty());
    }
    let delivery = writer.send(Arc::new(batch)).await;
    assert!(delivery.failed.is_empty(), "{:?}", delivery.failed);
}

/// The time now, so that nothing is too old for its topic.
pub fn now_ms() -> i64 {
    i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// The first record's work is not done, that of the five behind it is: no commit passes the first, though one comes for
/// the other partition. After a crash all six are done.
pub async fn d1_the_commit_is_contiguous(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d1").await;
    let out = topic(log, "out", 1).await;
    let graph = |gate: &Arc<Semaphore>, ran: &Arc<AtomicUsize>| {
        let mut g = world.define();
        let (results, gate, ran) = (g.output(&*out, Text), Arc::clone(gate), Arc::clone(ran));
        g.input_async(Input::topic(&*world.input).concurrency(16), Text, async move |ctx, text: String| {
            if text == "0" {
                drop(gate.acquire().await?);
            }
            ran.fetch_add(1, Ordering::Relaxed);
            ctx.emit(results, ctx.key(), &text)
        });
        g.build().unwrap()
    };
    let (gate, ran) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let static_member = |processor: Processor| processor.instance_id("only");
    let running = Running::up(static_member(world.processor(graph(&gate, &ran)))).await;
    for text in ["0", "1", "2", "3", "4", "5"] {
        world.put(&world.input, &[(Some(text), Some(text), now_ms())]).await;
    }
    until("those behind the first have run", async || ran.load(Ordering::Relaxed) == 5).await;
    write(log, &world.input, Some(1), &[("other", "other")]).await;
    until("the other partition is committed", async || {
        committed(log, &world.group, &world.input, 2).await[1] == Some(1)
    })
    .await;
    assert_eq!(committed(log, &world.group, &world.input, 2).await[0], Some(0));
    assert_eq!(world.values(&out).await, ["other"], "effects leave in the order of offsets");
    // It dies: whoever comes instead does all of it.
    running.task.abort();
    gate.close();
    let open = Arc::new(Semaphore::new(1));
    let again = Running::up(static_member(world.processor(graph(&open, &ran)))).await;
    world.done().await;
    again.stop().await;
    let mut emitted = world.values(&out).await;
    emitted.retain(|text| text != "other");
    assert_eq!(emitted, ["0", "1", "2", "3", "4", "5"]);
}

/// A write is seen at once by the records behind it; the store is what the changelog says.
pub async fn d2_the_store_is_what_the_changelog_says(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d2").await;
    for _ in 0..2 {
        let records: Vec<_> = (0..500).map(|n| (if n % 5 == 0 { "often" } else { "seldom" }, "x")).collect();
        write(log, &world.input, Some(0), &records).await;
        let running = world.up(world.counter()).await;
        world.done().await;
        running.stop().await;
    }
    let changelog = table(log, &world.group, 2).await;
    assert_eq!(changelog.get("often").map(String::as_str), Some("200"));
    assert_eq!(changelog.get("seldom").map(String::as_str), Some("800"));
    let store = world.store(0);
    for (key, value) in changelog {
        assert_eq!(store.get(key.as_bytes()).unwrap().as_deref(), Some(value.as_bytes()));
    }
}

/// A restore waits for a transaction that is open on the changelog, sees what lies behind it, and is not hung up by the
/// marker at the end.
pub async fn d3_a_restore_waits_for_an_open_transaction(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d3").await;
    world.up(world.counter()).await.stop().await;
    let changelog = table_topic(&world.group);
    let mut options = ProducerOptions::default();
    options.transactional_id = Some(unique("foreign").into());
    options.transaction_timeout = Some(Duration::from_secs(60));
    let (foreign, plain) =
        (log.producer(options).await.unwrap(), log.producer(ProducerOptions::default()).await.unwrap());
    foreign.begin_transaction().await.unwrap();
    put(&*foreign, &changelog, &[(Some("in-it"), Some("5"), now_ms())]).await;
    put(&*plain, &changelog, &[(Some("behind"), Some("7"), now_ms())]).await;
    let running = Running::start(world.processor(world.counter()));
    running.handle.wait_for(|s| s.state == State::Restoring).await.unwrap();
    foreign.commit_transaction(Vec::new(), None).await.unwrap();
    running.running().await;
    world.put(&world.input, &[(Some("in-it"), Some("x"), now_ms()), (Some("behind"), Some("x"), now_ms())]).await;
    world.done().await;
    running.stop().await;
    let counts = table(log, &world.group, 2).await;
    assert_eq!((counts["in-it"].as_str(), counts["behind"].as_str()), ("6", "8"));
}

/// What is there when the group starts is processed by time over its inputs, each in its own order.
pub async fn d4_one_order_a_partition(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d4").await;
    let (second, out) = (topic(log, "second", 2).await, topic(log, "out", 1).await);
    let at = now_ms() - 100;
    let timed = |records: &[(&'static str, i64)]| -> Vec<Plain<'static>> {
        records.iter().map(|(text, after)| (Some("k"), Some(*text), at + after)).collect()
    };
    world.put(&world.input, &timed(&[("a10", 10), ("a40", 40), ("a30", 30), ("a60", 60)])).await;
    world.put(&second, &timed(&[("b5", 5), ("b20", 20), ("b50", 50)])).await;
    let mut g = world.define();
    let results = g.output(&*out, Text);
    for input in [&world.input, &second] {
        g.input(&**input, Text, move |ctx, text| ctx.emit(results, ctx.key(), &text));
    }
    let processor = world.processor(g.build().unwrap()).auto_offset_reset(AutoOffsetReset::Earliest);
    let running = Running::up(processor.max_task_idle(Duration::from_secs(60))).await;
    world.done().await;
    done(log, &world.group, &[(&second, 2)]).await;
    running.stop().await;
    assert_eq!(world.values(&out).await, ["b5", "a10", "b20", "a40", "a30", "b50", "a60"]);
}

/// Null values are left out unless the input passes them on; a null key is an error for a group with a table.
pub async fn d5_nulls(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d5").await;
    let (passing, out) = (topic(log, "passing", 2).await, topic(log, "out", 1).await);
    let mut g = world.define();
    let results = g.output(&*out, Text);
    let strict = Input::topic(&*world.input).on_error(ErrorPolicy::skip());
    let lenient = Input::topic(&*passing).null_value(NullValue::Pass).null_key(NullKey::Pass);
    for (name, input) in [("strict", strict), ("lenient", lenient)] {
        g.input(input, Text, move |ctx, text: String| {
            let what = format!("{name} {} {}", ctx.key().is_some(), if ctx.value_is_null() { "null" } else { &*text });
            ctx.emit(results, Some("told"), &what)
        });
    }
    let running = world.up(g.build().unwrap()).await;
    for to in [&world.input, &passing] {
        let (key, now) = (Some("k"), now_ms());
        world.put(to, &[(key, Some("a"), now), (key, None, now), (None, Some("b"), now), (key, Some("c"), now)]).await;
        done(log, &world.group, &[(to, 2)]).await;
    }
    running.stop().await;
    let wanted = ["strict true a", "strict true c", "lenient true a", "lenient true null", "lenient false b"];
    assert_eq!(world.values(&out).await, [&wanted[..], &["lenient true c"]].concat());
}

/// By default the instance fails at the record, and its offset stays; an instance with another policy goes on from there.
pub async fn d6_policies(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d6").await;
    let (out, dead) = (topic(log, "out", 1).await, topic(log, "dead", 1).await);
    let graph = |policy: Option<ErrorPolicy>| {
        let mut g = world.define();
        let results = g.output(&*out, Text);
        let input = Input::topic(&*world.input);
        let input = match policy {
            Some(policy) => input.on_error(policy),
            None => input,
        };
        g.input(input, Text, move |ctx, text: String| {
            ctx.emit(results, ctx.key(), &text)?;
            match text.as_str() {
                "bad" => Err(CallbackError::msg("it is bad")),
                "panic" => panic!("on purpose"),
                _ => Ok(()),
            }
        });
        g.build().unwrap()
    };
    let texts = ["good", "bad", "panic", "fine"];
    world.put(&world.input, &texts.map(|text| (Some("k"), Some(text), now_ms()))).await;
    let why = Running::start(world.processor(graph(None))).failure().await;
    assert!(why.contains("it is bad") && why.contains(&*world.input), "{why}");
    assert_eq!(committed(log, &world.group, &world.input, 2).await[0], Some(1));
    let policy = ErrorPolicy::dead_letter(Arc::clone(&dead)).retry(1, Duration::from_millis(1));
    let running = world.up(graph(Some(policy))).await;
    world.done().await;
    running.stop().await;
    assert_eq!(world.values(&out).await, ["good", "fine"]);
    assert_eq!(world.values(&dead).await, ["bad", "panic"]);
}

/// Effects leave in the order of offsets, whichever callback returns first; those of a failed attempt do not.
pub async fn d7_effects_are_staged(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d7").await;
    let out = topic(log, "out", 1).await;
    let mut g = world.define();
    let results = g.output(&*out, Text);
    // Each waits for the one behind it: they return in reverse.
    let turn = Arc::new(tokio::sync::watch::channel(4).0);
    let attempts = Arc::new(AtomicUsize::new(0));
    let input = Input::topic(&*world.input).concurrency(8);
    let input = input.on_error(ErrorPolicy::fail().retry(3, Duration::from_millis(1)));
    g.input_async(input, Text, async move |ctx, text: String| {
        let n: usize = text.parse()?;
        turn.subscribe().wait_for(|turn| *turn <= n).await?;
        ctx.emit(results, ctx.key(), &text)?;
        let count = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(count)?;
        if n == 2 && attempts.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(CallbackError::msg("not yet"));
        }
        turn.send_replace(n.saturating_sub(1));
        Ok(())
    });
    let texts = ["0", "1", "2", "3", "4"];
    world.put(&world.input, &texts.map(|text| (Some(text), Some(text), now_ms()))).await;
    let running = world.up(g.build().unwrap()).await;
    world.done().await;
    running.stop().await;
    assert_eq!(world.values(&out).await, texts);
    assert!(table(log, &world.group, 2).await.values().all(|count| count == "1"));
}

/// A record that makes what its topic refuses is put aside, alone.
pub async fn d8_what_is_too_large_is_its_records_error(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d8").await;
    let small = TopicConfig::new().max_message_bytes(2000);
    let (out, dead) = (topic_with(log, "out", 1, small).await, topic(log, "dead", 1).await);
    let mut g = world.define();
    let results = g.output(&*out, Text);
    g.input(
        Input::topic(&*world.input).on_error(ErrorPolicy::dead_letter(Arc::clone(&dead))),
        Text,
        move |ctx, text| {
            let size = if text == "large" { 5000 } else { 10 };
            ctx.emit(results, ctx.key(), text.repeat(size / text.len()))
        },
    );
    let running = world.up(g.build().unwrap()).await;
    let texts = ["small", "large", "small"];
    world.put(&world.input, &texts.map(|text| (Some("k"), Some(text), now_ms()))).await;
    world.done().await;
    running.stop().await;
    assert_eq!(world.values(&out).await, ["smallsmall", "smallsmall"]);
    assert_eq!(world.values(&dead).await, ["large"]);
}

/// Every position is committed at the assignment, idle ones too, and `latest` is made a number once and for all.
pub async fn d9_positions_are_committed_at_the_assignment(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d9").await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let graph = || {
        let (mut g, seen) = (world.define(), Arc::clone(&seen));
        g.input(&*world.input, Text, move |_, text: String| {
            seen.lock().unwrap().push(text);
            Ok(())
        });
        g.build().unwrap()
    };
    write(log, &world.input, Some(0), &[("k", "before"), ("k", "before")]).await;
    let latest = |processor: Processor| processor.auto_offset_reset(AutoOffsetReset::Latest);
    let running = Running::up(latest(world.processor(graph()))).await;
    until("both positions are committed", async || {
        committed(log, &world.group, &world.input, 2).await == [Some(2), Some(0)]
    })
    .await;
    running.stop().await;
    // While nobody is there: it is not skipped, for the position is known.
    write(log, &world.input, Some(1), &[("k", "meanwhile")]).await;
    let running = Running::up(latest(world.processor(graph()))).await;
    world.done().await;
    running.stop().await;
    assert_eq!(*seen.lock().unwrap(), ["meanwhile"]);
}

/// A store that was away for longer than tombstones are kept for sure is restored from nothing.
pub async fn d10_a_store_that_was_away_too_long_is_wiped(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "d10").await;
    let half = Duration::from_millis(1500);
    let config =
        TopicConfig::new().cleanup(Cleanup::Compact).delete_retention_ms(i64::try_from(half.as_millis()).unwrap() * 2);
    let changelog = table_topic(&world.group);
    log.create_topics(vec![TopicSpec::new(Arc::clone(&changelog)).partitions(2).config(config)]).await.unwrap();
    let running = world.up(world.counter()).await;
    world.put(&world.input, &[(Some("a"), Some("x"), now_ms())]).await;
    world.done().await;
    running.stop().await;
    let stopped = Instant::now();
    // A key that the changelog does not know shows whether the store is kept.
    let store = world.store(0);
    store.write(&mut [(&b"ghost"[..], Some(&b"1"[..]))].into_iter()).unwrap();
    assert!(store.get(b"ghost").unwrap().is_some());
    drop(store);
    // Something that it misses.
    world.put(&changelog, &[(Some("b"), Some("7"), now_ms())]).await;
    until("it was away for half of the retention", async || stopped.elapsed() > half).await;
    let running = world.up(world.counter()).await;
    world.put(&world.input, &[(Some("b"), Some("x"), now_ms()), (Some("a"), Some("x"), now_ms())]).await;
    world.done().await;
    running.stop().await;
    assert!(world.store(0).get(b"ghost").unwrap().is_none());
    let counts = table(log, &world.group, 2).await;
    assert_eq!((counts["a"].as_str(), counts["b"].as_str()), ("2", "8"));
}
