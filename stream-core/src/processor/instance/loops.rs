//! Records of the group's own topics that are not needed any more are deleted: those of its loop and of what it re-partitions
//! once they are processed, for such a topic has no retention (semantics T3), and those of a join that are closed (J9).
//!
//! Never above what is committed, and never in anybody's way: what can't be deleted now is deleted the next time.

use futures::FutureExt;

use super::Instance;
use crate::log::{ErrorClass, LogResult, Offsets};

impl Instance<'_> {
    /// Begins to delete what has been processed since the last time.
    pub(super) fn trim(&mut self) {
        if self.trimming.is_some() {
            return;
        }
        let own: Vec<_> = self.env.graph.inputs.iter().filter(|e| e.own).map(|e| &e.input.topic).collect();
        let committed = self.tasks.values().flat_map(|t| &t.committed);
        let below: Offsets = committed
            .filter(|(p, _)| own.contains(&&p.topic))
            .map(|(p, at)| (p.clone(), at.offset))
            .chain(self.tasks.values().filter(|_| !self.uncut).flat_map(|t| t.positions.cuts()))
            .filter(|(p, offset)| *offset > self.trimmed.get(p).copied().unwrap_or_default())
            .collect();
        if below.is_empty() {
            return;
        }
        let deleted = self.env.log.delete_records(below.clone());
        self.trimming = Some(async move { (below, deleted.await) }.boxed());
    }

    pub(super) fn trimmed(&mut self, below: Offsets, result: LogResult<()>) {
        match result {
            Ok(()) => self.trimmed.extend(below),
            Err(error) => {
                let group = self.env.graph.name();
                let joins = &self.env.graph.stream_joins;
                let tables = &self.env.graph.tables;
                let is_kept =
                    |topic: &str| joins.iter().filter_map(|join| tables.get(join.table)).any(|e| *e.topic == *topic);
                if error.class() != ErrorClass::Retriable && below.iter().any(|(p, _)| is_kept(&p.topic)) {
                    self.uncut = true;
                    tracing::warn!(
                        group,
                        ?error,
                        "what is closed can't be deleted from the topics of joins, which only grow until the group may \
                         delete records there (DeleteRecords) and is started again"
                    );
                } else {
                    tracing::debug!(group, ?error, "records of the group's own topics that are done stay for now");
                }
            }
        }
    }
}
