//! The embedded log's [`Fetch`] and [`Reader`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::time::Sleep;

use super::state::{Shared, ready};
use crate::log::{Fetch, FetchLimits, Fetched, Isolation, LogError, LogResult, Reader, RecordBatch, TopicPartition};

/// Reads one partition.
pub(super) struct InMemoryFetch {
    shared: Arc<Shared>,
    id: u64,
    partition: TopicPartition,
    isolation: Isolation,
    position: i64,
    /// The end that was reported, until the position moves.
    reported: Option<i64>,
    /// Cleared when the partition is taken away; nothing comes any more then.
    alive: Arc<AtomicBool>,
    /// An open transaction may pin the end: the reader that waits for it sees to its time-out.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl InMemoryFetch {
    pub(super) fn new(
        shared: &Arc<Shared>,
        partition: TopicPartition,
        isolation: Isolation,
        position: i64,
        alive: Arc<AtomicBool>,
    ) -> Self {
        let id = shared.with(super::state::BrokerState::id);
        Self { shared: Arc::clone(shared), id, partition, isolation, position, reported: None, alive, alarm: None }
    }

    /// One look. `Err` of nothing: wait, until a moment if there is one.
    fn look(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut RecordBatch,
        limits: FetchLimits,
    ) -> Result<LogResult<Fetched>, Option<tokio::time::Instant>> {
        let Self { shared, id, partition: of, isolation, position, reported, alive, .. } = self;
        shared.with(|state| {
            if !alive.load(Ordering::Acquire) {
                return Err(None);
            }
            if !state.rules.readable(&of.topic) {
                state.sleep(cx);
                return Err(None);
            }
            let due = state.due;
            let partition = match state.topics.partition(of) {
                Ok(partition) => partition,
                Err(error) => return Ok(Err(error)),
            };
            let (start, end) = (partition.start, partition.next);
            if !(start..=end).contains(position) {
                return Ok(Err(LogError::OffsetOutOfRange { partition: of.clone(), offset: *position, start, end }));
            }
            let from = *position;
            *position = partition.read(from, *isolation, limits, into);
            if !into.is_empty() {
                *reported = None;
                return Ok(Ok(Fetched::Records));
            }
            if *reported != Some(*position) {
                *reported = Some(*position);
                return Ok(Ok(Fetched::End(*position)));
            }
            partition.wait(*id, cx.waker());
            Err(due.filter(|_| partition.end(*isolation) < end))
        })
    }
}

impl crate::log::Sealed for InMemoryFetch {}

impl Fetch for InMemoryFetch {
    fn poll_fetch(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut RecordBatch,
        limits: FetchLimits,
    ) -> Poll<LogResult<Fetched>> {
        into.clear();
        // A log that always has an answer must not keep its caller from ever giving way to others.
        let coop = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        loop {
            match self.look(cx, into, limits) {
                Ok(fetched) => {
                    self.alarm = None;
                    coop.made_progress();
                    return Poll::Ready(fetched);
                }
                Err(None) => {
                    self.alarm = None;
                    return Poll::Pending;
                }
                Err(Some(moment)) => {
                    let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(moment)));
                    alarm.as_mut().reset(moment);
                    if alarm.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn seek(&mut self, offset: i64) -> BoxFuture<'_, LogResult<()>> {
        self.position = offset;
        self.reported = None;
        ready(Ok(()))
    }
}

impl Drop for InMemoryFetch {
    fn drop(&mut self) {
        self.shared.with(|state| {
            if let Ok(partition) = state.topics.partition(&self.partition) {
                partition.stop_waiting(self.id);
            }
        });
    }
}

/// Reads partitions outside any group.
pub(super) struct InMemoryReader {
    shared: Arc<Shared>,
    isolation: Isolation,
}

impl InMemoryReader {
    pub(super) fn new(shared: Arc<Shared>, isolation: Isolation) -> Self {
        Self { shared, isolation }
    }
}

impl crate::log::Sealed for InMemoryReader {}

impl Reader for InMemoryReader {
    fn read(&self, partition: TopicPartition, from: i64) -> BoxFuture<'static, LogResult<Box<dyn Fetch>>> {
        let known = self.shared.with(|state| {
            state.reach(&format!("read {partition}"))?;
            state.topics.partition(&partition).map(|_| ())
        });
        let alive = Arc::new(AtomicBool::new(true));
        let fetch = known.map(|()| InMemoryFetch::new(&self.shared, partition, self.isolation, from, alive));
        ready(fetch.map(|f| Box::new(f) as Box<dyn Fetch>))
    }
}
