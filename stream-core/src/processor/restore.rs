//! The restore of a task's own stores: its table's and its joins'.

use std::sync::Arc;

use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use crate::log::TopicPartition;
use crate::store::{Store, StoreId};
use crate::table::{Follower, Goal, Source, restore};

/// Opens a partition's store and restores it; the follower can go on from there.
pub(super) async fn open_and_restore(
    env: &Env,
    partition: &TopicPartition,
    codec: &str,
    goal: Goal,
) -> ProcessorResult<(Arc<dyn Store>, Follower)> {
    let group = env.graph.name();
    let store = env.stores.open(&StoreId::new(Arc::clone(&partition.topic), partition.partition), codec);
    let store = store.map_err(|e| ProcessorError::store(group, e))?;
    let doing = || format!("restore {partition}");
    let source = Source {
        log: &env.log,
        reader: &env.reader,
        partition,
        store: &store,
        tombstone_retention_ms: env.tombstone_retention_ms(&partition.topic),
    };
    let (mut follower, _) =
        source.follow(None, goal, &mut || {}).await.map_err(|e| ProcessorError::follow(group, doing(), e))?;
    restore(&mut follower, partition, goal, env.options.progress_interval, &*env.log.clock())
        .await
        .map_err(|e| ProcessorError::follow(group, doing(), e))?;
    follower.checkpoint(env.log.clock().now_ms()).map_err(|e| ProcessorError::store(group, e))?;
    Ok((store, follower))
}
