//! D13: a group's own topics say themselves what results depend on, whatever the cluster's defaults are.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input, Side};
use stream_core::log::embedded::InMemory;
use stream_core::log::{Cleanup, Log, LogHandle, TimestampType, TopicConfig, TopicSpec};
use stream_core::processor::Processor;
use stream_core::store::MemoryStores;
use stream_core::testing::Tester;
use stream_core::topics::TopicOptions;
use stream_core::window::{JoinWindows, Sessions, Windows};

use crate::delivery_d6_policies::Raw;
use crate::strict_log::Strict;
use crate::support::{Done, logged, values, with_both};

const DAY_MS: i64 = 24 * 3_600_000;

/// A group with one of each kind of own topic.
fn group() -> Arc<GroupGraph> {
    let mut g = Group::define("work").table(Int64);
    let out = g.output("out", Text);
    let looped = g.loopback(Text);
    let minutes = g.window("minutes", Windows::tumbling(Duration::from_secs(60)).grace(Duration::ZERO), Int64);
    g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), Text, move |ctx, text: String| {
        ctx.aggregate(minutes, |n| n.unwrap_or(0) + 1)?;
        ctx.emit(out, ctx.key(), &text)
    });
    g.on_loop(looped, |_ctx, _text: String| Ok(()));
    let windows = JoinWindows::around(Duration::from_secs(60)).grace(Duration::from_secs(10));
    let left = Side::topic("left", Text).key_by(|text: &String| text.clone());
    g.stream_join("pairs", windows, left, Side::topic("right", Text)).inner(|_, _, _| Ok(()));
    g.build().unwrap()
}

/// A group without a table of its own, which has a lead.
fn joining() -> Arc<GroupGraph> {
    let mut g = Group::define("join");
    let windows = JoinWindows::around(Duration::from_secs(60)).grace(Duration::from_secs(10));
    g.stream_join("pairs", windows, Side::topic("left", Text), Side::topic("right", Text)).inner(|_, _, _| Ok(()));
    g.build().unwrap()
}

const TABLES: [&str; 4] = ["work-table", "work-time", "work-window-minutes", KEPT];
/// What a join keeps.
const KEPT: &str = "work-kept-pairs";
const PASSAGES: [&str; 2] = ["work-loop", "work-pairs-left-repartition"];

/// Runs the group on a log until it fails, or until it runs.
fn run(graph: Arc<GroupGraph>, log: LogHandle) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processor = Processor::new(graph, log).stores(Arc::new(MemoryStores::new())).workers(1);
    let handle = processor.handle();
    let runs = async move { _ = handle.running().await };
    runtime.block_on(processor.run_until(runs)).map_err(|e| format!("{e:?}"))
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn config(log: &InMemory, topic: &str) -> TopicConfig {
    wait(log.topics(vec![topic.into()])).unwrap().remove(0).unwrap_or_else(|| panic!("no topic {topic}")).config
}

/// A log on which the group has run once.
fn with_topics() -> Arc<InMemory> {
    let log = InMemory::new();
    run(group(), Arc::clone(&log) as _).unwrap();
    log
}

/// Gives a topic other settings.
fn alter(log: &InMemory, topic: &str, change: impl FnOnce(&mut TopicConfig)) {
    let mut config = config(log, topic);
    change(&mut config);
    log.alter_topic(topic, &config).unwrap();
}

#[test]
fn own_topics_are_made_with_all_that_results_depend_on() {
    let log = with_topics();
    run(joining(), Arc::clone(&log) as _).unwrap();
    for topic in TABLES.into_iter().chain(PASSAGES).chain(["dead", "join-lead", "join-kept-pairs", "join-time"]) {
        let config = config(&log, topic);
        assert_eq!(config.timestamp_type, Some(TimestampType::CreateTime), "{topic}");
        let limits = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
        assert_eq!(limits, (Some(i64::MAX), Some(i64::MAX)), "{topic}");
        assert_eq!(config.retention_bytes, Some(-1), "{topic}");
        assert_eq!(config.compression_type.as_deref(), Some("producer"), "{topic}");
        let kept = if topic == "dead" { 30 * DAY_MS } else { -1 };
        assert_eq!(config.retention_ms, Some(kept), "{topic}");
        let compacted = !PASSAGES.contains(&topic) && !["dead", "join-lead"].contains(&topic);
        let cleanup = match topic {
            _ if !compacted => Cleanup::Delete,
            KEPT | "join-kept-pairs" => Cleanup::CompactDelete,
            _ => Cleanup::Compact,
        };
        assert_eq!(config.cleanup, Some(cleanup), "{topic}");
    }
}

