//! The placement of an input's keys: whether they are where this library's partitioner puts them.
//!
//! A key's state is in the partition of its records. Where a client wrote them by another partitioner (librdkafka's default
//! is not that of Java clients), a join with a topic of the right one, a loop, a view or a look-up by key misses that state
//! silently. So the first records of each partition are looked at, and a sample afterwards. A partition that was
//! chosen by hand is no fault: only a key that is not where it should be, but where another known partitioner puts it, counts,
//! and only once so many different keys say the same that chance can't have done it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::counters::Counters;
use super::error::{ProcessorError, ProcessorResult};
use crate::group::{GroupGraph, KeyPartitioner};
use crate::log::partitioner::Known;
use crate::log::{Partitioner, RecordBatch};
use crate::topics::TopicFacts;

/// Records of each partition that are looked at first; then one of each fetch.
const FIRST: u32 = 100;
/// Keys that are remembered while nothing is decided.
const KEYS: usize = 64;
/// Chance is ruled out when it would do the same once in so many topics.
const CHANCE: u64 = 1_000;

/// The check of one input, of all tasks.
pub(super) struct Placement {
    topic: String,
    partitioner: Partitioner,
    partitions: i32,
    on: KeyPartitioner,
    evidence: Mutex<Evidence>,
}

/// Evidence of keys that are not where they should be.
#[derive(Default)]
struct Evidence {
    keys: BTreeSet<u32>,
    /// The number of them that are where each other partitioner puts them.
    by: [u32; Known::ALL.len()],
    /// The other partitioner, once it is found out.
    found: Option<Known>,
}

impl Placement {
    /// The checks of a group's inputs, by edge; `None` where nothing depends on it.
    pub(super) fn of(graph: &GroupGraph, facts: &TopicFacts, partitioner: Partitioner) -> Vec<Option<Self>> {
        let keyed = graph.co_partition_topic().is_some();
        let check = |edge: &crate::topology::InputEdge| {
            let partitions = facts.topics.get(&edge.input.topic)?.partitions;
            let on = edge.input.partitioner;
            let checked = keyed && partitions > 1 && !edge.own && !edge.re_keys && on != KeyPartitioner::Any;
            checked.then(|| Self {
                topic: edge.input.topic.to_string(),
                partitioner,
                partitions,
                on,
                evidence: Mutex::default(),
            })
        };
        graph.inputs.iter().map(check).collect()
    }

    /// Looks at records that were just fetched. `looked` counts those of the partition so far.
    ///
    /// # Errors
    /// Where the input asks for it, once another partitioner is found out.
    pub(super) fn check(
        &self,
        group: &str,
        partition: i32,
        batch: &RecordBatch,
        looked: &mut u32,
        counters: &Counters,
    ) -> ProcessorResult<()> {
        let most = FIRST.saturating_sub(*looked).max(1);
        let keys = batch.iter().filter_map(|r| r.key).filter(|key| !key.is_empty());
        for key in keys.take(most as usize) {
            *looked = looked.saturating_add(1);
            if self.partitioner.partition(key, self.partitions) != partition {
                self.elsewhere(group, partition, key, counters)?;
            }
        }
        Ok(())
    }

    /// Takes note of a key that is not where it should be.
    fn elsewhere(&self, group: &str, partition: i32, key: &[u8], counters: &Counters) -> ProcessorResult<()> {
        let fits = |known: Known| known.partition(key, self.partitions) == partition;
        let mut evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = evidence.found {
            if fits(found) {
                counters.misplaced.fetch_add(1, Ordering::Relaxed);
            }
            return self.refuse(group, found);
        }
        if evidence.keys.len() >= KEYS || !evidence.keys.insert(crc32fast::hash(key)) {
            return Ok(());
        }
        for (known, count) in Known::ALL.into_iter().zip(&mut evidence.by) {
            *count += u32::from(fits(known));
        }
        let seen = u32::try_from(evidence.keys.len()).unwrap_or(u32::MAX);
        let partitions = u64::try_from(self.partitions).unwrap_or(1);
        // One in twenty may be somebody else's.
        let all = |count: u32| count + seen / 20 >= seen && partitions.saturating_pow(count) >= CHANCE;
        let Some((found, count)) = Known::ALL.into_iter().zip(evidence.by).find(|(_, count)| all(*count)) else {
            return Ok(());
        };
        evidence.found = Some(found);
        counters.misplaced.fetch_add(u64::from(count), Ordering::Relaxed);
        tracing::warn!(
            group,
            topic = self.topic,
            partition,
            keys = count,
            "keys of this input are not in the partitions of this group's partitioner ({}), but in those of {found}: joins, \
             loops, views and reads by key will miss them. Have the client use the group's partitioner (librdkafka: \
             partitioner={}), set Processor::partitioner, or, where only this topic is read by these keys, \
             Input::partitioner(KeyPartitioner::Any)",
            Known::from(self.partitioner),
            setting(self.partitioner)
        );
        self.refuse(group, found)
    }

    fn refuse(&self, group: &str, found: Known) -> ProcessorResult<()> {
        if self.on != KeyPartitioner::Refuse {
            return Ok(());
        }
        let ours = Known::from(self.partitioner);
        Err(ProcessorError::Topic {
            group: group.to_owned(),
            problem: format!("the keys of topic {} are partitioned by {found}, not by {ours}", self.topic),
            remedy: format!(
                "have the client that writes it use the group's partitioner (librdkafka: partitioner={}), and write the topic \
                 again",
                setting(self.partitioner)
            ),
        })
    }
}

/// What librdkafka calls a partitioner.
fn setting(partitioner: Partitioner) -> &'static str {
    match partitioner {
        Partitioner::Murmur2Random => "murmur2_random",
        Partitioner::Fnv1aRandom => "fnv1a_random",
    }
}
