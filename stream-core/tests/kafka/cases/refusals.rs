//! The cases of `refusals`: what follows when a broker refuses a batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use stream_core::codec::{EventTime, Int64, Text};
use stream_core::context::Emit;
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input, table_topic};
use stream_core::log::{Cleanup, LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig, TopicSpec};
use stream_core::processor::{Guarantee, Processor, State};
use stream_core::store::MemoryStores;

use crate::kafka_support::broker::Broker;
use crate::kafka_support::proxy::Proxy;
use crate::kafka_support::{Feed, Rec, Running, connect, done, read, table, topic, topic_with, unique, until, write};

const PARTITIONS: i32 = 4;
const HOUR: i64 = 3_600_000;

fn processor(log: &LogHandle, graph: Arc<GroupGraph>, guarantee: Guarantee) -> Processor {
    let processor = Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(2);
    processor.guarantee(guarantee).commit_interval(Duration::from_millis(100))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// A topic that takes batches of so many bytes.
async fn narrow(log: &LogHandle, bytes: i64) -> Arc<str> {
    topic_with(log, "narrow", 1, TopicConfig::new().max_message_bytes(bytes)).await
}

/// Counts each key, and emits a text of the length that the value says, so many times: to a topic whose limit the group
/// does not know from the start, `instead`.
fn sized(group: &str, input: Input, instead: &Arc<str>, times: usize) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Int64);
    let out = g.output(format!("{group}-out"), Text);
    let instead = Arc::clone(instead);
    g.input(input, Text, move |ctx, size| {
        let text = "x".repeat(size.parse().unwrap());
        let n = ctx.value()?.unwrap_or(0);
        for _ in 0..times {
            ctx.emit_to_topic(out, &instead, ctx.key(), &text)?;
        }
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

/// How often each key is there; at-least-once delivery may repeat one.
fn counts(records: &[Rec], guarantee: Guarantee) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        let n = counts.entry(record.key.clone().unwrap()).or_default();
        *n = if guarantee == Guarantee::ExactlyOnce { *n + 1 } else { 1 };
    }
    counts
}

fn once(keys: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    keys.map(|key| (key, 1)).collect()
}

/// Records of all partitions share the batches of one topic; one of them is larger than it takes.
pub async fn a_record_above_the_limit_is_blamed_and_no_other_of_four_partitions(log: &LogHandle, guarantee: Guarantee) {
    let (group, input, out) = (unique("blame"), topic(log, "in", PARTITIONS).await, narrow(log, 2_000).await);
    let dead: Arc<str> = unique("dead").into();
    let records: Vec<(String, &str)> =
        (0..400).map(|n| (format!("k{n}"), if n == 123 { "3000" } else { "100" })).collect();
    let records: Vec<_> = records.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    write(log, &input, None, &records).await;
    let input_edge = Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::dead_letter(Arc::clone(&dead)));
    let running = Running::start(processor(log, sized(&group, input_edge, &out, 1), guarantee));
    done(log, &group, &[(&input, PARTITIONS)]).await;
    running.stop().await;
    let letters = read(log, &dead, PARTITIONS).await;
    assert_eq!(counts(&letters, guarantee), once(["k123".to_owned()].into_iter()));
    assert!(letters[0].headers["dead-letter-reason"].contains("larger than its limit"), "{letters:?}");
    let others = || (0..400).filter(|n| *n != 123).map(|n| format!("k{n}"));
    assert_eq!(counts(&read(log, &out, 1).await, guarantee), once(others()));
    assert_eq!(table(log, &group, PARTITIONS).await.len(), 399, "the table has all others");
}

