//! How far a group has come with its inputs, seen from outside.

use std::sync::Arc;

use crate::group::GroupGraph;
use crate::log::{
    FetchLimits, Fetched, Isolation, LogHandle, LogResult, OffsetSpec, Offsets, RecordBatch, TopicPartition,
};

/// A partition that a group has not committed to its end.
pub(crate) struct Unfinished {
    pub(crate) partition: TopicPartition,
    pub(crate) done: i64,
    pub(crate) end: i64,
}

/// Where the committed records of a group's inputs end now.
pub(crate) async fn input_ends(log: &LogHandle, graph: &GroupGraph) -> LogResult<Offsets> {
    let names: Vec<Arc<str>> = graph.input_topics().cloned().collect();
    let mut partitions = Vec::new();
    for (topic, info) in names.iter().zip(log.topics(names.clone()).await?) {
        let count = info.map_or(0, |t| t.partitions);
        partitions.extend((0..count).map(|p| TopicPartition::new(Arc::clone(topic), p)));
    }
    let latest = partitions.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
    let ends = log.offsets(latest, Isolation::ReadCommitted).await?;
    Ok(partitions.into_iter().zip(ends).collect())
}

/// The first partition with a record before its end that the group has not committed.
pub(crate) async fn unfinished(log: &LogHandle, group: &str, ends: &Offsets) -> LogResult<Option<Unfinished>> {
    let partitions = ends.iter().map(|(p, _)| p.clone()).collect();
    let done = log.group_offsets(group.into(), partitions).await?;
    for ((partition, end), done) in ends.iter().zip(done) {
        let done = done.unwrap_or_default();
        if done < *end && has_record(log, partition, done, *end).await? {
            return Ok(Some(Unfinished { partition: partition.clone(), done, end: *end }));
        }
    }
    Ok(None)
}

/// Whether there is a committed record between two offsets: there may be only markers of transactions, or records that
/// were compacted away.
async fn has_record(log: &LogHandle, partition: &TopicPartition, from: i64, to: i64) -> LogResult<bool> {
    let from = match log.offsets(vec![(partition.clone(), OffsetSpec::Earliest)], Isolation::ReadCommitted).await? {
        earliest if !earliest.is_empty() => earliest.into_iter().fold(from, i64::max),
        _ => from,
    };
    if from >= to {
        return Ok(false);
    }
    let reader = log.reader(Isolation::ReadCommitted)?;
    let mut fetch = reader.read(partition.clone(), from).await?;
    let mut batch = RecordBatch::new();
    let limits = FetchLimits { records: 1, ..FetchLimits::default() };
    let fetched = std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits)).await?;
    Ok(fetched == Fetched::Records && batch.get(0).is_some_and(|r| r.offset < to))
}
