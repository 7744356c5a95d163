//! Partitions that come: each gets a task on its worker.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::Instance;
use super::live::LiveTask;
use crate::chain::panic_text;
use crate::log::{Assigned, Commits, LogResult, OffsetAndMetadata, Offsets, TopicPartition};
use crate::processor::error::ProcessorError;
use crate::processor::positions::{Looked, look_up, tagged_id};
use crate::processor::standby::OpenStores;
use crate::processor::status::{Rebalance, TaskState};
use crate::processor::task::{self, Positions, Report, TaskSpec};

impl Instance<'_> {
    /// The inputs that are read, where they are, and the ids of their topics.
    pub(super) fn ids(&self) -> Vec<(TopicPartition, i64, Arc<str>)> {
        let positions = self.tasks.values().flat_map(|t| t.positions.get());
        positions.filter_map(|(p, at)| Some((p, at.offset, tagged_id(&at.metadata)?.into()))).collect()
    }

    pub(super) fn tasks_of(&self, partitions: &[TopicPartition]) -> Vec<u64> {
        let hit = |t: &LiveTask| t.partitions.iter().any(|p| partitions.contains(p));
        self.tasks.iter().filter(|(_, t)| hit(t)).map(|(id, _)| *id).collect()
    }

    /// Starts a task for each partition; without a table or a join, for each partition of each topic.
    pub(super) fn assign(&mut self, assigned: Vec<Assigned>) {
        let graph = Arc::clone(&self.env.graph);
        let apart = graph.co_partition_topic().is_none();
        let mut by_task: BTreeMap<(i32, usize), Vec<(usize, Assigned)>> = BTreeMap::new();
        let names: Vec<TopicPartition> = assigned.iter().map(|a| a.partition.clone()).collect();
        if names.is_empty() {
            tracing::info!(group = graph.name(), "no partition is left for this instance so far");
            return;
        }
        tracing::info!(group = graph.name(), partitions = ?names, "partitions came");
        let looked = look_up(Arc::clone(&self.env.log), names.clone()).boxed().shared();
        for a in assigned {
            let Some(edge) = graph.inputs.iter().position(|e| e.input.topic == a.partition.topic) else { continue };
            let task = (a.partition.partition, if apart { edge } else { 0 });
            by_task.entry(task).or_default().push((edge, a));
        }
        for (key, mut inputs) in by_task {
            inputs.sort_by_key(|(edge, _)| *edge);
            self.start(key, inputs, looked.clone());
        }
        self.env.memory.divide_among(self.tasks.len());
        self.listeners.rebalance(&Rebalance::Assigned(names));
        // Semantics D9: every position is committed at the assignment.
        self.commit_again = self.commit.is_some();
        self.begin_commit();
    }

    fn start(
        &mut self,
        key: (i32, usize),
        inputs: Vec<(usize, Assigned)>,
        looked: Shared<BoxFuture<'static, LogResult<Arc<Looked>>>>,
    ) {
        let partition = key.0;
        let id = self.next_id();
        self.take_over(partition);
        let partitions: Vec<_> = inputs.iter().map(|(_, a)| a.partition.clone()).collect();
        let leaves = self.env.alignment.as_ref().map(|alignment| alignment.begins(id, &partitions));
        // Until the task knows where it starts, only what is committed already may be committed.
        let committed = inputs.iter().filter(|(_, a)| a.committed);
        let committed =
            committed.map(|(_, a)| (a.partition.clone(), OffsetAndMetadata::new(a.start, Arc::clone(&a.metadata))));
        let positions = Arc::new(Positions::new(committed.collect()));
        let (orders, inbox) = task::inbox();
        let (ended, closing) = oneshot::channel();
        let spec = TaskSpec {
            partition,
            inputs,
            env: Arc::clone(&self.env),
            looked,
            positions: Arc::clone(&positions),
            inbox,
            reports: self.reporter.clone(),
            id,
            after: self.closing.insert(key, closing),
        };
        let committed = Commits::new();
        let counted = Offsets::new();
        let state = TaskState::Restoring;
        let revoked = None;
        let task = LiveTask { partitions, state, waiting: None, orders, positions, committed, counted, revoked };
        self.tasks.insert(id, task);
        let (reporter, group) = (self.reporter.clone(), self.env.graph.name().to_owned());
        let over = self.env.egress.transactions().map(|t| t.guard(id));
        let start = move || {
            async move {
                let warm = AssertUnwindSafe(task::run(spec)).catch_unwind().await.unwrap_or_else(|panic| {
                    let reason = panic_text(&*panic);
                    _ = reporter.send((id, Report::Failed(ProcessorError::Panic { group, partition, reason })));
                    OpenStores::default()
                });
                drop((over, leaves));
                // Nobody may be waiting for the stores.
                _ = ended.send(warm);
            }
            .boxed_local()
        };
        self.workers.spawn(partition, Box::new(start));
    }
}
