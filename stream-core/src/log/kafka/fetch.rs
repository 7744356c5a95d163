//! One partition's queue of librdkafka as a [`Fetch`].
//!
//! Invariants:
//! - The queue lives in a [`FetchSlot`] that its owner (a member or a reader) empties before the partition is unassigned: a
//!   `Fetch` that is kept too long finds nothing there, it can never steal records of a later assignment.
//! - librdkafka's callback runs under the queue's lock: it wakes, and must never touch the queue or the slot.
//! - A waker is registered before the last look into the queue, so that no wake-up is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};

use super::connection::Connection;
use super::context::lock;
use super::error::{code, passing, words};
use super::rebalance::{Consumer, ConsumerCtx};
use crate::log::{
    ErrorClass, Fetch, FetchLimits, Fetched, Isolation, LogError, LogResult, RecordBatch, TopicPartition,
};

/// Where a partition's queue is, as long as the partition is assigned.
pub(super) struct FetchSlot {
    queue: Mutex<Option<PartitionQueue<ConsumerCtx>>>,
    waker: Arc<AtomicWaker>,
}

impl FetchSlot {
    /// Splits a partition's queue off. Must come before the partition is assigned.
    pub(super) fn open(consumer: &Arc<Consumer>, tp: &TopicPartition) -> LogResult<Arc<Self>> {
        let queue = consumer.split_partition_queue(&tp.topic, tp.partition);
        let mut queue = queue
            .ok_or_else(|| LogError::Config { what: format!("reading {tp}"), reason: "no such name can be".into() })?;
        let waker = Arc::new(AtomicWaker::new());
        let woken = Arc::clone(&waker);
        queue.set_nonempty_callback(move || woken.wake());
        Ok(Arc::new(Self { queue: Mutex::new(Some(queue)), waker }))
    }

    /// Has its reader look again.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Takes the queue away: nothing is read from it any more once this returns.
    pub(super) fn close(&self) {
        let taken = lock(&self.queue).take();
        drop(taken);
    }
}

/// The owner of a partition, as its `Fetch` needs it.
pub(super) trait Owner: Send + Sync + 'static {
    fn connection(&self) -> &Arc<Connection>;
    fn isolation(&self) -> Isolation;
    /// Where the consumer is in a partition, markers of transactions included; asked for when an end is reached.
    /// `None`: the position behind the last record will do, unless it has to be `exact`.
    fn position(
        self: Arc<Self>,
        tp: &TopicPartition,
        exact: bool,
    ) -> Option<BoxFuture<'static, LogResult<Option<i64>>>>;
    /// Makes the consumer go on at an offset.
    fn seek(self: Arc<Self>, tp: &TopicPartition, offset: i64) -> BoxFuture<'static, LogResult<()>>;
    /// The `Fetch` was dropped; its slot is closed.
    fn dropped(self: Arc<Self>, tp: &TopicPartition);
    /// Whether nothing more can come. The reader is woken when that changes.
    fn has_lost_brokers(&self) -> bool {
        false
    }
}

pub(super) struct KafkaFetch {
    tp: TopicPartition,
    slot: Arc<FetchSlot>,
    owner: Arc<dyn Owner>,
    /// The next offset to yield; nothing below it is.
    position: i64,
    /// One record that did not fit into the last batch. Keeps its memory.
    spare: RecordBatch,
    /// The result to return before more is read.
    next: Option<LogResult<Fetched>>,
    /// A seek, or a look-up of the partition's bounds or of its end, that is under way. The end comes of it.
    busy: Option<BoxFuture<'static, LogResult<Option<i64>>>>,
    /// The log does not have `position`: nothing comes before a seek.
    out_of_range: bool,
    /// Ends are asked for.
    exact: bool,
    nameless: Nameless,
}

/// Headers that were left out because their names are not UTF-8.
#[derive(Default)]
struct Nameless(u64);

