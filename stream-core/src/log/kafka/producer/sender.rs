//! The thread that hands records to librdkafka, in the order of the calls.
//!
//! Only this thread produces, purges and runs transactions. It never waits longer than a moment without looking whether
//! a purge has come.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use super::client::{Client, Maker};
use super::command::{Command, all_failed};
use super::context::{ProducerCtx, undelivered};
use super::delivery_table::DeliveryTable;
use super::tracker::Tracker;
use super::transaction::Transaction;
use crate::log::kafka::blocking::spawn;
use crate::log::kafka::config::{TRANSACTION_TIMEOUT, delivery_bounds};
use crate::log::kafka::error::{ErrorContext, code};
use crate::log::kafka::query::again;
use crate::log::{Delivery, Headers, LogError, LogResult, NewRecord, ProduceBatch, TopicPartition};

/// How long to wait for room before looking again.
const MOMENT: Duration = Duration::from_micros(500);

/// After this long, what was given up as unanswered has come to the broker, unless the link is very slow. One client needs no
/// such wait: it goes on with a new epoch of its producer id, and the broker refuses batches of an older one. A new client has
/// another id.
const SETTLED: Duration = Duration::from_secs(5);

pub(super) struct Sender {
    pub(super) error_context: Arc<ErrorContext>,
    maker: Maker,
    /// Always there but after a replacement that failed.
    polled: Option<Client>,
    pub(super) client: Arc<BaseProducer<ProducerCtx>>,
    deliveries: Arc<DeliveryTable>,
    pub(super) tracker: Arc<Tracker>,
    /// How long a record may wait to be taken by librdkafka.
    entering: Duration,
    /// How long to go on trying to end a transaction.
    pub(super) bound: Duration,
    pub(super) transaction: Transaction,
    /// The last purge that was carried out.
    purged: u64,
}

impl Sender {
    pub(super) fn new(maker: Maker, client: Client, tracker: Arc<Tracker>) -> Self {
        let transactional = maker.options.transactional_id.is_some();
        let transaction_timeout = maker.options.transaction_timeout.unwrap_or(TRANSACTION_TIMEOUT);
        Self {
            bound: maker.kafka.request_timeout.max(transaction_timeout),
            error_context: Arc::clone(&maker.error_context),
            client: Arc::clone(&client.producer),
            deliveries: Arc::clone(&maker.deliveries),
            entering: delivery_bounds(&maker.options).0,
            maker,
            polled: Some(client),
            tracker,
            transaction: if transactional { Transaction::None } else { Transaction::Never },
            purged: 0,
        }
    }

    pub(super) fn run(mut self, queue: &mpsc::Receiver<Command>) {
        while let Ok(command) = queue.recv() {
            match command {
                Command::Send { batch, seq, epoch, at, done } => self.send(&batch, seq, epoch, at, done),
                // The caller may have gone.
                Command::Begin { before, done } => drop(done.send(self.begin(before))),
                Command::Commit { before, offsets, member, done } => {
                    drop(done.send(self.commit(before, &offsets, member.as_ref())));
                }
                Command::Abort { before, done } => drop(done.send(self.abort(before))),
                Command::Settle { partition, done } => self.settle(partition, done),
                Command::LimitBatches { before, bytes, done } => drop(done.send(self.limit_batches(before, bytes))),
                Command::Purge => {}
            }
            self.purge_if_asked();
        }
        self.end();
    }

    /// The handle was dropped: records handed over are sent or fail, within the bounds of their delivery.
    fn end(mut self) {
        self.finish(u64::MAX);
        if self.transaction.is_open()
            && let Err(e) = self.abort(u64::MAX)
        {
            tracing::debug!(target: "kafka", "a transaction stays open until its time-out: {e}");
        }
        if let Some(client) = &self.polled {
            client.end();
        }
    }

    /// Goes on with a client whose batches are smaller.
    fn limit_batches(&mut self, before: u64, bytes: usize) -> LogResult<()> {
        if self.transaction.is_open() {
            let reason = "a transaction is open: end it first".to_owned();
            return Err(LogError::Config { what: "limiting the size of batches".to_owned(), reason });
        }
        self.finish(before);
        let known = self.maker.options.max_batch_bytes;
        if known.is_some_and(|known| known <= bytes) {
            return Ok(());
        }
        // What is still on its way by the old client must not come after what the new one sends.
        if let Some(doubt) = self.tracker.doubt() {
            std::thread::sleep((doubt + SETTLED).saturating_duration_since(Instant::now()));
        }
        self.maker.options.max_batch_bytes = Some(bytes);
        tracing::info!(target: "kafka", bytes, "a topic takes smaller batches only: a producer's client is recreated");
        if let Some(old) = self.polled.take() {
            old.end();
        }
        let client = match self.maker.client() {
            Ok(client) => client,
            Err(error) => {
                let what = "making a client for smaller batches".to_owned();
                let error = LogError::Fatal { what, reason: error.to_string() };
                self.transaction = Transaction::Dead(error.clone());
                return Err(error);
            }
        };
        // The last holder of the old one: its connections are closed before the new one writes.
        self.client = Arc::clone(&client.producer);
        self.polled = Some(client);
        Ok(())
    }

