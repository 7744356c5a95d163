//! With at-least-once delivery, what all tasks of an instance hand over: at once, or alone.
//!
//! The client packs the records of several tasks into one batch, which Kafka refuses as a whole. Only of a record that was
//! on its way while nothing else was, it is known whether its topic takes it. So a task that looks for the culprit asks for
//! its batch to be sent alone: what is on its way ends first, and what others hand over meanwhile waits.
//!
//! Invariant: the batches of a task are sent in the order in which they were handed over. Behind a batch that is to be sent
//! alone, a task hands over only such batches until all of them are delivered, also when its search has ended meanwhile: while
//! another task's batch is sent alone, what is not to be sent alone waits apart, and goes before the next that is.
//!
//! Invariant: nothing that waits here is sent once its task has ended, or after a purge: the partition may have another owner
//! by then, and the write would land behind the owner's own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::log::{Delivery, FailedRecord, LogError, LogResult, ProduceBatch, Producer, TopicPartition};

type Sent = BoxFuture<'static, Delivery>;

/// The tasks' end.
pub(super) struct Gate {
    producer: Arc<dyn Producer>,
    queue: Arc<Mutex<Queue>>,
    alone: mpsc::UnboundedSender<Alone>,
    /// A task was once gone before all that it handed over had ended: without a purge, or by one.
    abandoned: AtomicBool,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    /// How often all was failed: what was asked for before is void.
    purges: u64,
    waiting: VecDeque<(Arc<ProduceBatch>, oneshot::Sender<Sent>)>,
}

struct Alone {
    batch: Arc<ProduceBatch>,
    done: oneshot::Sender<Delivery>,
    /// The purges when it was handed over.
    purges: u64,
}

impl Gate {
    /// The tasks' end, and the future that sends what is to be sent alone. It ends when the tasks' end is dropped.
    pub(super) fn new(producer: Arc<dyn Producer>) -> (Self, BoxFuture<'static, LogResult<()>>) {
        let (alone, asked) = mpsc::unbounded_channel();
        let queue = Arc::default();
        let work = send_alone(Arc::clone(&producer), Arc::clone(&queue), asked);
        (Self { producer, queue, alone, abandoned: AtomicBool::new(false) }, work.boxed())
    }

    pub(super) fn producer(&self) -> &Arc<dyn Producer> {
        &self.producer
    }

    pub(super) fn send(&self, batch: Arc<ProduceBatch>) -> Sent {
        let mut queue = lock(&self.queue);
        if !queue.closed {
            return self.producer.send(batch);
        }
        let (go, sent) = oneshot::channel();
        queue.waiting.push_back((batch, go));
        async move {
            match sent.await {
                Ok(delivery) => delivery.await,
                Err(_) => failed(LogError::Purged),
            }
        }
        .boxed()
    }

    pub(super) fn send_alone(&self, batch: Arc<ProduceBatch>) -> Sent {
        let (done, delivery) = oneshot::channel();
        let purges = lock(&self.queue).purges;
        // One that can't be sent drops `done`, which is answered below.
        _ = self.alone.send(Alone { batch, done, purges });
        delivery.map(|d| d.unwrap_or_else(|_| failed(LogError::Closed { what: "the producer".into() }))).boxed()
    }

    /// A task ended before all batches that it handed over did.
    pub(super) fn abandoned(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Waits for the batches that a former task may still have on their way to a partition.
    pub(super) async fn settled(&self, partition: TopicPartition) -> LogResult<()> {
        if self.abandoned.load(Ordering::Acquire) {
            self.producer.settled(partition).await?;
        }
        Ok(())
    }

    /// Fails all that is not acknowledged.
    pub(super) fn purge(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.purges += 1;
            std::mem::take(&mut queue.waiting)
        };
        self.producer.purge();
        drop(waiting);
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send_alone(
    producer: Arc<dyn Producer>,
    queue: Arc<Mutex<Queue>>,
    mut asked: mpsc::UnboundedReceiver<Alone>,
) -> LogResult<()> {
    while let Some(Alone { batch, done, purges }) = asked.recv().await {
        if !done.is_closed() {
            lock(&queue).closed = true;
            // It fails only if the producer is closed, and then the batch fails, too.
            _ = producer.flush().await;
        }
        // Its task may be gone, also since the flush began.
        let sent = {
            let queue = lock(&queue);
            (!done.is_closed() && queue.purges == purges).then(|| producer.send(batch))
        };
        let delivery = match sent {
            Some(sent) => sent.await,
            None => failed(LogError::Purged),
        };
        let mut queue = lock(&queue);
        queue.closed = false;
        for (batch, go) in queue.waiting.drain(..).filter(|(_, go)| !go.is_closed()) {
            _ = go.send(producer.send(batch));
        }
        drop(queue);
        _ = done.send(delivery);
    }
    Ok(())
}

/// The index is of no meaning: the whole batch is meant.
fn failed(error: LogError) -> Delivery {
    Delivery { last_offsets: Vec::new(), failed: vec![FailedRecord { index: 0, error }] }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::log::embedded::InMemory;
    use crate::log::{Isolation, Log, NewRecord, OffsetSpec, ProducerOptions, TopicPartition, TopicSpec};

    fn one(text: &str) -> Arc<ProduceBatch> {
        let (topic, bytes) = (Arc::from("out"), Some(text.as_bytes()));
        let record = NewRecord { topic: &topic, partition: Some(0), timestamp: None, key: bytes, value: bytes };
        let mut batch = ProduceBatch::new();
        batch.push(record, std::iter::empty());
        Arc::new(batch)
    }

    /// Hands over a batch, and a second one to be sent alone; does something while that waits for the first one's end.
    /// Gives the number of batches that are written in the end.
    async fn written(meanwhile: impl FnOnce(&Gate, Sent) -> Option<Sent>) -> (i64, Option<Delivery>) {
        let log = InMemory::new();
        log.create_topics(vec![TopicSpec::new("out").partitions(1)]).await.unwrap();
        let (gate, work) = Gate::new(log.producer(ProducerOptions::default()).await.unwrap());
        tokio::spawn(work);
        let held = log.faults().on(|r| r.key == Some(b"first")).hold_acks();
        let first = gate.send(one("first"));
        let alone = gate.send_alone(one("alone"));
        // Everybody who has something to do does it before time passes.
        sleep(Duration::from_millis(1)).await;
        let kept = meanwhile(&gate, alone);
        drop(held);
        first.await;
        let kept = match kept {
            Some(alone) => Some(alone.await),
            None => None,
        };
        sleep(Duration::from_millis(1)).await;
        let end = vec![(TopicPartition::new("out", 0), OffsetSpec::Latest)];
        (log.offsets(end, Isolation::ReadUncommitted).await.unwrap()[0], kept)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_to_be_sent_alone_is_sent_once_the_others_are_done() {
        let (written, delivery) = written(|_, alone| Some(alone)).await;
        assert_eq!((written, delivery.map(|d| d.failed.len())), (2, Some(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_to_be_sent_alone_is_not_sent_when_its_task_is_gone() {
        let (written, _) = written(|_, alone| {
            drop(alone);
            None
        })
        .await;
        assert_eq!(written, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_to_be_sent_alone_is_not_sent_after_a_purge() {
        let (written, delivery) = written(|gate, alone| {
            gate.purge();
            Some(alone)
        })
        .await;
        let delivery = delivery.unwrap();
        assert!(delivery.failed.iter().any(|f| matches!(f.error, LogError::Purged)), "{delivery:?}");
        assert_eq!(written, 1);
    }
}
