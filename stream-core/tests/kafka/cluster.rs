//! Brokers whose settings forbid what a group asks for: the run ends at once, and the error names the setting; or what is waited
//! for is shown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::Group;
use stream_core::log::LogHandle;
use stream_core::processor::{Guarantee, Processor, State, Status};
use stream_core::store::MemoryStores;

use crate::kafka_support::broker::Broker;
use crate::kafka_support::{Running, bounded, connect, topic, unique, write};

/// A group with one record to count.
async fn counting(log: &LogHandle) -> Processor {
    let input = topic(log, "in", 1).await;
    write(log, &input, None, &[("k", "1")]).await;
    let mut g = Group::define(unique("count").as_str()).table(Int64);
    g.input(&*input, Text, |ctx, _| {
        let n = ctx.value()?.unwrap_or(0);
        ctx.set(n + 1)
    });
    let stores = Arc::new(MemoryStores::new());
    Processor::new(g.build().unwrap(), Arc::clone(log)).stores(stores).workers(1)
}

/// The error with which it ends, without another start.
async fn failure(processor: Processor) -> String {
    let (starts, last) = (Arc::new(AtomicUsize::new(0)), Mutex::new(State::Created));
    let counter = Arc::clone(&starts);
    let processor = processor.on_state(move |status| {
        let before = std::mem::replace(&mut *last.lock().unwrap(), status.state);
        if status.state == State::Starting && before != State::Starting {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let error = Running::start(processor).failure().await;
    assert_eq!(starts.load(Ordering::Relaxed), 1, "{error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_setting_that_forbids_what_a_group_asks_for_ends_the_run_and_is_named() {
    bounded(240, async {
        let broker = Broker::new().configured(
            "offset.metadata.max.bytes=16\ntransaction.max.timeout.ms=20000\ngroup.min.session.timeout.ms=10000",
        );
        broker.start().await;
        let log = connect(&broker.brokers());
        for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
            let error = failure(counting(&log).await.guarantee(guarantee)).await;
            assert!(error.contains("offset.metadata.max.bytes"), "{guarantee:?}: {error}");
            let short = counting(&log).await.guarantee(guarantee).session_timeout(Duration::from_secs(6));
            let error = failure(short).await;
            assert!(error.contains("group.min.session.timeout.ms"), "{guarantee:?}: {error}");
        }
        let slow = counting(&log).await.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::from_secs(10));
        let error = failure(slow).await;
        assert!(error.contains("transaction.max.timeout.ms"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_group_without_a_coordinator_is_waited_for_and_shown() {
    bounded(240, async {
        let broker = Broker::new().configured("offsets.topic.replication.factor=2");
        broker.start().await;
        let log = connect(&broker.brokers());
        let running = Running::start(counting(&log).await);
        let waits =
            |s: &Status| s.state == State::Waiting && s.waiting.as_ref().is_some_and(|w| w.on.contains("coordinator"));
        let status = running.handle.wait_for(waits).await.unwrap();
        assert!(status.tasks.is_empty(), "{status:?}");
        running.stop().await;
    })
    .await;
}
