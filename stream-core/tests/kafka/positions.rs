//! D11 on a real Kafka: a position belongs to a topic's id and to the state that contains it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{LogHandle, TopicPartition, TopicSpec};
use stream_core::processor::{Guarantee, OnLostPosition, OnPositionMismatch, Processor, ProcessorError};
use stream_core::store::MemoryStores;

use crate::kafka_support::{
    Running, bounded, brokers, committed, done, kafka, log_lines, read, table, topic, unique, until, write,
};

const BOTH: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];

fn counter(group: &str, input: &str) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Int64);
    g.input(input, Text, |ctx, _| {
        let n = ctx.value()?.unwrap_or(0);
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

fn timed_counter(group: &str, input: &str) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Int64);
    let timer = g.timer("never", Text);
    g.on_timer(timer, |_ctx, _text: String| Ok(()));
    g.input(input, Text, |ctx, _| {
        let n = ctx.value()?.unwrap_or(0);
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

fn copier(group: &str, input: &str) -> Arc<GroupGraph> {
    let mut g = Group::define(group);
    let out = g.output(format!("{group}-out").as_str(), Text);
    g.input(input, Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    g.build().unwrap()
}

fn processor(log: &LogHandle, graph: Arc<GroupGraph>, guarantee: Guarantee) -> Processor {
    Processor::new(graph, Arc::clone(log))
        .stores(Arc::new(MemoryStores::new()))
        .workers(1)
        .guarantee(guarantee)
        .commit_interval(Duration::from_millis(100))
        .topic_check_interval(Duration::from_millis(500))
}

async fn records(log: &LogHandle, input: &Arc<str>, n: usize) {
    write(log, input, Some(0), &vec![("k", "x"); n]).await;
}

fn counts(n: i64) -> BTreeMap<String, String> {
    BTreeMap::from([("k".to_owned(), n.to_string())])
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap()
}

/// Counts so many records and stops.
async fn counted(log: &LogHandle, graph: Arc<GroupGraph>, input: &Arc<str>, n: usize, guarantee: Guarantee) {
    let group = graph.name().to_owned();
    let running = Running::up(processor(log, graph, guarantee)).await;
    records(log, input, n).await;
    done(log, &group, &[(input, 1)]).await;
    running.stop().await;
}

/// Sets an offset as `kafka-consumer-groups.sh` does: without metadata, while the group is empty.
fn set_offset(group: &str, topic: &str, to: i64) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers()).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(to)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

async fn recreate(log: &LogHandle, topic: &Arc<str>) {
    log.delete_topics(vec![Arc::clone(topic)]).await.unwrap();
    until("it is gone", async || log.topics(vec![Arc::clone(topic)]).await.is_ok_and(|t| t[0].is_none())).await;
    until("it is back", async || {
        log.create_topics(vec![TopicSpec::new(Arc::clone(topic)).partitions(1)]).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn offsets_that_are_forgotten_are_found_in_the_state() {
    bounded(240, async {
        log_lines();
        let log = kafka();
        for (guarantee, graph) in
            BOTH.into_iter().flat_map(|g| [(g, counter as fn(&str, &str) -> _), (g, timed_counter)])
        {
            let (group, input) = (unique("forgotten"), topic(&log, "in", 1).await);
            counted(&log, graph(&group, &input), &input, 3, guarantee).await;
            until("the group is deleted", async || {
                let deleted = admin().delete_groups(&[&group], &AdminOptions::new()).await.unwrap();
                deleted.iter().all(Result::is_ok)
            })
            .await;
            assert_eq!(committed(&log, &group, &input, 1).await, [None]);
            let running = Running::up(processor(&log, graph(&group, &input), guarantee)).await;
            done(&log, &group, &[(&input, 1)]).await;
            assert_eq!(table(&log, &group, 1).await, counts(3), "{guarantee:?}");
            records(&log, &input, 1).await;
            done(&log, &group, &[(&input, 1)]).await;
            assert_eq!(table(&log, &group, 1).await, counts(4), "{guarantee:?}");
            running.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_topic_that_is_recreated_while_the_group_is_stopped_is_refused_unless_the_option_says_where_to_go_on() {
    bounded(240, async {
        log_lines();
        let log = kafka();
        for guarantee in BOTH {
            let (group, input) = (unique("stopped"), topic(&log, "in", 1).await);
            counted(&log, counter(&group, &input), &input, 3, guarantee).await;
            recreate(&log, &input).await;
            records(&log, &input, 4).await;
            let refused = Running::start(processor(&log, counter(&group, &input), guarantee)).failure().await;
            assert!(refused.contains("position 3") && refused.contains("recreated"), "{refused}");
            let earliest =
                processor(&log, counter(&group, &input), guarantee).on_lost_position(OnLostPosition::Earliest);
            let running = Running::up(earliest).await;
            done(&log, &group, &[(&input, 1)]).await;
            assert_eq!(table(&log, &group, 1).await, counts(7), "{guarantee:?}");
            running.stop().await;
        }
    })
    .await;
}

/// The old position must not count on the new topic: the records below it would be left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_topic_that_is_recreated_while_the_group_runs_keeps_no_old_position() {
    bounded(240, async {
        log_lines();
        let log = kafka();
        for (guarantee, graph) in BOTH.into_iter().flat_map(|g| [(g, counter as fn(&str, &str) -> _), (g, copier)]) {
            let (group, input) = (unique("running"), topic(&log, "in", 1).await);
            // Looks seldom: the topic is back before it is missed.
            let start = |policy, every| {
                let processor = processor(&log, graph(&group, &input), guarantee);
                processor.on_lost_position(policy).topic_check_interval(Duration::from_secs(every))
            };
            let running = Running::up(start(OnLostPosition::Fail, 600)).await;
            records(&log, &input, 10).await;
            done(&log, &group, &[(&input, 1)]).await;
            recreate(&log, &input).await;
            records(&log, &input, 20).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            running.handle.stop();
            // It may have noticed by itself, and may have read on at its old position.
            let ended = running.end().await;
            assert!(ended.is_ok() || matches!(&ended, Err(ProcessorError::Position { .. })), "{ended:?}");
            let table = group_has_table(&log, &group).await;
            if table || guarantee == Guarantee::AtLeastOnce {
                let refused = Running::start(start(OnLostPosition::Fail, 600)).failure().await;
                assert!(refused.contains("recreated") || refused.contains("has no offset"), "{guarantee:?}: {refused}");
            } // else its offsets went with the topic, and it begins as for the first time
            let running = Running::up(start(OnLostPosition::Earliest, 600)).await;
            // Nothing of the new topic is left out. (What is committed may still be the position of before.)
            until("all of the new topic is read", async || {
                let read = if table {
                    let counted = self::table(&log, &group, 1).await;
                    counted.get("k").map_or(0, |n| n.parse::<usize>().unwrap())
                } else {
                    read(&log, &format!("{group}-out"), 1).await.len()
                };
                read >= 30
            })
            .await;
            running.stop().await;
        }
    })
    .await;
}

async fn group_has_table(log: &LogHandle, group: &str) -> bool {
    log.topics(vec![stream_core::group::table_topic(group)]).await.unwrap()[0].is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_running_group_notices_that_its_topic_was_recreated() {
    bounded(240, async {
        log_lines();
        let log = kafka();
        for guarantee in BOTH {
            let (group, input) = (unique("notices"), topic(&log, "in", 1).await);
            let earliest = processor(&log, counter(&group, &input), guarantee)
                .on_lost_position(OnLostPosition::Earliest)
                .topic_check_interval(Duration::from_secs(5));
            let running = Running::up(earliest).await;
            records(&log, &input, 10).await;
            done(&log, &group, &[(&input, 1)]).await;
            recreate(&log, &input).await;
            records(&log, &input, 4).await;
            until("it has counted the new ones", async || table(&log, &group, 1).await == counts(14)).await;
            running.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_position_that_retention_has_passed_is_reported_with_both_numbers_and_the_way_on() {
    bounded(240, async {
        log_lines();
        let log = kafka();
        for guarantee in BOTH {
            let (group, input) = (unique("retention"), topic(&log, "in", 1).await);
            counted(&log, counter(&group, &input), &input, 1, guarantee).await;
            records(&log, &input, 9).await;
            log.delete_records(vec![(TopicPartition::new(Arc::clone(&input), 0), 5)]).await.unwrap();
            let refused = Running::start(processor(&log, counter(&group, &input), guarantee)).failure().await;
            let says = format!("{input}[0] has no offset 1 (its records are 5..10)");
            assert!(refused.contains(&says) && refused.contains("on_lost_position"), "{refused}");
            let earliest =
                processor(&log, counter(&group, &input), guarantee).on_lost_position(OnLostPosition::Earliest);
            let running = Running::up(earliest).await;
            done(&log, &group, &[(&input, 1)]).await;
            assert_eq!(table(&log, &group, 1).await, counts(6), "{guarantee:?}");
            running.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn an_offset_set_by_a_tool_counts_at_least_once_and_is_refused_exactly_once() {
    bounded(240, async {
        log_lines();
        let log = kafka();
        let (group, input) = (unique("reset"), topic(&log, "in", 1).await);
        counted(&log, counter(&group, &input), &input, 3, Guarantee::AtLeastOnce).await;
        set_offset(&group, &input, 1);
        let running = Running::up(processor(&log, counter(&group, &input), Guarantee::AtLeastOnce)).await;
        done(&log, &group, &[(&input, 1)]).await;
        assert_eq!(table(&log, &group, 1).await, counts(5));
        running.stop().await;

        for (which, count) in [(OnPositionMismatch::State, 3), (OnPositionMismatch::Committed, 5)] {
            let (group, input) = (unique("reset"), topic(&log, "in", 1).await);
            counted(&log, timed_counter(&group, &input), &input, 3, Guarantee::ExactlyOnce).await;
            set_offset(&group, &input, 1);
            let start = || processor(&log, timed_counter(&group, &input), Guarantee::ExactlyOnce);
            let refused = Running::start(start()).failure().await;
            assert!(refused.contains("committed offset is 1") && refused.contains("below 3"), "{refused}");
            let running = Running::up(start().on_position_mismatch(which)).await;
            done(&log, &group, &[(&input, 1)]).await;
            assert_eq!(table(&log, &group, 1).await, counts(count));
            running.stop().await;
        }
    })
    .await;
}

/// The directory of one instance, copied to another: each would fence the other for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_copied_state_directory_ends_one_of_the_two_and_names_what_to_do() {
    bounded(240, async {
        log_lines();
        let log = kafka();
        let (group, input) = (unique("copied"), topic(&log, "in", 2).await);
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let start = |dir: &tempfile::TempDir| {
            let graph = counter(&group, &input);
            let processor = Processor::new(graph, Arc::clone(&log)).state_dir(dir.path()).workers(1);
            processor.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::from_millis(100))
        };
        Running::up(start(&one)).await.stop().await;
        let id = format!("{group}/~instance-id");
        std::fs::create_dir_all(two.path().join(&group)).unwrap();
        std::fs::copy(one.path().join(&id), two.path().join(&id)).unwrap();
        let (mut a, mut b) = (Running::start(start(&one)), Running::start(start(&two)));
        let ended = loop {
            for partition in 0..2 {
                write(&log, &input, Some(partition), &[("k", "x")]).await;
            }
            tokio::select! {
                ended = &mut a.task => break ended,
                ended = &mut b.task => break ended,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        };
        let error = ended.unwrap().unwrap_err();
        let text = format!("{error:?}");
        assert!(matches!(error, ProcessorError::SameId { .. }), "{text}");
        assert!(text.contains(&format!("{group}-")) && text.contains("~instance-id"), "{text}");
        for running in [a, b] {
            running.handle.stop();
            if !running.task.is_finished() {
                running.end().await.unwrap();
            }
        }
    })
    .await;
}
