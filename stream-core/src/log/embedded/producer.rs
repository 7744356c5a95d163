//! The embedded log's [`Producer`].

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::fault_rules::Rules;
use super::member::Identity as MemberIdentity;
use super::outbox::{Outbox, Sent};
use super::state::{BrokerState, Shared, ready};
use super::transactions::Identity;
use crate::log::{
    Commits, Delivery, FailedRecord, GroupMetadata, LogError, LogResult, ProduceBatch, Producer, ProducerOptions,
    TopicPartition,
};

/// A producer. Dropping it forgets what it has under way; its open transaction stays until its time-out or until a
/// successor takes over, as after a crash.
pub(super) struct InMemoryProducer {
    shared: Arc<Shared>,
    id: u64,
    identity: Option<Identity>,
    patience: Duration,
}

impl InMemoryProducer {
    pub(super) fn new(shared: &Arc<Shared>, options: &ProducerOptions) -> LogResult<Self> {
        let timeout = options.transaction_timeout.unwrap_or(Duration::from_secs(10));
        shared.with(|state| {
            state.reach("make a producer")?;
            let id = state.id();
            let identity = options.transactional_id.as_ref().map(|name| state.take_over(name, timeout));
            let outbox = Outbox::new(identity.clone(), options, id);
            let patience = outbox.delivery_timeout;
            state.outboxes.insert(id, outbox);
            Ok(Self { shared: Arc::clone(shared), id, identity, patience })
        })
    }

    fn who(&self, what: &str) -> LogResult<Identity> {
        let none = || LogError::Config { what: what.to_owned(), reason: "the producer has no transactional id".into() };
        self.identity.clone().ok_or_else(none)
    }

    /// Sees to what is queued, for nobody need wait for a delivery. Only faults and refusals make this necessary.
    fn drive(&self) {
        let start = |state: &mut BrokerState| {
            let outbox = state.outboxes.get_mut(&self.id);
            outbox.is_some_and(|o| !o.is_done(u64::MAX) && !std::mem::replace(&mut o.driven, true))
        };
        let Some(runtime) = self.shared.handle() else { return };
        if self.shared.with(start) {
            let (shared, id) = (Arc::clone(&self.shared), self.id);
            runtime.spawn(async move {
                let done = |state: &mut BrokerState| {
                    let Some(outbox) = state.outboxes.get_mut(&id) else { return Some(()) };
                    outbox.driven = !outbox.is_done(u64::MAX);
                    (!outbox.driven).then_some(())
                };
                shared.wait_for(None, done).await;
            });
        }
    }
}

/// Waits until a log that is out of reach is back; an error after a while.
async fn reachable(shared: &Shared, what: &str, patience: Duration, who: fn(&Rules) -> bool) -> LogResult<()> {
    let until = Some(Instant::now() + patience);
    let found = shared.wait_for(until, |state| who(&state.rules).then_some(())).await;
    let reason = || format!("the embedded log was out of reach for {patience:?}");
    found.ok_or_else(|| LogError::Timeout { what: what.to_owned(), reason: reason() })
}

/// Everything of a commit that can be refused; afterwards the offsets are part of the transaction.
fn prepare(state: &mut BrokerState, who: &Identity, offsets: Commits, member: Option<&GroupMetadata>) -> LogResult<()> {
    let what = "commit the transaction";
    if let Some(reason) = state.transactions.open(who, what)?.failed.clone() {
        return Err(LogError::Abortable { what: what.to_owned(), reason });
    }
    if offsets.is_empty() {
        return Ok(());
    }
    let config = |reason: &str| LogError::Config { what: what.to_owned(), reason: reason.to_owned() };
    let member = member.ok_or_else(|| config("offsets without the member that they belong to"))?;
    let of = member.detail.downcast_ref::<MemberIdentity>();
    let of = of.ok_or_else(|| config("the member belongs to another log"))?;
    let group = state.groups.entry(Arc::clone(&member.group)).or_default();
    let checked = group.check(what, &member.group, of.member, Some(of.generation));
    if let Err(error) = &checked {
        state.transactions.fail(who, &error.to_string());
    }
    checked?;
    if let Err(error) = state.rules.take_metadata(what, &offsets) {
        state.transactions.fail(who, &error.to_string());
        return Err(error);
    }
    state.add_offsets(who, &member.group, offsets)
}

impl crate::log::Sealed for InMemoryProducer {}

