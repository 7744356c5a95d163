//! Topics that can't take the marker that ends a transaction.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::Text;
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{Isolation, LogHandle, TopicConfig};
use stream_core::processor::{Guarantee, Processor, State};
use stream_core::store::MemoryStores;

use crate::kafka_support::broker::Broker;
use crate::kafka_support::{
    Running, bounded, connect, done, ends_of, kafka, read, topic, topic_with, unique, until, write,
};

async fn small(log: &LogHandle, bytes: i64) -> Arc<str> {
    topic_with(log, "small", 1, TopicConfig::new().max_message_bytes(bytes)).await
}

fn processor(log: &LogHandle, graph: Arc<GroupGraph>) -> Processor {
    let processor = Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1);
    processor.guarantee(Guarantee::ExactlyOnce).commit_interval(Duration::from_millis(100))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn an_output_that_takes_no_marker_is_refused_at_the_start() {
    bounded(120, async {
        let log = kafka();
        for (bytes, refused) in [(77, true), (78, false)] {
            let (group, input, out) = (unique("tiny"), topic(&log, "in", 1).await, small(&log, bytes).await);
            let mut g = Group::define(group.as_str());
            let results = g.output(&*out, Text);
            g.input(&*input, Text, move |ctx, text: String| ctx.emit(results, ctx.key(), &text));
            let start = processor(&log, g.build().unwrap());
            if refused {
                let error = Running::start(start).failure().await;
                assert!(error.contains(&format!("topic {out} has max.message.bytes=77")), "{error}");
                continue;
            }
            // Two transactions: one that does not end holds up the next one.
            let running = Running::up(start).await;
            for _ in 0..2 {
                write(&log, &input, None, &[("k", "")]).await;
                done(&log, &group, &[(&input, 1)]).await;
            }
            running.stop().await;
            assert_eq!(read(&log, &out, 1).await.len(), 2);
        }
    })
    .await;
}

/// What a callback names itself is not known before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_transaction_that_can_not_end_is_shown_as_waited_for() {
    bounded(300, async {
        let broker = Broker::started().await;
        let log = connect(&broker.brokers());
        let (group, input, out) = (unique("tiny"), topic(&log, "in", 1).await, small(&log, 77).await);
        let mut g = Group::define(group.as_str());
        let (unused, to) = (g.output(format!("{group}-out"), Text), Arc::clone(&out));
        g.input(&*input, Text, move |ctx, text: String| ctx.emit_to_topic(unused, &to, ctx.key(), &text));
        let running = Running::up(processor(&log, g.build().unwrap())).await;
        let handle = running.handle.clone();
        // One record a transaction: a batch of two is too large for the topic, and is refused before its marker is.
        write(&log, &input, None, &[("k", "")]).await;
        until("the first transaction has its record", async || {
            ends_of(&log, &out, 1, Isolation::ReadUncommitted).await == [1]
        })
        .await;
        write(&log, &input, None, &[("k", "")]).await;
        until("it says that it waits", async || handle.status().state == State::Waiting).await;
        let waiting = handle.status().waiting.unwrap();
        assert!(waiting.on.contains(&*out), "{waiting:?}");
        let brokers = broker.brokers();
        let of = ["--bootstrap-server", &brokers, "--alter", "--entity-type", "topics", "--entity-name", &out];
        let set = ["--add-config", "max.message.bytes=1048588"];
        broker.tool("ConfigCommand", &[&of[..], &set[..]].concat()).await;
        // The coordinator does not try again what was refused, but its successor does.
        broker.stop().await;
        broker.start().await;
        done(&log, &group, &[(&input, 1)]).await;
        running.stop().await;
    })
    .await;
}
