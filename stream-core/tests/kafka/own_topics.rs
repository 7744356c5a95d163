//! A group's own topics on brokers whose defaults would spoil its results (semantics D13), its dead letters where old records
//! are deleted (D14), and brokers that hide topics' settings.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupGraph, Input, Side, dead_letter};
use stream_core::log::{
    Cleanup, LogHandle, NewRecord, OffsetSpec, ProduceBatch, ProducerOptions, TimestampType, TopicConfig,
    TopicPartition, TopicSpec,
};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::window::{JoinWindows, Windows};

use crate::kafka_support::broker::Broker;
use crate::kafka_support::{Running, bounded, connect, done, kafka, read, table, topic_with, unique, until};

const DAY_MS: i64 = 24 * 3_600_000;

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn processor(log: &LogHandle, graph: Arc<GroupGraph>) -> Processor {
    let every = Duration::from_millis(100);
    Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1).commit_interval(every)
}

/// Inputs that take and keep records of any time.
fn lasting() -> TopicConfig {
    TopicConfig::new()
        .cleanup(Cleanup::Delete)
        .retention_ms(-1)
        .retention_bytes(-1)
        .timestamp_type(TimestampType::CreateTime)
        .timestamp_before_max_ms(i64::MAX)
        .timestamp_after_max_ms(i64::MAX)
}

async fn write(log: &LogHandle, topic: &Arc<str>, key: &str, value: &str, at: i64) {
    let mut batch = ProduceBatch::new();
    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
    batch.push(NewRecord { topic, partition: None, timestamp: Some(at), key, value }, std::iter::empty());
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    let failed = producer.send(Arc::new(batch)).await.failed;
    assert!(failed.is_empty(), "{failed:?}");
}

async fn config(log: &LogHandle, topic: &str) -> TopicConfig {
    log.topics(vec![topic.into()]).await.unwrap().remove(0).unwrap_or_else(|| panic!("no topic {topic}")).config
}

