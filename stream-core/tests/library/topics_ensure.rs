//! `ensure_topic`: a topic that no group owns is made, or compared with what was asked for.

use stream_core::InMemory;
use stream_core::log::{Cleanup, LogHandle, TopicConfig, TopicSpec};
use stream_core::topics::{EnsureTopicError, ensure_topic};

use crate::support::Done;

fn prices() -> TopicSpec {
    let config = TopicConfig::new().cleanup(Cleanup::Compact).retention_ms(1000);
    TopicSpec::new("prices").partitions(3).config(config)
}

#[tokio::test]
async fn it_is_made_once_and_found_again() -> Done {
    let log: LogHandle = InMemory::new();
    for _ in 0..2 {
        let is = ensure_topic(&log, prices()).await?;
        assert_eq!((is.partitions, is.config.cleanup, is.config.retention_ms), (3, Some(Cleanup::Compact), Some(1000)));
    }
    // What is left open may be anything.
    assert_eq!(ensure_topic(&log, TopicSpec::new("prices")).await?.partitions, 3);
    Ok(())
}

#[tokio::test]
async fn several_at_once_get_the_same_topic() -> Done {
    let log: LogHandle = InMemory::new();
    let all = futures::future::join_all((0..8).map(|_| ensure_topic(&log, prices()))).await;
    assert!(all.into_iter().all(|is| is.is_ok_and(|is| is.partitions == 3)));
    Ok(())
}

#[tokio::test]
async fn a_difference_is_an_error_that_names_both_and_nothing_is_altered() -> Done {
    let log: LogHandle = InMemory::new();
    ensure_topic(&log, prices()).await?;
    let error = |spec: TopicSpec| async {
        match ensure_topic(&log, spec).await {
            Err(EnsureTopicError::Differs { topic, problem, remedy }) => format!("{topic} {problem}; {remedy}"),
            other => panic!("{other:?}"),
        }
    };
    let partitions = error(prices().partitions(4)).await;
    assert!(partitions.contains("has 3 partitions, and 4 were asked for"), "{partitions}");
    let replicas = error(prices().replication(2)).await;
    assert!(replicas.contains("has 1 replicas, and 2 were asked for"), "{replicas}");
    let config = TopicConfig::new().cleanup(Cleanup::Delete).retention_ms(7);
    let settings = error(prices().config(config)).await;
    assert!(settings.contains("has cleanup.policy=compact,retention.ms=1000"), "{settings}");
    assert!(settings.contains("--add-config cleanup.policy=delete,retention.ms=7"), "{settings}");
    assert_eq!(ensure_topic(&log, prices()).await?.config.cleanup, Some(Cleanup::Compact));
    Ok(())
}