/// No record is too large, but any two of them are too large for one batch, also the two of one callback.
pub async fn records_that_fit_are_delivered_however_the_client_packs_them(log: &LogHandle, guarantee: Guarantee) {
    let (group, input, out) = (unique("packed"), topic(log, "in", PARTITIONS).await, narrow(log, 2_000).await);
    let records: Vec<String> = (0..120).map(|n| format!("k{n}")).collect();
    let records: Vec<_> = records.iter().map(|k| (k.as_str(), "1200")).collect();
    write(log, &input, None, &records).await;
    let input_edge = Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::skip());
    let running = Running::start(processor(log, sized(&group, input_edge, &out, 2), guarantee));
    done(log, &group, &[(&input, PARTITIONS)]).await;
    running.stop().await;
    let written = counts(&read(log, &out, 1).await, guarantee);
    let times = if guarantee == Guarantee::ExactlyOnce { 2 } else { 1 };
    assert_eq!(written.len(), 120, "none is lost by the policy");
    assert!(written.values().all(|n| *n == times), "{written:?}");
}

/// Emits at its own time plus the hours that the value says.
fn timed(group: &str, input: Input, out: &Arc<str>) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Int64);
    let out = g.output(&**out, Text);
    g.input(input, Text, move |ctx, hours| {
        let n = ctx.value()?.unwrap_or(0);
        let at = ctx.timestamp() + hours.parse::<i64>().unwrap() * HOUR;
        ctx.emit_with(out, ctx.key(), &hours, Emit::new().timestamp(at))?;
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

async fn hourly(log: &LogHandle) -> Arc<str> {
    topic_with(log, "hourly", 1, TopicConfig::new().timestamp_after_max_ms(HOUR)).await
}

pub async fn a_record_with_a_refused_time_is_blamed_and_its_neighbours_are_sent_again(
    log: &LogHandle,
    guarantee: Guarantee,
) {
    let (group, input, out) = (unique("time"), topic(log, "in", PARTITIONS).await, hourly(log).await);
    let dead: Arc<str> = unique("dead").into();
    let records: Vec<(String, &str)> =
        (0..400).map(|n| (format!("k{n}"), if n % 200 == 77 { "2" } else { "0" })).collect();
    let records: Vec<_> = records.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    write(log, &input, None, &records).await;
    let input_edge = Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::dead_letter(Arc::clone(&dead)));
    let running = Running::start(processor(log, timed(&group, input_edge, &out), guarantee));
    done(log, &group, &[(&input, PARTITIONS)]).await;
    running.stop().await;
    let letters = read(log, &dead, PARTITIONS).await;
    assert_eq!(counts(&letters, guarantee), once(["k77", "k277"].map(str::to_owned).into_iter()));
    let others = || (0..400).filter(|n| n % 200 != 77).map(|n| format!("k{n}"));
    assert_eq!(counts(&read(log, &out, 1).await, guarantee), once(others()));
    assert_eq!(table(log, &group, PARTITIONS).await.len(), 398, "the table has all others");
}

/// With one record in each transaction, or each batch, from the first refusal on, this takes longer than the test may.
pub async fn one_refused_record_does_not_slow_down_the_backlog_behind_it(log: &LogHandle, guarantee: Guarantee) {
    const RECORDS: usize = 20_000;
    let (group, input, out) = (unique("backlog"), topic(log, "in", 1).await, narrow(log, 200_000).await);
    let records: Vec<(String, &str)> =
        (0..RECORDS).map(|n| (format!("k{n}"), if n == 15_000 { "300000" } else { "100" })).collect();
    for part in records.chunks(1_000) {
        let part: Vec<_> = part.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        write(log, &input, None, &part).await;
    }
    let input_edge = Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::skip());
    let running = Running::start(processor(log, sized(&group, input_edge, &out, 1), guarantee));
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    let others = || (0..RECORDS).filter(|n| *n != 15_000).map(|n| format!("k{n}"));
    assert_eq!(counts(&read(log, &out, 1).await, guarantee), once(others()));
}

