//! Reads partitions outside any group: one consumer that never subscribes, with a queue for each partition.
//!
//! Assigning and unassigning run in order on one thread, so that a partition that is read again at once is
//! unassigned first.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::blocking::Serial;
use super::config;
use super::connection::{Connection, Polled};
use super::context::{Ctx, lock};
use super::fetch::{KafkaFetch, Owner, Slot};
use super::query::list;
use super::rebalance::ConsumerCtx;
use crate::log::{Fetch, Isolation, LogError, LogResult, Reader, TopicPartition};

pub(super) struct KafkaReader(Arc<Shared>);

struct Shared {
    connection: Arc<Connection>,
    isolation: Isolation,
    polled: Polled,
    ops: Serial,
    reading: Mutex<BTreeSet<TopicPartition>>,
}

impl KafkaReader {
    pub(super) fn new(connection: Arc<Connection>, isolation: Isolation) -> LogResult<Self> {
        let ctx = ConsumerCtx::alone(Ctx::new("reader".into(), Arc::clone(&connection.scene.health)));
        let polled = Polled::start(&config::reader(&connection.options, isolation), ctx)?;
        let ops = Serial::start("kafka-reader")?;
        Ok(Self(Arc::new(Shared { connection, isolation, polled, ops, reading: Mutex::default() })))
    }
}

impl Reader for KafkaReader {
    fn read(&self, tp: TopicPartition, from: i64) -> BoxFuture<'static, LogResult<Box<dyn Fetch>>> {
        let shared = Arc::clone(&self.0);
        if !lock(&shared.reading).insert(tp.clone()) {
            let what = format!("reading {tp}");
            let reason = "this reader reads it already; drop the other fetch first".into();
            return futures::future::err(LogError::Config { what, reason }).boxed();
        }
        self.0.ops.run("reading a partition", move || {
            let opened = shared.assign(&tp, from);
            match opened {
                Ok(slot) => Ok(Box::new(KafkaFetch::new(tp, slot, shared, from)) as Box<dyn Fetch>),
                Err(e) => {
                    lock(&shared.reading).remove(&tp);
                    Err(e)
                }
            }
        })
    }
}

impl Shared {
    fn assign(&self, tp: &TopicPartition, from: i64) -> LogResult<Arc<Slot>> {
        self.connection.exist(std::iter::once(tp), self.connection.until())?;
        let consumer = self.polled.consumer()?;
        let slot = Slot::open(consumer, tp)?;
        let assigned = list([(tp, Offset::Offset(from))]).and_then(|l| consumer.incremental_assign(&l));
        assigned.map_err(|e| self.connection.scene.error(&format!("reading {tp}"), &e))?;
        Ok(slot)
    }

    fn unassign(&self, tp: &TopicPartition) -> LogResult<()> {
        let consumer = self.polled.consumer()?;
        let unassigned = list([(tp, Offset::Invalid)]).and_then(|l| consumer.incremental_unassign(&l));
        unassigned.map_err(|e| self.connection.scene.error(&format!("ending to read {tp}"), &e))
    }
}

impl Owner for Shared {
    fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn position(self: Arc<Self>, tp: &TopicPartition) -> Option<BoxFuture<'static, LogResult<Option<i64>>>> {
        let (shared, tp) = (Arc::clone(&self), tp.clone());
        Some(self.ops.run("looking up a position", move || {
            let what = format!("looking up the position in {tp}");
            let positions =
                shared.polled.consumer()?.position().map_err(|e| shared.connection.scene.error(&what, &e))?;
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
            let at = list([(&tp, Offset::Offset(offset))]).map_err(|e| shared.connection.scene.error(&what, &e))?;
            // A new assignment rather than a seek: that works whatever state the partition's fetching is in.
            shared.unassign(&tp)?;
            consumer.incremental_assign(&at).map_err(|e| shared.connection.scene.error(&what, &e))
        })
    }

    fn dropped(self: Arc<Self>, tp: &TopicPartition) {
        // A later read comes after this on the thread.
        lock(&self.reading).remove(tp);
        let (shared, tp) = (Arc::clone(&self), tp.clone());
        drop(self.ops.run("ending a read", move || shared.unassign(&tp)));
    }
}