impl Producer for InMemoryProducer {
    fn send(&self, batch: Arc<ProduceBatch>) -> BoxFuture<'static, Delivery> {
        let (count, topics) = (batch.len(), batch.topics().len());
        match self.shared.with(|state| state.send(self.id, batch)) {
            Sent::Now(delivery) => ready(delivery),
            Sent::Later(receiver) => {
                self.drive();
                let dropped = move |_| {
                    let error = LogError::Closed { what: "send".to_owned() };
                    let failed = (0..count).map(|index| FailedRecord { index, error: error.clone() }).collect();
                    Delivery { last_offsets: vec![None; topics], failed }
                };
                receiver.map(move |delivery| delivery.unwrap_or_else(dropped)).boxed()
            }
        }
    }

    fn flush(&self) -> BoxFuture<'static, LogResult<()>> {
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        let newest = shared.with(|state| state.outboxes.get(&id).map_or(0, Outbox::newest));
        async move {
            // Every send ends by its delivery time-out.
            let done =
                |state: &mut BrokerState| state.outboxes.get(&id).is_none_or(|o| o.is_done(newest)).then_some(());
            shared.wait_for(None, done).await;
            Ok(())
        }
        .boxed()
    }

    fn purge(&self) {
        self.shared.with(|state| state.purge(self.id));
    }

    fn settled(&self, partition: TopicPartition) -> BoxFuture<'static, LogResult<()>> {
        let (shared, id, flushed) = (Arc::clone(&self.shared), self.id, self.flush());
        async move {
            flushed.await?;
            let last = shared.with(|state| {
                let place = (state.topics.number(&partition.topic)?, partition.partition);
                Some((place, state.outboxes.get(&id)?.last_to(place)?))
            });
            if let Some((place, last)) = last {
                let arrived = |state: &mut BrokerState| {
                    state.outboxes.get(&id).is_none_or(|o| o.has_arrived(place, last)).then_some(())
                };
                shared.wait_for(None, arrived).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn limit_batches(&self, bytes: usize) -> BoxFuture<'static, LogResult<()>> {
        let (shared, id, flushed) = (Arc::clone(&self.shared), self.id, self.flush());
        async move {
            flushed.await?;
            shared.with(|state| {
                if let Some(outbox) = state.outboxes.get_mut(&id) {
                    outbox.batch_bytes = outbox.batch_bytes.min(bytes.max(1));
                }
            });
            Ok(())
        }
        .boxed()
    }

    fn begin_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        // Local, as with Kafka: the log hears of it with the first record.
        let begun = self.who("begin a transaction").and_then(|who| self.shared.with(|state| state.begin(&who)));
        ready(begun)
    }

    fn commit_transaction_with_metadata(
        &self,
        offsets: Commits,
        member: Option<GroupMetadata>,
    ) -> BoxFuture<'static, LogResult<()>> {
        let what = "commit the transaction";
        let (shared, who, patience) = (Arc::clone(&self.shared), self.who(what), self.patience);
        let flushed = self.flush();
        async move {
            let who = who?;
            flushed.await?;
            reachable(&shared, what, patience, Rules::coordinated).await?;
            let error = shared.with(|state| match state.rules.commit_errors.pop_front() {
                Some((error, false)) => Err(error),
                other => prepare(state, &who, offsets, member.as_ref()).map(|()| other.map(|(error, _)| error)),
            })?;
            // Ends by the transaction's time-out at the latest, if anything is in it.
            let go = |state: &mut BrokerState| {
                let over = state.transactions.open(&who, what).is_err();
                (over || state.rules.commit_holds == 0).then_some(())
            };
            shared.wait_for(None, go).await;
            shared.with(|state| {
                state.transactions.open(&who, what)?;
                state.end(&who, true)
            })?;
            error.map_or(Ok(()), Err)
        }
        .boxed()
    }

    fn abort_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        let what = "abort the transaction";
        let (shared, who, patience, id) = (Arc::clone(&self.shared), self.who(what), self.patience, self.id);
        async move {
            let who = who?;
            shared.with(|state| state.purge(id));
            reachable(&shared, what, patience, |rules| rules.available).await?;
            shared.with(|state| state.end(&who, false))
        }
        .boxed()
    }
}

impl Drop for InMemoryProducer {
    fn drop(&mut self) {
        let gone = self.shared.with(|state| {
            state.changed = true;
            state.outboxes.remove(&self.id)
        });
        drop(gone);
    }
}
