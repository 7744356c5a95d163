//! An instance's producer. See [`client`](super::client).

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::sleep;

use super::life::Life;
use crate::log::{Commits, Delivery, GroupMetadata, LogResult, ProduceBatch, Producer, TopicPartition};

pub(super) struct SimProducer {
    inner: Arc<dyn Producer>,
    life: Arc<Life>,
}

impl SimProducer {
    pub(super) fn new(inner: Arc<dyn Producer>, life: Arc<Life>) -> Self {
        Self { inner, life }
    }
}

impl crate::log::Sealed for SimProducer {}

impl Producer for SimProducer {
    fn send(&self, batch: Arc<ProduceBatch>) -> BoxFuture<'static, Delivery> {
        if !self.life.pass("send") {
            return std::future::pending().boxed();
        }
        let (records, number) = (batch.len(), self.life.sends(&batch));
        // Handed over at once: batches are taken in the order of the calls.
        let sent = Arc::clone(&batch);
        let delivery = self.inner.send(batch);
        if !self.life.pass("send") {
            return std::future::pending().boxed();
        }
        self.life.note(format_args!("sends {records}"));
        self.life.note_records(&sent);
        let life = Arc::clone(&self.life);
        let way = life.delay();
        async move {
            let delivery = delivery.await;
            life.hears(number);
            if way > Duration::ZERO {
                sleep(way).await;
            }
            if !life.pass("delivery") {
                return std::future::pending().await;
            }
            let (last, failed) = (&delivery.last_offsets, delivery.failed.len());
            life.note(format_args!("delivered {records} up to {last:?}, {failed} failed"));
            delivery
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'static, LogResult<()>> {
        let inner = Arc::clone(&self.inner);
        self.life.call("flush", move || inner.flush())
    }

    fn purge(&self) {
        if self.life.pass("purge") {
            self.life.note(format_args!("purges"));
            self.inner.purge();
        }
    }

    fn settled(&self, partition: TopicPartition) -> BoxFuture<'static, LogResult<()>> {
        let inner = Arc::clone(&self.inner);
        self.life.call("wait for writes to arrive", move || inner.settled(partition))
    }

    fn limit_batches(&self, bytes: usize) -> BoxFuture<'static, LogResult<()>> {
        let inner = Arc::clone(&self.inner);
        self.life.call("limit the size of batches", move || inner.limit_batches(bytes))
    }

    fn begin_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        let inner = Arc::clone(&self.inner);
        self.life.call("begin a transaction", move || inner.begin_transaction())
    }

    fn commit_transaction_with_metadata(
        &self,
        offsets: Commits,
        member: Option<GroupMetadata>,
    ) -> BoxFuture<'static, LogResult<()>> {
        let (inner, life) = (Arc::clone(&self.inner), Arc::clone(&self.life));
        self.life.call("commit the transaction", move || {
            async move {
                life.note(format_args!("commits a transaction with {offsets:?}"));
                let result = inner.commit_transaction_with_metadata(offsets, member).await;
                life.note(format_args!("committed a transaction: {result:?}"));
                result
            }
            .boxed()
        })
    }

    fn abort_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        let (inner, life) = (Arc::clone(&self.inner), Arc::clone(&self.life));
        self.life.call("abort the transaction", move || {
            async move {
                let result = inner.abort_transaction().await;
                life.note(format_args!("aborted a transaction: {result:?}"));
                result
            }
            .boxed()
        })
    }
}