impl Nameless {
    /// Counts one more. Logs at 1, 2, 4, 8 ... of them.
    fn count(&mut self, tp: &TopicPartition, offset: i64) {
        self.0 += 1;
        if self.0.is_power_of_two() {
            let left_out = self.0;
            tracing::warn!(target: "kafka", partition = %tp, offset, left_out, "a header's name is not UTF-8: left out");
        }
    }
}

/// Why reading stopped.
enum Stop {
    Full,
    Empty,
    /// After the records read, if any.
    Then(LogError),
    End,
    OutOfRange,
    Closed,
}

impl KafkaFetch {
    pub(super) fn new(tp: TopicPartition, slot: Arc<FetchSlot>, owner: Arc<dyn Owner>, position: i64) -> Self {
        Self {
            tp,
            slot,
            owner,
            position,
            spare: RecordBatch::new(),
            next: None,
            busy: None,
            out_of_range: false,
            exact: false,
            nameless: Nameless::default(),
        }
    }

    fn drain(&mut self, into: &mut RecordBatch, limits: FetchLimits) -> Stop {
        let queue = lock(&self.slot.queue);
        let Some(queue) = &*queue else { return Stop::Closed };
        loop {
            if into.len() >= limits.records.max(1) {
                return Stop::Full;
            }
            match queue.poll(Duration::ZERO) {
                None => return Stop::Empty,
                Some(Ok(message)) => {
                    let offset = message.offset();
                    if offset < self.position {
                        continue;
                    }
                    self.position = offset + 1;
                    let size = message.key_len() + message.payload_len();
                    if !into.is_empty() && into.bytes() + size > limits.bytes {
                        self.spare.clear();
                        push(&mut self.spare, &message, &self.tp, &mut self.nameless);
                        return Stop::Full;
                    }
                    push(into, &message, &self.tp, &mut self.nameless);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Stop::End,
                Some(Err(e)) => match code(&e) {
                    Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                        return Stop::OutOfRange;
                    }
                    // librdkafka goes on without us.
                    Some(code) if passing(code) => {
                        tracing::debug!(target: "kafka", partition = %self.tp, %code, "fetching again");
                    }
                    Some(code) => return Stop::Then(self.failed(code)),
                    None => return Stop::Then(self.fatal(e.to_string())),
                },
            }
        }
    }

    /// Waits for what is under way.
    fn poll_busy(&mut self, cx: &mut Context<'_>) -> Poll<LogResult<()>> {
        while let Some(busy) = &mut self.busy {
            let done = std::task::ready!(busy.as_mut().poll(cx));
            self.busy = None;
            match done {
                // A look-up takes its bound before it gives up, and without it there is nothing to say.
                Err(e) if self.out_of_range && e.class() == ErrorClass::Retriable => self.look_up_bounds(),
                Err(e) => return Poll::Ready(Err(e)),
                Ok(Some(end)) => self.reach(end),
                Ok(None) => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The end is reached. The library says that, but not where it is: markers lie between the last record and it.
    fn at_end(&mut self) {
        match Arc::clone(&self.owner).position(&self.tp, self.exact) {
            None => self.reach(self.position),
            Some(asked) => self.busy = Some(asked),
        }
    }

    fn reach(&mut self, end: i64) {
        self.position = self.position.max(end);
        self.next = Some(Ok(Fetched::End(self.position)));
    }

    fn failed(&self, code: RDKafkaErrorCode) -> LogError {
        use RDKafkaErrorCode as C;
        let error_context = &self.owner.connection().error_context;
        match code {
            C::UnknownTopicOrPartition | C::UnknownTopic => LogError::UnknownTopic { topic: self.tp.topic.to_string() },
            C::UnknownPartition => LogError::UnknownPartition { partition: self.tp.clone() },
            _ => {
                let detail = error_context.health.partition_error();
                let reason = if detail.is_empty() { words(code) } else { format!("{detail}: {}", words(code)) };
                error_context.coded(&format!("fetching from {}", self.tp), code, &reason)
            }
        }
    }

    fn fatal(&self, reason: String) -> LogError {
        LogError::Fatal { what: format!("fetching from {}", self.tp), reason }
    }

    /// Finds out what the partition has, to say so.
    fn look_up_bounds(&mut self) {
        self.out_of_range = true;
        let (connection, isolation) = (Arc::clone(self.owner.connection()), self.owner.isolation());
        let (partition, offset) = (self.tp.clone(), self.position);
        let pool = connection.pool.clone();
        let ask = move || {
            let (start, end) = connection.bounds(&partition, isolation)?;
            Err(LogError::OffsetOutOfRange { partition, offset, start, end })
        };
        self.busy = Some(pool.run("looking up a partition's bounds", ask));
    }
}

fn push(into: &mut RecordBatch, message: &BorrowedMessage<'_>, tp: &TopicPartition, nameless: &mut Nameless) {
    let timestamp = message.timestamp().to_millis().unwrap_or(-1);
    let (key, value) = (message.key(), message.payload());
    let Some(headers) = message.headers() else {
        return into.push(message.offset(), timestamp, key, value, std::iter::empty());
    };
    // The library hands names out as text only, and panics on one that is not UTF-8: such a header is left out, the
    // record is not. The panic's message on stderr can't be prevented from here.
    let named = (0..headers.count()).filter_map(|i| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(i)));
        let header = header.unwrap_or_else(|_| {
            nameless.count(tp, message.offset());
            None
        });
        header.map(|h| (h.key, h.value))
    });
    into.push(message.offset(), timestamp, key, value, named);
}

