//! Writing records and reading them back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stream_core::log::{
    Cleanup, FetchLimits, Fetched, Isolation, LogError, LogHandle, NewRecord, OffsetSpec, Partitioner, ProduceBatch,
    ProducerOptions, TopicConfig,
};

use super::helper::{
    Rec, all_arrived, bare, batch, fetch_one, fetch_with, is_silent, offsets, open, producer, read_all, record, take,
    to_end, tp, values, write, write_numbers,
};
use super::{World, topic, topic_with, unique};

const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

pub async fn records_come_back_as_they_were(world: &impl World) {
    type Header = (&'static str, Option<&'static [u8]>);
    type Case = (Option<&'static [u8]>, Option<&'static [u8]>, &'static [Header]);
    let cases: [Case; 6] = [
        (Some(b"k"), Some(b"v"), &[]),
        (None, Some(b"null key"), &[]),
        (Some(b""), Some(b"empty key"), &[]),
        (Some(b"null value"), None, &[]),
        (Some(b"empty value"), Some(b""), &[]),
        (
            Some(b"headers"),
            Some(&[0, 255, 10]),
            &[("a", Some(b"1")), ("n", None), ("a", Some(b"")), ("", Some(&[0xff]))],
        ),
    ];
    let (log, name) = (world.log(), topic(world, 1).await);
    let mut out = ProduceBatch::new();
    for (n, (key, value, headers)) in (0i64..).zip(cases) {
        let record = NewRecord { topic: &name, partition: Some(0), timestamp: Some(1_600_000_000_000 + n), key, value };
        out.push(record, headers.iter().copied());
    }
    all_arrived(&producer(&log).await.send(Arc::new(out)).await);
    let expected: Vec<_> = (0i64..)
        .zip(cases)
        .map(|(offset, (key, value, headers))| Rec {
            offset,
            timestamp: 1_600_000_000_000 + offset,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), v.map(<[u8]>::to_vec))).collect(),
        })
        .collect();
    assert_eq!(read_all(&log, &name, 0, Isolation::ReadCommitted).await, expected);
    assert_eq!(read_all(&log, &name, 0, UNCOMMITTED).await, expected);
}

pub async fn timestamp_is_now_unless_given(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    let before = log.clock().now_ms();
    write(&producer(&log).await, &name, 0, &[("a", "1")]).await;
    let after = log.clock().now_ms();
    let got = read_all(&log, &name, 0, UNCOMMITTED).await;
    assert!((before..=after).contains(&got[0].timestamp), "{} is not in {before}..={after}", got[0].timestamp);
}

/// The partition that each key went to.
async fn partitions_of(log: &LogHandle, name: &Arc<str>, partitions: i32, keys: &[&str]) -> Vec<i32> {
    let mut found = vec![-1; keys.len()];
    for partition in 0..partitions {
        for rec in read_all(log, name, partition, UNCOMMITTED).await {
            let index = keys.iter().position(|k| Some(k.as_bytes()) == rec.key.as_deref()).unwrap();
            assert_eq!(std::mem::replace(&mut found[index], partition), -1, "{} came twice", keys[index]);
        }
    }
    found
}

async fn write_by_key(log: &LogHandle, name: &Arc<str>, partitioner: Partitioner, keys: &[&str]) {
    let mut options = ProducerOptions::default();
    options.partitioner = partitioner;
    let mut out = ProduceBatch::new();
    for key in keys {
        out.push(record(name, None, Some(key.as_bytes()), Some(b"v")), bare());
    }
    all_arrived(&log.producer(options).await.unwrap().send(Arc::new(out)).await);
}

pub async fn partition_by_key_is_murmur2(world: &impl World) {
    // The hashes are those of the Java client's own test.
    let known: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let keys: Vec<_> = known.iter().map(|k| k.0).collect();
    let (log, name) = (world.log(), topic(world, 7).await);
    write_by_key(&log, &name, Partitioner::Murmur2Random, &keys).await;
    let expected: Vec<_> = known.iter().map(|k| (k.1 & 0x7fff_ffff) % 7).collect();
    assert_eq!(partitions_of(&log, &name, 7, &keys).await, expected);
}

