//! Whether a topic was deleted and recreated while its partitions are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::TopicPartition;
use crate::processor::env::Env;
use crate::processor::error::ProcessorResult;
use crate::processor::positions::Lost;
use crate::processor::task;

/// Says so when a topic was deleted and recreated since its tasks have started: their positions are not its.
pub(super) async fn check_ids(env: &Env, ids: Vec<(TopicPartition, i64, Arc<str>)>) -> ProcessorResult<()> {
    let mut now: BTreeMap<Arc<str>, Option<Arc<str>>> = BTreeMap::new();
    for (partition, at, old) in ids {
        if !now.contains_key(&partition.topic) {
            match env.log.topic_id(Arc::clone(&partition.topic)).await {
                Ok(id) => _ = now.insert(Arc::clone(&partition.topic), id),
                Err(error) => {
                    tracing::debug!(group = env.graph.name(), ?error, "could not look at the topics' ids");
                    return Ok(());
                }
            }
        }
        if let Some(new) = now.get(&partition.topic).cloned().flatten().filter(|new| *new != old) {
            let lost = Lost::OtherTopic { at, old: old.to_string(), new: new.to_string() };
            return Err(task::lost_position(env, &partition, &lost, true));
        }
    }
    Ok(())
}