    /// Has the leader of a partition asked, on the connection that this client's writes take: the answer comes when it is done
    /// with those.
    fn settle(&self, partition: TopicPartition, done: oneshot::Sender<LogResult<()>>) {
        if self.transaction.is_possible() || self.tracker.doubt().is_none() {
            // The caller may have gone away meanwhile.
            return drop(done.send(Ok(())));
        }
        let (client, error_context) = (Arc::clone(&self.client), Arc::clone(&self.error_context));
        let until = Instant::now() + self.maker.kafka.request_timeout;
        let ask = move || {
            let TopicPartition { topic, partition } = &partition;
            let asked = again(until, |time| client.client().fetch_watermarks(topic, *partition, time));
            let what = format!("waiting for writes to {topic}[{partition}] to arrive");
            drop(done.send(asked.map(drop).map_err(|e| error_context.error(&what, &e))));
        };
        // The sender must not wait for a broker. One that can't be started drops `done`, which says so.
        if let Err(error) = spawn("kafka-settle", ask) {
            tracing::warn!(target: "kafka", %error, "it is not known whether earlier writes have arrived");
        }
    }

    /// Waits for everything before a number to be acknowledged or failed.
    pub(super) fn finish(&mut self, before: u64) {
        while !self.tracker.wait(before, Duration::from_millis(20)) {
            self.purge_if_asked();
        }
    }

    pub(super) fn purge_if_asked(&mut self) {
        let epoch = self.tracker.epoch();
        if epoch != self.purged {
            self.purged = epoch;
            // What is on its way in a transaction is waited for: an idempotent producer that forgets about a record can't
            // know which number the next one has, so that its producer would have to start over.
            let queued = PurgeConfig::default().queue();
            self.client.purge(if self.transaction.is_possible() { queued } else { queued.inflight() });
        }
    }

    fn send(
        &mut self,
        batch: &Arc<ProduceBatch>,
        seq: u64,
        epoch: u64,
        at: Instant,
        mut done: oneshot::Sender<Delivery>,
    ) {
        let until = at + self.entering;
        let taken = loop {
            let refused = if self.tracker.epoch() != epoch {
                Some(LogError::Purged)
            } else if Instant::now() >= until {
                Some(self.too_late())
            } else {
                self.transaction.refuses()
            };
            if let Some(error) = refused {
                // The caller may not be interested.
                let _ = done.send(all_failed(batch, &error));
                return self.tracker.done(seq, Some(error));
            }
            match self.deliveries.take(batch, seq, done) {
                Ok(taken) => break taken,
                Err(back) => done = back,
            }
            std::thread::sleep(MOMENT);
        };
        for index in 0..batch.len() {
            let Some((record, headers)) = batch.get(index) else { break };
            let word = DeliveryTable::tag(taken, batch.topic_of(index).unwrap_or(usize::MAX), index);
            if let Err(error) = self.produce(record, headers, word, epoch, until) {
                self.deliveries.failed_from(taken, index, &error);
                break;
            }
        }
        self.deliveries.handed_over(taken);
    }

    fn too_late(&self) -> LogError {
        let reason = "the records before it took all the time there was";
        self.error_context.coded("writing records", RDKafkaErrorCode::MessageTimedOut, reason)
    }

    /// Hands one record over. An error is one for the rest of the batch, too.
    fn produce(
        &self,
        record: NewRecord<'_>,
        headers: Headers<'_>,
        word: usize,
        epoch: u64,
        until: Instant,
    ) -> Result<(), LogError> {
        let mut out = BaseRecord::with_opaque_to(record.topic, word);
        out.partition = record.partition;
        out.key = record.key;
        out.payload = record.value;
        // librdkafka takes 0 for "now", which is further off than a millisecond.
        out.timestamp = record.timestamp.map(|t| if t == 0 { 1 } else { t });
        if !headers.is_empty() {
            let all = OwnedHeaders::new_with_capacity(headers.len());
            out.headers = Some(headers.iter().fold(all, |all, (key, value)| all.insert(Header { key, value })));
        }
        loop {
            if self.tracker.epoch() != epoch {
                return Err(LogError::Purged);
            }
            match self.client.send(out) {
                Ok(()) => return Ok(()),
                Err((e, back)) if code(&e) == Some(RDKafkaErrorCode::QueueFull) => {
                    if Instant::now() >= until {
                        return Err(self.too_late());
                    }
                    out = back;
                    std::thread::sleep(MOMENT);
                }
                Err((e, _)) => {
                    let fatal = if code(&e) == Some(RDKafkaErrorCode::Fatal) { self.fatal() } else { None };
                    self.deliveries
                        .failed(word, |record| fatal.unwrap_or_else(|| undelivered(&self.error_context, &e, record)));
                    return Ok(());
                }
            }
        }
    }

    /// The error that ended this producer for good, if there is one.
    pub(super) fn fatal(&self) -> Option<LogError> {
        let (code, reason) = self.client.client().fatal_error()?;
        Some(match self.error_context.coded("producing", code, &reason) {
            fenced @ LogError::Fenced { .. } => fenced,
            _ => LogError::Fatal { what: "producing".into(), reason },
        })
    }
}