impl crate::log::Sealed for KafkaFetch {}

impl Fetch for KafkaFetch {
    fn poll_fetch(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut RecordBatch,
        limits: FetchLimits,
    ) -> Poll<LogResult<Fetched>> {
        into.clear();
        std::task::ready!(self.poll_busy(cx))?;
        if let Some(r) = self.spare.get(0) {
            into.push(r.offset, r.timestamp, r.key, r.value, r.headers.iter());
        }
        self.spare.clear();
        let mut registered = false;
        loop {
            if into.is_empty()
                && let Some(next) = self.next.take()
            {
                return Poll::Ready(next);
            }
            let held = self.next.is_some() || self.busy.is_some();
            let stop = if held { Stop::Full } else { self.drain(into, limits) };
            match stop {
                Stop::Then(error) => self.next = Some(Err(error)),
                Stop::End => self.at_end(),
                Stop::OutOfRange => self.look_up_bounds(),
                Stop::Full | Stop::Empty | Stop::Closed => {}
            }
            if !into.is_empty() {
                return Poll::Ready(Ok(Fetched::Records));
            }
            std::task::ready!(self.poll_busy(cx))?;
            if self.next.is_none() {
                if registered && self.owner.has_lost_brokers() {
                    let brokers = self.owner.connection().options.brokers.clone();
                    return Poll::Ready(Err(LogError::BrokersLost { brokers }));
                }
                if registered {
                    return Poll::Pending;
                }
                self.slot.waker.register(cx.waker());
                registered = true;
            }
        }
    }

    fn seek(&mut self, offset: i64) -> BoxFuture<'_, LogResult<()>> {
        self.spare.clear();
        self.next = None;
        self.position = offset;
        self.out_of_range = false;
        // Kept here, so that a seek whose future is dropped still ends before anything is read.
        let sought = Arc::clone(&self.owner).seek(&self.tp, offset);
        self.busy = Some(Box::pin(async { sought.await.map(|()| None) }));
        Box::pin(std::future::poll_fn(|cx| self.poll_busy(cx)))
    }

    fn know_ends(&mut self) {
        self.exact = true;
    }
}

impl Drop for KafkaFetch {
    fn drop(&mut self) {
        self.slot.close();
        Arc::clone(&self.owner).dropped(&self.tp);
    }
}
