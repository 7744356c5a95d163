//! What the delivery tests share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::{Codec, Text};
use stream_core::group::GroupGraph;
use stream_core::log::{
    Cleanup, Log, LogError, NewRecord, ProduceBatch, Producer, ProducerOptions, TopicConfig, TopicSpec,
};
use stream_core::processor::Guarantee;
use stream_core::testing::{TestOutput, Tester};
use tokio::sync::watch;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
pub type Done = Outcome<()>;

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Doors that callbacks wait at until the test opens them.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<(bool, BTreeSet<String>)>>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new((false, BTreeSet::new()))))
    }

    pub fn open(&self, door: &str) {
        self.0.send_modify(|(_, open)| _ = open.insert(door.to_owned()));
    }

    pub fn open_all(&self) {
        self.0.send_modify(|(all, _)| *all = true);
    }

    pub async fn pass(&self, door: &str) {
        let mut open = self.0.subscribe();
        open.wait_for(|(all, open)| *all || open.contains(door)).await.expect("the gate is alive");
    }
}

/// What callbacks leave for the test to look at.
#[derive(Clone)]
pub struct Notes<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Notes<T> {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn add(&self, note: T) {
        self.0.lock().unwrap().push(note);
    }

    pub fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub fn passing() -> LogError {
    LogError::Retriable { what: "write".to_owned(), reason: "on purpose".to_owned() }
}

pub fn too_large(topic: &str) -> LogError {
    LogError::TooLarge { topic: topic.to_owned(), size: 5000, limit: "the topic's (on purpose)".to_owned() }
}

/// The table of a group as its topic has it, keys as text.
pub fn table<V: 'static>(tester: &Tester, group: &str, codec: impl Codec<V>) -> BTreeMap<String, V> {
    let all = tester.table(group, codec).all().unwrap();
    all.into_iter().map(|(key, value)| (String::from_utf8(key).unwrap(), value)).collect()
}

/// What a table must be.
pub fn pairs<V>(list: impl IntoIterator<Item = (&'static str, V)>) -> BTreeMap<String, V> {
    list.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The values of a topic that were not read before, in order.
pub fn values<M: 'static>(output: &TestOutput<M>) -> Vec<M> {
    output.read().unwrap().into_iter().filter_map(|r| r.value).collect()
}

/// Runs a test for each guarantee.
pub fn with_both(test: impl Fn(Guarantee) -> Done) -> Done {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        test(guarantee).map_err(|e| format!("{guarantee:?}: {e}"))?;
    }
    Ok(())
}

/// How many keys a compacted topic has values of, without the positions and meanings that a state keeps (keys that begin
/// with 4 and 5 in `<group>-time`). Of a join, how many records it keeps.
pub fn live_keys(tester: &Tester, topic: &str) -> usize {
    if topic.contains("-kept-") {
        return kept_records(tester, topic);
    }
    let mut live = BTreeSet::new();
    for record in tester.output(topic, stream_core::codec::Bytes).read().unwrap() {
        let key = (record.partition, record.key.unwrap());
        if topic.ends_with("-time") && matches!(key.1.first(), Some(4 | 5)) {
            continue;
        }
        if record.value.is_some() {
            live.insert(key)
        } else {
            live.remove(&key)
        };
    }
    live.len()
}

/// How many records of a join's topic are not closed: those at or above the bound of their side (see the formats in
/// `time/stream_join/keys.rs`).
fn kept_records(tester: &Tester, topic: &str) -> usize {
    let (mut live, mut bounds) = (BTreeSet::new(), std::collections::BTreeMap::new());
    for record in tester.output(topic, stream_core::codec::Bytes).read().unwrap() {
        let (partition, key) = (record.partition, record.key.unwrap());
        match (key[0], record.value) {
            (1, Some(_)) => _ = live.insert((partition, key)),
            (1, None) => _ = live.remove(&(partition, key)),
            (3, Some(bound)) => _ = bounds.insert(partition, bound),
            _ => {}
        }
    }
    let is_kept = |(partition, key): &&(i32, Vec<u8>)| {
        let (side, time) = (usize::from(key[1]), &key[key.len() - 16..key.len() - 8]);
        bounds.get(partition).is_none_or(|bound| *time >= bound[8 * side..8 * side + 8])
    };
    live.iter().filter(is_kept).count()
}

/// A group under way, and the texts that it writes to a topic.
pub fn under_way(graph: Arc<GroupGraph>, guarantee: Guarantee, out: &str) -> Outcome<(Tester, TestOutput<String>)> {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    let out = tester.output(out, Text);
    Ok((tester, out))
}

/// A second instance takes everything over from the first one.
pub fn move_to_second(tester: &Tester, group: &str) -> Done {
    tester.add_instance(group)?;
    tester.stop_instance(group, 0)?;
    let second = tester.handle(group, 1)?;
    Ok(tester.wait_until("the second has it", || !second.status().tasks.is_empty())?)
}

/// A compacted topic of one partition that takes records of so many bytes.
pub fn small_topic(tester: &Tester, topic: &str, bytes: i64) -> Done {
    let config = TopicConfig::new().max_message_bytes(bytes).cleanup(Cleanup::Compact);
    let topic = TopicSpec::new(topic).partitions(1).config(config);
    Ok(tester.block_on(tester.log().create_topics(vec![topic])).map(drop)?)
}

/// Somebody's open transaction with one record: it holds up who restores the partition.
pub fn open_transaction(
    tester: &Tester,
    topic: &str,
    partition: i32,
    (key, value): (&[u8], &[u8]),
) -> Outcome<Arc<dyn Producer>> {
    let mut options = ProducerOptions::default();
    options.transactional_id = Some("foreign".into());
    options.transaction_timeout = Some(Duration::from_secs(60));
    let foreign = tester.block_on(tester.log().producer(options))?;
    tester.block_on(foreign.begin_transaction())?;
    let mut batch = ProduceBatch::new();
    let (topic, partition) = (topic.into(), Some(partition));
    let new = NewRecord { topic: &topic, partition, timestamp: None, key: Some(key), value: Some(value) };
    batch.push(new, std::iter::empty());
    tester.block_on(foreign.send(Arc::new(batch)));
    Ok(foreign)
}

/// Does something, and gives what this thread logged meanwhile.
pub fn logged<T>(act: impl FnOnce() -> T) -> (T, String) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let result = tracing::subscriber::with_default(subscriber, act);
    (result, lines.text())
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}
