//! Producers: the handle, and the delivery reports.
//!
//! Batches go over a queue to a thread that hands their records to librdkafka one by one (`sender`), so that a full
//! queue of librdkafka holds nobody up; a second thread serves the delivery reports. Transactions run on the first, in
//! the order of the calls (`sender_transactions`). The calls' order is the order of the queue, because both are taken under
//! the same lock (`tracker`).

mod client;
mod command;
mod context;
mod delivery_table;
mod sender;
mod sender_transactions;
mod tracker;
mod transaction;

use std::sync::{Arc, mpsc};
use std::time::Instant;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use self::client::Maker;
use self::command::{Command, all_failed};
use self::delivery_table::DeliveryTable;
use self::sender::Sender;
use self::tracker::Tracker;
use super::blocking::spawn;
use super::connection::Connection;
use super::context::Health;
use super::error::ErrorContext;
use crate::log::{
    Commits, Delivery, GroupMetadata, LogError, LogResult, ProduceBatch, Producer, ProducerOptions, TopicPartition,
};

pub(super) struct KafkaProducer {
    commands: mpsc::Sender<Command>,
    tracker: Arc<Tracker>,
}

impl KafkaProducer {
    /// Starts a producer. Blocks while a transactional one fences its predecessors.
    pub(super) fn new(connection: &Connection, options: &ProducerOptions) -> LogResult<Self> {
        let health = Arc::new(Health::default());
        let error_context =
            Arc::new(ErrorContext { brokers: connection.options.brokers.clone(), health: Arc::clone(&health) });
        let tracker = Arc::new(Tracker::default());
        let deliveries = Arc::new(DeliveryTable::new(Arc::clone(&tracker), Arc::clone(&health)));
        let maker = Maker::new(connection, options, error_context, deliveries);
        let client = maker.client()?;
        let (commands, queue) = mpsc::channel();
        let sender = Sender::new(maker, client, Arc::clone(&tracker));
        spawn("kafka-sender", move || sender.run(&queue))?;
        Ok(Self { commands, tracker })
    }

    /// Puts a command between the batches before and after it.
    fn order(
        &self,
        what: &'static str,
        purges: bool,
        command: impl FnOnce(u64, oneshot::Sender<LogResult<()>>) -> Command,
    ) -> BoxFuture<'static, LogResult<()>> {
        let (tx, rx) = oneshot::channel();
        // A queue that has ended drops the command, and with it the sender of the answer.
        let queue = |before| drop(self.commands.send(command(before, tx)));
        if purges {
            self.tracker.purge(queue);
        } else {
            self.tracker.between(queue);
        }
        rx.map(move |got| got.unwrap_or_else(|_| Err(LogError::Closed { what: what.into() }))).boxed()
    }
}

impl crate::log::Sealed for KafkaProducer {}

impl Producer for KafkaProducer {
    fn send(&self, batch: Arc<ProduceBatch>) -> BoxFuture<'static, Delivery> {
        if batch.is_empty() {
            return futures::future::ready(all_failed(&batch, &LogError::Purged)).boxed();
        }
        let (done, rx) = oneshot::channel();
        let (sent, at) = (Arc::clone(&batch), Instant::now());
        let mut refused = false;
        let seq = self.tracker.begin(|seq| {
            let epoch = self.tracker.epoch();
            refused = self.commands.send(Command::Send { batch: sent, seq, epoch, at, done }).is_err();
        });
        if refused {
            self.tracker.done(seq, None);
        }
        rx.map(move |got| got.unwrap_or_else(|_| all_failed(&batch, &LogError::Closed { what: "producer".into() })))
            .boxed()
    }

    fn flush(&self) -> BoxFuture<'static, LogResult<()>> {
        match self.tracker.flush() {
            None => futures::future::ok(()).boxed(),
            Some(rx) => rx.map(|got| got.map_err(|_| LogError::Closed { what: "flushing".into() })).boxed(),
        }
    }

    fn purge(&self) {
        self.tracker.purge(|_| drop(self.commands.send(Command::Purge)));
    }

    fn settled(&self, partition: TopicPartition) -> BoxFuture<'static, LogResult<()>> {
        let what = "waiting for writes to arrive";
        let (flushed, commands) = (self.flush(), self.commands.clone());
        async move {
            flushed.await?;
            let (done, settled) = oneshot::channel();
            // A queue that has ended drops the command, and with it the sender of the answer.
            drop(commands.send(Command::Settle { partition, done }));
            settled.await.unwrap_or_else(|_| Err(LogError::Closed { what: what.into() }))
        }
        .boxed()
    }

    fn limit_batches(&self, bytes: usize) -> BoxFuture<'static, LogResult<()>> {
        self.order("limiting the size of batches", false, |before, done| Command::LimitBatches { before, bytes, done })
    }

    fn begin_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        self.order("beginning a transaction", false, |before, done| Command::Begin { before, done })
    }

    fn commit_transaction_with_metadata(
        &self,
        offsets: Commits,
        member: Option<GroupMetadata>,
    ) -> BoxFuture<'static, LogResult<()>> {
        self.order("committing a transaction", false, move |before, done| Command::Commit {
            before,
            offsets,
            member,
            done,
        })
    }

    fn abort_transaction(&self) -> BoxFuture<'static, LogResult<()>> {
        self.order("aborting a transaction", true, |before, done| Command::Abort { before, done })
    }
}