pub async fn partition_by_key_is_fnv1a(world: &impl World) {
    // FNV's own test vectors; a negative remainder is made positive, as Goka's producer does.
    let known: [(&str, u32); 5] =
        [("a", 0xe40c_292c), ("b", 0xe70c_2de5), ("foo", 0xa9f3_7ed7), ("foobar", 0xbf9c_f968), ("fo", 0x6222_e842)];
    let keys: Vec<_> = known.iter().map(|k| k.0).collect();
    let (log, name) = (world.log(), topic(world, 7).await);
    write_by_key(&log, &name, Partitioner::Fnv1aRandom, &keys).await;
    let expected: Vec<_> = known.iter().map(|k| (k.1.cast_signed() % 7).abs()).collect();
    assert_eq!(partitions_of(&log, &name, 7, &keys).await, expected);
}

pub async fn null_keys_spread(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 2).await);
    let writer = producer(&log).await;
    let mut used = BTreeSet::new();
    // By record or by batch, sooner or later both partitions get some.
    for _ in 0..200 {
        let mut out = ProduceBatch::new();
        out.push(record(&name, None, None, Some(b"v")), bare());
        all_arrived(&writer.send(Arc::new(out)).await);
        for partition in 0..2 {
            let of = vec![(tp(&name, partition), OffsetSpec::Latest)];
            if log.offsets(of, UNCOMMITTED).await.unwrap()[0] > 0 {
                used.insert(partition);
            }
        }
        if used.len() == 2 {
            return;
        }
    }
    panic!("200 records without a key all went to {used:?}");
}

pub async fn order_holds_over_many_batches(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 2).await);
    let writer = producer(&log).await;
    let mut under_way = Vec::new();
    for n in 0..50i64 {
        let mut out = ProduceBatch::new();
        for i in 0..20 {
            for partition in 0..2 {
                let value = (n * 20 + i).to_string();
                out.push(record(&name, Some(partition), Some(b"k"), Some(value.as_bytes())), bare());
            }
        }
        under_way.push(writer.send(Arc::new(out)));
    }
    writer.flush().await.unwrap();
    for delivery in under_way {
        all_arrived(&delivery.await);
    }
    for partition in 0..2 {
        let got = read_all(&log, &name, partition, UNCOMMITTED).await;
        assert_eq!(values(&got), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(offsets(&got), (0..1000).collect::<Vec<_>>());
    }
}

pub async fn delivery_names_the_last_offsets(world: &impl World) {
    let (log, a, b) = (world.log(), topic(world, 1).await, topic(world, 1).await);
    let writer = producer(&log).await;
    write(&writer, &b, 0, &[("x", "1")]).await;
    let mut out = ProduceBatch::new();
    for name in [&a, &b, &a, &a] {
        out.push(record(name, Some(0), Some(b"k"), Some(b"v")), bare());
    }
    let delivery = writer.send(Arc::new(out)).await;
    all_arrived(&delivery);
    assert_eq!(delivery.last_offsets, [Some(2), Some(1)]);
    assert!(writer.send(Arc::new(ProduceBatch::new())).await.failed.is_empty());
}

pub async fn larger_than_a_batch_goes_alone(world: &impl World) {
    // The bound is for batches of many: topics differ in what they take, and one record may be as large as its topic
    // lets it.
    let (log, name) = (world.log(), topic(world, 1).await);
    let mut options = ProducerOptions::default();
    options.max_batch_bytes = Some(2000);
    let writer = log.producer(options).await.unwrap();
    let large = "x".repeat(5000);
    all_arrived(&writer.send(batch(&name, 0, &[("a", "1"), ("b", &large), ("c", "3")])).await);
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["1", &large, "3"]);
}

pub async fn too_large_for_the_topic_fails_alone(world: &impl World) {
    if !world.caps().topic_limits {
        return;
    }
    let config = TopicConfig::new().max_message_bytes(2000);
    let (log, name) = (world.log(), topic_with(world, 1, config).await);
    let mut options = ProducerOptions::default();
    options.max_batch_bytes = Some(2000);
    let writer = log.producer(options).await.unwrap();
    let large = "x".repeat(5000);
    let delivery = writer.send(batch(&name, 0, &[("a", "1"), ("b", &large), ("c", "3")])).await;
    assert_eq!(delivery.failed.iter().map(|f| f.index).collect::<Vec<_>>(), [1], "{:?}", delivery.failed);
    let LogError::TooLarge { topic, size, .. } = &delivery.failed[0].error else { panic!("{:?}", delivery.failed) };
    assert_eq!(**topic, *name);
    assert!(*size >= 5000);
    write(&writer, &name, 0, &[("d", "4")]).await;
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["1", "3", "4"]);
}

