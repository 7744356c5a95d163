//! Batches of records: one buffer for all keys, values and headers, and a small entry for each record.
//!
//! A batch that is cleared keeps its memory, so that a task that reuses its batches allocates nothing a record.

use std::sync::Arc;

use super::arena::{Arena, HeaderSpan, Headers, Span, small};

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: i64,
    timestamp: i64,
    key: Span,
    value: Span,
    headers: (u32, u32),
}

/// Records of one partition as they were read, in offset order.
#[derive(Clone, Debug, Default)]
pub struct RecordBatch {
    arena: Arena,
    entries: Vec<Entry>,
}

/// One record of a [`RecordBatch`].
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its time in milliseconds since the epoch.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

impl RecordBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.arena.data.clear();
        self.arena.headers.clear();
        self.entries.clear();
    }

    /// Appends a record.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let key = self.arena.put(key);
        let value = self.arena.put(value);
        let headers = self.arena.put_headers(headers);
        self.entries.push(Entry { offset, timestamp, key, value, headers });
    }

    /// The record at an index.
    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        let e = self.entries.get(index)?;
        Some(RecordRef {
            offset: e.offset,
            timestamp: e.timestamp,
            key: e.key.of(&self.arena.data),
            value: e.value.of(&self.arena.data),
            headers: self.arena.headers(e.headers),
        })
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        (0..self.entries.len()).filter_map(|i| self.get(i))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.arena.data.len()
    }
}

/// A record to write, as given to [`ProduceBatch::push`]. Also what one looks like when it is read back.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The topic.
    pub topic: &'a Arc<str>,
    /// The partition; chosen by the key when `None`.
    pub partition: Option<i32>,
    /// Its time; now when `None`.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; null is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug)]
struct OutEntry {
    topic: u32,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Span,
    value: Span,
    headers: (u32, u32),
}

/// Records to be written, of any number of topics, in order.
#[derive(Clone, Debug, Default)]
pub struct ProduceBatch {
    arena: Arena,
    entries: Vec<OutEntry>,
    topics: Vec<Arc<str>>,
}

/// A point to cut a [`ProduceBatch`] back to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Savepoint {
    data: usize,
    headers: usize,
    entries: usize,
}

/// Cuts a batch back, also if what appends to it panics.
struct Undo<'b> {
    batch: &'b mut ProduceBatch,
    to: Option<Savepoint>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(to) = self.to {
            self.batch.truncate(to);
        }
    }
}

