//! The tables that a group looks up: full copies, kept as views keep theirs.
//!
//! They live on a thread of their own: a callback that does not return must not keep them from being followed, nor from
//! being closed.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::error::{ProcessorError, ProcessorResult};
use super::options::Options;
use crate::group::GroupGraph;
use crate::log::{Isolation, LogError, LogHandle};
use crate::replica::{ReplicaUpdater, TableReplica, UpdaterOptions, ViewState};
use crate::store::StoreBackend;
use crate::topics::TopicFacts;
use crate::workers::Workers;

/// The lookups of one start of an instance. They must be closed before the next start opens the same stores again.
#[derive(Default)]
pub(super) struct Lookups {
    updaters: Vec<ReplicaUpdater>,
    replicas: Vec<Arc<TableReplica>>,
    /// Ends when this is dropped and the updaters are done.
    thread: Option<Workers>,
}

impl Lookups {
    /// Opens them all and begins to restore them, all at once. After an error those that are open want to be closed.
    pub(super) fn open(
        &mut self,
        log: &LogHandle,
        graph: &GroupGraph,
        facts: &TopicFacts,
        stores: &dyn StoreBackend,
        options: &Options,
        workers: &Workers,
    ) -> ProcessorResult<()> {
        let group = graph.name();
        if graph.lookups.is_empty() {
            return Ok(());
        }
        let thread = workers.more("-lookups", Some(1));
        let thread = thread.map_err(|e| ProcessorError::Worker { group: group.to_owned(), error: Arc::new(e) })?;
        let thread = self.thread.insert(thread);
        for edge in &graph.lookups {
            // One that were left out would give its place, and its readers, to the next.
            let info = facts.topics.get(&edge.topic).ok_or_else(|| {
                let error = LogError::UnknownTopic { topic: edge.topic.to_string() };
                ProcessorError::log(group, "open a lookup", error)
            })?;
            let replica = TableReplica::open(info, stores, edge.codec.name(), options.partitioner);
            let replica = Arc::new(replica.map_err(|e| ProcessorError::store(group, e))?);
            let updater_options = UpdaterOptions {
                is_cut: false,
                checkpoint: options.checkpoint_interval,
                progress: options.progress_interval,
                probe: options.topic_check_interval.min(UpdaterOptions::default().probe),
                memory: options.restore_memory.clone(),
            };
            let reader = log.bounded_reader(Isolation::ReadCommitted, options.prefetch);
            let reader = reader.map_err(|e| ProcessorError::log(group, format!("read lookup {}", edge.topic), e))?;
            let (updater, work) = ReplicaUpdater::new(Arc::clone(&replica), log, reader, info, None, updater_options);
            thread.spawn(0, Box::new(move || work));
            self.updaters.push(updater);
            self.replicas.push(replica);
        }
        Ok(())
    }

    /// Resolves once all are up to date.
    pub(super) async fn caught_up(&self, group: &str) -> ProcessorResult<()> {
        for replica in &self.replicas {
            let mut status = replica.status();
            let over = status.wait_for(|s| matches!(s.state, ViewState::Running | ViewState::Failed)).await;
            if let Ok(status) = over
                && status.state == ViewState::Failed
            {
                return Err(ProcessorError::Lookup {
                    group: group.to_owned(),
                    table: replica.topic().to_string(),
                    reason: status.reason.as_deref().unwrap_or_default().to_owned(),
                });
            }
        }
        Ok(())
    }

    /// For the tasks to read.
    pub(super) fn replicas(&self) -> Vec<Arc<TableReplica>> {
        self.replicas.clone()
    }

    /// Resolves once nobody writes to their stores any more; false if that is not so within the bound.
    pub(super) async fn close(self, bound: Duration) -> bool {
        timeout(bound, join_all(self.updaters.into_iter().map(ReplicaUpdater::close))).await.is_ok()
    }
}
