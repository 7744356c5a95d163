//! Records of the group's own topics, its loop and what it re-partitions, that are processed: deleted, for such a topic has no
//! retention (semantics T3).
//!
//! Never above what is committed, and never in anybody's way: what can't be deleted now is deleted the next time.

use futures::FutureExt;

use super::Instance;
use crate::log::{LogResult, Offsets};

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
                tracing::debug!(
                    group = self.env.graph.name(),
                    ?error,
                    "processed records of the group's own topics stay for now"
                );
            }
        }
    }
}
