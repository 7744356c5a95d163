//! A group with each kind of state, and what an earlier version of this library left of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stream_core::clock::ManualClock;
use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{Group, GroupGraph, Side};
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    Cleanup, FetchLimits, Fetched, Isolation, LogHandle, NewRecord, OffsetSpec, ProduceBatch, Producer,
    ProducerOptions, RecordBatch, TopicConfig, TopicPartition, TopicSpec,
};
use stream_core::processor::Guarantee;
use stream_core::window::{Batches, JoinWindows, Sessions, Windows};

/// 2024-01-01, a whole minute.
pub(crate) const T: i64 = 1_704_067_200_000;

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A group with each kind of state: a table, a timer, windows, sessions, batches, a join and a loop.
pub(crate) fn graph() -> Arc<GroupGraph> {
    let mut g = Group::define("before").table(Int64);
    let out = g.output("out", Text);
    let looped = g.loopback(Text);
    let alarm = g.timer("alarm", Text);
    let minutes = g.window("minutes", Windows::tumbling(s(60)).grace(s(10)), Int64);
    let visits = g.session("visits", Sessions::gap(s(30)), Int64);
    let threes = g.batch("threes", Batches::of(3).gap(s(3600)), Text);
    g.input("in", Text, move |ctx, text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)?;
        ctx.aggregate(minutes, |n| n.unwrap_or(0) + 1)?;
        ctx.aggregate_session(visits, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
        ctx.collect(threes, &text)?;
        ctx.set_timer(alarm, T + 100_000, &text)?;
        ctx.loopback(looped, ctx.key(), &text)
    });
    g.on_loop(looped, |_, _: String| Ok(()));
    g.on_timer(alarm, move |ctx, text: String| ctx.emit(out, ctx.key(), format!("alarm {text}")));
    g.on_close(minutes, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("window {} {n}", window.start - T)));
    g.on_close(visits, move |ctx, (_, n)| ctx.emit(out, ctx.key(), format!("session {n}")));
    g.on_close(threes, move |ctx, texts| ctx.emit(out, ctx.key(), format!("batch {}", texts.join(" "))));
    let around = JoinWindows::around(s(60)).grace(s(10));
    g.stream_join("pairs", around, Side::topic("left", Text), Side::topic("right", Text))
        .inner(move |ctx, l, r| ctx.emit(out, ctx.key(), format!("pair {l} {r}")));
    g.build().unwrap()
}

/// The files of one guarantee.
pub(crate) struct Fixture(PathBuf);

struct Kept {
    offset: i64,
    time: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// A topic as it was: its configuration, its records, its end.
struct Topic {
    spec: TopicSpec,
    records: Vec<Kept>,
    end: i64,
}

impl Fixture {
    pub(crate) fn of(version: &str, guarantee: Guarantee) -> Self {
        let name = if guarantee == Guarantee::ExactlyOnce { "exactly-once" } else { "at-least-once" };
        Self(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version).join(name))
    }

    /// Replaces it by what a log and a state directory have.
    pub(crate) async fn keep(&self, log: &LogHandle, state: &Path) {
        fs::create_dir_all(&self.0).unwrap();
        fs::write(self.0.join("log.txt"), written(log).await).unwrap();
        let to = self.0.join("state");
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        copy(state, &to);
    }

