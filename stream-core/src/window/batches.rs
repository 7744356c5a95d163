//! Batches: records of a key that are taken together, by their number or by the wall clock; and how an open one is kept in its
//! table.
//!
//! The body of an open batch: whether it is full, when its first and its last record came, and each record with where it
//! came from, so that one that is read again is known. This is a format on disk and in topics: it must never change without
//! a new name for the topic.

use std::time::Duration;

use super::millis;

/// When a batch closes, whichever is first: at so many records, so long after its last one, so long after its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    pub(crate) most: usize,
    pub(crate) gap: Option<i64>,
    pub(crate) max_age: Option<i64>,
}

impl Batches {
    /// Batches of so many records at most.
    pub fn of(records: usize) -> Self {
        Self { most: records, gap: None, max_age: None }
    }

    /// Closes a batch so long after its last record came, by the wall clock.
    #[must_use]
    pub fn gap(mut self, gap: Duration) -> Self {
        self.gap = Some(millis(gap));
        self
    }

    /// Closes a batch so long after its first record came, by the wall clock.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(millis(age));
        self
    }

    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self { most: 0, .. } => Some("it must take at least 1 record"),
            Self { gap: None, max_age: None, .. } => {
                Some("it needs a gap() or a max_age(), else the last records of a key would wait for ever")
            }
            _ => None,
        }
    }
}

/// Where a record came from: input topic, offset, and how many the callback had collected before of the same record.
/// `None` if it is no input's record.
pub(crate) type Origin<'a> = Option<(&'a str, i64, u32)>;

/// A batch that is still open.
#[derive(Debug)]
pub(crate) struct Batch {
    full: bool,
    first: i64,
    last: i64,
    count: u32,
    items: Vec<u8>,
}

impl Batch {
    /// An empty one that begins now.
    pub(crate) fn new(now: i64) -> Self {
        Self { full: false, first: now, last: now, count: 0, items: Vec::new() }
    }

    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (full, rest) = body.split_first()?;
        let (first, rest) = rest.split_first_chunk()?;
        let (last, rest) = rest.split_first_chunk()?;
        let (count, items) = rest.split_first_chunk()?;
        let (first, last) = (i64::from_be_bytes(*first), i64::from_be_bytes(*last));
        Some(Self { full: *full != 0, first, last, count: u32::from_be_bytes(*count), items: items.to_vec() })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.full));
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.last.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.items);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        21 + self.items.len()
    }

    /// How much larger a record makes it.
    pub(crate) fn len_of(origin: Origin<'_>, value: &[u8]) -> usize {
        17 + origin.map_or(0, |(topic, ..)| topic.len()) + value.len()
    }

    pub(crate) fn push(&mut self, now: i64, origin: Origin<'_>, value: &[u8]) {
        let (topic, offset, number) = origin.unwrap_or_default();
        // Topic names have 249 bytes at most.
        self.items.push(u8::try_from(topic.len()).unwrap_or_default());
        self.items.extend_from_slice(topic.as_bytes());
        self.items.extend_from_slice(&offset.to_be_bytes());
        self.items.extend_from_slice(&number.to_be_bytes());
        self.items.extend_from_slice(&u32::try_from(value.len()).unwrap_or_default().to_be_bytes());
        self.items.extend_from_slice(value);
        self.last = self.last.max(now);
        self.count += 1;
    }

    /// Takes nothing more.
    pub(crate) fn fill(&mut self) {
        self.full = true;
    }

    /// When it closes.
    pub(crate) fn closes(&self, batches: &Batches, now: i64) -> i64 {
        let gap = batches.gap.map(|gap| self.last.saturating_add(gap));
        let age = batches.max_age.map(|age| self.first.saturating_add(age));
        let by_clock = gap.into_iter().chain(age).min().unwrap_or(i64::MAX);
        if self.full { by_clock.min(now) } else { by_clock }
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether it has this record with this value already.
    pub(crate) fn has(&self, origin: Origin<'_>, value: &[u8]) -> bool {
        origin.is_some() && self.items().any(|item| item == (origin, value))
    }

    /// Its records, in the order in which they came.
    pub(crate) fn items(&self) -> impl Iterator<Item = (Origin<'_>, &[u8])> {
        let mut rest = &self.items[..];
        std::iter::from_fn(move || {
            let (item, after) = read_item(rest)?;
            rest = after;
            Some(item)
        })
    }
}

fn read_item(bytes: &[u8]) -> Option<((Origin<'_>, &[u8]), &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (topic, rest) = rest.split_at_checked(usize::from(*len))?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    let topic = std::str::from_utf8(topic).ok()?;
    let origin = (topic, i64::from_be_bytes(*offset), u32::from_be_bytes(*number));
    Some((((!topic.is_empty()).then_some(origin), value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_and_knows_what_it_has() {
        let mut batch = Batch::new(5);
        let items = [(Some(("in", 7, 0)), &b"a"[..]), (Some(("in", 7, 1)), b""), (None, b"b"), (None, b"b")];
        let mut size = batch.len();
        for (origin, value) in items {
            batch.push(9, origin, value);
            size += Batch::len_of(origin, value);
        }
        let mut bytes = Vec::new();
        batch.write(&mut bytes);
        let read = Batch::read(&bytes).unwrap();
        assert_eq!(read.items().collect::<Vec<_>>(), items);
        assert_eq!((read.first, read.last, read.count(), read.is_full()), (5, 9, 4, false));
        assert_eq!((read.len(), bytes.len()), (size, size));
        assert!(read.has(Some(("in", 7, 0)), b"a"));
        assert!(!read.has(Some(("in", 7, 0)), b"another value"));
        assert!(!read.has(Some(("in", 8, 0)), b"a"));
        assert!(!read.has(None, b"b"), "what is of no input is never taken for another");
    }
}
