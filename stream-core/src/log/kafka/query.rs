//! Look-ups that change nothing: partitions, offsets, groups. All of them block; the caller runs them on the pool.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::connection::Connection;
use super::error::{ErrorContext, code, passing};
use super::rebalance::Consumer;
use crate::log::{Commits, GroupMember, Isolation, LogError, LogResult, OffsetAndMetadata, OffsetSpec, TopicPartition};

/// A moment between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The partitions of a topic, as a broker sees them now.
pub(super) struct Partitions {
    pub(super) count: i32,
    pub(super) replication: i32,
    /// Whether each has a leader.
    pub(super) led: bool,
}

/// The time that is left until a bound, for one more step.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Tries until it works, fails for good, or the time is up.
pub(super) fn again<T>(until: Instant, step: impl FnMut(Duration) -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    again_if(until, |e| code(e).is_some_and(passing), step)
}

/// The same, where something else says what is worth another try.
pub(super) fn again_if<T>(
    until: Instant,
    passes: impl Fn(&KafkaError) -> bool,
    mut step: impl FnMut(Duration) -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    loop {
        match step(left(until)) {
            Err(e) if passes(&e) && Instant::now() + PAUSE < until => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// The list that librdkafka wants.
pub(super) fn list<'a>(
    of: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (tp, offset) in of {
        list.add_partition_offset(&tp.topic, tp.partition, offset)?;
    }
    Ok(list)
}

/// The list that librdkafka wants of offsets to commit.
pub(super) fn commits(offsets: &Commits) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (tp, OffsetAndMetadata { offset, metadata }) in offsets {
        let mut element = list.add_partition(&tp.topic, tp.partition);
        element.set_offset(Offset::Offset(*offset))?;
        if !metadata.is_empty() {
            element.set_metadata(metadata);
        }
    }
    Ok(list)
}

impl Connection {
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.options.request_timeout
    }

    /// Asks a broker for a topic. `None` if there is none of that name.
    pub(super) fn partitions(&self, topic: &str, until: Instant) -> LogResult<Option<Partitions>> {
        use RDKafkaErrorCode as C;
        let what = format!("looking up topic {topic}");
        let client = self.query(Isolation::ReadCommitted)?;
        let consumer = client.consumer()?;
        let found = again(until, |time| {
            let metadata = consumer.fetch_metadata(Some(topic), time)?;
            let topic = metadata.topics().first();
            if let Some(error) = topic.and_then(rdkafka::metadata::MetadataTopic::error) {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            Ok(topic.map(|t| Partitions {
                count: i32::try_from(t.partitions().len()).unwrap_or(i32::MAX),
                replication: t.partitions().first().map_or(0, |p| i32::try_from(p.replicas().len()).unwrap_or(0)),
                led: t.partitions().iter().all(|p| p.leader() >= 0),
            }))
        });
        match found {
            Ok(found) => {
                self.error_context.health.well();
                Ok(found.filter(|p| p.count > 0))
            }
            Err(e) if matches!(code(&e), Some(C::UnknownTopicOrPartition | C::UnknownTopic)) => Ok(None),
            Err(e) => Err(self.error_context.error(&what, &e)),
        }
    }

    /// Makes sure that these exist, which librdkafka would take long to say.
    pub(super) fn exist<'a>(&self, of: impl Iterator<Item = &'a TopicPartition>, until: Instant) -> LogResult<()> {
        let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
        for tp in of {
            let count = if let Some(count) = counts.get(&*tp.topic) {
                *count
            } else {
                let found = self.partitions(&tp.topic, until)?;
                let found = found.ok_or_else(|| LogError::UnknownTopic { topic: tp.topic.to_string() })?;
                counts.insert(&tp.topic, found.count);
                found.count
            };
            if tp.partition < 0 || tp.partition >= count {
                return Err(LogError::UnknownPartition { partition: tp.clone() });
            }
        }
        Ok(())
    }

    /// Resolves positions, in the order asked.
    pub(super) fn offsets(&self, of: &[(TopicPartition, OffsetSpec)], isolation: Isolation) -> LogResult<Vec<i64>> {
        let until = self.until();
        self.exist(of.iter().map(|(tp, _)| tp), until)?;
        let client = self.query(isolation)?;
        resolve(client.consumer()?, of, until).map_err(|e| self.error_context.error("looking up offsets", &e))
    }

    /// The first offset of a partition and its end.
    pub(super) fn bounds(&self, tp: &TopicPartition, isolation: Isolation) -> LogResult<(i64, i64)> {
        let of = [(tp.clone(), OffsetSpec::Earliest), (tp.clone(), OffsetSpec::Latest)];
        match self.offsets(&of, isolation)?[..] {
            [start, end] => Ok((start, end)),
            _ => Err(LogError::Fatal { what: format!("looking up {tp}"), reason: "no offsets came back".into() }),
        }
    }

    /// Committed offsets of a group, in the order asked.
    pub(super) fn group_offsets(&self, group: &str, of: &[TopicPartition]) -> LogResult<Vec<Option<i64>>> {
        let what = format!("looking up the offsets of group {group}");
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.group_client(group)?;
        let found = committed(client.consumer()?, of, self.until(), || false);
        let found = found.map_err(|e| self.error_context.error(&what, &e))?;
        self.error_context.health.well();
        Ok(found.into_iter().map(|found| found.map(|f| f.offset)).collect())
    }

    /// The live members of a group.
    pub(super) fn group_members(&self, group: &str) -> LogResult<Vec<GroupMember>> {
        let what = format!("looking up the members of group {group}");
        let client = self.query(Isolation::ReadCommitted)?;
        let consumer = client.consumer()?;
        let groups = again(self.until(), |time| consumer.fetch_group_list(Some(group), time));
        let groups = groups.map_err(|e| self.error_context.error(&what, &e))?;
        self.error_context.health.well();
        let found = groups.groups().iter().filter(|g| g.name() == group);
        Ok(found
            .flat_map(rdkafka::groups::GroupInfo::members)
            .map(|m| GroupMember {
                member_id: m.id().to_owned(),
                client_id: m.client_id().to_owned(),
                topics: m.metadata().and_then(subscribed),
            })
            .collect())
    }
}