    /// A log with all of its topics, each record at its offset, and with the offsets that the group had committed.
    pub(crate) async fn log(&self, committed: bool) -> LogHandle {
        let text = fs::read_to_string(self.0.join("log.txt")).unwrap();
        let (mut topics, mut offsets) = (Vec::<Topic>::new(), Vec::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "topic" => topics.push(topic(&words[1..])),
                "record" => topics.last_mut().unwrap().records.push(record(&words[1..])),
                "end" => topics.iter_mut().find(|t| *t.spec.name == *words[1]).unwrap().end = words[2].parse().unwrap(),
                "committed" => offsets.push((TopicPartition::new(words[1], 0), words[3].parse().unwrap())),
                other => panic!("{other}"),
            }
        }
        let embedded = InMemory::with_clock(Arc::new(ManualClock::new(T + 10_000)));
        let log: LogHandle = Arc::clone(&embedded) as _;
        log.create_topics(topics.iter().map(|t| t.spec.clone()).collect()).await.unwrap();
        for topic in topics {
            write_again(&log, topic).await;
        }
        if committed {
            embedded.faults().pending_offsets("before", offsets).commit();
        }
        log
    }

    /// Copies its state directory there.
    pub(crate) fn state(&self, to: &Path) {
        copy(&self.0.join("state"), to);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// In the order in which they are made.
const TOPICS: [&str; 11] = [
    "in",
    "left",
    "right",
    "out",
    "before-table",
    "before-time",
    "before-window-minutes",
    "before-session-visits",
    "before-batch-threes",
    "before-kept-pairs",
    "before-loop",
];

/// All topics and offsets of a log, as `log.txt` has them.
async fn written(log: &LogHandle) -> String {
    let bytes = |bytes: Option<&[u8]>| {
        bytes.map_or(String::new(), |b| b.iter().fold("x".to_owned(), |text, byte| format!("{text}{byte:02x}")))
    };
    let (mut lines, mut ends) = (Vec::new(), Vec::new());
    for (number, name) in TOPICS.into_iter().enumerate() {
        let id = log.topic_id(name.into()).await.unwrap();
        assert_eq!(id.as_deref(), Some(&*number.to_string()), "{name}: they are made again in this order");
        let c = log.topics(vec![name.into()]).await.unwrap().remove(0).unwrap().config;
        let (kept, deleted, size) = (c.retention_ms, c.delete_retention_ms, c.max_message_bytes);
        lines.push(format!("topic {name} 1 {:?} {kept:?} {deleted:?} {size:?}", c.cleanup));
        for r in read(log, name).await {
            let (key, value) = (bytes(r.key.as_deref()), bytes(r.value.as_deref()));
            lines.push(format!("record {} {} {key} {value}", r.offset, r.time));
        }
        let end = vec![(TopicPartition::new(name, 0), OffsetSpec::Latest)];
        ends.push(format!("end {name} {}", log.offsets(end, Isolation::ReadUncommitted).await.unwrap()[0]));
    }
    lines.append(&mut ends);
    for name in ["in", "left", "before-loop", "right"] {
        let at = log.group_offsets("before".into(), vec![TopicPartition::new(name, 0)]).await.unwrap()[0];
        lines.push(format!("committed {name} 0 {}", at.unwrap()));
    }
    lines.join("\n") + "\n"
}

/// What lives in the group's own compacted topics: topic and key, and the value.
pub(crate) async fn live(log: &LogHandle) -> BTreeMap<(&'static str, Vec<u8>), Vec<u8>> {
    let mut live = BTreeMap::new();
    for name in TOPICS.into_iter().filter(|name| name.starts_with("before-") && *name != "before-loop") {
        for Kept { key, value, .. } in read(log, name).await {
            let key = (name, key.unwrap());
            match value {
                Some(value) => live.insert(key, value),
                None => live.remove(&key),
            };
        }
    }
    live
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn topic(words: &[&str]) -> Topic {
    let number = |word: &str| word.strip_prefix("Some(").map(|n| n.trim_end_matches(')').parse().unwrap());
    let cleanup = match words[2] {
        "Some(Compact)" => Some(Cleanup::Compact),
        "Some(CompactDelete)" => Some(Cleanup::CompactDelete),
        "Some(Delete)" => Some(Cleanup::Delete),
        _ => None,
    };
    let config = TopicConfig::new().cleanup(cleanup).retention_ms(number(words[3]));
    let config = config.delete_retention_ms(number(words[4])).max_message_bytes(number(words[5]));
    Topic { spec: TopicSpec::new(words[0]).partitions(1).config(config), records: Vec::new(), end: 0 }
}

fn record(words: &[&str]) -> Kept {
    let bytes = |word: &str| word.strip_prefix('x').map(hex);
    let (offset, time) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    Kept { offset, time, key: bytes(words[2]), value: bytes(words[3]) }
}

/// Between two records whose offsets are not next to each other, a transaction ended.
async fn write_again(log: &LogHandle, topic: Topic) {
    let mut options = ProducerOptions::default();
    options.transactional_id = Some("again".into());
    let producer = log.producer(options).await.unwrap();
    let (mut open, mut next) = (false, 0);
    let plain = log.producer(ProducerOptions::default()).await.unwrap();
    let in_transactions = topic.end != i64::try_from(topic.records.len()).unwrap();
    for kept in topic.records {
        if kept.offset != next {
            assert_eq!(kept.offset, next + 1);
            producer.commit_transaction(Vec::new(), None).await.unwrap();
            open = false;
        }
        if in_transactions && !open {
            producer.begin_transaction().await.unwrap();
            open = true;
        }
        send(if in_transactions { &producer } else { &plain }, &topic.spec.name, &kept).await;
        next = kept.offset + 1;
    }
    if open {
        producer.commit_transaction(Vec::new(), None).await.unwrap();
    }
}

async fn send(producer: &Arc<dyn Producer>, topic: &Arc<str>, kept: &Kept) {
    let mut batch = ProduceBatch::new();
    let (key, value) = (kept.key.as_deref(), kept.value.as_deref());
    let record = NewRecord { topic, partition: Some(0), timestamp: Some(kept.time), key, value };
    batch.push(record, std::iter::empty());
    let failed = producer.send(Arc::new(batch)).await.failed;
    assert!(failed.is_empty(), "{failed:?}");
}

/// Writes records: key, value, time.
pub(crate) async fn write(log: &LogHandle, topic: &str, records: &[(&str, &str, i64)]) {
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    for (key, value, time) in records {
        let (key, value) = (Some(key.as_bytes().to_vec()), Some(value.as_bytes().to_vec()));
        send(&producer, &topic.into(), &Kept { offset: 0, time: *time, key, value }).await;
    }
}

/// Waits until the group has committed so much at least.
pub(crate) async fn done(log: &LogHandle, of: &[(&str, i64)]) {
    let partitions: Vec<_> = of.iter().map(|(topic, _)| TopicPartition::new(*topic, 0)).collect();
    let committed = async {
        loop {
            let at = log.group_offsets("before".into(), partitions.clone()).await.unwrap();
            if at.iter().zip(of).all(|(at, (_, wanted))| at.is_some_and(|at| at >= *wanted)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), committed).await.expect("all of it is committed");
}

async fn read(log: &LogHandle, topic: &str) -> Vec<Kept> {
    let reader = log.reader(Isolation::ReadCommitted).unwrap();
    let (mut fetch, mut batch) = (reader.read(TopicPartition::new(topic, 0), 0).await.unwrap(), RecordBatch::new());
    let mut found = Vec::new();
    while std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await.unwrap()
        == Fetched::Records
    {
        found.extend(batch.iter().map(|r| {
            let (key, value) = (r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec));
            Kept { offset: r.offset, time: r.timestamp, key, value }
        }));
    }
    found
}

/// The values of a topic.
pub(crate) async fn texts(log: &LogHandle, topic: &str) -> Vec<String> {
    read(log, topic).await.into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect()
}

/// The group's table, as its topic has it.
pub(crate) async fn table(log: &LogHandle) -> BTreeMap<String, i64> {
    let mut last = BTreeMap::new();
    for Kept { key, value, .. } in read(log, "before-table").await {
        let key = String::from_utf8(key.unwrap()).unwrap();
        match value {
            Some(value) => last.insert(key, Int64.decode(&value).unwrap()),
            None => last.remove(&key),
        };
    }
    last
}
