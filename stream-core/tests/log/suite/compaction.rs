//! Compaction: what stays, what goes, and that offsets never change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::log::{Cleanup, Isolation, LogHandle, OffsetSpec, ProduceBatch, Producer, TopicConfig};

use super::helper::{Rec, all_arrived, bare, offsets, producer, read_all, record, tp, transactional, values, write};
use super::{World, topic_with, unique, until};

async fn compacted(world: &impl World) -> Arc<str> {
    let other = [("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.001"), ("min.compaction.lag.ms", "0")];
    let config = TopicConfig::new().cleanup(Cleanup::Compact).delete_retention_ms(500);
    let config = other.into_iter().fold(config, |config, (name, value)| config.other(name, value));
    topic_with(world, 1, config).await
}

/// Writes a record that becomes the active end, lets time pass and compacts. `false`: can't.
async fn push_on(world: &impl World, writer: &Arc<dyn Producer>, name: &Arc<str>) -> bool {
    world.elapse(Duration::from_millis(600)).await;
    write(writer, name, 0, &[("end", "end")]).await;
    world.compact(Arc::clone(name)).await
}

async fn without_end(log: &LogHandle, name: &Arc<str>) -> Vec<Rec> {
    let mut all = read_all(log, name, 0, Isolation::ReadCommitted).await;
    all.retain(|r| r.key.as_deref() != Some(b"end"));
    all
}

pub async fn last_values_stay_and_offsets_never_change(world: &impl World) {
    let (log, name) = (world.log(), compacted(world).await);
    let writer = producer(&log).await;
    write(&writer, &name, 0, &[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5")]).await;
    let before: BTreeMap<i64, Rec> = without_end(&log, &name).await.into_iter().map(|r| (r.offset, r)).collect();
    if !push_on(world, &writer, &name).await {
        return;
    }
    until("compacted", async || {
        assert!(push_on(world, &writer, &name).await);
        offsets(&without_end(&log, &name).await) == [2, 3, 4]
    })
    .await;
    for record in without_end(&log, &name).await {
        assert_eq!(before[&record.offset], record);
    }
    // The active end is never touched: the newest filler and, before it, at least one that a compaction left.
    let all = read_all(&log, &name, 0, Isolation::ReadCommitted).await;
    let end = log.offsets(vec![(tp(&name, 0), OffsetSpec::Latest)], Isolation::ReadCommitted).await.unwrap()[0];
    assert_eq!(all.last().unwrap().offset, end - 1);
    // Reading from an offset whose record is gone goes on at the next one.
    let reader = log.reader(Isolation::ReadCommitted).unwrap();
    let mut fetch = reader.read(tp(&name, 0), 1).await.unwrap();
    assert_eq!(super::helper::take(&mut *fetch, 1).await[0].offset, 2);
}

pub async fn tombstones_go_after_their_time(world: &impl World) {
    let (log, name) = (world.log(), compacted(world).await);
    let writer = producer(&log).await;
    write(&writer, &name, 0, &[("a", "1"), ("b", "2")]).await;
    let mut out = ProduceBatch::new();
    out.push(record(&name, Some(0), Some(b"a"), None), bare());
    all_arrived(&writer.send(Arc::new(out)).await);
    if !push_on(world, &writer, &name).await {
        return;
    }
    until("the tombstone is gone", async || {
        assert!(push_on(world, &writer, &name).await);
        let left = without_end(&log, &name).await;
        assert!(left.iter().any(|r| r.offset == 1), "b went too");
        offsets(&left) == [1]
    })
    .await;
    assert_eq!(values(&without_end(&log, &name).await), ["2"]);
}

pub async fn aborted_records_never_win(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name) = (world.log(), compacted(world).await);
    let (plain, writer) = (producer(&log).await, transactional(&log, &unique("x")).await);
    write(&plain, &name, 0, &[("a", "0"), ("a", "1")]).await;
    writer.begin_transaction().await.unwrap();
    write(&writer, &name, 0, &[("a", "aborted")]).await;
    writer.abort_transaction().await.unwrap();
    if !push_on(world, &plain, &name).await {
        return;
    }
    until("compacted", async || {
        assert!(push_on(world, &plain, &name).await);
        offsets(&without_end(&log, &name).await) == [1]
    })
    .await;
    assert_eq!(values(&without_end(&log, &name).await), ["1"]);
}
