//! Bad surroundings and bad records: each is a clear error or the policy that was chosen, never a hang or a panic.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input, table_topic};
use stream_core::log::{Cleanup, LogHandle, TopicConfig, TopicSpec};
use stream_core::processor::{OnFailure, Processor};
use stream_core::store::MemoryStores;
use stream_core::topics::TopicOptions;

use crate::kafka_support::{
    Running, bounded, brokers, committed, connect, done, kafka, log_lines, read, table, topic, topic_with, unique,
    write,
};

fn processor(log: &LogHandle, graph: Arc<GroupGraph>) -> Processor {
    let every = Duration::from_millis(100);
    Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1).commit_interval(every)
}

/// Adds numbers up, by key.
fn sums(group: &str, inputs: &[Input]) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Int64);
    for input in inputs {
        g.input(input.clone(), Int64, |ctx, n| {
            let sum = ctx.value()?.unwrap_or(0);
            ctx.set(sum + n)
        });
    }
    g.build().unwrap()
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn co_partitioned_inputs_with_different_counts() {
    bounded(60, async {
        let (log, group) = (kafka(), unique("counts"));
        let (two, three) = (topic(&log, "two", 2).await, topic(&log, "three", 3).await);
        let graph = sums(&group, &[Input::topic(Arc::clone(&two)), Input::topic(Arc::clone(&three))]);
        let text = Running::start(processor(&log, graph)).failure().await;
        let (two, three) = (format!("{two} has 2"), format!("{three} has 3"));
        contains(&text, &[&group, "must have the same number of partitions", &two, &three, "--partitions"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_joined_table_with_another_count() {
    bounded(60, async {
        let (log, group) = (kafka(), unique("join"));
        let compact = TopicConfig::new().cleanup(Cleanup::Compact);
        let (input, other) = (topic(&log, "in", 2).await, topic_with(&log, "other", 4, compact).await);
        let mut g = Group::define(group.as_str());
        let _joined = g.join(other.to_string(), Text);
        g.input(&*input, Text, |_, _| Ok(()));
        let text = Running::start(processor(&log, g.build().unwrap())).failure().await;
        contains(&text, &[&group, &format!("{input} has 2"), &format!("{other} has 4")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_table_topic_that_is_not_compacted() {
    bounded(60, async {
        let (log, group) = (kafka(), unique("plain"));
        let input = topic(&log, "in", 1).await;
        log.create_topics(vec![TopicSpec::new(table_topic(&group)).partitions(1)]).await.unwrap();
        let graph = sums(&group, &[Input::topic(input)]);
        // It stays so until somebody mends it: trying again is no use.
        let again = OnFailure::Restart { backoff: Duration::from_millis(10), attempts: 1000 };
        let text = Running::start(processor(&log, graph).on_failure(again)).failure().await;
        let named = format!("table topic {}", table_topic(&group));
        contains(&text, &[&group, &named, "cleanup.policy=delete", "--add-config cleanup.policy=compact"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_topic_that_grows_while_it_is_read() {
    bounded(90, async {
        let (log, group) = (kafka(), unique("grows"));
        let input = topic(&log, "in", 2).await;
        let graph = sums(&group, &[Input::topic(Arc::clone(&input))]);
        let often = Duration::from_millis(200);
        let running = Running::up(processor(&log, graph).topic_check_interval(often)).await;
        write(&log, &input, None, &[("a", "1"), ("b", "2")]).await;
        done(&log, &group, &[(&input, 2)]).await;
        log.grow_topic(Arc::clone(&input), 3).await.unwrap();
        let text = running.failure().await;
        let changed = format!("topic {input} changed from 2 to 3 partitions while the group ran");
        contains(&text, &[&group, &changed, "start the group under a new name"]);
        // What was done is committed all the same.
        assert_eq!(table(&log, &group, 2).await.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn an_undecodable_record_under_each_policy() {
    bounded(120, async {
        let log = kafka();
        let input = topic(&log, "in", 1).await;
        write(&log, &input, None, &[("a", "1"), ("b", "two"), ("a", "3")]).await;
        let with = |policy| Input::topic(Arc::clone(&input)).on_error(policy);

        let group = unique("fail");
        let graph = || sums(&group, &[with(ErrorPolicy::fail())]);
        let text = Running::start(processor(&log, graph())).failure().await;
        let record = format!("record {input}[0]@1 (key b) failed");
        contains(&text, &[&group, &record, "not a decimal i64"]);
        assert_eq!(committed(&log, &group, &input, 1).await, [Some(1)], "what is before it is done, it is not");
        // Again and again it does not get past it, and ends for good.
        let again = OnFailure::Restart { backoff: Duration::from_millis(10), attempts: 2 };
        let text = Running::start(processor(&log, graph()).on_failure(again)).failure().await;
        contains(&text, &[&record]);
        assert_eq!(table(&log, &group, 1).await, [("a".to_owned(), "1".to_owned())].into());

        let group = unique("skip");
        let policy = ErrorPolicy::skip().retry(2, Duration::from_millis(1));
        let running = Running::start(processor(&log, sums(&group, &[with(policy)])));
        done(&log, &group, &[(&input, 1)]).await;
        running.stop().await;
        assert_eq!(table(&log, &group, 1).await, [("a".to_owned(), "4".to_owned())].into());

        let (group, dead): (_, Arc<str>) = (unique("dead"), unique("dead-letters").into());
        let policy = ErrorPolicy::dead_letter(Arc::clone(&dead));
        let running = Running::start(processor(&log, sums(&group, &[with(policy)])));
        done(&log, &group, &[(&input, 1)]).await;
        running.stop().await;
        assert_eq!(table(&log, &group, 1).await, [("a".to_owned(), "4".to_owned())].into());
        let letters = read(&log, &dead, 1).await;
        assert_eq!((letters.len(), letters[0].value.as_deref()), (1, Some("two")));
        contains(&letters[0].headers["dead-letter-reason"], &["not a decimal i64"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_state_directory_below_a_file() {
    bounded(60, async {
        let (log, group, dir) = (kafka(), unique("state"), tempfile::tempdir().unwrap());
        let file = dir.path().join("file");
        std::fs::write(&file, "no directory").unwrap();
        let graph = sums(&group, &[Input::topic(unique("in"))]);
        let processor = Processor::new(graph, log).state_dir(file.join("state"));
        let text = Running::start(processor).failure().await;
        contains(&text, &[&group, &format!("state directory {}", file.display()), "is writable"]);
    })
    .await;
}

const HOLDER: &str = "STREAM_TEST_STATE_DIR";

/// Another process that wants the same state directory. It says what came of it, and is to fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "the child of two_processes_on_one_state_directory, does nothing on its own"]
async fn child() {
    let Ok(role) = std::env::var(HOLDER) else { return };
    let (group, dir) = role.split_once(' ').unwrap();
    let graph = sums(group, &[Input::topic("never-made")]);
    let ended = Processor::new(graph, connect(&brokers())).state_dir(dir).run().await;
    println!("\nended: {:?}", ended.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn two_processes_on_one_state_directory() {
    bounded(90, async {
        log_lines();
        let (log, group, dir) = (kafka(), unique("shared"), tempfile::tempdir().unwrap());
        let input = topic(&log, "in", 1).await;
        let graph = sums(&group, &[Input::topic(Arc::clone(&input))]);
        let running = Running::up(Processor::new(graph, Arc::clone(&log)).state_dir(dir.path())).await;
        let second = {
            let (group, dir) = (group.clone(), dir.path().to_owned());
            tokio::task::spawn_blocking(move || second_process(&group, &dir)).await.unwrap()
        };
        contains(&second, &[&group, "is in use by another process", "--state-dir"]);
        // The first one has not noticed.
        write(&log, &input, None, &[("a", "1")]).await;
        done(&log, &group, &[(&input, 1)]).await;
        running.stop().await;
    })
    .await;
}

fn second_process(group: &str, dir: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bad_input::child", "--ignored", "--nocapture"])
        .env(HOLDER, format!("{group} {}", dir.display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|l| l.strip_prefix("ended: ")).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn missing_topics_that_nobody_may_make() {
    bounded(60, async {
        let (log, group, input, out) = (kafka(), unique("missing"), unique("in"), unique("out"));
        let mut options = TopicOptions::default();
        options.create = false;
        let mut g = Group::define(group.as_str()).table(Int64);
        let _out = g.output(out.as_str(), Text);
        g.input(input.as_str(), Text, |_, _| Ok(()));
        let graph = g.build().unwrap();
        let text = Running::start(processor(&log, Arc::clone(&graph)).topics(options.clone())).failure().await;
        contains(&text, &[&group, "missing topics", &input, "create them"]);
        // The next ones that are missing are named together.
        log.create_topics(vec![TopicSpec::new(input.as_str()).partitions(1)]).await.unwrap();
        let text = Running::start(processor(&log, graph).topics(options)).failure().await;
        contains(&text, &[&out, &table_topic(&group)]);
        assert!(log.topics(vec![table_topic(&group)]).await.unwrap()[0].is_none(), "it made none");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_table_that_no_group_makes() {
    bounded(60, async {
        let (log, group, input) = (kafka(), unique("waits"), topic(&kafka(), "in", 1).await);
        let other = table_topic(&unique("nobody"));
        let mut options = TopicOptions::default();
        options.wait_for_tables = Duration::from_millis(300);
        let mut g = Group::define(group.as_str());
        let _rates = g.lookup(other.to_string(), Text);
        g.input(&*input, Text, |_, _| Ok(()));
        let text = Running::start(processor(&log, g.build().unwrap()).topics(options)).failure().await;
        contains(
            &text,
            &[&group, &format!("table topic {other} does not exist"), "start the group that owns it first"],
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_topic_that_is_deleted_while_it_is_read() {
    bounded(90, async {
        let (log, group) = (kafka(), unique("deleted"));
        let input = topic(&log, "in", 2).await;
        let graph = sums(&group, &[Input::topic(Arc::clone(&input))]);
        let often = Duration::from_millis(200);
        let running = Running::up(processor(&log, graph).topic_check_interval(often)).await;
        log.delete_topics(vec![Arc::clone(&input)]).await.unwrap();
        let text = running.failure().await;
        contains(&text, &[&group, &input]);
        assert!(text.contains("was deleted while the group ran") || text.contains("does not exist"), "{text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_table_that_another_codec_wrote() {
    bounded(60, async {
        let (log, group, dir) = (kafka(), unique("codec"), tempfile::tempdir().unwrap());
        let input = topic(&log, "in", 1).await;
        write(&log, &input, None, &[("a", "1")]).await;
        let graph = sums(&group, &[Input::topic(Arc::clone(&input))]);
        let running = Running::up(Processor::new(graph, Arc::clone(&log)).state_dir(dir.path())).await;
        done(&log, &group, &[(&input, 1)]).await;
        running.stop().await;
        let mut g = Group::define(group.as_str()).table(Text);
        g.input(&*input, Text, |ctx, text| ctx.set(text));
        let text = Running::start(Processor::new(g.build().unwrap(), log).state_dir(dir.path())).failure().await;
        contains(&text, &[&group, "this group expects", "remove it, or point to another state directory"]);
    })
    .await;
}