/// Resolves positions through any consumer; the end goes by its isolation.
pub(super) fn resolve(
    consumer: &Consumer,
    of: &[(TopicPartition, OffsetSpec)],
    until: Instant,
) -> Result<Vec<i64>, KafkaError> {
    let mut found: Vec<Option<i64>> = vec![None; of.len()];
    // A request names a partition once: what is asked twice of one goes in rounds.
    while found.iter().any(Option::is_none) {
        let mut round: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for (index, (tp, _)) in of.iter().enumerate() {
            if found.get(index).is_some_and(Option::is_none) {
                round.entry(tp).or_insert(index);
            }
        }
        let wanted = round.iter().filter_map(|(tp, i)| Some((*tp, of.get(*i)?.1)));
        let got = again(until, |time| query(consumer, wanted.clone(), time))?;
        // A time behind the last record resolves to the end.
        let open = || wanted.clone().filter(|(tp, _)| got.get(*tp).is_none_or(|o| *o < 0)).map(|(tp, _)| tp);
        let ends = if open().next().is_some() {
            again(until, |time| query(consumer, open().map(|tp| (tp, OffsetSpec::Latest)), time))?
        } else {
            BTreeMap::new()
        };
        for (tp, index) in round {
            let offset = got.get(tp).filter(|o| **o >= 0).or_else(|| ends.get(tp)).copied();
            if let (Some(place), Some(offset)) = (found.get_mut(index), offset) {
                *place = Some(offset);
            } else {
                return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}

fn query<'a>(
    consumer: &Consumer,
    of: impl Iterator<Item = (&'a TopicPartition, OffsetSpec)>,
    time: Duration,
) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
    // The request carries a time for each partition, with special values for the two ends.
    let asked = list(of.map(|(tp, spec)| match spec {
        OffsetSpec::Earliest => (tp, Offset::Beginning),
        OffsetSpec::Latest => (tp, Offset::End),
        OffsetSpec::Time(t) => (tp, Offset::Offset(t.max(0))),
    }))?;
    let answer = consumer.offsets_for_times(asked, time)?;
    answer.elements().iter().map(|e| e.error().map(|()| (named(e), e.offset().to_raw().unwrap_or(-1)))).collect()
}

fn named(e: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> TopicPartition {
    TopicPartition::new(e.topic(), e.partition())
}

/// The metadata of a committed offset. The client library panics over text that is not UTF-8, which this library never writes.
fn metadata(e: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> Arc<str> {
    catch_unwind(AssertUnwindSafe(|| e.metadata().into())).unwrap_or_else(|_| "".into())
}

/// Committed offsets through a consumer of the group, in the order asked. With read committed, librdkafka asks for
/// stable ones: an offset in an open transaction is waited for.
pub(super) fn committed(
    consumer: &Consumer,
    of: &[TopicPartition],
    until: Instant,
    stop: impl Fn() -> bool,
) -> Result<Vec<Option<OffsetAndMetadata>>, KafkaError> {
    again_if(
        until,
        |e| code(e).is_some_and(passing) && !stop(),
        |time| {
            // In short steps, so that a member that is closed need not wait for the bound.
            let time = time.min(Duration::from_secs(2));
            let answer = consumer.committed_offsets(list(of.iter().map(|tp| (tp, Offset::Invalid)))?, time)?;
            let mut by_partition = BTreeMap::new();
            for e in answer.elements() {
                e.error()?;
                if let Offset::Offset(offset) = e.offset() {
                    by_partition.insert(named(&e), OffsetAndMetadata::new(offset, metadata(&e)));
                }
            }
            Ok(of.iter().map(|tp| by_partition.remove(tp)).collect())
        },
    )
}

/// The topics in a member's metadata, in the classic protocol's `ConsumerProtocolSubscription`.
fn subscribed(metadata: &[u8]) -> Option<Vec<Arc<str>>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (len, name) = rest.split_first_chunk::<2>()?;
        let (name, after) = name.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        topics.push(Arc::from(std::str::from_utf8(name).ok()?));
        rest = after;
    }
    Some(topics)
}

impl ErrorContext {
    /// An error about partitions, made precise where the code says which kind it is.
    pub(super) fn partition_error(&self, what: &str, tp: &TopicPartition, error: &KafkaError) -> LogError {
        match code(error) {
            Some(RDKafkaErrorCode::UnknownPartition) => LogError::UnknownPartition { partition: tp.clone() },
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                LogError::UnknownTopic { topic: tp.topic.to_string() }
            }
            _ => self.error(what, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_topics_are_read() {
        let bytes = [0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(subscribed(&bytes), Some(vec!["a".into(), "bc".into()]));
        assert_eq!(subscribed(&bytes[..8]), None, "cut short");
        assert_eq!(subscribed(&[]), None);
    }
}
