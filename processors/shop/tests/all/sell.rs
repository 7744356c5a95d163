//! Selling while the log does not answer.

use std::sync::Arc;
use std::time::Duration;

use shop::sell::{Pace, SellError, Times, sell};
use shop::{Generator, codec};
use stream_core::emitter::Emitter;
use stream_core::log::embedded::InMemory;
use stream_core::log::{Log, TopicSpec};
use tokio::sync::Notify;

#[tokio::test]
async fn it_stops_though_the_log_does_not_answer() {
    let log = InMemory::new();
    log.create_topics(vec![TopicSpec::new("products")]).await.unwrap();
    let emitter = Emitter::new("products", codec::json(), Arc::clone(&log) as _).await.unwrap();
    log.faults().set_available(false);
    let (pace, stop) = (Pace { rate: 5, interval: Duration::from_millis(1), count: None }, Notify::new());
    // As soon as something is on its way.
    let written = |_| stop.notify_one();
    let sold = sell(&emitter, Generator::new(1, 0), pace, Times::Seeded, stop.notified(), written).await;
    assert!(matches!(sold, Err(SellError::Unanswered { written: 5 })), "{sold:?}");
    // What was taken is not lost: it is written once there is an answer.
    log.faults().set_available(true);
    emitter.close().await.unwrap();
}
