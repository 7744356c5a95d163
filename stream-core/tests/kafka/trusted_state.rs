//! State that is not used as it is on a real Kafka: its last checkpoint has no age (D10), its entries mean something else (D11).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{Group, GroupGraph, table_topic};
use stream_core::log::{Cleanup, LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig, TopicSpec};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::{Checkpoint, MemoryStores, StoreBackend, StoreId};
use stream_core::window::Windows;

use crate::kafka_support::broker::Broker;
use crate::kafka_support::{Running, connect, done, read, table, topic, topic_with, unique, until, write};

fn processor(log: &LogHandle, graph: Arc<GroupGraph>, guarantee: Guarantee) -> Processor {
    let processor = Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1);
    processor.guarantee(guarantee).commit_interval(Duration::from_millis(100))
}

/// A key is deleted while the first machine is away, and its tombstone is compacted away. The first machine's clock was 30 h
/// ahead, so that its store looks as if it had been away for less than no time.
async fn a_store_whose_clock_was_ahead_at_the_last_checkpoint_brings_no_deleted_key_back(guarantee: Guarantee) {
    let compacting = "log.cleaner.min.cleanable.ratio=0.01\nlog.cleaner.backoff.ms=200\nlog.initial.task.delay.ms=100\nlog.roll.ms=200";
    let broker = Broker::new().configured(compacting);
    broker.start().await;
    let log = connect(&broker.brokers());
    let (group, input) = (unique("clock"), topic(&log, "in", 1).await);
    let soon = TopicConfig::new().cleanup(Cleanup::Compact).delete_retention_ms(1_000);
    log.create_topics(vec![TopicSpec::new(table_topic(&group)).partitions(1).config(soon)]).await.unwrap();
    let graph = || {
        let mut g = Group::define(group.as_str()).table(Int64);
        g.input(&*input, Text, |ctx, text: String| {
            if text == "delete" {
                return ctx.delete();
            }
            let n = ctx.value()?.unwrap_or(0);
            ctx.set(n + 1)
        });
        g.build().unwrap()
    };
    let counted = async |start: Processor, records: &[(&str, &str)]| {
        let running = Running::up(start).await;
        write(&log, &input, Some(0), records).await;
        done(&log, &group, &[(&input, 1)]).await;
        running
    };
    let stores = Arc::new(MemoryStores::new());
    let first = || processor(&log, graph(), guarantee).stores(Arc::clone(&stores) as _);
    counted(first(), &[("gone", "x"), ("stays", "x")]).await.stop().await;
    {
        let store = stores.open(&StoreId::new(table_topic(&group), 0), Codec::<i64>::name(&Int64)).unwrap();
        let known = store.checkpointed().unwrap().expect("a checkpoint");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let at_ms = i64::try_from(now).unwrap() + 30 * 3_600_000;
        store.checkpoint(Checkpoint { at_ms, ..known }).unwrap();
    }
    let second = counted(processor(&log, graph(), guarantee), &[("gone", "delete")]).await;
    until("no tombstone is left", async || {
        write(&log, &input, Some(0), &[("stays", "x")]).await;
        done(&log, &group, &[(&input, 1)]).await;
        read(&log, &table_topic(&group), 1).await.iter().all(|r| r.key.as_deref() != Some("gone"))
    })
    .await;
    second.stop().await;
    counted(first(), &[("gone", "x")]).await.stop().await;
    let counts = table(&log, &group, 1).await;
    assert_eq!(counts.get("gone").map(String::as_str), Some("1"), "it was deleted: {counts:?}");
}

/// Counts by windows of so many seconds.
fn windowed(group: &str, input: &str, out: &str, seconds: u64) -> Arc<GroupGraph> {
    let mut g = Group::define(group);
    let out = g.output(out, Text);
    let counts = g.window("w", Windows::tumbling(Duration::from_secs(seconds)), Int64);
    g.input(input, Text, move |ctx, _text: String| ctx.aggregate(counts, |n| n.unwrap_or(0) + 1).map(drop));
    g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{window}={n}")));
    g.build().unwrap()
}

async fn write_at(log: &LogHandle, topic: &Arc<str>, times: &[i64]) {
    let mut batch = ProduceBatch::new();
    for at in times {
        let (partition, timestamp) = (Some(0), Some(*at));
        let record = NewRecord { topic, partition, timestamp, key: Some(b"k"), value: Some(b"x") };
        batch.push(record, std::iter::empty());
    }
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    assert!(producer.send(Arc::new(batch)).await.failed.is_empty());
}

async fn windows_of_another_size_over_open_ones_are_refused_naming_old_and_new(log: &LogHandle, guarantee: Guarantee) {
    let kept = || TopicConfig::new().retention_ms(-1);
    let (group, input) = (unique("meaning"), topic_with(log, "in", 1, kept()).await);
    let out = topic_with(log, "out", 1, kept()).await;
    let start = |seconds| processor(log, windowed(&group, &input, &out, seconds), guarantee);
    let running = Running::up(start(60)).await;
    write_at(log, &input, &[10_000, 40_000]).await;
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    let refused = Running::start(start(30)).failure().await;
    for says in [&format!("{group}-window-w"), "windows of 60000 ms each 60000 ms", "windows of 30000 ms each 30000 ms"]
    {
        assert!(refused.contains(says), "{says}: {refused}");
    }
    // Under its own definition it goes on.
    let running = Running::up(start(60)).await;
    write_at(log, &input, &[200_000]).await;
    done(log, &group, &[(&input, 1)]).await;
    running.stop().await;
    let emitted: Vec<_> = read(log, &out, 1).await.into_iter().filter_map(|r| r.value).collect();
    assert_eq!(emitted, ["[0, 60000)=2"]);
}

mod on_its_broker {
    use stream_core::processor::Guarantee::{AtLeastOnce, ExactlyOnce};

    use super::a_store_whose_clock_was_ahead_at_the_last_checkpoint_brings_no_deleted_key_back as case;
    use crate::kafka_support::bounded;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a real Kafka: make test starts one where Java is"]
    async fn a_clock_that_was_ahead_brings_no_deleted_key_back_at_least_once() {
        bounded(240, case(AtLeastOnce)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a real Kafka: make test starts one where Java is"]
    async fn a_clock_that_was_ahead_brings_no_deleted_key_back_exactly_once() {
        bounded(240, case(ExactlyOnce)).await;
    }
}

with_both!(
    240,
    crate::trusted_state:
    windows_of_another_size_over_open_ones_are_refused_naming_old_and_new,
);
