//! The live feed: every group as it closes, to whoever listens in this process.
//!
//! It reads the groups' topic from the end it had when it was opened, and hands each group on once: one that was written
//! twice has the same id. Who is too slow, or comes back, reads the history.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashSet;
use stream_core::log::{
    Fetch, FetchLimits, Fetched, Isolation, LogError, LogHandle, LogResult, OffsetSpec, Reader, RecordBatch,
    TopicPartition,
};
use tokio::sync::broadcast::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::message::MessageGroup;

/// A listener may be so many groups behind.
const BEHIND: usize = 1024;
/// So many ids of a partition are remembered.
const REMEMBERED: usize = 4096;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The groups as they close.
#[derive(Debug)]
pub struct Feed {
    /// `None` once it is closed.
    sender: Mutex<Option<Sender<Arc<MessageGroup>>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Feed {
    /// Begins to read at the topic's end.
    ///
    /// # Errors
    /// When the topic does not exist, or the log can't be reached.
    pub async fn open(topic: &str, log: &LogHandle) -> LogResult<Self> {
        let topic: Arc<str> = topic.into();
        let found = log.topics(vec![Arc::clone(&topic)]).await?.pop().flatten();
        let found = found.ok_or_else(|| LogError::UnknownTopic { topic: topic.to_string() })?;
        let sender = channel(BEHIND).0;
        let reader = log.reader(Isolation::ReadCommitted)?;
        let mut readers = Vec::new();
        for partition in (0..found.partitions).map(|p| TopicPartition::new(Arc::clone(&topic), p)) {
            let (log, reader) = (Arc::clone(log), Arc::clone(&reader));
            let mut lane =
                Lane { position: end(&log, &partition).await?, partition, log, reader, seen: Seen::default() };
            let sender = sender.clone();
            readers.push(tokio::spawn(async move { lane.run(&sender).await }));
        }
        Ok(Self { sender: Mutex::new(Some(sender)), readers })
    }

    /// Every group from now on. `None` once it is closed.
    pub fn listen(&self) -> Option<Receiver<Arc<MessageGroup>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Sender::subscribe)
    }

    /// Ends it, and with it what every listener waits for.
    pub fn close(&self) {
        for reader in &self.readers {
            reader.abort();
        }
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

async fn end(log: &LogHandle, partition: &TopicPartition) -> LogResult<i64> {
    let of = vec![(partition.clone(), OffsetSpec::Latest)];
    Ok(log.offsets(of, Isolation::ReadCommitted).await?.pop().unwrap_or_default())
}

/// One partition.
struct Lane {
    partition: TopicPartition,
    position: i64,
    log: LogHandle,
    reader: Arc<dyn Reader>,
    seen: Seen,
}

impl Lane {
    async fn run(&mut self, to: &Sender<Arc<MessageGroup>>) {
        let mut wait = FIRST_WAIT;
        loop {
            let before = self.position;
            let Err(error) = self.read(to).await;
            tracing::warn!(%error, partition = %self.partition, "the groups can't be read; trying again");
            if matches!(error, LogError::OffsetOutOfRange { .. })
                && let Ok(end) = end(&self.log, &self.partition).await
            {
                self.position = end;
            }
            wait = if self.position > before { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
            sleep(wait).await;
        }
    }

    async fn read(&mut self, to: &Sender<Arc<MessageGroup>>) -> LogResult<std::convert::Infallible> {
        let mut fetch: Box<dyn Fetch> = self.reader.read(self.partition.clone(), self.position).await?;
        let mut batch = RecordBatch::new();
        loop {
            let fetched = poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await?;
            if matches!(fetched, Fetched::End(_)) {
                continue;
            }
            for record in batch.iter() {
                self.position = record.offset + 1;
                let Some(Ok(group)) = record.value.map(serde_json::from_slice::<MessageGroup>) else { continue };
                if self.seen.is_new(group.group_id) {
                    // Nobody may be listening.
                    _ = to.send(Arc::new(group));
                }
            }
        }
    }
}

/// The last ids.
#[derive(Default)]
struct Seen {
    ids: FxHashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl Seen {
    fn is_new(&mut self, id: Uuid) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
