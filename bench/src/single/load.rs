//! Writes the input: keys in turn, so that each gets the same number of records.

use std::sync::Arc;

use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{Log as _, LogError, NewRecord, ProduceBatch, ProducerOptions, TopicSpec};

use super::Args;
use crate::Outcome;

pub(crate) fn load(args: &Args) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let log = Kafka::connect(KafkaOptions::new(&args.brokers))?;
        let spec = TopicSpec::new(args.topic.as_str()).partitions(args.partitions);
        match log.create_topics(vec![spec]).await {
            Ok(()) => {}
            Err(LogError::TopicExists { .. }) => return Err(format!("topic {} exists already", args.topic).into()),
            Err(error) => return Err(error.into()),
        }
        let producer = log.producer(ProducerOptions::default()).await?;
        let topic: Arc<str> = args.topic.as_str().into();
        let mut under_way = std::collections::VecDeque::new();
        let each = args.records / args.keys;
        for round in 0..each {
            for from in (0..args.keys).step_by(5_000) {
                let mut batch = ProduceBatch::new();
                for key in from..args.keys.min(from + 5_000) {
                    let (key, value) = (format!("key-{key}"), format!("value {round}"));
                    let record = NewRecord {
                        topic: &topic,
                        partition: None,
                        timestamp: None,
                        key: Some(key.as_bytes()),
                        value: Some(value.as_bytes()),
                    };
                    batch.push(record, std::iter::empty());
                }
                under_way.push_back(producer.send(Arc::new(batch)));
                if under_way.len() > 20
                    && let Some(oldest) = under_way.pop_front()
                {
                    check(&oldest.await)?;
                }
            }
        }
        for delivery in under_way {
            check(&delivery.await)?;
        }
        println!("{} records of {} keys in {}", each * args.keys, args.keys, args.topic);
        Ok(())
    })
}

fn check(delivery: &stream_core::log::Delivery) -> Outcome<()> {
    delivery.failed.first().map_or(Ok(()), |f| Err(f.error.clone().into()))
}
