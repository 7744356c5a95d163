//! Warm copies of partitions that other instances have.
//!
//! A standby keeps the stores of one partition, the table's and the joins', up to date, as a view keeps its copy, so that
//! a task which takes over finds all but the last moment in them. It writes to no topic, and it owns the stores until it
//! has to end; then it records how far they are and hands them on, still open.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};

use super::env::Env;
use super::status::StandbyState;
use crate::log::{TopicInfo, TopicPartition};
use crate::replica::{ReplicaUpdater, TableReplica, UpdaterOptions, ViewState, ViewStatus};
use crate::store::{DerivingStore, Layout, Store, StoreError, StoreId};

/// Stores that stay open from one owner to the next, which saves the time to open them again.
#[derive(Debug, Default)]
pub(super) struct OpenStores(#[allow(dead_code, reason = "held, not read")] Vec<Arc<dyn Store>>);

impl OpenStores {
    /// Keeps those that a checkpoint vouches for. Others are closed, so that they are emptied or mended when they are
    /// opened again.
    pub(super) fn of(stores: Vec<Arc<dyn Store>>) -> Self {
        Self(stores.into_iter().filter(|s| matches!(s.checkpointed(), Ok(Some(_)))).collect())
    }
}

/// An update of a standby: its id, the partition, and its state.
pub(super) type StandbyUpdate = (u64, TopicPartition, StandbyState);

/// A topic to copy.
#[derive(Clone, Debug)]
pub(super) struct StandbyTable {
    pub(super) topic: TopicInfo,
    /// The name of its codec.
    pub(super) codec: String,
    pub(super) layout: Option<Layout>,
}

/// The parts that a worker needs to start a standby.
pub(super) struct StandbySpec {
    pub(super) id: u64,
    pub(super) partition: i32,
    pub(super) env: Arc<Env>,
    pub(super) tables: Vec<StandbyTable>,
    /// Resolves when the previous owner of the stores has ended.
    pub(super) after: Option<oneshot::Receiver<OpenStores>>,
    /// Resolves, in whichever way, when the standby is to end.
    pub(super) stop: oneshot::Receiver<()>,
    pub(super) updates: mpsc::UnboundedSender<StandbyUpdate>,
}

/// Runs a standby until its instance has it end.
pub(super) async fn run(spec: StandbySpec) -> OpenStores {
    let StandbySpec { id, partition, env, tables, after, mut stop, updates } = spec;
    let before = match after {
        // An error means the same: it has ended.
        Some(after) => after.await.unwrap_or_default(),
        None => OpenStores::default(),
    };
    let (mut stores, mut updaters, mut works) = (Vec::new(), Vec::new(), FuturesUnordered::new());
    for table in tables {
        let partition = TopicPartition::new(Arc::clone(&table.topic.name), partition);
        match keep(&env, &table, &partition) {
            Ok((store, status, updater, work)) => {
                stores.push((store, status.clone()));
                updaters.push(updater);
                works.push(work);
                works.push(forward(id, partition, status, updates.clone()));
            }
            Err(error) => {
                // The task that takes over will meet the same, and say so by failing.
                tracing::error!(group = env.graph.name(), %partition, ?error, "no standby can be kept");
                _ = updates.send((id, partition, StandbyState::Failed));
            }
        }
    }
    drop(before);
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => break,
            Some(()) = works.next(), if !works.is_empty() => {}
        }
    }
    stores.retain(|(_, status)| status.borrow().state != ViewState::Failed);
    let closed = join_all(updaters.into_iter().map(ReplicaUpdater::close));
    join(closed, works.for_each(|()| std::future::ready(()))).await;
    OpenStores::of(stores.into_iter().map(|(store, _)| store).collect())
}

type Kept = (Arc<dyn Store>, watch::Receiver<ViewStatus>, ReplicaUpdater, BoxFuture<'static, ()>);

fn keep(env: &Env, table: &StandbyTable, partition: &TopicPartition) -> Result<Kept, StoreError> {
    let id = StoreId::new(Arc::clone(&partition.topic), partition.partition);
    let StandbyTable { topic, codec, layout } = table;
    // Built as a restore builds it, so that a task can take it over.
    let store = DerivingStore::over(env.stores.open(&id, codec)?, *layout);
    let replica = Arc::new(TableReplica::of_one(partition.clone(), Arc::clone(&store), env.options.partitioner));
    let options = UpdaterOptions {
        checkpoint: env.options.checkpoint_interval,
        progress: env.options.progress_interval,
        probe: env.options.topic_check_interval,
        is_cut: layout.is_some(),
        memory: env.options.restore_memory.clone(),
    };
    let status = replica.status();
    // The instance's reader: one for each standby would be a client, with its threads, for each partition.
    let (updater, work) = ReplicaUpdater::new(replica, &env.log, Arc::clone(&env.reader), topic, None, options);
    Ok((store, status, updater, work))
}

/// Reports a copy's states until its updater has ended.
fn forward(
    id: u64,
    partition: TopicPartition,
    mut status: watch::Receiver<ViewStatus>,
    updates: mpsc::UnboundedSender<StandbyUpdate>,
) -> BoxFuture<'static, ()> {
    async move {
        loop {
            let state = match status.borrow_and_update().state {
                ViewState::Restoring => StandbyState::Restoring,
                ViewState::Running => StandbyState::Running,
                ViewState::Reconnecting => StandbyState::Reconnecting,
                ViewState::Failed => StandbyState::Failed,
                ViewState::Closed => return,
            };
            _ = updates.send((id, partition.clone(), state));
            if status.changed().await.is_err() {
                return;
            }
        }
    }
    .boxed()
}

/// A standby as its instance knows it. Dropping it makes it end.
#[derive(Debug)]
pub(super) struct Standby {
    pub(super) id: u64,
    pub(super) states: BTreeMap<TopicPartition, StandbyState>,
    #[allow(dead_code, reason = "its drop is the signal")]
    pub(super) stop: oneshot::Sender<()>,
}
