//! What goes away under those who use it: topics that are made anew, records by retention, a group's offsets, a
//! transactional id.

use std::sync::Arc;

use stream_core::log::{
    ErrorClass, Isolation, LogError, LogHandle, NewRecord, OffsetSpec, ProduceBatch, TopicConfig, TopicSpec,
};

use super::helper::{
    Client, all_arrived, bare, batch, fetch_one, lead_of, lead_options, open, producer, read_all, take, tp,
    transactional, values, write, write_numbers,
};
use super::{World, topic, topic_with, unique, until};

const COMMITTED: Isolation = Isolation::ReadCommitted;

/// Deletes a topic and makes it again.
async fn make_anew(log: &LogHandle, name: &Arc<str>) {
    log.delete_topics(vec![Arc::clone(name)]).await.unwrap();
    until("the topic is gone", async || log.topics(vec![Arc::clone(name)]).await.unwrap()[0].is_none()).await;
    log.create_topics(vec![TopicSpec::new(Arc::clone(name)).partitions(1)]).await.unwrap();
}

async fn committed(log: &LogHandle, group: &Arc<str>, name: &Arc<str>) -> Option<i64> {
    log.group_offsets(Arc::clone(group), vec![tp(name, 0)]).await.unwrap()[0]
}

pub async fn offsets_go_with_their_topic(world: &impl World) {
    if !world.caps().admin || !world.caps().group_admin {
        return;
    }
    let (log, lead, name, group) = (world.log(), topic(world, 1).await, topic(world, 1).await, unique("g"));
    write_numbers(&producer(&log).await, &name, 0, 0, 5).await;
    let client = Client::join(&log, lead_options(&group, lead_of(&lead, &[&name])));
    client.owns(1).await;
    client.group.commit(vec![(tp(&name, 0), 5)]).await.unwrap();
    assert_eq!(committed(&log, &group, &name).await, Some(5));
    make_anew(&log, &name).await;
    until("the offset is gone", async || committed(&log, &group, &name).await.is_none()).await;
    // The member keeps its partitions; nothing of it is revoked.
    assert_eq!((client.owned().len(), client.history().len()), (1, 1), "{:?}", client.history());
    client.close().await;
}