/// The table's topic refuses some writes, while batches behind them are on their way, or written.
pub async fn the_last_value_of_each_key_is_the_newest_with_five_requests_in_flight(
    log: &LogHandle,
    guarantee: Guarantee,
) {
    const RECORDS: i64 = 600;
    let group = unique("newest");
    let any_time = TopicConfig::new().timestamp_after_max_ms(i64::MAX);
    let input = topic_with(log, "in", 1, any_time).await;
    let changelog = TopicConfig::new().cleanup(Cleanup::Compact).timestamp_after_max_ms(HOUR);
    let spec = TopicSpec::new(table_topic(&group)).partitions(1).config(changelog);
    log.create_topics(vec![spec]).await.unwrap();
    let refused = |n: i64| n % 97 == 50 || n == RECORDS - 1;
    let mut batch = ProduceBatch::new();
    for n in 0..RECORDS {
        let (key, value) = (format!("k{}", n % 10), n.to_string());
        let at = now() + if refused(n) { 2 * HOUR } else { 0 };
        let record = NewRecord {
            topic: &input,
            partition: None,
            timestamp: Some(at),
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
        };
        batch.push(record, std::iter::empty());
    }
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    assert!(producer.send(Arc::new(batch)).await.failed.is_empty());
    let mut g = Group::define(group.as_str()).table(Text);
    g.input(Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::skip()), Text, |ctx, n| {
        // Large, so that many requests are on their way at once.
        ctx.set(format!("{n} {}", "x".repeat(60_000)))
    });
    let running = Running::start(processor(log, g.build().unwrap(), guarantee));
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    let mut newest = BTreeMap::new();
    for n in (0..RECORDS).filter(|n| !refused(*n)) {
        newest.insert(format!("k{}", n % 10), n.to_string());
    }
    let found = table(log, &group, 1).await.into_iter();
    let found: BTreeMap<_, _> = found.map(|(k, v)| (k, v.split(' ').next().unwrap().to_owned())).collect();
    assert_eq!(found, newest);
}

/// The write that takes another one back is refused with its batch, and nothing else writes to that key: the record whose
/// write is taken back does nothing the second time.
pub async fn a_write_that_takes_another_back_is_repeated_when_it_is_refused() {
    let first = Broker::started().await;
    let log = connect(&first.brokers());
    let (group, input) = (unique("back"), topic(&log, "in", 1).await);
    let hourly = TopicConfig::new().cleanup(Cleanup::Compact).timestamp_after_max_ms(HOUR);
    log.create_topics(vec![TopicSpec::new(table_topic(&group)).partitions(1).config(hourly)]).await.unwrap();
    let mut g = Group::define(group.as_str()).table(Text);
    let out: Arc<str> = unique("out").into();
    let results = g.output(&*out, Text);
    let calls = Arc::new(AtomicU64::new(0));
    let called = Arc::clone(&calls);
    let codec = EventTime::by(Text, |text: &String| now() + if text == "ahead" { 2 * HOUR } else { 0 });
    let edge = Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::skip()).max_ahead(Duration::from_secs(24 * 3600));
    g.input(edge, codec, move |ctx, text| match text.as_str() {
        "first" if called.fetch_add(1, Ordering::Relaxed) > 0 => Ok(()),
        "first" => {
            ctx.emit(results, ctx.key(), "x".repeat(10_000))?;
            ctx.set(text)
        }
        _ => ctx.set(text),
    });
    let graph = g.build().unwrap();
    // The output needs a second broker, which is not there: its first record fails after the delivery's time-out.
    let second = Broker::new().joining(&first);
    second.start().await;
    let both = TopicConfig::new().min_insync_replicas(2);
    let mut spec = TopicSpec::new(Arc::clone(&out)).partitions(1).config(both);
    spec.replication = Some(2);
    log.create_topics(vec![spec]).await.unwrap();
    second.stop().await;
    // The other records wait until it is known that the first one failed, and go with what takes its write back.
    let start = processor(&log, graph, Guarantee::AtLeastOnce).in_flight_bytes(5_000);
    let running = Running::up(start.session_timeout(Duration::from_secs(6))).await;
    write(&log, &input, None, &[("once", "first"), ("late", "ahead"), ("other", "x")]).await;
    done(&log, &group, &[(&input, 1)]).await;
    running.stop().await;
    let written = read(&log, &table_topic(&group), 1).await;
    assert!(written.iter().any(|r| r.key.as_deref() == Some("once")), "it was not written at all: {written:?}");
    assert!(calls.load(Ordering::Relaxed) > 1, "its first delivery did not fail");
    let expected = BTreeMap::from([("other".to_owned(), "x".to_owned())]);
    assert_eq!(table(&log, &group, 1).await, expected, "{written:?}");
}

