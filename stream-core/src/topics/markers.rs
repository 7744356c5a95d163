//! Topics too small for transactions.
//!
//! A transaction ends by a marker in each partition that it wrote to. A broker refuses a marker that is larger than
//! `max.message.bytes`, and the coordinator does not give up: the transaction stays open for good, and holds up all readers of
//! committed records and all later transactions of its producer.

use super::{TopicFacts, TopicsError, UNKNOWN_BROKERS, own};
use crate::log::LogHandle;
use crate::topology::Topology;

/// The size of the batch with a marker.
const MARKER_BYTES: i64 = 78;

/// Refuses topics that can't take the end of a transaction.
///
/// # Errors
/// The first such topic that the group writes to, with the command that mends it.
pub(crate) fn take_markers(log: &LogHandle, graph: &Topology, facts: &TopicFacts) -> Result<(), TopicsError> {
    let positions = graph.positions();
    for topic in graph.written().chain(&positions) {
        let limit = facts.topics.get(topic).and_then(|info| info.config.max_message_bytes);
        let Some(limit) = limit.filter(|limit| *limit < MARKER_BYTES) else { continue };
        let brokers = log.brokers().unwrap_or_else(|| UNKNOWN_BROKERS.to_owned());
        let set = format!("max.message.bytes={}", own::MAX_MESSAGE_BYTES);
        return Err(TopicsError::Topic {
            group: graph.name().to_owned(),
            problem: format!(
                "topic {topic} has max.message.bytes={limit}, and the marker that ends a transaction has {MARKER_BYTES} \
                 bytes, so that none that writes there would end"
            ),
            remedy: format!("set it by: {}", own::alter(topic, &brokers, &set)),
        });
    }
    Ok(())
}
