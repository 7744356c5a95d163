//! Graceful moves of co-partitioned inputs on a real Kafka, with both group protocols.

use std::sync::Arc;
use std::time::Duration;

use stream_core::processor::{Guarantee, Processor};

use crate::cases::moves::{Plan, three_instances_join_and_leave};
use crate::kafka_support::counting::{Again, KEYS, PARTITIONS, check, feed, graph};
use crate::kafka_support::{Feed, Running, bounded, done, ends, kafka, topic, unique, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn classic_protocol() {
    let plan =
        Plan { new_protocol: false, guarantee: Guarantee::AtLeastOnce, moves: 14, seed: 0x5eed_0001, repeats: false };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn new_protocol() {
    let plan =
        Plan { new_protocol: true, guarantee: Guarantee::AtLeastOnce, moves: 8, seed: 0x5eed_0002, repeats: false };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn classic_protocol_exactly_once() {
    let plan =
        Plan { new_protocol: false, guarantee: Guarantee::ExactlyOnce, moves: 14, seed: 0x5eed_0004, repeats: false };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn new_protocol_exactly_once() {
    let plan =
        Plan { new_protocol: true, guarantee: Guarantee::ExactlyOnce, moves: 8, seed: 0x5eed_0005, repeats: false };
    bounded(400, three_instances_join_and_leave(&kafka(), plan)).await;
}

/// One that is to stop while its producer is being made leaves nothing behind that fences the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn stopped_while_it_starts_it_fences_nobody() {
    bounded(300, async {
        let log = kafka();
        let (input, out) = (topic(&log, "early-in", PARTITIONS).await, topic(&log, "early-out", PARTITIONS).await);
        let (group, state) = (unique("early"), tempfile::tempdir().unwrap());
        let processor = || {
            Processor::new(graph(&group, &input, &out), Arc::clone(&log))
                .guarantee(Guarantee::ExactlyOnce)
                .state_dir(state.path())
        };
        let mut input_feed = Feed::new(&log).await;
        for round in 0..10 {
            let early = Running::start(processor());
            // Another moment of its start each time.
            tokio::time::sleep(Duration::from_millis(round * 4)).await;
            early.stop().await;
            let running = Running::start(processor());
            feed(&mut input_feed, &input, round..round + 1).await;
            let all = i64::try_from((round + 1) * KEYS).unwrap();
            until("it is done, or failed", async || {
                running.task.is_finished() || ends(&log, &out, PARTITIONS).await.iter().sum::<i64>() >= all
            })
            .await;
            running.stop().await;
        }
        done(&log, &group, &[(&input, PARTITIONS)]).await;
        assert_eq!(check(&log, &group, &out, 10).await, Again::default());
    })
    .await;
}