impl ProduceBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory and its topics.
    pub fn clear(&mut self) {
        self.truncate(Savepoint::default());
    }

    fn topic_index(&mut self, topic: &Arc<str>) -> u32 {
        // A handful of topics: the pointer nearly always matches.
        let known = self.topics.iter().position(|t| Arc::ptr_eq(t, topic) || t == topic);
        small(known.unwrap_or_else(|| {
            self.topics.push(Arc::clone(topic));
            self.topics.len() - 1
        }))
    }

    /// Appends a record.
    pub fn push<'h>(&mut self, record: NewRecord<'_>, headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>) {
        let topic = self.topic_index(record.topic);
        let key = self.arena.put(record.key);
        let value = self.arena.put(record.value);
        let headers = self.arena.put_headers(headers);
        let (partition, timestamp) = (record.partition, record.timestamp);
        self.entries.push(OutEntry { topic, partition, timestamp, key, value, headers });
    }

    /// Appends a record whose value `write` appends to the batch's buffer; if that fails or panics, nothing is appended.
    pub fn push_with<'h, E>(
        &mut self,
        record: NewRecord<'_>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.savepoint();
        let topic = self.topic_index(record.topic);
        let mut undo = Undo { batch: self, to: Some(before) };
        let arena = &mut undo.batch.arena;
        let key = arena.put(record.key);
        let start = arena.data.len();
        write(&mut arena.data)?;
        let value = Span { start, len: arena.data.len() - start };
        undo.to = None;
        drop(undo);
        let headers = self.arena.put_headers(headers);
        let (partition, timestamp) = (record.partition, record.timestamp);
        self.entries.push(OutEntry { topic, partition, timestamp, key, value, headers });
        Ok(())
    }

    /// Has [`topics`](Self::topics) name a topic, though no record does yet.
    pub(crate) fn add_topic(&mut self, topic: &Arc<str>) {
        self.topic_index(topic);
    }

    /// Appends all records of another batch.
    pub fn append(&mut self, other: &Self) {
        self.append_from(other, Savepoint::default());
    }

    /// Appends the records of another batch that came after a savepoint of it.
    pub fn append_from(&mut self, other: &Self, from: Savepoint) {
        let (data, headers) = (self.arena.data.len(), small(self.arena.headers.len()));
        let moved = |span: Span| span.moved(from.data, data);
        self.arena.data.extend_from_slice(other.arena.data.get(from.data..).unwrap_or_default());
        let spans = other.arena.headers.get(from.headers..).unwrap_or_default();
        self.arena.headers.extend(spans.iter().map(|h| HeaderSpan { name: moved(h.name), value: moved(h.value) }));
        let entries = other.entries.get(from.entries..).unwrap_or_default();
        let first = small(from.headers);
        self.entries.reserve(entries.len());
        for e in entries {
            let Some(topic) = other.topics.get(e.topic as usize) else { continue };
            let topic = self.topic_index(topic);
            let (key, value) = (moved(e.key), moved(e.value));
            let headers = (e.headers.0 - first + headers, e.headers.1 - first + headers);
            self.entries.push(OutEntry { topic, key, value, headers, ..*e });
        }
    }

    /// Where the batch ends now.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { data: self.arena.data.len(), headers: self.arena.headers.len(), entries: self.entries.len() }
    }

    /// Cuts it back to an earlier end.
    pub fn truncate(&mut self, to: Savepoint) {
        self.arena.data.truncate(to.data);
        self.arena.headers.truncate(to.headers);
        self.entries.truncate(to.entries);
    }

    /// The record at an index, with its headers.
    pub fn get(&self, index: usize) -> Option<(NewRecord<'_>, Headers<'_>)> {
        let e = self.entries.get(index)?;
        let record = NewRecord {
            topic: self.topics.get(e.topic as usize)?,
            partition: e.partition,
            timestamp: e.timestamp,
            key: e.key.of(&self.arena.data),
            value: e.value.of(&self.arena.data),
        };
        Some((record, self.arena.headers(e.headers)))
    }

    /// The index in [`topics`](Self::topics) of a record's topic.
    pub fn topic_of(&self, index: usize) -> Option<usize> {
        self.entries.get(index).map(|e| e.topic as usize)
    }

    /// All records, with their headers.
    pub fn iter(&self) -> impl Iterator<Item = (NewRecord<'_>, Headers<'_>)> {
        (0..self.entries.len()).filter_map(|i| self.get(i))
    }

    /// The topics that its records name, each once (topics of records that were cut off included).
    pub fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.arena.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> impl Iterator<Item = (&'static str, Option<&'static [u8]>)> {
        std::iter::empty()
    }

    #[test]
    fn nulls_and_empties_are_told_apart() {
        let mut batch = RecordBatch::new();
        batch.push(7, 1, None, Some(b""), [("h", None), ("h", Some(&b"2"[..]))].into_iter());
        let r = batch.get(0).unwrap();
        assert_eq!((r.offset, r.key, r.value), (7, None, Some(&b""[..])));
        assert_eq!(r.headers.iter().collect::<Vec<_>>(), [("h", None), ("h", Some(&b"2"[..]))]);
        assert_eq!(r.headers.get("h"), Some(&b"2"[..]));
    }

    #[test]
    fn a_batch_is_cut_back_and_appended() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let record = |topic, value| NewRecord { topic, partition: Some(1), timestamp: None, key: Some(b"k"), value };
        let mut one = ProduceBatch::new();
        one.push(record(&a, Some(b"1")), none());
        let here = one.savepoint();
        one.push(record(&b, Some(b"2")), [("x", Some(&b"y"[..]))].into_iter());
        let failed: Result<(), ()> = one.push_with(record(&a, None), none(), |out| {
            out.extend_from_slice(b"half");
            Err(())
        });
        assert_eq!((failed, one.len()), (Err(()), 2));
        let mut other = ProduceBatch::new();
        other.push(record(&b, None), [("n", Some(&b"m"[..]))].into_iter());
        other.append(&one);
        let got: Vec<_> = other.iter().map(|(r, h)| (&**r.topic, r.value, h.iter().next())).collect();
        let (x, n) = (("x", Some(&b"y"[..])), ("n", Some(&b"m"[..])));
        assert_eq!(got, [("b", None, Some(n)), ("a", Some(&b"1"[..]), None), ("b", Some(&b"2"[..]), Some(x))]);
        one.truncate(here);
        assert_eq!(one.iter().map(|(r, _)| r.value).collect::<Vec<_>>(), [Some(&b"1"[..])]);
    }
}
