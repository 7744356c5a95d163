//! A partition's records, as they reach an instance. See [`client`](super::client).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Sleep, sleep};

use super::life::Life;
use crate::log::{Fetch, FetchLimits, Fetched, LogResult, RecordBatch, TopicPartition};

/// A fetch whose answers take time.
pub(super) struct SimFetch {
    inner: Box<dyn Fetch>,
    of: TopicPartition,
    life: Arc<Life>,
    /// The way of the next answer.
    way: Option<Pin<Box<Sleep>>>,
}

impl SimFetch {
    pub(super) fn new(inner: Box<dyn Fetch>, of: TopicPartition, life: Arc<Life>) -> Self {
        Self { inner, of, life, way: None }
    }
}

impl crate::log::Sealed for SimFetch {}

impl Fetch for SimFetch {
    fn know_ends(&mut self) {
        self.inner.know_ends();
    }

    fn poll_fetch(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut RecordBatch,
        limits: FetchLimits,
    ) -> Poll<LogResult<Fetched>> {
        if self.life.is_dead() {
            return Poll::Pending;
        }
        if let Some(way) = &mut self.way {
            ready!(way.as_mut().poll(cx));
            self.way = None;
        }
        let limits = FetchLimits { records: self.life.fetch_at_most(limits.records), ..limits };
        let fetched = ready!(self.inner.poll_fetch(cx, into, limits));
        if !self.life.pass("fetch") {
            return Poll::Pending;
        }
        let first = into.get(0).map_or(-1, |r| r.offset);
        self.life.note(format_args!("fetched {} {} from {first}", self.of, into.len()));
        let way = self.life.delay();
        if way > Duration::ZERO {
            self.way = Some(Box::pin(sleep(way)));
        }
        Poll::Ready(fetched)
    }

    fn seek(&mut self, offset: i64) -> BoxFuture<'_, LogResult<()>> {
        self.life.note(format_args!("goes back on {} to {offset}", self.of));
        self.inner.seek(offset)
    }
}