/// Defaults of a cluster that would spoil everything.
const HOSTILE: &str = "log.message.timestamp.type=LogAppendTime
log.message.timestamp.before.max.ms=432000000
log.message.timestamp.after.max.ms=1000
log.retention.ms=600000
log.retention.bytes=1000000
log.cleanup.policy=compact,delete
compression.type=gzip
message.max.bytes=200000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn own_topics_are_made_with_all_that_results_depend_on() {
    bounded(240, async {
        let broker = Broker::new().configured(HOSTILE);
        broker.start().await;
        let log = connect(&broker.brokers());
        let group = unique("own");
        let mut g = Group::define(group.as_str()).table(Int64);
        let out = g.output(format!("{group}-out"), Text);
        let looped = g.loopback(Text);
        let minutes = g.window("minutes", Windows::tumbling(Duration::from_secs(60)).grace(Duration::ZERO), Int64);
        let dead = format!("{group}-dead");
        let input = Input::topic(format!("{group}-in")).on_error(ErrorPolicy::dead_letter(dead.as_str()));
        g.input(input, Text, move |ctx, text: String| {
            ctx.aggregate(minutes, |n| n.unwrap_or(0) + 1)?;
            ctx.emit(out, ctx.key(), &text)
        });
        g.on_loop(looped, |_, _: String| Ok(()));
        let windows = JoinWindows::around(Duration::from_secs(60)).grace(Duration::from_secs(10));
        let left = Side::topic(format!("{group}-left"), Text).key_by(|text: &String| text.clone());
        g.stream_join("pairs", windows, left, Side::topic(format!("{group}-right"), Text)).inner(|_, _, _| Ok(()));
        Running::up(processor(&log, g.build().unwrap())).await.stop().await;

        let tables = ["table", "time", "window-minutes"];
        for what in tables.into_iter().chain(["kept-pairs", "loop", "pairs-left-repartition", "dead"]) {
            let config = config(&log, &format!("{group}-{what}")).await;
            assert_eq!(config.timestamp_type, Some(TimestampType::CreateTime), "{what}");
            let limits = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
            assert_eq!(limits, (Some(i64::MAX), Some(i64::MAX)), "{what}");
            assert_eq!(config.retention_bytes, Some(-1), "{what}");
            let kept = if what == "dead" { 30 * DAY_MS } else { -1 };
            assert_eq!(config.retention_ms, Some(kept), "{what}");
            assert_eq!(config.compression_type.as_deref(), Some("producer"), "{what}");
            let cleanup = match what {
                "kept-pairs" => Cleanup::CompactDelete,
                _ if tables.contains(&what) => Cleanup::Compact,
                _ => Cleanup::Delete,
            };
            assert_eq!(config.cleanup, Some(cleanup), "{what}");
            if ["kept-pairs", "pairs-left-repartition", "dead"].contains(&what) {
                assert!(config.max_message_bytes > Some(200_000), "{what}: what an input takes fits");
            }
        }
        // What is the user's is left to the cluster.
        let out = config(&log, &format!("{group}-out")).await;
        assert_eq!(out.timestamp_type, Some(TimestampType::LogAppendTime));
        // A second start has nothing to say against them.
        Running::up(processor(&log, {
            let mut g = Group::define(group.as_str()).table(Int64);
            g.input(format!("{group}-in"), Text, |_, _: String| Ok(()));
            g.build().unwrap()
        }))
        .await
        .stop()
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_re_keyed_join_matches_by_event_time_where_the_clusters_default_is_the_time_of_the_append() {
    bounded(240, async {
        let broker = Broker::new().configured("log.message.timestamp.type=LogAppendTime");
        broker.start().await;
        let log = connect(&broker.brokers());
        let group = unique("join");
        let left = topic_with(&log, "left", 2, lasting()).await;
        let right = topic_with(&log, "right", 2, lasting()).await;
        let matches = topic_with(&log, "matches", 1, lasting()).await;
        let mut g = Group::define(group.as_str());
        let out = g.output(&*matches, Text);
        let windows = JoinWindows::around(Duration::from_secs(60)).grace(Duration::from_secs(20));
        let by_value = Side::topic(&*left, Text).key_by(|text: &String| text.clone());
        g.stream_join("pairs", windows, by_value, Side::topic(&*right, Text))
            .inner(move |ctx, l, r| ctx.emit(out, ctx.key(), format!("{l} {r} {}", ctx.timestamp())));
        let at = now_ms() - 3_600_000;
        for n in 0..10 {
            write(&log, &left, "any", &format!("k{n}"), at + n).await;
            write(&log, &right, &format!("k{n}"), "r", at + n + 30_000).await;
        }
        let running = Running::up(processor(&log, g.build().unwrap())).await;
        until("all match", async || read(&log, &matches, 1).await.len() == 10).await;
        let mut pairs: Vec<_> = read(&log, &matches, 1).await.into_iter().filter_map(|r| r.value).collect();
        pairs.sort_unstable();
        let expected: Vec<_> = (0..10).map(|n| format!("k{n} r {}", at + n + 30_000)).collect();
        assert_eq!(pairs, expected);
        running.stop().await;
    })
    .await;
}

/// Counts records of a time with both guarantees.
async fn counted(log: &LogHandle, at: i64) -> Vec<i64> {
    let mut times = Vec::new();
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let (group, input) = (unique("count"), topic_with(log, "in", 1, lasting()).await);
        let mut g = Group::define(group.as_str()).table(Int64);
        g.input(&*input, Text, |ctx, _| {
            let n = ctx.value()?.unwrap_or(0);
            ctx.set(n + 1)
        });
        for _ in 0..3 {
            write(log, &input, "k", "x", at).await;
        }
        let counting = processor(log, g.build().unwrap()).guarantee(guarantee).max_ahead(None);
        let running = Running::up(counting).await;
        done(log, &group, &[(&input, 1)]).await;
        running.stop().await;
        assert_eq!(table(log, &group, 1).await.get("k").map(String::as_str), Some("3"));
        times.extend(read(log, &format!("{group}-table"), 1).await.iter().map(|r| r.timestamp));
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn own_topics_take_any_event_time_whatever_the_cluster_takes() {
    bounded(240, async {
        // Five days back, a second ahead.
        let limits = "log.message.timestamp.before.max.ms=432000000\nlog.message.timestamp.after.max.ms=1000";
        let broker = Broker::new().configured(limits);
        broker.start().await;
        let log = connect(&broker.brokers());
        for at in [now_ms() - 30 * DAY_MS, now_ms() + DAY_MS] {
            assert!(counted(&log, at).await.iter().all(|time| *time == at));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_time_below_zero_does_not_stop_a_tables_compaction() {
    bounded(240, async {
        let broker = Broker::new().configured(
            "log.roll.ms=500\nlog.cleaner.min.cleanable.ratio=0.01\nlog.cleaner.backoff.ms=200\nlog.segment.bytes=1048576",
        );
        broker.start().await;
        let log = connect(&broker.brokers());
        let (group, input) = (unique("count"), topic_with(&log, "in", 1, lasting()).await);
        let mut g = Group::define(group.as_str()).table(Int64);
        g.input(Input::topic(Arc::clone(&input)).on_error(ErrorPolicy::skip()), Text, |ctx, _| {
            let n = ctx.value()?.unwrap_or(0);
            ctx.set(n + 1)
        });
        // In one batch of the table, which the cleaner has to write anew once the second one is replaced.
        write(&log, &input, "bad", "x", -5).await;
        write(&log, &input, "k", "x", now_ms()).await;
        let running = Running::up(processor(&log, g.build().unwrap())).await;
        // New segments, so that the first ones can be compacted.
        let compacted = format!("{group}-table");
        until("the table is compacted", async || {
            write(&log, &input, "k", "x", now_ms()).await;
            done(&log, &group, &[(&input, 1)]).await;
            let records = read(&log, &compacted, 1).await;
            let last = records.last().map_or(0, |r| r.offset);
            last > 6 && records.iter().filter(|r| r.key.as_deref() == Some("k")).all(|r| r.offset > 3)
        })
        .await;
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn the_command_in_a_refusal_mends_the_topic() {
    bounded(240, async {
        let broker = Broker::new().configured("log.message.timestamp.type=LogAppendTime");
        broker.start().await;
        let log = connect(&broker.brokers());
        let (group, input) = (unique("mend"), topic_with(&log, "in", 1, lasting()).await);
        let graph = || {
            let mut g = Group::define(group.as_str()).table(Int64);
            let looped = g.loopback(Text);
            g.input(&*input, Text, |_, _: String| Ok(()));
            g.on_loop(looped, |_, _: String| Ok(()));
            g.build().unwrap()
        };
        // As releases made them that left all else to the cluster.
        let made = |cleanup, retention_ms| TopicConfig::new().cleanup(cleanup).retention_ms(retention_ms);
        let (table, looped) = (format!("{group}-table"), format!("{group}-loop"));
        let specs = [
            TopicSpec::new(table.as_str()).partitions(1).config(made(Some(Cleanup::Compact), None)),
            TopicSpec::new(looped.as_str()).partitions(1).config(made(None, Some(60_000))),
        ];
        log.create_topics(specs.to_vec()).await.unwrap();
        let before = (config(&log, &table).await, config(&log, &looped).await);
        let error = Running::start(processor(&log, graph())).failure().await;
        assert_eq!((config(&log, &table).await, config(&log, &looped).await), before, "nothing was altered");
        let commands: Vec<_> = error.match_indices("kafka-configs.sh ").map(|(at, _)| &error[at..]).collect();
        assert_eq!(commands.len(), 2, "{error}");
        for command in commands {
            let command = command.split(';').next().unwrap();
            let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
            broker.tool("ConfigCommand", &arguments).await;
        }
        Running::up(processor(&log, graph())).await.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn dead_letters_of_old_records_outlive_the_next_sweep() {
    bounded(240, async {
        let broker = Broker::new()
            .configured("log.retention.check.interval.ms=300\nlog.initial.task.delay.ms=100\nlog.roll.ms=1000");
        broker.start().await;
        let log = connect(&broker.brokers());
        let (group, input) = (unique("dead"), topic_with(&log, "in", 1, lasting()).await);
        let dead: Arc<str> = format!("{group}-letters").into();
        let mut g = Group::define(group.as_str());
        let policy = ErrorPolicy::dead_letter(Arc::clone(&dead));
        g.input(Input::topic(Arc::clone(&input)).on_error(policy), Text, |_, _: String| Err(CallbackError::msg("no")));
        let at = now_ms() - 30 * DAY_MS;
        for n in 0..10 {
            write(&log, &input, &format!("k{n}"), "x", at).await;
        }
        let running = Running::up(processor(&log, g.build().unwrap())).await;
        done(&log, &group, &[(&input, 1)]).await;
        running.stop().await;
        assert_eq!(read(&log, &dead, 1).await.len(), 10);
        // Records as old as those, which a sweep deletes: twice, so that a whole sweep lies between.
        for _ in 0..2 {
            let swept = topic_with(&log, "swept", 1, TopicConfig::default()).await;
            write(&log, &swept, "k", "x", at).await;
            until("old records are deleted", async || {
                let of = vec![(TopicPartition::new(Arc::clone(&swept), 0), OffsetSpec::Earliest)];
                log.offsets(of, stream_core::log::Isolation::ReadCommitted).await.unwrap() == [1]
            })
            .await;
        }
        let letters = read(&log, &dead, 1).await;
        assert_eq!(letters.len(), 10, "they are evidence");
        assert!(letters.iter().all(|r| r.timestamp > now_ms() - DAY_MS));
        assert!(letters.iter().all(|r| r.headers[dead_letter::TIMESTAMP] == at.to_string()));
    })
    .await;
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn where_settings_are_hidden_the_defaults_are_assumed_and_that_is_said_once() {
    bounded(240, async {
        let authorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
        let broker = Broker::new().configured(&format!("{authorizer}\nallow.everyone.if.no.acl.found=true"));
        broker.start().await;
        let log = connect(&broker.brokers());
        let group = unique("hidden");
        let brokers = broker.brokers();
        for (who, operation) in [("--allow-principal", "All"), ("--deny-principal", "DescribeConfigs")] {
            let of = ["--bootstrap-server", &brokers, "--add", who, "User:ANONYMOUS", "--operation", operation];
            let on = ["--topic", &group, "--resource-pattern-type", "prefixed"];
            broker.tool("AclCommand", &[&of[..], &on[..]].concat()).await;
        }
        let input: Arc<str> = format!("{group}-in").into();
        let graph = || {
            let mut g = Group::define(group.as_str()).table(Int64);
            g.input(&*input, Text, |ctx, _| {
                let n = ctx.value()?.unwrap_or(0);
                ctx.set(n + 1)
            });
            g.build().unwrap()
        };
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        for _ in 0..2 {
            let often = Duration::from_millis(50);
            let running = Running::up(processor(&log, graph()).topic_check_interval(often)).await;
            write(&log, &input, "k", "x", now_ms()).await;
            done(&log, &group, &[(&input, 1)]).await;
            running.stop().await;
        }
        assert_eq!(table(&log, &group, 1).await.get("k").map(String::as_str), Some("2"));
        let text = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
        let said: Vec<_> = text.lines().filter(|l| l.contains("not allowed to see the settings")).collect();
        for topic in [format!("{group}-in"), format!("{group}-table")] {
            assert_eq!(said.iter().filter(|l| l.contains(&topic)).count(), 1, "{topic}: {text}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn keys_by_librdkafkas_default_partitioner_are_refused_where_that_is_asked_for() {
    use stream_core::group::KeyPartitioner;

    bounded(120, async {
        let log = kafka();
        let (group, input) = (unique("keys"), topic_with(&log, "in", 4, lasting()).await);
        // A client of librdkafka's with its defaults.
        let client: rdkafka::producer::BaseProducer =
            rdkafka::ClientConfig::new().set("bootstrap.servers", crate::kafka_support::brokers()).create().unwrap();
        for n in 0..100 {
            let key = format!("key-{n}");
            client.send(rdkafka::producer::BaseRecord::to(&input).key(&key).payload("x")).map_err(|(e, _)| e).unwrap();
        }
        rdkafka::producer::Producer::flush(&client, Duration::from_secs(30)).unwrap();
        let graph = |on| {
            let mut g = Group::define(group.as_str()).table(Int64);
            g.input(Input::topic(Arc::clone(&input)).partitioner(on), Text, |ctx, _| ctx.set(1));
            g.build().unwrap()
        };
        let error = Running::start(processor(&log, graph(KeyPartitioner::Refuse))).failure().await;
        assert!(error.contains("are partitioned by CRC-32, librdkafka's default"), "{error}");
        let running = Running::up(processor(&log, graph(KeyPartitioner::Warn))).await;
        done(&log, &group, &[(&input, 4)]).await;
        running.stop().await;
        assert_eq!(table(&log, &group, 4).await.len(), 100);
    })
    .await;
}
