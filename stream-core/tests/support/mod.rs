//! What the delivery tests share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::Codec;
use stream_core::log::LogError;
use stream_core::testing::Tester;
use tokio::sync::watch;

pub type Done = Result<(), Box<dyn std::error::Error>>;

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
pub fn values<M: 'static>(output: &stream_core::testing::TestOutput<M>) -> Vec<M> {
    output.read().unwrap().into_iter().filter_map(|r| r.value).collect()
}

/// Runs a test for each guarantee.
pub fn with_both(test: impl Fn(stream_core::processor::Guarantee) -> Done) -> Done {
    use stream_core::processor::Guarantee::{AtLeastOnce, ExactlyOnce};
    for guarantee in [AtLeastOnce, ExactlyOnce] {
        test(guarantee).map_err(|e| format!("{guarantee:?}: {e}"))?;
    }
    Ok(())
}

/// How many keys a compacted topic has values of.
pub fn live_keys(tester: &Tester, topic: &str) -> usize {
    let mut live = BTreeSet::new();
    for record in tester.output(topic, stream_core::codec::Bytes).read().unwrap() {
        let key = (record.partition, record.key.unwrap());
        if record.value.is_some() {
            live.insert(key)
        } else {
            live.remove(&key)
        };
    }
    live.len()
}