#[test]
fn what_holds_whole_records_of_the_inputs_takes_the_largest_of_them() {
    let log = InMemory::new();
    let large = TopicConfig::new().max_message_bytes(5_000_000);
    wait(log.create_topics(vec![TopicSpec::new("in").config(large)])).unwrap();
    run(group(), Arc::clone(&log) as _).unwrap();
    for topic in ["dead", "work-kept-pairs", "work-pairs-left-repartition"] {
        assert!(config(&log, topic).max_message_bytes > Some(5_000_000), "{topic}");
    }
}

#[test]
fn outputs_and_inputs_are_the_users() {
    let log = with_topics();
    for topic in ["in", "left", "right", "out"] {
        // The embedded log's defaults, which are Kafka's.
        assert_eq!(config(&log, topic).timestamp_after_max_ms, Some(3_600_000), "{topic}");
        alter(&log, topic, |c| {
            (c.timestamp_type, c.retention_bytes) = (Some(TimestampType::LogAppendTime), Some(1_000_000));
            c.cleanup = Some(Cleanup::Compact);
        });
    }
    let (ran, lines) = logged(|| run(group(), Arc::clone(&log) as _));
    ran.unwrap();
    assert!(!lines.contains("WARN"), "{lines}");
}

/// Properties on which results depend: topics, what is wrong with them, the words for it, and what mends it.
type Wrong = (Vec<&'static str>, fn(&mut TopicConfig), &'static str, &'static str);

fn wrong() -> Vec<Wrong> {
    let all = || TABLES.into_iter().chain(PASSAGES).collect();
    let stays = || PASSAGES.into_iter().chain([KEPT]).collect();
    vec![
        (
            all(),
            |c| c.timestamp_type = Some(TimestampType::LogAppendTime),
            "message.timestamp.type=LogAppendTime",
            "message.timestamp.type=CreateTime",
        ),
        (TABLES.to_vec(), |c| c.cleanup = Some(Cleanup::Delete), "cleanup.policy=delete", "cleanup.policy=compact"),
        (
            PASSAGES.into_iter().chain(["dead"]).collect(),
            |c| c.cleanup = Some(Cleanup::Compact),
            "cleanup.policy=compact",
            "cleanup.policy=delete",
        ),
        (stays(), |c| c.retention_ms = Some(7 * DAY_MS), "retention.ms=604800000", "retention.ms=-1"),
        (stays(), |c| c.retention_bytes = Some(1 << 30), "retention.bytes=1073741824", "retention.bytes=-1"),
    ]
}

#[test]
fn an_own_topic_on_whose_settings_results_depend_is_refused_with_the_command_that_mends_it() {
    for (topics, change, what, mended) in wrong() {
        for topic in topics {
            let log = with_topics();
            alter(&log, topic, change);
            let before = config(&log, topic);
            let error = run(group(), Arc::clone(&log) as _).unwrap_err();
            assert!(error.contains(&format!("topic {topic} has {what}")), "{error}");
            let line = format!("--alter --entity-type topics --entity-name {topic} --add-config {mended}");
            assert!(error.contains("kafka-configs.sh --bootstrap-server ") && error.contains(&line), "{error}");
            assert_eq!(config(&log, topic), before, "it is never altered");
        }
    }
}

#[test]
fn topics_that_earlier_releases_made_on_a_clusters_usual_defaults_start_with_one_warning() {
    let log = InMemory::new();
    let made = |cleanup, retention_ms| TopicConfig::new().cleanup(cleanup).retention_ms(retention_ms);
    let spec = |topic: &str, config| TopicSpec::new(topic).partitions(1).config(config);
    let tables = TABLES.map(|topic| spec(topic, made(Some(Cleanup::Compact), None)));
    let passages = PASSAGES.map(|topic| spec(topic, made(None, Some(-1))));
    let dead = spec("dead", TopicConfig::default());
    wait(log.create_topics([&tables[..], &passages[..], &[dead]].concat())).unwrap();
    let (ran, lines) = logged(|| run(group(), Arc::clone(&log) as _));
    ran.unwrap();
    // The limit on times ahead is an hour by default, and dead letters were kept for a week.
    assert_eq!(lines.matches("WARN").count(), 1, "{lines}");
    assert!(lines.contains("work-kept-pairs has cleanup.policy=compact, so what is closed stays"), "{lines}");
    assert!(lines.contains("work-loop has message.timestamp.after.max.ms=3600000"), "{lines}");
    assert!(lines.contains("dead has retention.ms=604800000, so dead letters would be deleted early"), "{lines}");
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let log = with_topics();
    alter(&log, "work-loop", |c| {
        (c.timestamp_type, c.retention_bytes) = (Some(TimestampType::LogAppendTime), Some(5));
    });
    alter(&log, "work-time", |c| c.cleanup = Some(Cleanup::CompactDelete));
    let error = run(group(), Arc::clone(&log) as _).unwrap_err();
    assert!(error.contains("work-time has cleanup.policy=compact,delete"), "{error}");
    assert!(error.contains("--entity-name work-time --add-config cleanup.policy=compact"), "{error}");
    let both = "--entity-name work-loop --add-config retention.bytes=-1,message.timestamp.type=CreateTime";
    assert!(error.contains(both), "{error}");
}

#[test]
fn what_no_result_depends_on_is_warned_of_once() {
    let log = with_topics();
    alter(&log, "work-table", |c| c.compression_type = Some("gzip".to_owned()));
    alter(&log, "work-time", |c| c.timestamp_before_max_ms = Some(5 * DAY_MS));
    alter(&log, "dead", |c| c.retention_ms = Some(DAY_MS));
    let (ran, lines) = logged(|| run(group(), Arc::clone(&log) as _));
    ran.unwrap();
    let warnings: Vec<_> = lines.lines().filter(|l| l.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{lines}");
    for line in [
        "--entity-name work-table --add-config compression.type=producer",
        "--entity-name work-time --add-config message.timestamp.before.max.ms=9223372036854775807",
        "--entity-name dead --add-config retention.ms=2592000000",
    ] {
        assert!(warnings[0].contains(line), "{line}: {lines}");
    }
}

#[test]
fn how_long_dead_letters_are_kept_is_an_option() {
    let log = InMemory::new();
    let mut options = TopicOptions::default();
    (options.dead_letter_retention_ms, options.retention_ms) = (-1, Some(DAY_MS));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processor = Processor::new(group(), Arc::clone(&log) as _).stores(Arc::new(MemoryStores::new())).workers(1);
    let handle = processor.handle();
    let runs = async move { _ = handle.running().await };
    runtime.block_on(processor.topics(options).run_until(runs)).unwrap();
    assert_eq!((config(&log, "dead").retention_ms, config(&log, "out").retention_ms), (Some(-1), Some(DAY_MS)));
}

#[test]
fn a_broker_that_refuses_a_property_gets_the_topic_without_it_and_one_warning() {
    // Before Kafka 3.6; one that has a policy of its own; one that knows next to nothing.
    let limits = vec!["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"];
    let policy = [limits.clone(), vec!["message.timestamp.difference.max.ms", "compression.type"]].concat();
    let little = [policy.clone(), vec!["max.message.bytes", "message.timestamp.type", "retention.bytes"]].concat();
    for refused in [limits, policy, little] {
        let log = Strict::new(&refused, false);
        let (ran, lines) = logged(|| run(group(), Arc::clone(&log) as _));
        ran.unwrap();
        let warnings: Vec<_> = lines.lines().filter(|l| l.contains("WARN")).collect();
        let said = warnings.iter().filter(|l| l.contains("refuses a property")).count();
        assert_eq!(said, 1, "{lines}");
        let without = warnings.iter().find(|l| l.contains("refuses a property")).unwrap();
        let names = refused.iter().filter(|name| without.contains(**name)).count();
        assert_eq!(names, refused.len(), "{without}");
        for topic in TABLES {
            let cleanup = if topic == KEPT { Cleanup::CompactDelete } else { Cleanup::Compact };
            assert_eq!(config(&log.log, topic).cleanup, Some(cleanup));
        }
        for topic in PASSAGES {
            assert_eq!(config(&log.log, topic).retention_ms, Some(-1));
        }
        let made = log.made.lock().unwrap();
        let kept = made.iter().find(|s| &*s.name == "work-table").unwrap();
        if refused.len() == 2 {
            let older = ("message.timestamp.difference.max.ms".to_owned(), i64::MAX.to_string());
            assert!(kept.config.other.contains(&older), "{kept:?}");
            assert_eq!(kept.config.timestamp_type, Some(TimestampType::CreateTime), "only what is refused goes");
        }
    }
}

#[test]
fn a_broker_that_refuses_what_results_depend_on_is_an_error() {
    let log = Strict::new(&["cleanup.policy"], false);
    let error = run(group(), log as _).unwrap_err();
    assert!(error.contains("create topics") && error.contains("on purpose"), "{error}");
}

#[test]
fn topics_whose_settings_are_hidden_are_no_reason_to_refuse() {
    let log = Strict::new(&[], true);
    run(group(), Arc::clone(&log) as _).unwrap();
    run(group(), log as _).unwrap();
}

/// A topic that was made without the group's settings may refuse by now the times of what it took before.
#[test]
fn what_becomes_due_is_deleted_at_the_time_of_the_deletion() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("work");
        let finals = g.output("out", Text);
        let sessions = Sessions::gap(Duration::from_millis(60)).grace(Duration::ZERO);
        let visits = g.session("visits", sessions, Int64);
        g.input("in", Text, move |ctx, _text: String| {
            ctx.aggregate_session(visits, |n| n.unwrap_or(0) + 1, |a, b| a + b).map(drop)
        });
        g.on_close(visits, move |ctx, (_, n)| ctx.emit(finals, ctx.key(), n.to_string()));
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let (input, out) = (tester.input("in", Text), tester.output("out", Text));
        let then = tester.now_ms() - 4 * DAY_MS;
        for at in [then, then + 30] {
            input.send_at("k", "x".to_owned(), at)?;
        }
        alter(tester.log(), "work-session-visits", |c| c.timestamp_before_max_ms = Some(5 * DAY_MS));
        tester.advance(Duration::from_secs(2 * 24 * 3_600))?;
        let now = tester.now_ms();
        input.send_at("l", "x".to_owned(), now)?;
        input.send_at("l", "x".to_owned(), now + 1_000)?;
        assert_eq!(values(&out), ["2", "1"]);
        Ok(())
    })
}

#[test]
fn records_of_own_tables_have_no_time_below_zero() -> Done {
    // Kafka would never compact such a table again.
    let mut g = Group::define("work").table(Int64);
    let minutes = g.window("minutes", Windows::tumbling(Duration::from_secs(60)).grace(Duration::ZERO), Int64);
    g.input(Input::topic("in").on_error(ErrorPolicy::skip()), Text, move |ctx, _text: String| {
        _ = ctx.aggregate(minutes, |n| n.unwrap_or(0) + 1)?;
        ctx.set(1)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send_at("a", "x".to_owned(), -5)?;
    tester.input("in", Text).send_at("b", "x".to_owned(), 70_000)?;
    for topic in ["work-table", "work-window-minutes", "work-time"] {
        let records = tester.output(topic, Raw).read()?;
        assert!(!records.is_empty() && records.iter().all(|r| r.timestamp >= 0), "{topic}: {records:?}");
    }
    assert_eq!(tester.output("work-table", Int64).read()?.last().map(|r| r.timestamp), Some(70_000));
    Ok(())
}