/// The fetch's next answer that is not about the moment without the topic.
async fn settled(fetch: &mut dyn stream_core::log::Fetch) -> Result<Vec<String>, LogError> {
    loop {
        match fetch_one(fetch).await {
            Ok((_, records)) if records.is_empty() => {}
            Ok((_, records)) => return Ok(values(&records)),
            Err(LogError::UnknownTopic { .. } | LogError::UnknownPartition { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

pub async fn a_position_beyond_the_topic_made_anew_is_out_of_range(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    write_numbers(&producer(&log).await, &name, 0, 0, 5).await;
    let mut fetch = open(&log, &name, 0, 0, COMMITTED).await;
    take(&mut *fetch, 5).await;
    make_anew(&log, &name).await;
    let error = settled(&mut *fetch).await.unwrap_err();
    assert_eq!(error, LogError::OffsetOutOfRange { partition: tp(&name, 0), offset: 5, start: 0, end: 0 });
    fetch.seek(0).await.unwrap();
    write_numbers(&producer(&log).await, &name, 0, 10, 1).await;
    assert_eq!(settled(&mut *fetch).await.unwrap(), ["10"]);
}

pub async fn a_position_of_the_topic_before_counts_on_the_one_made_anew(world: &impl World) {
    if !world.caps().admin || !world.caps().group_admin {
        return;
    }
    let (log, lead, name, group) = (world.log(), topic(world, 1).await, topic(world, 1).await, unique("g"));
    write_numbers(&producer(&log).await, &name, 0, 0, 5).await;
    let client = Client::join(&log, lead_options(&group, lead_of(&lead, &[&name])));
    client.owns(1).await;
    client.group.commit(vec![(tp(&name, 0), 5)]).await.unwrap();
    make_anew(&log, &name).await;
    until("the offset is gone", async || committed(&log, &group, &name).await.is_none()).await;
    write_numbers(&producer(&log).await, &name, 0, 10, 8).await;
    // Nobody knows that it is not the topic's: neither who takes the commit, nor who reads on from it.
    let taken = async || client.group.commit(vec![(tp(&name, 0), 5)]).await.is_ok();
    until("the commit is taken", taken).await;
    assert_eq!(committed(&log, &group, &name).await, Some(5));
    client.close().await;
    let client = Client::join(&log, lead_options(&group, lead_of(&lead, &[&name])));
    client.owns(1).await;
    let mut assigned = client.take(&tp(&name, 0));
    assert_eq!((assigned.start, assigned.committed), (5, true));
    assert_eq!(values(&take(&mut *assigned.fetch, 3).await), ["15", "16", "17"]);
    client.close().await;
}

pub async fn a_producer_goes_on_in_a_topic_made_anew(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name) = (world.log(), topic(world, 1).await);
    let writer = producer(&log).await;
    write_numbers(&writer, &name, 0, 0, 5).await;
    make_anew(&log, &name).await;
    write_numbers(&writer, &name, 0, 10, 2).await;
    assert_eq!(values(&read_all(&log, &name, 0, COMMITTED).await), ["10", "11"]);
}

pub async fn retention_deletes_past_committed_offsets(world: &impl World) {
    if !world.caps().admin || !world.caps().group_admin || !world.apply_retention().await {
        return;
    }
    let config = TopicConfig::new().retention_ms(60_000);
    let (log, name, group) = (world.log(), topic_with(world, 1, config).await, unique("g"));
    let client = Client::join(&log, super::helper::member_options(&group, &[&name]));
    client.owns(1).await;
    let writer = producer(&log).await;
    let mut out = ProduceBatch::new();
    let old = Some(log.clock().now_ms() - 3_600_000);
    for value in ["0", "1", "2", "3", "4"] {
        let value = Some(value.as_bytes());
        out.push(NewRecord { topic: &name, partition: Some(0), timestamp: old, key: Some(b"k"), value }, bare());
    }
    all_arrived(&writer.send(Arc::new(out)).await);
    client.group.commit(vec![(tp(&name, 0), 2)]).await.unwrap();
    client.close().await;
    let start = async || log.offsets(vec![(tp(&name, 0), OffsetSpec::Earliest)], COMMITTED).await.unwrap()[0];
    until("they are deleted", async || world.apply_retention().await && start().await == 5).await;
    let client = Client::join(&log, super::helper::member_options(&group, &[&name]));
    client.owns(1).await;
    let mut assigned = client.take(&tp(&name, 0));
    assert_eq!((assigned.start, assigned.committed), (2, true));
    let error = fetch_one(&mut *assigned.fetch).await.unwrap_err();
    assert_eq!(error, LogError::OffsetOutOfRange { partition: tp(&name, 0), offset: 2, start: 5, end: 5 });
    write(&writer, &name, 0, &[("k", "5")]).await;
    assigned.fetch.seek(5).await.unwrap();
    assert_eq!(values(&take(&mut *assigned.fetch, 1).await), ["5"]);
    client.close().await;
}

pub async fn forgotten_offsets_are_gone(world: &impl World) {
    if !world.caps().group_admin {
        return;
    }
    let (log, name, group) = (world.log(), topic(world, 1).await, unique("g"));
    write_numbers(&producer(&log).await, &name, 0, 0, 5).await;
    let client = Client::join(&log, super::helper::member_options(&group, &[&name]));
    client.owns(1).await;
    client.group.commit(vec![(tp(&name, 0), 3)]).await.unwrap();
    client.close().await;
    assert_eq!(committed(&log, &group, &name).await, Some(3));
    if !world.forget_offsets(Arc::clone(&group)).await {
        return;
    }
    until("they are gone", async || committed(&log, &group, &name).await.is_none()).await;
    let client = Client::join(&log, super::helper::member_options(&group, &[&name]));
    client.owns(1).await;
    let assigned = client.take(&tp(&name, 0));
    assert_eq!((assigned.start, assigned.committed), (0, false));
    drop(assigned);
    client.close().await;
}

pub async fn an_expired_transactional_id_costs_one_transaction(world: &impl World) {
    if !world.caps().transactions {
        return;
    }
    let (log, name, id) = (world.log(), topic(world, 1).await, unique("x"));
    let writer = transactional(&log, &id).await;
    writer.begin_transaction().await.unwrap();
    write(&writer, &name, 0, &[("k", "1")]).await;
    writer.commit_transaction(Vec::new(), None).await.unwrap();
    if !world.expire_transactional_id(Arc::clone(&id)).await {
        return;
    }
    writer.begin_transaction().await.unwrap();
    let delivery = writer.send(batch(&name, 0, &[("k", "2")])).await;
    assert_eq!(delivery.failed.iter().map(|f| &f.error).collect::<Vec<_>>(), [&LogError::Purged]);
    let error = writer.commit_transaction(Vec::new(), None).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Abortable, "{error:?}");
    writer.abort_transaction().await.unwrap();
    writer.begin_transaction().await.unwrap();
    write(&writer, &name, 0, &[("k", "3")]).await;
    writer.commit_transaction(Vec::new(), None).await.unwrap();
    assert_eq!(values(&read_all(&log, &name, 0, COMMITTED).await), ["1", "3"]);
}
