//! A test's ends of topics and tables.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::TesterError;
use super::tester::Tester;
use crate::codec::{Codec, CodecError, ValueOf};
use crate::group::table_topic;
use crate::key::Key;
use crate::log::{NewRecord, TopicPartition};

/// Writes to a topic of a [`Tester`].
pub struct TestInput<M> {
    tester: Tester,
    topic: Arc<str>,
    codec: Arc<dyn Codec<M>>,
}

impl<M: 'static> TestInput<M> {
    pub(super) fn new(tester: Tester, topic: Arc<str>, codec: Arc<dyn Codec<M>>) -> Self {
        Self { tester, topic, codec }
    }

    /// Writes a record at the tester's time, and lets all groups work until nothing is left.
    ///
    /// # Errors
    /// When the value can't be encoded, the topic does not exist, or a group fails.
    pub fn send(&self, key: impl Key, value: impl ValueOf<M>) -> Result<(), TesterError> {
        self.push_bytes(key, self.encode(&value)?.as_deref(), None, None)?;
        self.tester.drain()
    }

    /// As [`send`](Self::send), with a time in milliseconds since the epoch.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_at(&self, key: impl Key, value: impl ValueOf<M>, timestamp: i64) -> Result<(), TesterError> {
        self.push_bytes(key, self.encode(&value)?.as_deref(), Some(timestamp), None)?;
        self.tester.drain()
    }

    /// Writes a null value and lets all groups work.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_null(&self, key: impl Key) -> Result<(), TesterError> {
        self.push_bytes(key, None, None, None)?;
        self.tester.drain()
    }

    /// Writes a record and does not wait; [`Tester::drain`] does.
    ///
    /// # Errors
    /// When the value can't be encoded or the topic does not exist.
    pub fn push(&self, key: impl Key, value: impl ValueOf<M>) -> Result<(), TesterError> {
        self.push_bytes(key, self.encode(&value)?.as_deref(), None, None)
    }

    /// Writes a record with all that can be chosen, and does not wait.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_at(
        &self,
        key: impl Key,
        value: Option<&M>,
        timestamp: Option<i64>,
        partition: Option<i32>,
    ) -> Result<(), TesterError> {
        let bytes = value.map(|value| self.encode(value)).transpose()?.flatten();
        self.push_bytes(key, bytes.as_deref(), timestamp, partition)
    }

    /// Writes a record with headers, and does not wait.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_with_headers(
        &self,
        key: impl Key,
        value: impl ValueOf<M>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), TesterError> {
        let bytes = self.encode(&value)?;
        let (key, value) = (key.bytes(), bytes.as_deref());
        let key = key.as_deref();
        self.tester.write(NewRecord { topic: &self.topic, partition: None, timestamp: None, key, value }, headers)
    }

    /// Writes bytes that need not be a value of `M`, and does not wait.
    ///
    /// # Errors
    /// When the topic does not exist.
    pub fn push_bytes(
        &self,
        key: impl Key,
        value: Option<&[u8]>,
        timestamp: Option<i64>,
        partition: Option<i32>,
    ) -> Result<(), TesterError> {
        self.tester
            .write(NewRecord { topic: &self.topic, partition, timestamp, key: key.bytes().as_deref(), value }, &[])
    }

    /// The value's bytes; `None` for a null.
    fn encode(&self, value: &impl ValueOf<M>) -> Result<Option<Vec<u8>>, TesterError> {
        encode(&self.tester, &self.topic, &*self.codec, value)
    }
}

/// A record that a test reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestRecord<M> {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is null.
    pub value: Option<M>,
    /// Its time in milliseconds since the epoch.
    pub timestamp: i64,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl<M> TestRecord<M> {
    /// The key as text; empty if there is none.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The last header of that name as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(value.as_deref()?).into_owned())
    }
}

/// Reads a topic of a [`Tester`].
pub struct TestOutput<M> {
    tester: Tester,
    topic: Arc<str>,
    codec: Arc<dyn Codec<M>>,
    next: RefCell<BTreeMap<i32, i64>>,
}

