//! Commits what tasks have published, while they go on.

use std::sync::atomic::Ordering;

use futures::FutureExt;

use super::Instance;
use crate::log::{Commits, ErrorClass, LogError, LogResult};
use crate::processor::error::ProcessorError;
use crate::processor::status::{TaskState, Waiting};
use crate::processor::task::Command;

impl Instance<'_> {
    /// Commits every position again, so that offsets of idle inputs do not expire (semantics D9).
    pub(super) fn recommit(&mut self) {
        for task in self.tasks.values_mut() {
            if self.env.egress.transactions().is_some() {
                task.orders.command(Command::Recommit);
            } else {
                task.committed.clear();
            }
        }
    }

    /// Begins to commit, where the state needs no position for that; elsewhere the tasks write it first.
    pub(super) fn begin_round(&mut self) {
        for task in self.tasks.values().filter(|t| t.state == TaskState::Running && t.positions.is_ahead()) {
            task.orders.command(Command::Record);
        }
        self.begin_commit();
    }

    /// Begins to commit what has moved. Tasks that finish are left to [`revoke`](Self::revoke): a commit of an
    /// earlier state must not come after their last one, when the next owner may have gone further.
    pub(super) fn begin_commit(&mut self) {
        if self.commit.is_some() {
            return;
        }
        let mut offsets = Commits::new();
        for task in self.tasks.values().filter(|t| t.state != TaskState::Draining) {
            let now = task.positions.get();
            offsets.extend(now.into_iter().filter(|o| !task.committed.contains(o)));
        }
        if offsets.is_empty() {
            return;
        }
        if self.env.egress.transactions().is_some() {
            // The transactions have committed them; a plain commit could set one back.
            return self.committed(&offsets, Ok(()));
        }
        // Called now, not when it is first polled: commits take effect in the order of the calls.
        let commit = self.group.commit_with_metadata(offsets.clone());
        self.commit = Some(async move { (offsets, commit.await) }.boxed());
    }

    pub(super) fn committed(&mut self, offsets: &Commits, result: LogResult<()>) {
        match result {
            Ok(()) => {
                self.commit_waits = None;
                for task in self.tasks.values_mut() {
                    for (partition, offset) in offsets.iter().filter(|(p, _)| task.partitions.contains(p)) {
                        match task.committed.iter_mut().find(|(p, _)| p == partition) {
                            Some((_, old)) => old.clone_from(offset),
                            None => task.committed.push((partition.clone(), offset.clone())),
                        }
                    }
                }
                self.count(offsets);
            }
            Err(LogError::NotMember { reason, .. }) => {
                tracing::debug!(group = self.env.graph.name(), reason, "a commit came while partitions move");
            }
            Err(error) if error.class() == ErrorClass::Retriable => {
                tracing::warn!(group = self.env.graph.name(), ?error, "a commit failed and is tried again");
                let since_ms = self.env.log.clock().now_ms();
                let waiting = || Waiting { on: format!("a commit: {error:?}"), since_ms };
                self.commit_waits.get_or_insert_with(waiting);
            }
            Err(error) => self.fail(ProcessorError::log(self.env.graph.name(), "commit", error)),
        }
        self.show();
        if std::mem::take(&mut self.commit_again) {
            self.begin_commit();
        }
    }

    /// Counts the records that these offsets show to be done.
    pub(super) fn count(&mut self, offsets: &Commits) {
        let mut done = 0;
        for (partition, old) in self.tasks.values_mut().flat_map(|t| &mut t.counted) {
            let now = offsets.iter().find(|(p, _)| p == partition).map_or(*old, |(_, at)| at.offset);
            done += u64::try_from(now - *old).unwrap_or_default();
            *old = now.max(*old);
        }
        self.env.counters.done.fetch_add(done, Ordering::Relaxed);
    }
}
