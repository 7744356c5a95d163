//! Views and emitters on a real Kafka: what is emitted is seen, markers of transactions do not hold a view up, and a
//! restart reads the tail.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stream_core::codec::Text;
use stream_core::emitter::Emitter;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{Cleanup, LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig, TopicSpec};
use stream_core::view::{View, ViewState};

use crate::view_support::{Line, caught_up, in_state, keys, until_has, within};

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_view_sees_what_is_emitted_past_markers_and_over_restarts() {
    let brokers = std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA must name the brokers of a real Kafka");
    let log: LogHandle = Kafka::connect(KafkaOptions::new(brokers)).unwrap();
    let id = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let topic: Arc<str> = format!("view-test-{id}").into();
    let config = TopicConfig::new().cleanup(Cleanup::Compact);
    log.create_topics(vec![TopicSpec::new(Arc::clone(&topic)).partitions(3).config(config)]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let open = async |line: &Arc<Line>| {
        let view = View::builder(Arc::clone(&topic), Text, line.clone()).state_dir(dir.path());
        caught_up(view.check_interval(Duration::from_millis(100)).open().await.unwrap()).await
    };

    let emitter = Emitter::new(Arc::clone(&topic), Text, Arc::clone(&log)).await.unwrap();
    let line = Line::to(&log);
    let view = open(&line).await;
    for n in 0..5_000 {
        drop(emitter.emit(&format!("k{n:04}"), &n.to_string()).await.unwrap());
    }
    within(emitter.flush()).await.unwrap();
    until_has(&view, "k4999", Some("4999")).await;
    let all = async {
        while keys(view.iter()).len() < 5_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(all).await;
    assert!(keys(view.iter()).is_sorted());
    assert_eq!(keys(view.prefix("k123").descending())[0], "k1239");

    // A transaction leaves a marker, which takes an offset that is no record's; an aborted one leaves records, too.
    let mut options = ProducerOptions::default();
    options.transactional_id = Some(format!("view-test-{id}").into());
    let producer = log.producer(options).await.unwrap();
    for (value, commit) in [("committed", true), ("aborted", false)] {
        producer.begin_transaction().await.unwrap();
        let mut batch = ProduceBatch::new();
        for key in ["k0000", "k0001", "k0002", "k0003"] {
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            let record = NewRecord { topic: &topic, partition: None, timestamp: None, key, value };
            batch.push(record, std::iter::empty());
        }
        let delivery = producer.send(Arc::new(batch)).await;
        assert!(delivery.failed.is_empty());
        if commit {
            producer.commit_transaction(Vec::new(), None).await.unwrap();
        } else {
            producer.abort_transaction().await.unwrap();
        }
    }
    until_has(&view, "k0003", Some("committed")).await;
    in_state(&view, ViewState::Running).await;
    within(view.close()).await;

    within(emitter.emit_acknowledged("tail", &"t".to_owned())).await.unwrap();
    within(emitter.close()).await.unwrap();
    let line = Line::to(&log);
    let view = open(&line).await;
    assert_eq!(view.get("tail").unwrap().as_deref(), Some("t"));
    assert_eq!(view.get("k0000").unwrap().as_deref(), Some("committed"));
    assert_eq!(keys(view.iter()).len(), 5_001);
    assert!(line.begun().iter().all(|(_, from)| *from > 1_000), "the tail only: {:?}", line.begun());
    within(view.close()).await;
    log.delete_topics(vec![topic]).await.unwrap();
}