/// For longer than a transaction, a delivery and a start of an instance may take.
pub async fn too_few_replicas_are_waited_for_and_shown(guarantee: Guarantee) {
    let first = Broker::started().await;
    let log = connect(&first.brokers());
    let (group, input, out) =
        (unique("replicas"), topic(&log, "in", PARTITIONS).await, Arc::<str>::from(unique("out")));
    let running =
        Running::up(processor(&log, sized(&group, Input::topic(Arc::clone(&input)), &out, 1), guarantee)).await;
    // All that was made so far is on the first broker only.
    let second = Broker::new().joining(&first);
    second.start().await;
    let both = TopicConfig::new().min_insync_replicas(2);
    let mut spec = TopicSpec::new(Arc::clone(&out)).partitions(1).config(both);
    spec.replication = Some(2);
    log.create_topics(vec![spec]).await.unwrap();
    let write_some = async |from: i32| {
        let keys: Vec<String> = (from..from + 20).map(|n| format!("k{n}")).collect();
        let records: Vec<_> = keys.iter().map(|k| (k.as_str(), "10")).collect();
        write(&log, &input, None, &records).await;
    };
    write_some(0).await;
    done(&log, &group, &[(&input, PARTITIONS)]).await;
    second.stop().await;
    write_some(20).await;
    let handle = running.handle.clone();
    let outage = tokio::time::Instant::now() + Duration::from_secs(70);
    until("it says that it waits", async || handle.status().state == State::Waiting).await;
    let waiting = handle.status().waiting.unwrap();
    assert!(waiting.since_ms <= now() && !waiting.on.is_empty(), "{waiting:?}");
    // The outage itself: nothing announces that it is long enough.
    tokio::time::sleep_until(outage).await;
    assert!(!running.task.is_finished(), "it has ended");
    second.start().await;
    done(&log, &group, &[(&input, PARTITIONS)]).await;
    until("it runs again", async || handle.status().state == State::Running).await;
    assert_eq!(handle.status().waiting, None);
    running.stop().await;
    let all = || (0..40).map(|n| format!("k{n}"));
    assert_eq!(counts(&read(&log, &out, 1).await, guarantee), once(all()));
    assert!(table(&log, &group, PARTITIONS).await.len() == 40, "each was done");
}

/// Stream time, and the topic that keeps it, as the cluster's defaults are: an hour ahead at most.
pub async fn an_event_time_that_a_topic_refuses_is_no_trouble_of_the_library_s_own_records(
    log: &LogHandle,
    guarantee: Guarantee,
) {
    for policy in [ErrorPolicy::skip(), ErrorPolicy::dead_letter(unique("dead"))] {
        let (group, input, out) = (unique("ahead"), topic(log, "in", 1).await, hourly(log).await);
        let hour = TopicConfig::new().cleanup(Cleanup::Compact).timestamp_after_max_ms(HOUR);
        let time: Arc<str> = format!("{group}-time").into();
        log.create_topics(vec![TopicSpec::new(time).partitions(1).config(hour)]).await.unwrap();
        let mut g = Group::define(group.as_str());
        let results = g.output(&*out, Text);
        let timer = g.timer("unused", Text);
        g.on_timer(timer, |_, _| Ok(()));
        let edge = Input::topic(Arc::clone(&input)).on_error(policy).max_ahead(Duration::from_secs(24 * 3600));
        let codec = EventTime::by(Text, |hours: &String| now() + hours.parse::<i64>().unwrap_or_default() * HOUR);
        // It emits nothing of the one that is ahead, so that only stream time knows of it.
        g.input(
            edge,
            codec,
            move |ctx, hours| if hours == "0" { ctx.emit(results, ctx.key(), &hours) } else { Ok(()) },
        );
        let running = Running::up(processor(log, g.build().unwrap(), guarantee)).await;
        write(log, &input, None, &[("a", "0"), ("b", "2"), ("c", "0")]).await;
        done(log, &group, &[(&input, 1)]).await;
        running.stop().await;
        let written: Vec<_> = read(log, &out, 1).await.into_iter().filter_map(|r| r.key).collect();
        assert_eq!(written, ["a", "c"]);
    }
}

