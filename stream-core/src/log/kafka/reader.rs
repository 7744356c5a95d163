//! Reads partitions outside any group: one consumer that never subscribes, with a queue for each partition.
//!
//! Assigning and unassigning run in order on one thread, so that a partition that is read again at once is
//! unassigned first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::blocking::Serial;
use super::config;
use super::connection::{Connection, Polled};
use super::context::lock;
use super::fetch::{FetchSlot, KafkaFetch, Owner};
use super::query::list;
use crate::log::{Fetch, Isolation, LogError, LogResult, Reader, TopicPartition};

pub(super) struct KafkaReader(Mutex<Arc<Shared>>);

/// The partitions that are being read, or about to be.
type Reading = Arc<Mutex<BTreeMap<TopicPartition, Weak<FetchSlot>>>>;

struct Shared {
    connection: Arc<Connection>,
    isolation: Isolation,
    prefetch: Option<usize>,
    polled: Polled,
    ops: Serial,
    /// Changed on the thread of `ops` only, so that it says what is assigned.
    reading: Reading,
}

impl KafkaReader {
    pub(super) fn new(connection: Arc<Connection>, isolation: Isolation, prefetch: Option<usize>) -> LogResult<Self> {
        Ok(Self(Mutex::new(Shared::new(connection, isolation, prefetch)?)))
    }

    /// The client that reads; another one if that can't reach a broker any more.
    fn shared(&self) -> LogResult<Arc<Shared>> {
        let mut shared = lock(&self.0);
        if shared.polled.has_lost_brokers() {
            *shared = Shared::new(Arc::clone(&shared.connection), shared.isolation, shared.prefetch)?;
        }
        Ok(Arc::clone(&shared))
    }
}

impl Shared {
    fn new(connection: Arc<Connection>, isolation: Isolation, prefetch: Option<usize>) -> LogResult<Arc<Self>> {
        let reading = Reading::default();
        let woken = Arc::clone(&reading);
        let wake = move || lock(&woken).values().filter_map(Weak::upgrade).for_each(|slot| slot.wake());
        let config = config::reader(&connection.options, isolation, prefetch);
        let (health, brokers_lost) = (Arc::clone(&connection.error_context.health), connection.brokers_lost.some());
        let polled = Polled::start(&config, "reader".into(), health, brokers_lost, wake)?;
        let ops = Serial::start("kafka-reader")?;
        Ok(Arc::new(Self { connection, isolation, prefetch, polled, ops, reading }))
    }
}

impl crate::log::Sealed for KafkaReader {}

impl Reader for KafkaReader {
    fn read(&self, tp: TopicPartition, from: i64) -> BoxFuture<'static, LogResult<Box<dyn Fetch>>> {
        let shared = match self.shared() {
            Ok(shared) => shared,
            Err(error) => return futures::future::err(error).boxed(),
        };
        let first = shared.open(&tp, from);
        async move {
            if let Some(fetch) = first.await? {
                return Ok(fetch);
            }
            // Of a read that was given up while it was carried out, the end comes right behind it on the thread.
            let again = shared.open(&tp, from).await?;
            again.ok_or_else(|| LogError::Config {
                what: format!("reading {tp}"),
                reason: "this reader reads it already; drop the other fetch first".into(),
            })
        }
        .boxed()
    }
}

impl Shared {
    /// Begins to read; `None` if it is being read.
    fn open(self: &Arc<Self>, tp: &TopicPartition, from: i64) -> BoxFuture<'static, LogResult<Option<Box<dyn Fetch>>>> {
        let (shared, tp) = (Arc::clone(self), tp.clone());
        self.ops.run("reading a partition", move || {
            if lock(&shared.reading).contains_key(&tp) {
                return Ok(None);
            }
            lock(&shared.reading).insert(tp.clone(), Weak::new());
            match shared.assign(&tp, from) {
                Ok(slot) => {
                    lock(&shared.reading).insert(tp.clone(), Arc::downgrade(&slot));
                    Ok(Some(Box::new(KafkaFetch::new(tp, slot, shared, from)) as Box<dyn Fetch>))
                }
                Err(e) => {
                    lock(&shared.reading).remove(&tp);
                    Err(e)
                }
            }
        })
    }

    fn assign(&self, tp: &TopicPartition, from: i64) -> LogResult<Arc<FetchSlot>> {
        self.connection.exist(std::iter::once(tp), self.connection.until())?;
        let consumer = self.polled.consumer()?;
        let slot = FetchSlot::open(consumer, tp)?;
        let assigned = list([(tp, Offset::Offset(from))]).and_then(|l| consumer.incremental_assign(&l));
        assigned.map_err(|e| self.connection.error_context.error(&format!("reading {tp}"), &e))?;
        Ok(slot)
    }

    fn unassign(&self, tp: &TopicPartition) -> LogResult<()> {
        let consumer = self.polled.consumer()?;
        let unassigned = list([(tp, Offset::Invalid)]).and_then(|l| consumer.incremental_unassign(&l));
        unassigned.map_err(|e| self.connection.error_context.error(&format!("ending to read {tp}"), &e))
    }
}

impl Owner for Shared {
    fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn has_lost_brokers(&self) -> bool {
        self.polled.has_lost_brokers()
    }

    fn position(self: Arc<Self>, tp: &TopicPartition, _: bool) -> Option<BoxFuture<'static, LogResult<Option<i64>>>> {
        let (shared, tp) = (Arc::clone(&self), tp.clone());
        Some(self.ops.run("looking up a position", move || {
            let what = format!("looking up the position in {tp}");
            let positions =
                shared.polled.consumer()?.position().map_err(|e| shared.connection.error_context.error(&what, &e))?;
            // None yet: no record and no marker has come since the read began, which is the position, then.
            let found = positions.find_partition(&tp.topic, tp.partition);
            Ok(Some(found.and_then(|e| e.offset().to_raw()).unwrap_or(-1)))
        }))
    }

    fn seek(self: Arc<Self>, tp: &TopicPartition, offset: i64) -> BoxFuture<'static, LogResult<()>> {
        let (shared, tp) = (Arc::clone(&self), tp.clone());
        self.ops.run("seeking", move || {
            let what = format!("seeking {tp} to {offset}");
            let consumer = shared.polled.consumer()?;
            let at =
                list([(&tp, Offset::Offset(offset))]).map_err(|e| shared.connection.error_context.error(&what, &e))?;
            // A new assignment rather than a seek: that works whatever state the partition's fetching is in.
            shared.unassign(&tp)?;
            consumer.incremental_assign(&at).map_err(|e| shared.connection.error_context.error(&what, &e))
        })
    }

    fn dropped(self: Arc<Self>, tp: &TopicPartition) {
        let (shared, tp) = (Arc::clone(&self), tp.clone());
        let end = move || {
            lock(&shared.reading).remove(&tp);
            shared.unassign(&tp)
        };
        drop(self.ops.run("ending a read", end));
    }
}
