//! The cases of records that are re-keyed (semantics D16, J7).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{LogHandle, TopicConfig};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::topics::TopicOptions;
use stream_core::window::Windows;

use super::clock::write_all;
use super::world::ms;
use crate::kafka_support::{Running, committed, read, topic_with, unique, until};

const PARTITIONS: i32 = 4;
const SECONDS: i64 = 1_800;

/// Counts records in their minute behind two re-keys, by keys that have nothing to do with each other.
fn counter(group: &str, input: &str, out: &str) -> Arc<GroupGraph> {
    let mut g = Group::define(group);
    let finals = g.output(out, Text);
    let counts = g.window("counts", Windows::tumbling(ms(60_000)).grace(ms(10_000)), Int64);
    let by_offset = g.rekey((input, Text), |ctx, _: &String| Ok(format!("offset {}", ctx.offset() % 23)));
    let by_time = g.rekey(by_offset, |ctx, _: &String| Ok(format!("user {}", ctx.timestamp() / 1000 % 7)));
    g.on_loop(by_time, move |ctx, _| {
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(counts, move |ctx, (window, n)| ctx.emit(finals, ctx.key(), format!("{} {n}", window.start)));
    g.build().unwrap()
}

/// Half an hour of four partitions, a record a second in each, partition by partition, by two instances, one of which is started
/// again in the middle, three times.
pub async fn a_backlog_goes_through_a_chain_of_re_keys_with_restarts(log: &LogHandle, guarantee: Guarantee) {
    let kept = TopicConfig::new().retention_ms(-1);
    let input = topic_with(log, "in", PARTITIONS, kept.clone()).await;
    let (group, out) = (unique("rekeyed"), topic_with(log, "out", PARTITIONS, kept).await);
    let first = 1_000_000_000_000;
    let all = (0..PARTITIONS).flat_map(|p| (0..SECONDS).map(move |n| (p, first + n * 1000)));
    write_all(log, &input, all).await;
    let start = async || {
        let mut topics = TopicOptions::default();
        topics.partitions = Some(PARTITIONS);
        let processor = Processor::new(counter(&group, &input, &out), Arc::clone(log));
        let processor = processor.guarantee(guarantee).topics(topics).session_timeout(ms(6000));
        Running::up(processor.stores(Arc::new(MemoryStores::new()))).await
    };
    let done = async || {
        let all = committed(log, &group, &input, PARTITIONS).await;
        all.into_iter().flatten().filter(|at| *at > 0).sum::<i64>()
    };
    let (one, mut two) = (start().await, start().await);
    let total = SECONDS * i64::from(PARTITIONS);
    for quarter in 1..4 {
        until("a quarter is done", async || done().await >= total * quarter / 4).await;
        two.stop().await;
        two = start().await;
    }
    bounded_catch_up(&one).await;
    write_all(
        log,
        &input,
        (0..PARTITIONS * 50).map(|n| (n % PARTITIONS, first + (SECONDS + 1_000 + i64::from(n)) * 1000)),
    )
    .await;
    let counted = async || {
        let mut of: BTreeMap<i64, i64> = BTreeMap::new();
        for result in read(log, &out, PARTITIONS).await.into_iter().filter_map(|r| r.value) {
            let (start, n) = result.split_once(' ').unwrap();
            *of.entry(start.parse().unwrap()).or_default() += n.parse::<i64>().unwrap();
        }
        of.retain(|start, _| *start < first + SECONDS * 1000);
        of.values().sum::<i64>()
    };
    until("all results are there", async || counted().await >= total).await;
    if guarantee == Guarantee::ExactlyOnce {
        assert_eq!(counted().await, total);
    }
    println!("{guarantee:?}: {} of {total} are counted behind two re-keys", counted().await);
    one.stop().await;
    two.stop().await;
}

async fn bounded_catch_up(running: &Running) {
    let done = tokio::time::timeout(Duration::from_secs(240), running.handle.caught_up()).await;
    done.expect("it catches up").unwrap();
}
