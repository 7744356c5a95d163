//! With at-least-once delivery, what all tasks of an instance hand over: at once, or alone.
//!
//! The client packs the records of several tasks into one batch, which Kafka refuses as a whole. Only of a record that was
//! on its way while nothing else was, it is known whether its topic takes it. So a task that looks for the culprit asks for
//! its batch to be sent alone: what is on its way ends first, and what others hand over meanwhile waits.
//!
//! Invariant: the batches of a task are sent in the order in which they were handed over. A task hands nothing over behind a
//! batch that is to be sent alone before that is delivered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::log::{Delivery, FailedRecord, LogError, LogResult, ProduceBatch, Producer};

type Sent = BoxFuture<'static, Delivery>;

/// The tasks' end.
pub(super) struct Gate {
    producer: Arc<dyn Producer>,
    queue: Arc<Mutex<Queue>>,
    alone: mpsc::UnboundedSender<Alone>,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    waiting: VecDeque<(Arc<ProduceBatch>, oneshot::Sender<Sent>)>,
}

struct Alone {
    batch: Arc<ProduceBatch>,
    done: oneshot::Sender<Delivery>,
}

impl Gate {
    /// The tasks' end, and the future that sends what is to be sent alone. It ends when the tasks' end is gone.
    pub(super) fn new(producer: Arc<dyn Producer>) -> (Self, BoxFuture<'static, LogResult<()>>) {
        let (alone, asked) = mpsc::unbounded_channel();
        let queue = Arc::default();
        let work = send_alone(Arc::clone(&producer), Arc::clone(&queue), asked);
        (Self { producer, queue, alone }, work.boxed())
    }

    pub(super) fn producer(&self) -> &Arc<dyn Producer> {
        &self.producer
    }

    pub(super) fn send(&self, batch: Arc<ProduceBatch>) -> Sent {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
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
        // One that can't be sent drops `done`, which is answered below.
        _ = self.alone.send(Alone { batch, done });
        delivery.map(|d| d.unwrap_or_else(|_| failed(LogError::Closed { what: "the producer".into() }))).boxed()
    }

    /// Fails all that is not acknowledged.
    pub(super) fn purge(&self) {
        let waiting = std::mem::take(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting);
        self.producer.purge();
        drop(waiting);
    }
}

async fn send_alone(
    producer: Arc<dyn Producer>,
    queue: Arc<Mutex<Queue>>,
    mut asked: mpsc::UnboundedReceiver<Alone>,
) -> LogResult<()> {
    while let Some(Alone { batch, done }) = asked.recv().await {
        // Its task may be gone.
        if done.is_closed() {
            continue;
        }
        queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        // It fails only if the producer is closed, which the batch is told as well.
        _ = producer.flush().await;
        let delivery = producer.send(batch).await;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
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
