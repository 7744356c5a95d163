//! Entries that stay open until they are due, each kind in its own table: a session, a batch.
//!
//! | key | value |
//! |---|---|
//! | `0` length key place | when it is due, when its marker is, its event time; then what it has |
//! | `1` due length key place | a marker: nothing |
//!
//! The place distinguishes the open entries of a key. Markers sort by when they are due, so that what closes next is asked
//! for as a timer is.
//!
//! Invariants:
//! - An entry has a marker, and not after it is due. One that falls due later leaves its marker where it is: it is moved
//!   when its time has come, so that a record that makes a session longer costs one write.
//! - With at-least-once delivery, an arbitrary subset of the unacknowledged writes survives a crash. So the replacement of an
//!   entry or a marker is acknowledged before the old one is deleted, an entry's marker is deleted after the entry, and a
//!   record that adds to an entry checks that its marker exists, and writes it if not. A marker without an entry is forgotten.
//!
//! These are formats on disk and in topics: they must never change without a new name for the topic.

use crate::window::keys;

const ENTRY: u8 = 0;

/// The first byte of the keys of markers.
pub(crate) const MARKERS: &[u8] = &[1];

/// The prefix of the entries of a key.
pub(crate) fn entry_prefix(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + key.len() + 12);
    bytes.push(ENTRY);
    bytes.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The key of an entry.
pub(crate) fn entry_key(key: &[u8], suffix: &[u8]) -> Vec<u8> {
    let mut bytes = entry_prefix(key);
    bytes.extend_from_slice(suffix);
    bytes
}

/// The key that an entry is of.
pub(crate) fn key(entry_key: &[u8]) -> Option<&[u8]> {
    let (len, rest) = entry_key.strip_prefix(&[ENTRY])?.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*len) as usize)
}

/// The key of an entry's marker.
pub(crate) fn marker(due: i64, entry_key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + entry_key.len());
    bytes.extend_from_slice(MARKERS);
    bytes.extend_from_slice(&keys::time(due));
    bytes.extend_from_slice(entry_key.get(1..).unwrap_or_default());
    bytes
}

/// The key of a marker's entry.
pub(crate) fn entry_of_marker(marker: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = keys::read_time(marker.strip_prefix(MARKERS)?)?;
    Some([&[ENTRY], rest].concat())
}

/// An open entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DueEntry<'a> {
    /// When it closes.
    pub(crate) due: i64,
    /// When its marker is due.
    pub(crate) marker_due: i64,
    /// The event time of its closing.
    pub(crate) event_time: i64,
    pub(crate) body: &'a [u8],
}

impl<'a> DueEntry<'a> {
    /// Bytes before the body.
    pub(crate) const HEADER: usize = 24;

    pub(crate) fn read(value: &'a [u8]) -> Option<Self> {
        let (due, rest) = keys::read_time(value)?;
        let (marker_due, rest) = keys::read_time(rest)?;
        let (event_time, body) = keys::read_time(rest)?;
        Some(Self { due, marker_due, event_time, body })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for time in [self.due, self.marker_due, self.event_time] {
            out.extend_from_slice(&keys::time(time));
        }
        out.extend_from_slice(self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_and_its_marker_find_each_other() {
        let entry_key = entry_key(b"k\0", b"place");
        assert_eq!(entry_of_marker(&marker(77, &entry_key)), Some(entry_key.clone()));
        assert_eq!(key(&entry_key), Some(&b"k\0"[..]));
        assert!(entry_key.starts_with(&entry_prefix(b"k\0")) && !entry_key.starts_with(&entry_prefix(b"k")));
        let open = DueEntry { due: 9, marker_due: 7, event_time: -1, body: b"body" };
        let mut value = Vec::new();
        open.write(&mut value);
        assert_eq!(DueEntry::read(&value), Some(open));
    }
}
