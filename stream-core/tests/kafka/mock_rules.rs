//! What of `kafka_rules` librdkafka's mock cluster can do, and brokers that go away and come back without Java.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
use stream_core::log::LogHandle;
use stream_core::processor::Processor;

use crate::cases::mock::MockLog;
use crate::cases::rules;
use crate::kafka_support::counting::{KEYS, PARTITIONS, check, feed, graph_with};
use crate::kafka_support::{Feed, Running, bounded, done, topic, unique, until};

fn mock() -> LogHandle {
    MockLog::start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_at_the_committed_offset() {
    bounded(120, rules::resume(&mock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_committed_at_the_assignment() {
    bounded(120, rules::committed_at_assignment(&mock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_comes_back_under_another_key() {
    bounded(120, rules::looped(&mock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_lookups_read_other_groups_tables() {
    bounded(120, rules::joined_and_looked_up(&mock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_say_why_and_where_from() {
    bounded(120, rules::dead_letters(&mock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_above_its_topics_limit_follows_the_policy() {
    bounded(120, rules::above_the_limit(&mock())).await;
}

/// All brokers go away in the middle of the work, once for so long that records are given up, and come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_go_away_cost_nothing() {
    bounded(200, async {
        let cluster = MockLog::start();
        let log: LogHandle = Arc::clone(&cluster) as LogHandle;
        let (group, input) = (unique("away"), topic(&log, "in", PARTITIONS).await);
        let (out, state) = (topic(&log, "out", PARTITIONS).await, tempfile::tempdir().unwrap());
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let each = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(500));
        };
        let graph = graph_with(&group, &input, &out, each);
        // Records are given up after two thirds of the session.
        let processor = Processor::new(graph, Arc::clone(&log)).state_dir(state.path());
        let commits = Duration::from_millis(100);
        let running = Running::up(processor.commit_interval(commits).session_timeout(Duration::from_secs(6))).await;
        let mut writer = Feed::new(&log).await;
        feed(&mut writer, &input, 0..100).await;
        until("it works", async || calls.load(Ordering::Relaxed) > 10 * KEYS).await;
        cluster.down();
        cluster.up();
        feed(&mut writer, &input, 100..200).await;
        let at = calls.load(Ordering::Relaxed);
        until("it works", async || calls.load(Ordering::Relaxed) > at + 5 * KEYS).await;
        cluster.down();
        // The session ends, and with it the partitions; librdkafka says so without a broker.
        running.handle.wait_for(|s| s.tasks.is_empty()).await.unwrap();
        cluster.up();
        done(&log, &group, &[(&input, PARTITIONS)]).await;
        running.stop().await;
        check(&log, &group, &out, 200).await;
    })
    .await;
}

/// Writes fail for longer than a record may take, while all else works: the tasks go back to what is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_fail_are_done_again() {
    bounded(200, async {
        let cluster = MockLog::start();
        let log: LogHandle = Arc::clone(&cluster) as LogHandle;
        let (group, input) = (unique("again"), topic(&log, "in", PARTITIONS).await);
        let (out, state) = (topic(&log, "out", PARTITIONS).await, tempfile::tempdir().unwrap());
        let (calls, held) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let each = {
            let (calls, held) = (Arc::clone(&calls), Arc::clone(&held));
            move || {
                while held.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                calls.fetch_add(1, Ordering::Relaxed);
            }
        };
        let graph = graph_with(&group, &input, &out, each);
        let processor = Processor::new(graph, Arc::clone(&log)).state_dir(state.path());
        let commits = Duration::from_millis(100);
        let running = Running::up(processor.commit_interval(commits).session_timeout(Duration::from_secs(6))).await;
        let mut writer = Feed::new(&log).await;
        feed(&mut writer, &input, 0..20).await;
        done(&log, &group, &[(&input, PARTITIONS)]).await;
        let at = calls.load(Ordering::Relaxed);
        // The input arrives first; from then on nothing can be written.
        held.store(true, Ordering::Relaxed);
        feed(&mut writer, &input, 20..40).await;
        cluster.mock(|mock| {
            mock.request_errors(RDKafkaApiKey::Produce, &vec![Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 20_000]);
        });
        held.store(false, Ordering::Relaxed);
        // Every record once, and then once more.
        until("it goes back", async || calls.load(Ordering::Relaxed) > at + 20 * KEYS).await;
        cluster.mock(|mock| mock.clear_request_errors(RDKafkaApiKey::Produce));
        done(&log, &group, &[(&input, PARTITIONS)]).await;
        running.stop().await;
        let again = check(&log, &group, &out, 40).await;
        assert_eq!(again.table, 0, "what was not written is not in the table");
    })
    .await;
}
