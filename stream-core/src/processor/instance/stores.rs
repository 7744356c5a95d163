//! Partitions without a task here: standbys of them are kept, or their stores stay for a while and are removed then.
//!
//! Each task, standby and removal of a partition waits until the previous owner of its stores has ended: they are
//! links of one chain for each partition (`closing`), all on the partition's worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Instance;
use crate::group::GroupGraph;
use crate::log::TopicInfo;
use crate::processor::options::Standbys;
use crate::processor::standby::{self, OpenStores, Standby, StandbySpec, StandbyTable};
use crate::store::{StoreBackend, StoreId};
use crate::topology::TableEdge;

impl Instance<'_> {
    /// Begins standbys, or notes that stores are not used from now on, for partitions that are nobody's here.
    pub(super) fn settle(&mut self) {
        if !self.assigned || self.stopping {
            return;
        }
        let tables = tables(&self.env.graph, &self.facts.topics);
        let count = tables.iter().map(|table| table.topic.partitions).min().unwrap_or_default();
        let busy: BTreeSet<i32> = self.tasks.values().flat_map(|t| &t.partitions).map(|p| p.partition).collect();
        for partition in (0..count).filter(|p| !busy.contains(p)) {
            match self.env.options.standbys {
                Standbys::None => {
                    self.idle.unused.entry(partition).or_insert(Some(Instant::now()));
                }
                Standbys::All if self.idle.standbys.contains_key(&partition) => {}
                Standbys::All => self.begin_standby(partition, tables.clone()),
            }
        }
    }

    fn begin_standby(&mut self, partition: i32, tables: Vec<StandbyTable>) {
        let id = self.next_id();
        let (stop, stopped) = oneshot::channel();
        let (ended, closing) = oneshot::channel();
        let spec = StandbySpec {
            id,
            partition,
            env: Arc::clone(&self.env),
            tables,
            after: self.closing.insert((partition, 0), closing),
            stop: stopped,
            updates: self.standby_reporter.clone(),
        };
        self.idle.standbys.insert(partition, Standby { id, states: BTreeMap::new(), stop });
        let start = move || {
            async move {
                // The next owner of the stores may have ended.
                _ = ended.send(standby::run(spec).await);
            }
            .boxed_local()
        };
        self.workers.spawn(partition, Box::new(start));
    }

    /// The partition gets a task: its standby ends, and the task takes over what it has.
    pub(super) fn take_over(&mut self, partition: i32) {
        self.idle.standbys.remove(&partition);
        self.idle.unused.remove(&partition);
    }

    pub(super) fn standby_update(&mut self, (id, partition, state): standby::StandbyUpdate) {
        if let Some(standby) = self.idle.standbys.get_mut(&partition.partition).filter(|s| s.id == id) {
            standby.states.insert(partition, state);
        }
        self.show();
    }

    /// Removes stores that have not been used for long.
    pub(super) fn sweep(&mut self) {
        let delay = self.env.options.state_cleanup_delay;
        let due = |since: &Option<Instant>| since.is_some_and(|since| since.elapsed() >= delay);
        let due: Vec<i32> = self.idle.unused.iter().filter(|(_, since)| due(since)).map(|(p, _)| *p).collect();
        for partition in due {
            self.idle.unused.insert(partition, None);
            let topics = tables(&self.env.graph, &self.facts.topics).into_iter();
            let ids = topics.map(|table| StoreId::new(table.topic.name, partition)).collect();
            let (ended, closing) = oneshot::channel();
            let after = self.closing.insert((partition, 0), closing);
            let (group, stores) = (Arc::clone(&self.env.graph.name), Arc::clone(&self.env.stores));
            let start = move || {
                async move {
                    if let Some(after) = after {
                        // An error means the same: it has ended.
                        drop(after.await);
                    }
                    remove(&group, &*stores, ids);
                    _ = ended.send(OpenStores::default());
                }
                .boxed_local()
            };
            self.workers.spawn(partition, Box::new(start));
        }
    }
}

fn remove(group: &str, stores: &dyn StoreBackend, ids: Vec<StoreId>) {
    let existing = stores.list().unwrap_or_else(|error| {
        tracing::warn!(group, ?error, "stale stores can't be looked for");
        Vec::new()
    });
    for id in ids.into_iter().filter(|id| existing.contains(id)) {
        let StoreId { table, partition } = &id;
        match stores.destroy(&id) {
            Ok(()) => tracing::info!(group, %table, partition, "removed the store of a partition that moved away"),
            Err(error) => tracing::warn!(group, %table, partition, ?error, "a stale store can't be removed"),
        }
    }
}

/// The topics that each partition has a store of.
fn tables(graph: &GroupGraph, topics: &BTreeMap<Arc<str>, TopicInfo>) -> Vec<StandbyTable> {
    let edges = graph.tables.iter().chain(&graph.joins);
    let table = |e: &TableEdge| {
        let topic = topics.get(&e.topic)?.clone();
        Some(StandbyTable { topic, codec: e.codec.name().to_owned(), layout: e.layout })
    };
    edges.filter_map(table).collect()
}
