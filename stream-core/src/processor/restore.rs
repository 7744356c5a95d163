//! The restore of a task's own stores: its table's and its joins'; and topics that are read into memory.

use std::sync::Arc;

use super::env::Env;
use super::error::{ProcessorError, ProcessorResult};
use crate::log::{Isolation, OffsetSpec, TopicPartition};
use crate::store::{DerivingStore, MemoryStores, Store, StoreBackend as _, StoreId};
use crate::table::{Follower, Goal, Source, restore};
use crate::topology::TableEdge;

/// Opens a partition's store and restores it; the follower can go on from there. What its bound closes is swept out of it.
pub(super) async fn open_and_restore(
    env: &Env,
    partition: &TopicPartition,
    edge: &TableEdge,
    goal: Goal,
) -> ProcessorResult<(Arc<dyn Store>, Follower)> {
    let group = env.graph.name();
    let store = env.stores.open(&StoreId::new(Arc::clone(&partition.topic), partition.partition), edge.codec.name());
    let opened = store.map_err(|e| ProcessorError::store(group, e))?;
    let store = DerivingStore::over(Arc::clone(&opened), edge.layout);
    let doing = || format!("restore {partition}");
    let source = Source {
        log: &env.log,
        reader: &env.reader,
        partition,
        store: &store,
        tombstone_retention_ms: env.tombstone_retention_ms(&partition.topic),
        is_cut: edge.layout.is_some(),
    };
    let (mut follower, _) =
        source.follow(None, goal, &mut || {}).await.map_err(|e| ProcessorError::follow(group, doing(), e))?;
    // Nobody reads the store before it is restored.
    follower.hold_back(&env.options.restore_memory);
    restore(&mut follower, partition, goal, env.options.progress_interval, &*env.log.clock())
        .await
        .map_err(|e| ProcessorError::follow(group, doing(), e))?;
    follower.checkpoint(env.log.clock().now_ms()).map_err(|e| ProcessorError::store(group, e))?;
    if let Some(layout) = edge.layout {
        // Also what a checkpoint has left that was not finished.
        DerivingStore::new(Arc::clone(&opened), layout).sweep().map_err(|e| ProcessorError::store(group, e))?;
    }
    Ok((opened, follower))
}

/// The end of an own topic's partition, uncommitted records included, once nothing of a former task of this instance is on its
/// way there any more.
pub(super) async fn end_of(env: &Env, partition: &TopicPartition) -> ProcessorResult<i64> {
    let failed = |e| ProcessorError::log(env.graph.name(), format!("find the end of {partition}"), e);
    env.egress.settled(partition.clone()).await.map_err(failed)?;
    let end = env.log.offsets(vec![(partition.clone(), OffsetSpec::Latest)], Isolation::ReadUncommitted).await;
    Ok(end.map_err(failed)?.first().copied().unwrap_or_default())
}

/// Reads a compacted topic's partition into memory: its end as a reader of uncommitted records sees it comes first, then its
/// committed records up to that end (semantics D3).
pub(super) async fn read_all(env: &Env, partition: &TopicPartition) -> ProcessorResult<Arc<dyn Store>> {
    let group = env.graph.name();
    let goal = Goal::Offset(end_of(env, partition).await?);
    let store = MemoryStores::new().open(&StoreId::new(Arc::clone(&partition.topic), partition.partition), "");
    let store = store.map_err(|e| ProcessorError::store(group, e))?;
    let read = |e| ProcessorError::follow(group, format!("read {partition}"), e);
    let source = Source {
        log: &env.log,
        reader: &env.reader,
        partition,
        store: &store,
        tombstone_retention_ms: None,
        is_cut: false,
    };
    let (mut follower, _) = source.follow(None, goal, &mut || {}).await.map_err(read)?;
    let interval = env.options.progress_interval;
    restore(&mut follower, partition, goal, interval, &*env.log.clock()).await.map_err(read)?;
    Ok(store)
}
