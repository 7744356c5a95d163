//! The facts about topics that a group relies on, and whether they still hold while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::TopicsError;
use super::options::DAY_MS;
use crate::log::{LogHandle, TopicInfo};
use crate::topology::Topology;

/// When to look again at topics that were not to be seen.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The facts about topics that a group needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicFacts {
    /// Every topic of the group.
    pub(crate) topics: BTreeMap<Arc<str>, TopicInfo>,
    /// Topics whose partition count must not change while the group runs.
    pub(crate) fixed: BTreeMap<Arc<str>, i32>,
}

/// The bytes that Kafka itself adds to a record: the batch's header and the record's lengths.
const RECORD_OVERHEAD: i64 = 128;

impl TopicFacts {
    /// The largest record that a topic takes, in bytes of key, value and headers.
    pub(crate) fn limit(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(usize::MAX, record_limit)
    }

    pub(crate) fn tombstones(&self) -> BTreeMap<Arc<str>, i64> {
        self.topics.iter().map(|(name, t)| (Arc::clone(name), tombstone_retention_ms(t))).collect()
    }
}

/// The largest record that a topic takes, in bytes of key, value and headers.
pub(crate) fn record_limit(topic: &TopicInfo) -> usize {
    let bytes = topic.config.max_message_bytes;
    bytes.and_then(|b| usize::try_from(b - RECORD_OVERHEAD).ok()).unwrap_or(usize::MAX)
}

/// How long a topic keeps tombstones: Kafka's default where the broker does not let us see its settings.
pub(crate) fn tombstone_retention_ms(topic: &TopicInfo) -> i64 {
    topic.config.delete_retention_ms.unwrap_or(DAY_MS)
}

/// Logs a topic that has grown since the group started, or was deleted.
pub(crate) async fn check_growth(log: &LogHandle, graph: &Topology, facts: &TopicFacts) -> Result<(), TopicsError> {
    let names: Vec<_> = facts.fixed.keys().cloned().collect();
    let mut again = true;
    loop {
        let found = match log.topics(names.clone()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(group = graph.name(), ?error, "could not look at the topics' partition counts");
                return Ok(());
            }
        };
        if !std::mem::take(&mut again) || found.iter().all(Option::is_some) {
            return compare(graph, facts, found);
        }
        // A broker that has just started may not know a topic yet.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn compare(graph: &Topology, facts: &TopicFacts, found: Vec<Option<TopicInfo>>) -> Result<(), TopicsError> {
    for ((topic, was), info) in facts.fixed.iter().zip(found) {
        let now = info.map_or(0, |i| i.partitions);
        if now != *was {
            let problem = if now == 0 {
                format!("topic {topic} was deleted while the group ran")
            } else {
                format!("topic {topic} changed from {was} to {now} partitions while the group ran")
            };
            return Err(TopicsError::Topic {
                group: graph.name().to_owned(),
                problem,
                remedy: "keys have moved between partitions, so the table no longer fits: give all co-partitioned \
                         topics the same count and start the group under a new name"
                    .to_owned(),
            });
        }
    }
    Ok(())
}
