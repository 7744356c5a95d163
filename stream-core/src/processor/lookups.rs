//! The tables that a group looks up: full copies, kept as views keep theirs, on the instance's workers.

use std::sync::Arc;

use super::error::{ProcessorError, ProcessorResult};
use super::options::Options;
use super::worker::Workers;
use crate::group::GroupGraph;
use crate::log::{LogError, LogHandle};
use crate::store::StoreBackend;
use crate::topics::TopicFacts;
use crate::view::{Copies, Keeper, KeeperOptions, ViewState};

/// The lookups of one start of an instance. They must be closed before the next start opens the same stores again.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    keepers: Vec<Keeper>,
    copies: Vec<Arc<Copies>>,
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
        for (edge, worker) in graph.lookups.iter().zip(0..) {
            // One that were left out would give its place, and its readers, to the next.
            let info = facts.topics.get(&edge.topic).ok_or_else(|| {
                let error = LogError::UnknownTopic { topic: edge.topic.to_string() };
                ProcessorError::log(group, "open a lookup", error)
            })?;
            let copies = Copies::open(info, stores, edge.codec.name(), options.partitioner);
            let copies = Arc::new(copies.map_err(|e| ProcessorError::store(group, e))?);
            let keeping = KeeperOptions {
                checkpoint: options.checkpoint_interval,
                progress: options.progress_interval,
                probe: options.topic_check_interval.min(KeeperOptions::default().probe),
            };
            let (keeper, work) = Keeper::new(Arc::clone(&copies), log, info, None, keeping)
                .map_err(|e| ProcessorError::log(group, format!("read lookup {}", edge.topic), e))?;
            workers.spawn(worker, Box::new(move || work));
            self.keepers.push(keeper);
            self.copies.push(copies);
        }
        Ok(())
    }

    /// Resolves once all are up to date.
    pub(super) async fn caught_up(&self, group: &str) -> ProcessorResult<()> {
        for copies in &self.copies {
            let mut status = copies.status();
            let over = status.wait_for(|s| matches!(s.state, ViewState::Running | ViewState::Failed)).await;
            if let Ok(status) = over
                && status.state == ViewState::Failed
            {
                return Err(ProcessorError::Lookup {
                    group: group.to_owned(),
                    table: copies.topic().to_string(),
                    reason: status.reason.as_deref().unwrap_or_default().to_owned(),
                });
            }
        }
        Ok(())
    }

    /// For the tasks to read.
    pub(super) fn copies(&self) -> Vec<Arc<Copies>> {
        self.copies.clone()
    }

    /// Resolves once nobody writes to their stores any more.
    pub(super) async fn close(self) {
        for keeper in self.keepers {
            keeper.close().await;
        }
    }
}