pub async fn null_key_on_a_compacted_topic_fails(world: &impl World) {
    if !world.caps().topic_limits {
        return;
    }
    let config = TopicConfig::new().cleanup(Cleanup::Compact);
    let (log, name) = (world.log(), topic_with(world, 1, config).await);
    let writer = producer(&log).await;
    let mut out = ProduceBatch::new();
    out.push(record(&name, Some(0), None, Some(b"v")), bare());
    let delivery = writer.send(Arc::new(out)).await;
    assert_eq!(delivery.failed.len(), 1);
    write(&writer, &name, 0, &[("", "2")]).await;
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["2"]);
}

pub async fn unknown_topic_and_partition_fail_alone(world: &impl World) {
    if !world.caps().admin {
        return;
    }
    let (log, name, none) = (world.log(), topic(world, 1).await, unique("none"));
    let mut out = ProduceBatch::new();
    out.push(record(&name, Some(0), Some(b"k"), Some(b"1")), bare());
    out.push(record(&none, None, Some(b"k"), Some(b"2")), bare());
    out.push(record(&name, Some(7), Some(b"k"), Some(b"3")), bare());
    out.push(record(&name, None, Some(b"k"), Some(b"4")), bare());
    let mut delivery = producer(&log).await.send(Arc::new(out)).await;
    delivery.failed.sort_by_key(|f| f.index);
    let failed: Vec<_> = delivery.failed.iter().map(|f| (f.index, f.error.clone())).collect();
    let topic = none.to_string();
    assert_eq!(
        failed,
        [(1, LogError::UnknownTopic { topic }), (2, LogError::UnknownPartition { partition: tp(&name, 7) })]
    );
    assert_eq!(values(&read_all(&log, &name, 0, UNCOMMITTED).await), ["1", "4"]);
    assert!(log.topics(vec![none]).await.unwrap()[0].is_none(), "writing creates no topic");
}

pub async fn offsets_earliest_latest_and_by_time(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 2).await);
    let mut out = ProduceBatch::new();
    // Times need not rise.
    for time in [1000i64, 3000, 2000, 5000] {
        let (partition, timestamp) = (Some(0), Some(1_600_000_000_000 + time));
        out.push(NewRecord { topic: &name, partition, timestamp, key: Some(b"k"), value: Some(b"v") }, bare());
    }
    all_arrived(&producer(&log).await.send(Arc::new(out)).await);
    let ask = |of: Vec<(i32, OffsetSpec)>| {
        log.offsets(of.into_iter().map(|(p, s)| (tp(&name, p), s)).collect(), Isolation::ReadCommitted)
    };
    let (early, late) = (OffsetSpec::Earliest, OffsetSpec::Latest);
    assert_eq!(ask(vec![(0, late), (1, early), (0, early), (1, late)]).await.unwrap(), [4, 0, 0, 0]);
    if world.caps().times {
        let at = |time: i64| (0, OffsetSpec::Time(1_600_000_000_000 + time));
        let asked = [at(0), at(1000), at(1001), at(3000), at(3001), at(5000), at(5001)];
        let mut got = Vec::new();
        for one in asked {
            got.extend(ask(vec![one]).await.unwrap());
        }
        assert_eq!(got, [0, 0, 1, 1, 3, 3, 4]);
        assert_eq!(ask(vec![(1, OffsetSpec::Time(5))]).await.unwrap(), [0]);
    }
}

