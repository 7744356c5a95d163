//! Sends an emitter's batches, and reports their outcomes.
//!
//! With nothing under way, a batch goes out at once, so that a single record does not wait. Under load, it goes out when
//! it is full or has lingered, so that records share batches.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::queue::{Next, Queue};
use crate::log::{LogError, LogResult, Producer};

/// Leaves word when the sender ends, however that comes.
struct Leaving {
    queue: Arc<Queue>,
    ended: Option<oneshot::Sender<()>>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // With close() the failures have been reported by now; otherwise nobody is left to report them to.
        if let Some((failed, error)) = self.queue.sender_gone() {
            tracing::warn!(
                topic = %self.queue.topic(), failed, ?error,
                "records were emitted, and are not known to be written; close() or flush() an emitter before it is dropped"
            );
        }
        if let Some(ended) = self.ended.take() {
            _ = ended.send(());
        }
    }
}

/// Runs until the queue is closed and everything taken is written or failed.
pub(super) fn run(
    queue: Arc<Queue>,
    producer: Arc<dyn Producer>,
    recreate: impl Fn() -> Making + Send + Sync,
    ended: oneshot::Sender<()>,
) -> impl Future<Output = ()> + Send {
    // Not made by the future's first step: a runtime may end before that.
    let leaving = Leaving { queue: Arc::clone(&queue), ended: Some(ended) };
    async move {
        send_all(&queue, producer, recreate).await;
        drop(leaving);
    }
}

/// A producer that is being made.
type Making = BoxFuture<'static, LogResult<Arc<dyn Producer>>>;

async fn send_all(queue: &Queue, mut producer: Arc<dyn Producer>, recreate: impl Fn() -> Making) {
    let mut under_way = FuturesUnordered::new();
    // How many producers came before the one that is used.
    let mut before = 0;
    loop {
        let mut until = None;
        match queue.next(under_way.is_empty()) {
            Next::Send(batches) => {
                for sealed in batches {
                    let delivery = producer.send(Arc::clone(&sealed.batch));
                    under_way.push(async move { (before, sealed, delivery.await) });
                }
            }
            Next::WaitUntil(moment) => until = Some(moment),
            Next::End if under_way.is_empty() => return,
            Next::Wait | Next::End => {}
        }
        tokio::select! {
            biased;
            Some((by, sealed, delivery)) = under_way.next() => {
                let brokers_lost = delivery.failed.iter().any(|f| matches!(f.error, LogError::BrokersLost { .. }));
                queue.delivered(sealed, delivery.failed);
                // What the old one has under way fails in its own time.
                if brokers_lost && by == before && let Ok(other) = recreate().await {
                    (producer, before) = (other, before + 1);
                }
            }
            () = queue.work.notified() => {
                // Tasks that are about to emit, too, do it first: their records go along.
                tokio::task::yield_now().await;
            }
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
    }
}