impl<M: 'static> TestOutput<M> {
    pub(super) fn new(tester: Tester, topic: Arc<str>, codec: Arc<dyn Codec<M>>) -> Self {
        Self { tester, topic, codec, next: RefCell::default() }
    }

    /// The committed records that were not read before, partition by partition.
    ///
    /// # Errors
    /// When the topic does not exist, or a value can't be decoded.
    pub fn read(&self) -> Result<Vec<TestRecord<M>>, TesterError> {
        let mut records = Vec::new();
        let mut next = self.next.borrow_mut();
        for p in 0..self.tester.partitions_of(&self.topic)? {
            let from = next.entry(p).or_default();
            for r in self.tester.read(&TopicPartition::new(Arc::clone(&self.topic), p), *from)?.iter() {
                *from = r.offset + 1;
                let value = r.value.map(|bytes| decode(&self.tester, &self.topic, &*self.codec, bytes)).transpose()?;
                records.push(TestRecord {
                    key: r.key.map(<[u8]>::to_vec),
                    value,
                    timestamp: r.timestamp,
                    partition: p,
                    offset: r.offset,
                    headers: r.headers.iter().map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect(),
                });
            }
        }
        Ok(records)
    }

    /// As [`read`](Self::read), but key and value only, the key as text.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_pairs(&self) -> Result<Vec<(String, Option<M>)>, TesterError> {
        Ok(self.read()?.into_iter().map(|r| (r.key_text(), r.value)).collect())
    }
}

/// Reads and sets the table of a group of a [`Tester`], by its topic: what is committed.
pub struct TestTable<V> {
    tester: Tester,
    group: String,
    topic: Arc<str>,
    codec: Arc<dyn Codec<V>>,
}

impl<V: 'static> TestTable<V> {
    pub(super) fn new(tester: Tester, group: String, codec: Arc<dyn Codec<V>>) -> Self {
        Self { tester, topic: table_topic(&group), group, codec }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When the group was not added, or the value can't be decoded.
    pub fn get(&self, key: impl Key) -> Result<Option<V>, TesterError> {
        Ok(self.all()?.remove(key.bytes().as_deref().unwrap_or_default()))
    }

    /// All keys with their values.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn all(&self) -> Result<BTreeMap<Vec<u8>, V>, TesterError> {
        let mut last: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for p in 0..self.tester.partitions_of(&self.topic)? {
            for r in self.tester.read(&TopicPartition::new(Arc::clone(&self.topic), p), 0)?.iter() {
                last.insert(r.key.unwrap_or_default().to_vec(), r.value.map(<[u8]>::to_vec));
            }
        }
        let pair = |(key, value): (Vec<u8>, Option<Vec<u8>>)| {
            let value = decode(&self.tester, &self.topic, &*self.codec, &value?);
            Some(value.map(|value| (key, value)))
        };
        last.into_iter().filter_map(pair).collect()
    }

    /// Sets a key's value, as if the group had: the group is stopped, finds the value in its table's topic, and goes on.
    ///
    /// # Errors
    /// When the value can't be encoded, or the group fails.
    pub fn set(&self, key: impl Key, value: impl ValueOf<V>) -> Result<(), TesterError> {
        let bytes = encode(&self.tester, &self.topic, &*self.codec, &value)?;
        self.tester.stop(&self.group)?;
        let key = key.bytes();
        let (topic, key, value) = (&self.topic, key.as_deref(), bytes.as_deref());
        self.tester.write(NewRecord { topic, partition: None, timestamp: None, key, value }, &[])?;
        self.tester.restart(&self.group)
    }
}

/// A value's bytes; `None` for a null. The codec is prepared for the topic first.
fn encode<M: 'static>(
    tester: &Tester,
    topic: &str,
    codec: &dyn Codec<M>,
    value: &impl ValueOf<M>,
) -> Result<Option<Vec<u8>>, TesterError> {
    if value.is_null_by(codec) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let prepared = tester.block_on(codec.prepare(topic));
    let encoded = prepared.and_then(|()| value.encode_by(codec, &mut bytes));
    encoded.map_err(|error| TesterError::Codec { topic: topic.to_owned(), error })?;
    Ok(Some(bytes))
}

/// How often a codec may ask for something to be loaded for one value.
const MAX_LOADS: u32 = 8;

/// A value of bytes. What the codec misses is loaded.
fn decode<M: 'static>(tester: &Tester, topic: &str, codec: &dyn Codec<M>, bytes: &[u8]) -> Result<M, TesterError> {
    let mut loads = 0;
    let decoded = loop {
        match codec.decode(bytes) {
            Err(CodecError::NotLoaded(id)) if loads < MAX_LOADS => {
                loads += 1;
                if let Err(error) = tester.block_on(codec.load(id)) {
                    break Err(error);
                }
            }
            decoded => break decoded,
        }
    };
    decoded.map_err(|error| TesterError::Codec { topic: topic.to_owned(), error })
}