pub async fn end_is_reported_once_for_each_end(world: &impl World) {
    for isolation in [Isolation::ReadCommitted, UNCOMMITTED] {
        let (log, name) = (world.log(), topic(world, 1).await);
        let writer = producer(&log).await;
        write_numbers(&writer, &name, 0, 0, 3).await;
        let mut fetch = open(&log, &name, 0, 0, isolation).await;
        assert_eq!(values(&to_end(&mut *fetch).await), ["0", "1", "2"]);
        assert!(is_silent(&mut *fetch).await, "the end was reported twice");
        write_numbers(&writer, &name, 0, 3, 2).await;
        assert_eq!(values(&to_end(&mut *fetch).await), ["3", "4"]);
        assert!(is_silent(&mut *fetch).await, "the end was reported twice");
    }
}

pub async fn an_empty_partition_has_an_end(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    let mut fetch = open(&log, &name, 0, 0, Isolation::ReadCommitted).await;
    assert!(matches!(fetch_one(&mut *fetch).await.unwrap().0, Fetched::End(_)));
}

pub async fn a_waiting_fetch_wakes(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    let mut fetch = open(&log, &name, 0, 0, Isolation::ReadCommitted).await;
    assert!(to_end(&mut *fetch).await.is_empty());
    let waiting = tokio::spawn(async move { values(&take(&mut *fetch, 1).await) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    write(&producer(&log).await, &name, 0, &[("a", "1")]).await;
    assert_eq!(waiting.await.unwrap(), ["1"]);
}

pub async fn seek(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    let writer = producer(&log).await;
    write_numbers(&writer, &name, 0, 0, 100).await;
    let mut fetch = open(&log, &name, 0, 50, Isolation::ReadCommitted).await;
    assert_eq!(offsets(&take(&mut *fetch, 3).await), [50, 51, 52]);
    fetch.seek(10).await.unwrap();
    assert_eq!(offsets(&take(&mut *fetch, 2).await), [10, 11]);
    fetch.seek(99).await.unwrap();
    assert_eq!(offsets(&to_end(&mut *fetch).await), [99]);
    // After an end: forth to the same end, and back.
    fetch.seek(98).await.unwrap();
    assert_eq!(offsets(&to_end(&mut *fetch).await), [98, 99]);
    fetch.seek(100).await.unwrap();
    write_numbers(&writer, &name, 0, 100, 1).await;
    assert_eq!(offsets(&take(&mut *fetch, 1).await), [100]);
}

pub async fn out_of_range(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    write_numbers(&producer(&log).await, &name, 0, 0, 3).await;
    let mut fetch = open(&log, &name, 0, 4, Isolation::ReadCommitted).await;
    let error = fetch_one(&mut *fetch).await.unwrap_err();
    assert_eq!(error, LogError::OffsetOutOfRange { partition: tp(&name, 0), offset: 4, start: 0, end: 3 });
    fetch.seek(2).await.unwrap();
    assert_eq!(offsets(&take(&mut *fetch, 1).await), [2]);
}

pub async fn limits(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    let large = "x".repeat(1000);
    write(&producer(&log).await, &name, 0, &[("a", &large), ("b", &large), ("c", &large), ("d", "1"), ("e", "2")])
        .await;
    let mut fetch = open(&log, &name, 0, 0, Isolation::ReadCommitted).await;
    let mut got = Vec::new();
    for (limits, most) in [
        (FetchLimits::new(1, 1 << 20), 1),
        (FetchLimits::new(10, 1), 1),
        (FetchLimits::new(10, 1004), 2),
        (FetchLimits::new(10, 1 << 20), 10),
    ] {
        let (fetched, records) = fetch_with(&mut *fetch, limits).await.unwrap();
        assert_eq!(fetched, Fetched::Records);
        assert!(records.len() <= most, "{} records for {limits:?}", records.len());
        got.extend(records);
    }
    got.extend(to_end(&mut *fetch).await);
    assert_eq!(offsets(&got), [0, 1, 2, 3, 4]);
}

pub async fn flush_waits_for_everything(world: &impl World) {
    let (log, name) = (world.log(), topic(world, 1).await);
    let writer = producer(&log).await;
    // Not awaited: the batches go out all the same.
    for n in 0..10 {
        drop(writer.send(batch(&name, 0, &[("k", &n.to_string())])));
    }
    writer.flush().await.unwrap();
    assert_eq!(read_all(&log, &name, 0, UNCOMMITTED).await.len(), 10);
}
