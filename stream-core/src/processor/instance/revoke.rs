//! Partitions that go, and the final stop: tasks finish, what they have done is committed, then others are let in.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Instance;
use super::live::Revoked;
use crate::log::{Commits, ErrorClass, GroupHandle, LogError, LogResult, RevokeToken};
use crate::processor::error::ProcessorError;
use crate::processor::status::TaskState;
use crate::processor::task::{Command, Orders, Positions};

/// After the bound of a drain, what is still on its way gets this long to arrive.
pub(in crate::processor) const AFTER_DRAIN: Duration = Duration::from_secs(8);

/// A task that finishes what is under way.
struct Drain {
    drained: oneshot::Receiver<()>,
    positions: Arc<Positions>,
    orders: Orders,
}

impl Instance<'_> {
    /// Lets tasks finish, commits what they have done, then lets the revocation go.
    pub(super) fn revoke(&mut self, tasks: Vec<u64>, token: Option<RevokeToken>) {
        let bound = self.env.options.drain_timeout;
        let group = Arc::clone(&self.group);
        let name = self.env.graph.name().to_owned();
        let env = Arc::clone(&self.env);
        let mut drains = Vec::new();
        let (over, revoked) = oneshot::channel::<()>();
        let revoked = revoked.shared();
        let mut earlier = Vec::new();
        for id in &tasks {
            let Some(task) = self.tasks.get_mut(id) else { continue };
            // A partition may be revoked while its instance stops: it is revoked once, and waited for. A commit of
            // the revocation's own would set offsets back if the partition was lost meanwhile and others went further.
            if let Some(before) = &task.revoked {
                earlier.push(before.clone());
                continue;
            }
            task.revoked = Some(revoked.clone());
            task.state = TaskState::Draining;
            let (done, drained) = oneshot::channel();
            task.orders.command(Command::Drain(done));
            let (positions, orders) = (Arc::clone(&task.positions), task.orders.clone());
            drains.push(Drain { drained, positions, orders });
        }
        if let Some(transactions) = env.egress.transactions() {
            transactions.hurry(tasks.clone());
        }
        self.revoking.push(
            async move {
                let until = Instant::now() + bound;
                // A task that fails meanwhile drops its end; what it published stands.
                let ends = timeout(bound, ends_of(&mut drains)).await;
                let in_time = ends.is_ok();
                if !ends.unwrap_or(false) {
                    // Nothing more may be begun once the next owner is let in, and what is on its way has to arrive
                    // before the next owner reads the table, or not at all: it would overwrite newer values.
                    for drain in &drains {
                        drain.orders.command(Command::Abort);
                    }
                    let over = async {
                        ends_of(&mut drains).await;
                        env.egress.producer().flush().await
                    };
                    if env.egress.transactions().is_none() && !matches!(timeout(AFTER_DRAIN, over).await, Ok(Ok(()))) {
                        env.egress.purge();
                    }
                }
                // An error is how they signal their end.
                join_all(earlier).await;
                let (offsets, result) = match env.egress.transactions() {
                    None => commit_at_last(&*group, &drains, until).await,
                    Some(transactions) => {
                        // What a task has published is committed. What it has handed over besides, because it failed
                        // or took too long, must not be any more: the next owner does it again.
                        transactions.lost(tasks.clone());
                        published(&drains)
                    }
                };
                let mut result = result.map_err(|e| ProcessorError::log(&name, "commit", e));
                if result.is_ok() && !in_time {
                    result = Err(ProcessorError::DrainTimeout { group: name, bound });
                }
                drop((over, token));
                Revoked { tasks, offsets, result }
            }
            .boxed(),
        );
        self.show();
    }

    pub(super) fn revoked(&mut self, done: Revoked) {
        self.count(&done.offsets);
        for id in done.tasks {
            if let Some(task) = self.tasks.remove(&id) {
                // Does nothing to one that has ended already.
                task.orders.command(Command::Abort);
            }
        }
        self.env.memory.divide_among(self.tasks.len());
        match done.result {
            Ok(()) => {}
            // The generation has ended: the new owner does the work again.
            Err(error @ ProcessorError::Log { error: LogError::NotMember { .. }, .. }) => {
                tracing::warn!(?error, "the last commit before the partitions moved came too late");
            }
            Err(error) if self.stopping => self.failure = self.failure.take().or(Some(error)),
            Err(error) => tracing::warn!(?error, "partitions were given back before all was done"),
        }
        self.settle();
        self.show();
    }
}

fn published(drains: &[Drain]) -> (Commits, LogResult<()>) {
    (drains.iter().flat_map(|d| d.positions.get()).collect(), Ok(()))
}

/// Waits until tasks are over; whether all in good order, so that nothing of them is on its way.
async fn ends_of(drains: &mut [Drain]) -> bool {
    let over = drains.iter_mut().filter(|d| !d.drained.is_terminated()).map(|d| &mut d.drained);
    join_all(over).await.iter().all(Result::is_ok)
}

/// Commits what tasks that are over have done; what passes is tried again until a moment. What was committed.
async fn commit_at_last(group: &dyn GroupHandle, drains: &[Drain], until: Instant) -> (Commits, LogResult<()>) {
    loop {
        // Read again each time: partitions may be lost meanwhile.
        let (offsets, _) = published(drains);
        if offsets.is_empty() {
            return (offsets, Ok(()));
        }
        match group.commit_with_metadata(offsets.clone()).await {
            Err(error) if error.class() == ErrorClass::Retriable && Instant::now() < until => {
                tracing::debug!(?error, "the last commit failed and is tried again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return (Commits::new(), Err(error)),
            Ok(()) => return (offsets, Ok(())),
        }
    }
}
