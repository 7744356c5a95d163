//! The cases of `kafka_rules` and of what `kafka_mock_rules` can do of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use stream_core::codec::{Int64, Text};
use stream_core::context::Emit;
use stream_core::group::{
    CallbackError, ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, NoTable, Table, table_topic,
};
use stream_core::log::{AutoOffsetReset, LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig};
use stream_core::processor::{Processor, ProcessorError, Rebalance};
use stream_core::store::MemoryStores;

use crate::kafka_support::{Rec, Running, committed, done, read, table, topic, topic_with, unique, until, write};

const COMMITS: Duration = Duration::from_millis(100);

fn processor(log: &LogHandle, graph: Arc<GroupGraph>) -> Processor {
    Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1).commit_interval(COMMITS)
}

fn with_table(group: &str) -> GroupBuilder<Table<i64>> {
    Group::define(group).table(Int64)
}

/// Counts each key's records.
fn counting(group: &str, input: &str) -> Arc<GroupGraph> {
    let mut g = with_table(group);
    g.input(input, Text, |ctx, _| {
        let n = ctx.value()?.unwrap_or(0);
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

/// Two releases of one group, one with a table and one without.
pub async fn other_member(log: &LogHandle) {
    let (group, input) = (unique("g"), topic(log, "in", 2).await);
    let running = Running::up(processor(log, counting(&group, &input))).await;
    let mut g = Group::define(group.as_str());
    g.input(&*input, Text, |_, _| Ok(()));
    let error = Running::start(processor(log, g.build().unwrap())).end().await.unwrap_err();
    let text = format!("{error:?}");
    assert!(matches!(error, ProcessorError::OtherMember { .. }), "{text}");
    let says =
        format!("subscribes to {}, this one to {input}: stop it, or give this group another name", table_topic(&group));
    assert!(text.contains(&group) && text.contains(&says), "{text}");
    // One of the same kind may join, and nothing has happened to the first.
    let second = Running::up(processor(log, counting(&group, &input))).await;
    second.stop().await;
    running.stop().await;
}

/// Instances that start at the same moment, when nothing is there yet: whoever makes a topic, all can use it.
pub async fn started_together(log: &LogHandle) {
    for _ in 0..5 {
        let group = unique("together");
        let input = unique("in");
        let start = |_| Running::start(processor(log, counting(&group, &input)));
        let all: Vec<_> = (0..4).map(start).collect();
        for running in &all {
            running.running().await;
        }
        for running in all {
            running.stop().await;
        }
    }
}

/// A restart of a static member within its session: no partition moves, nobody else notices.
pub async fn static_member(log: &LogHandle, new_protocol: bool) {
    let (group, input) = (unique("static"), topic(log, "in", 4).await);
    let events: Arc<Mutex<Vec<(&str, Rebalance)>>> = Arc::default();
    let start = |id: &'static str| {
        let events = Arc::clone(&events);
        let processor = processor(log, counting(&group, &input))
            .instance_id(format!("{group}-{id}"))
            .new_group_protocol(new_protocol)
            .on_rebalance(move |what| events.lock().unwrap().push((id, what.clone())));
        Running::start(processor)
    };
    let (one, two) = (start("one"), start("two"));
    tokio::join!(one.has(2), two.has(2));
    let tasks = two.handle.status().tasks;
    let before = events.lock().unwrap().len();
    two.stop().await;
    let two = start("two");
    two.has(2).await;
    assert_eq!(two.handle.status().tasks, tasks, "the same partitions");
    write(log, &input, None, &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")]).await;
    done(log, &group, &[(&input, 4)]).await;
    let events: Vec<_> = events.lock().unwrap().drain(..).skip(before).collect();
    assert!(events.iter().all(|(id, _)| *id == "two"), "the other one notices nothing: {events:?}");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(matches!(&events[0].1, Rebalance::Assigned(list) if list.len() == 2), "{events:?}");
    two.stop().await;
    one.stop().await;
}

type Seen = Arc<Mutex<Vec<(String, i64)>>>;

fn noting(group: &str, input: &str, seen: &Seen) -> Arc<GroupGraph> {
    let (mut g, seen) = (Group::define(group), Arc::clone(seen));
    g.input(input, Text, move |ctx, value| {
        seen.lock().unwrap().push((value, ctx.offset()));
        Ok(())
    });
    g.build().unwrap()
}

fn taken(seen: &Seen) -> Vec<(String, i64)> {
    std::mem::take(&mut *seen.lock().unwrap())
}

pub async fn resume(log: &LogHandle) {
    let (group, input, seen) = (unique("resume"), topic(log, "in", 1).await, Seen::default());
    write(log, &input, None, &[("k", "a"), ("k", "b")]).await;
    let running = Running::up(processor(log, noting(&group, &input, &seen))).await;
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    assert_eq!(taken(&seen), [("a".into(), 0), ("b".into(), 1)]);
    write(log, &input, None, &[("k", "c")]).await;
    // Where a group without offsets would start makes no difference to one that has some.
    let reset = AutoOffsetReset::Latest;
    let running = Running::up(processor(log, noting(&group, &input, &seen)).auto_offset_reset(reset)).await;
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    assert_eq!(taken(&seen), [("c".into(), 2)]);
}

pub async fn committed_at_assignment(log: &LogHandle) {
    let (group, input, idle) = (unique("idle"), topic(log, "in", 2).await, topic(log, "idle", 2).await);
    write(log, &input, Some(0), &[("k", "a"), ("k", "b")]).await;
    let mut g = with_table(&group);
    g.input(&*input, Text, |_, _| Ok(()));
    g.input(&*idle, Text, |_, _| Ok(()));
    let graph = g.build().unwrap();
    let reset = AutoOffsetReset::Latest;
    // No commit but those of the assignment.
    let never = Duration::from_secs(3600);
    let running = Running::up(processor(log, graph).auto_offset_reset(reset).commit_interval(never)).await;
    until("the positions are committed", async || {
        committed(log, &group, &input, 2).await == [Some(2), Some(0)]
            && committed(log, &group, &idle, 2).await == [Some(0), Some(0)]
    })
    .await;
    running.stop().await;
}

pub async fn looped(log: &LogHandle) {
    let (group, input) = (unique("loop"), topic(log, "in", 3).await);
    let mut g = with_table(&group);
    let letters = g.loopback(Text);
    g.input(&*input, Text, move |ctx, word| {
        word.chars().try_for_each(|c| ctx.loopback(letters, Some(&*c.to_string()), &word))
    });
    g.on_loop(letters, |ctx, _| {
        let n = ctx.value()?.unwrap_or(0);
        ctx.set(n + 1)
    });
    let running = Running::up(processor(log, g.build().unwrap())).await;
    write(log, &input, None, &[("1", "abba"), ("2", "cab"), ("3", "a")]).await;
    done(log, &group, &[(&input, 3)]).await;
    done(log, &group, &[(&stream_core::group::loop_topic(&group), 3)]).await;
    running.stop().await;
    let counts = [("a", "4"), ("b", "3"), ("c", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(table(log, &group, 3).await, BTreeMap::from(counts));
}

pub async fn joined_and_looked_up(log: &LogHandle) {
    let (users, rates) = (unique("users"), unique("rates"));
    let (user_input, rate_input) = (topic(log, "user-in", 2).await, topic(log, "rate-in", 1).await);
    let copying = |group: &str, input: &str| {
        let mut g = Group::define(group).table(Text);
        g.input(input, Text, |ctx, value| ctx.set(value));
        processor(log, g.build().unwrap())
    };
    let users_up = Running::up(copying(&users, &user_input)).await;
    let rates_up = Running::up(copying(&rates, &rate_input)).await;
    write(log, &user_input, None, &[("u1", "Ann"), ("u2", "Bob"), ("u3", "Cid")]).await;
    write(log, &rate_input, None, &[("EUR", "110")]).await;
    done(log, &users, &[(&user_input, 2)]).await;
    done(log, &rates, &[(&rate_input, 1)]).await;

    let (group, input, out) = (unique("orders"), topic(log, "orders", 2).await, topic(log, "out", 1).await);
    let mut g = Group::define(group.as_str());
    let user = g.join(table_topic(&users).to_string(), Text);
    let rate = g.lookup(table_topic(&rates).to_string(), Text);
    let results = g.output(&*out, Text);
    g.input(&*input, Text, move |ctx, currency| {
        let name = ctx.join(user)?.unwrap_or_else(|| "nobody".into());
        let rate = ctx.lookup(rate, Some(currency.as_str()))?.unwrap_or_else(|| "nothing".into());
        ctx.emit(results, ctx.key(), format!("{name} at {rate}"))
    });
    let running = Running::up(processor(log, g.build().unwrap())).await;
    write(log, &input, None, &[("u1", "EUR"), ("u2", "USD"), ("u9", "EUR")]).await;
    done(log, &group, &[(&input, 2)]).await;
    let found = async || -> BTreeMap<String, String> {
        read(log, &out, 1).await.into_iter().map(|r| (r.key.unwrap(), r.value.unwrap())).collect()
    };
    let first = [("u1", "Ann at 110"), ("u2", "Bob at nothing"), ("u9", "nobody at 110")];
    assert_eq!(found().await, BTreeMap::from(first.map(|(k, v)| (k.to_owned(), v.to_owned()))));
    // Both tables are followed while it runs.
    write(log, &user_input, None, &[("u9", "Zoe")]).await;
    write(log, &rate_input, None, &[("USD", "100")]).await;
    until("the new values are seen", async || {
        write(log, &input, None, &[("u9", "USD")]).await;
        done(log, &group, &[(&input, 2)]).await;
        found().await.get("u9").is_some_and(|v| v == "Zoe at 100")
    })
    .await;
    running.stop().await;
    users_up.stop().await;
    rates_up.stop().await;
}

pub async fn dead_letters(log: &LogHandle) {
    let (group, input) = (unique("dead"), topic(log, "in", 2).await);
    let (dead, out): (Arc<str>, _) = (unique("dead-letters").into(), topic(log, "out", 1).await);
    let mut g = with_table(&group);
    let results = g.output(&*out, Text);
    let policy = ErrorPolicy::dead_letter(Arc::clone(&dead)).retry(2, Duration::from_millis(1));
    g.input(Input::topic(Arc::clone(&input)).on_error(policy), Text, move |ctx, value| {
        ctx.emit(results, ctx.key(), &value)?;
        ctx.set(7)?;
        if value == "bad" { Err(CallbackError::msg("it is bad")) } else { Ok(()) }
    });
    let running = Running::up(processor(log, g.build().unwrap())).await;
    let mut batch = ProduceBatch::new();
    for (key, value) in [("k1", "good"), ("k2", "bad")] {
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        let record = NewRecord { topic: &input, partition: Some(1), timestamp: Some(1_700_000_000_123), key, value };
        batch.push(record, [("trace", Some(b"abc".as_slice()))].into_iter());
    }
    let undecodable = NewRecord {
        topic: &input,
        partition: Some(1),
        timestamp: Some(5),
        key: Some(b"k3"),
        value: Some(&[0xff, 0xfe]),
    };
    batch.push(undecodable, std::iter::empty());
    let writer = log.producer(ProducerOptions::default()).await.unwrap();
    assert!(writer.send(Arc::new(batch)).await.failed.is_empty());
    done(log, &group, &[(&input, 2)]).await;
    running.stop().await;

    assert_eq!(read(log, &out, 1).await.len(), 1, "what a failed callback did is discarded");
    assert_eq!(table(log, &group, 2).await.into_keys().collect::<Vec<_>>(), ["k1"]);
    let mut letters = read(log, &dead, 2).await;
    letters.sort_by(|a, b| a.key.cmp(&b.key));
    let [bad, undecodable] = letters.try_into().unwrap();
    let header = |r: &Rec, name: &str| r.headers.get(name).cloned().unwrap_or_else(|| panic!("no {name}: {r:?}"));
    assert_eq!((bad.key.as_deref(), bad.value.as_deref()), (Some("k2"), Some("bad")));
    assert_eq!(header(&bad, "trace"), "abc");
    assert!(bad.timestamp > 1_750_000_000_000, "the time at which it was put aside: {bad:?}");
    assert_eq!(header(&bad, "dead-letter-reason"), "it is bad");
    assert_eq!(header(&bad, "dead-letter-group"), group);
    assert_eq!(header(&bad, "dead-letter-topic"), *input);
    assert_eq!(header(&bad, "dead-letter-partition"), "1");
    assert_eq!(header(&bad, "dead-letter-offset"), "1");
    assert_eq!(header(&bad, "dead-letter-timestamp"), "1700000000123");
    assert_eq!(undecodable.key.as_deref(), Some("k3"));
    assert_eq!(header(&undecodable, "dead-letter-offset"), "2");
    assert!(header(&undecodable, "dead-letter-reason").contains("utf-8"), "{undecodable:?}");
}

const SMALL: i64 = 2_000;

fn small() -> TopicConfig {
    TopicConfig::new().max_message_bytes(SMALL)
}

/// Emits a value of as many bytes as the record says, with the policy of the caller's.
fn sized(group: &str, input: &Arc<str>, out: &str, policy: ErrorPolicy) -> Arc<GroupGraph> {
    let mut g: GroupBuilder<NoTable> = Group::define(group);
    let out = g.output(out, Text);
    g.input(Input::topic(Arc::clone(input)).on_error(policy), Text, move |ctx, size| {
        ctx.emit(out, ctx.key(), "x".repeat(size.parse().unwrap()))
    });
    g.build().unwrap()
}

fn keys(records: &[Rec]) -> Vec<&str> {
    records.iter().map(|r| r.key.as_deref().unwrap()).collect()
}

pub async fn above_the_limit(log: &LogHandle) {
    let (input, out) = (topic(log, "in", 1).await, topic_with(log, "small", 1, small()).await);
    write(log, &input, None, &[("a", "10"), ("big", "2500"), ("b", "20")]).await;
    // The default: it stops, and says which record and why.
    let group = unique("fail");
    let text = Running::start(processor(log, sized(&group, &input, &out, ErrorPolicy::fail()))).failure().await;
    let too_large = format!("a record of 2503 bytes for topic {out} is larger than its limit");
    assert!(text.contains(&too_large) && text.contains(&format!("record {input}[0]@1 (key big)")), "{text}");
    assert_eq!(committed(log, &group, &input, 1).await, [Some(1)], "its offset stays");
    assert_eq!(keys(&read(log, &out, 1).await), ["a"]);
    // Left out.
    let (group, out) = (unique("skip"), topic_with(log, "small", 1, small()).await);
    let running = Running::start(processor(log, sized(&group, &input, &out, ErrorPolicy::skip())));
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    assert_eq!(keys(&read(log, &out, 1).await), ["a", "b"]);
    // Put aside.
    let (group, out) = (unique("letter"), topic_with(log, "small", 1, small()).await);
    let dead: Arc<str> = unique("dead").into();
    let policy = ErrorPolicy::dead_letter(Arc::clone(&dead));
    let running = Running::start(processor(log, sized(&group, &input, &out, policy)));
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    assert_eq!(keys(&read(log, &out, 1).await), ["a", "b"]);
    let letters = read(log, &dead, 1).await;
    assert_eq!(keys(&letters), ["big"]);
    assert!(letters[0].headers["dead-letter-reason"].contains(&out.to_string()), "{letters:?}");
}

/// What is just not refused before it is sent is taken by the broker, headers included.
pub async fn exactly_the_limit(log: &LogHandle) {
    let (group, input) = (unique("exact"), topic(log, "in", 1).await);
    let out = topic_with(log, "small", 1, small()).await;
    let mut g: GroupBuilder<NoTable> = Group::define(group.as_str());
    let results = g.output(&*out, Text);
    let refused: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&refused);
    g.input(&*input, Text, move |ctx, how| {
        let header = "h".repeat(300);
        let headers = [("name", header.as_bytes()), ("other", b"1".as_slice())];
        let with = if how == "plain" { Emit::new() } else { Emit::new().headers(&headers) };
        // The largest that is let through: everything above it is refused by the callback's own call.
        for size in (1..=2_000).rev() {
            match ctx.emit_with(results, ctx.key(), "x".repeat(size), with) {
                Ok(()) => return Ok(()),
                Err(error) => noted.lock().unwrap().push(format!("{error:?}")),
            }
        }
        Err(CallbackError::msg("nothing is let through"))
    });
    let running = Running::start(processor(log, g.build().unwrap()));
    write(log, &input, None, &[("k", "plain"), ("k", "headers")]).await;
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    let sizes: Vec<usize> = read(log, &out, 1).await.into_iter().map(|r| r.value.unwrap().len()).collect();
    assert!(sizes[0] > 1_800 && sizes[1] > 1_400, "not much less than the limit: {sizes:?}");
    let refused = refused.lock().unwrap();
    assert!(refused.iter().all(|e| e.contains(&*out)) && !refused.is_empty(), "{:?}", refused.first());
}

pub async fn two_megabytes(log: &LogHandle) {
    let (input, out) = (topic(log, "in", 1).await, topic(log, "out", 1).await);
    write(log, &input, None, &[("a", "10"), ("big", "2000000"), ("b", "900000")]).await;
    let group = unique("fail");
    let text = Running::start(processor(log, sized(&group, &input, &out, ErrorPolicy::fail()))).failure().await;
    let too_large = format!("a record of 2000003 bytes for topic {out} is larger than its limit");
    assert!(text.contains(&too_large), "{text}");
    let (group, out) = (unique("skip"), topic(log, "out", 1).await);
    let running = Running::start(processor(log, sized(&group, &input, &out, ErrorPolicy::skip())));
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    assert_eq!(keys(&read(log, &out, 1).await), ["a", "b"]);
    // A table's value, too.
    let group = unique("table");
    let mut g = Group::define(group.as_str()).table(Text);
    g.input(Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::skip()), Text, |ctx, size| {
        ctx.set("x".repeat(size.parse().unwrap()))
    });
    let running = Running::start(processor(log, g.build().unwrap()));
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    assert_eq!(table(log, &group, 1).await.into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

/// The limit is known from the start; one that sinks later is the broker's to enforce. The record is found among the
/// others of its batch, and its policy applies: it does not loop.
pub async fn limit_sinks(log: &LogHandle, brokers: &str) {
    let (input, out) = (topic(log, "in", 1).await, topic(log, "out", 1).await);
    let (group, dead): (_, Arc<str>) = (unique("sinks"), unique("dead").into());
    let policy = ErrorPolicy::dead_letter(Arc::clone(&dead));
    let running = Running::up(processor(log, sized(&group, &input, &out, policy))).await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let alter = AlterConfig::new(ResourceSpecifier::Topic(&out)).set("max.message.bytes", "2000");
    let altered = admin.alter_configs([&alter], &AdminOptions::new()).await.unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    let records: Vec<(String, &str)> =
        (0..100).map(|n| (n.to_string(), if n % 40 == 30 { "3000" } else { "100" })).collect();
    let records: Vec<_> = records.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    write(log, &input, None, &records).await;
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    let letters = read(log, &dead, 1).await;
    assert_eq!(keys(&letters), ["30", "70"]);
    let reason = &letters[0].headers["dead-letter-reason"];
    assert!(reason.contains(&format!("a record of 3002 bytes for topic {out} is larger than its limit")), "{reason}");
    let written = read(log, &out, 1).await;
    let mut keys = keys(&written);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 98, "all others, if some of them twice");
}
