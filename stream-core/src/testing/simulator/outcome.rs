//! The outcome of a run.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;

use super::kept;
use crate::codec::{Codec, CodecError};
use crate::group::GroupGraph;
use crate::log::{
    FetchLimits, Fetched, Isolation, LogHandle, LogResult, OffsetSpec, Reader, RecordBatch, TopicPartition,
};

/// A committed record of an output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Emitted {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` is null.
    pub value: Option<Vec<u8>>,
}

impl Emitted {
    /// The key as text.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }
}

/// The content of a table.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// The number of times that a group has to process a record of an input, after a fault of its topic or of its position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fate {
    /// It was deleted before it was committed: it may be left out.
    pub may_be_missing: bool,
    /// Its topic was recreated before: it may be done twice even with exactly-once delivery.
    pub may_repeat: bool,
    /// How often its group's position was set back to before it: it is to be done so many times more.
    pub again: usize,
}

/// By topic and value.
pub(super) type Fates = BTreeMap<(Arc<str>, Vec<u8>), Fate>;

/// The outcome of a run: everything that was committed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub(super) fates: Fates,
    pub(super) outputs: BTreeMap<Arc<str>, Vec<Emitted>>,
    pub(super) tables: BTreeMap<Arc<str>, Contents>,
}

impl Outcome {
    /// The records of an output topic, partition by partition.
    pub fn output(&self, topic: &str) -> &[Emitted] {
        self.outputs.get(topic).map_or(&[], Vec::as_slice)
    }

    /// The same, decoded. Nulls are left out.
    ///
    /// # Errors
    /// When a value can't be decoded.
    pub fn decoded<M: 'static>(&self, topic: &str, codec: &impl Codec<M>) -> Result<Vec<(String, M)>, CodecError> {
        let values = self.output(topic).iter().filter_map(|r| Some((r.key_text(), r.value.as_deref()?)));
        values.map(|(key, value)| Ok((key, codec.decode(value)?))).collect()
    }

    /// The fate of a record of this topic and value, by the faults of inputs and positions. By default it is to be
    /// done, once.
    pub fn fate(&self, topic: &str, value: &[u8]) -> Fate {
        self.fates.get(&(topic.into(), value.to_vec())).copied().unwrap_or_default()
    }

    /// The table of a group, decoded, with keys as text.
    ///
    /// # Errors
    /// When a value can't be decoded.
    pub fn table<M: 'static>(&self, group: &str, codec: &impl Codec<M>) -> Result<BTreeMap<String, M>, CodecError> {
        let table = self.tables.get(&*crate::group::table_topic(group)).into_iter().flatten();
        table.map(|(key, value)| Ok((String::from_utf8_lossy(key).into_owned(), codec.decode(value)?))).collect()
    }
}

/// Reads a partition's committed records from an offset to its end.
pub(super) async fn read(log: &LogHandle, partition: TopicPartition, from: i64) -> LogResult<RecordBatch> {
    let reader: Arc<dyn Reader> = log.reader(Isolation::ReadCommitted)?;
    // What a join has closed is deleted.
    let first = log.offsets(vec![(partition.clone(), OffsetSpec::Earliest)], Isolation::ReadCommitted).await?;
    let from = first.into_iter().chain([from]).max().unwrap_or(from);
    let mut fetch = reader.read(partition, from).await?;
    let (mut all, mut batch) = (RecordBatch::new(), RecordBatch::new());
    loop {
        match poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await? {
            Fetched::End(_) => return Ok(all),
            Fetched::Records => {
                for r in batch.iter() {
                    all.push(r.offset, r.timestamp, r.key, r.value, r.headers.iter());
                }
            }
        }
    }
}

/// The partitions of a topic.
pub(super) async fn partitions(log: &LogHandle, topic: &Arc<str>) -> LogResult<Vec<TopicPartition>> {
    let info = log.topics(vec![Arc::clone(topic)]).await?;
    let count = info.into_iter().next().flatten().map_or(0, |t| t.partitions);
    Ok((0..count).map(|p| TopicPartition::new(Arc::clone(topic), p)).collect())
}

/// The ends of partitions; `None` where a transaction is open, so that nobody knows yet.
pub(super) async fn ends(log: &LogHandle, of: &[TopicPartition]) -> LogResult<Vec<Option<i64>>> {
    let of: Vec<_> = of.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
    let stable = log.offsets(of.clone(), Isolation::ReadCommitted).await?;
    let last = log.offsets(of, Isolation::ReadUncommitted).await?;
    Ok(stable.into_iter().zip(last).map(|(stable, last)| (stable == last).then_some(last)).collect())
}

/// Applies records to a table's content.
pub(super) fn apply(table: &mut Contents, records: &RecordBatch) {
    for r in records.iter() {
        let Some(key) = r.key else { continue };
        match r.value {
            Some(value) => _ = table.insert(key.to_vec(), value.to_vec()),
            None => _ = table.remove(key),
        }
    }
}

pub(super) async fn collect(
    log: &LogHandle,
    graphs: &[Arc<GroupGraph>],
    outputs: &[Arc<str>],
    tables: &[Arc<str>],
) -> LogResult<Outcome> {
    let mut outcome = Outcome::default();
    for topic in outputs {
        let all = outcome.outputs.entry(Arc::clone(topic)).or_default();
        for partition in partitions(log, topic).await? {
            let records = read(log, partition, 0).await?;
            all.extend(
                records
                    .iter()
                    .map(|r| Emitted { key: r.key.unwrap_or_default().to_vec(), value: r.value.map(<[u8]>::to_vec) }),
            );
        }
    }
    for topic in tables {
        let table = outcome.tables.entry(Arc::clone(topic)).or_default();
        for partition in partitions(log, topic).await? {
            let records = read(log, partition, 0).await?;
            let Some(layout) = kept::layout(graphs, topic) else {
                apply(table, &records);
                continue;
            };
            let mut contents = Contents::new();
            apply(&mut contents, &records);
            kept::derive(&mut contents, layout);
            let bound = kept::bound(&contents, layout);
            table.extend(kept::live(&contents, layout, bound.as_deref()));
        }
    }
    Ok(outcome)
}