/// Its topic takes no record that is older than a millisecond, as each is when it comes there.
pub async fn a_topic_that_refuses_the_library_s_own_records_ends_the_run(log: &LogHandle, guarantee: Guarantee) {
    let (group, input) = (unique("own"), topic(log, "in", 1).await);
    let nothing = TopicConfig::new().cleanup(Cleanup::Compact);
    let (nothing, says) = match guarantee {
        // The broker refuses what is older than a millisecond.
        Guarantee::AtLeastOnce => (nothing.timestamp_before_max_ms(1), "is refused"),
        // It would refuse its own marker, too, so that no transaction ended. Here there is room for the marker, and for no record.
        _ => (nothing.max_message_bytes(80), "is larger than its limit"),
    };
    let time: Arc<str> = format!("{group}-time").into();
    log.create_topics(vec![TopicSpec::new(Arc::clone(&time)).partitions(1).config(nothing)]).await.unwrap();
    let mut g = Group::define(group.as_str()).table(Int64);
    let timer = g.timer("unused", Text);
    g.on_timer(timer, |_, _| Ok(()));
    g.input(Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::skip()), Text, |ctx, _| ctx.set(1));
    let running = Running::start(processor(log, g.build().unwrap(), guarantee));
    write(log, &input, None, &[("a", "0")]).await;
    let text = running.failure().await;
    let what = "refuses a record that the library itself writes";
    assert!(text.contains(&*time) && text.contains(what) && text.contains(says), "{text}");
}

/// Copies texts of 2 kB.
fn copying(group: &str, input: &Arc<str>, out: &Arc<str>) -> Arc<GroupGraph> {
    let mut g = Group::define(group);
    let out = g.output(&**out, Text);
    g.input(&**input, Text, move |ctx, text| ctx.emit(out, ctx.key(), &text));
    g.build().unwrap()
}

/// A backlog on twelve partitions, over a link of 1.5 MB a second: all that is processed in a commit interval would take longer
/// than a transaction may.
pub async fn a_slow_link_gets_small_transactions() {
    const RECORDS: usize = 12_000;
    let proxy = Proxy::new(1).await;
    let (broker, listener) = Broker::new().proxied(proxy.port());
    proxy.lead_to(listener);
    broker.start().await;
    let (log, through) = (connect(&broker.brokers()), connect(&proxy.address()));
    let input = topic(&log, "in", 12).await;
    let text = "x".repeat(2_000);
    let mut feed = Feed::new(&log).await;
    for n in 0..RECORDS {
        feed.send(&[(&input, None, &format!("k{n}"), &text)]).await;
    }
    feed.finish().await;
    let mut took = Vec::new();
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let (group, out) = (unique("slow"), topic(&log, "out", 12).await);
        let (carried, began) = (proxy.carried(), Instant::now());
        proxy.limit(1_500_000);
        let running = Running::start(processor(&through, copying(&group, &input, &out), guarantee));
        done(&log, &group, &[(&input, 12)]).await;
        took.push((proxy.carried() - carried, began.elapsed()));
        proxy.limit(0);
        running.stop().await;
        let written = counts(&read(&log, &out, 12).await, guarantee);
        assert_eq!(written, once((0..RECORDS).map(|n| format!("k{n}"))), "{guarantee:?}");
    }
    println!("carried, took: {took:?}");
    let [(least_bytes, least), (exactly_bytes, exactly)] = took[..] else { panic!("two runs") };
    assert!(exactly_bytes < least_bytes * 3 / 2, "nothing is carried again and again: {took:?}");
    assert!(exactly < least * 2, "half of the throughput at least: {took:?}");
}
