//! Entries that stay open until they are due, each kind in a table of its own: a session, a batch.
//!
//! | key | value |
//! |---|---|
//! | `0` length key place | when it is due, when its marker is, its event time; then what it has |
//! | `1` due length key place | a marker: nothing |
//!
//! The place tells the open entries of a key apart. Markers sort by when they are due, so that what closes next is asked
//! for as a timer is.
//!
//! Invariants:
//! - An entry has a marker, and not after it is due. One that falls due later leaves its marker where it is: it is moved
//!   when its time has come, so that a record that makes a session longer costs one write.
//! - At least once, any part of what is not acknowledged may be there after a crash, and no other. So what an entry or a
//!   marker is replaced by is acknowledged before it is deleted, an entry's marker is deleted after the entry, and a record
//!   that adds to an entry sees to it that the marker is there. A marker without an entry is forgotten.
//!
//! These are formats on disk and in topics: they must never change without a new name for the topic.

use crate::window::keys;

const ENTRY: u8 = 0;

/// What the keys of markers begin with.
pub(crate) const MARKERS: &[u8] = &[1];

/// What the places of a key begin with.
pub(crate) fn places(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + key.len() + 12);
    bytes.push(ENTRY);
    bytes.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// Where an entry lies.
pub(crate) fn place(key: &[u8], place: &[u8]) -> Vec<u8> {
    let mut bytes = places(key);
    bytes.extend_from_slice(place);
    bytes
}

/// The key that an entry is of.
pub(crate) fn key(place: &[u8]) -> Option<&[u8]> {
    let (len, rest) = place.strip_prefix(&[ENTRY])?.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*len) as usize)
}

/// Where an entry's marker lies.
pub(crate) fn marker(due: i64, place: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + place.len());
    bytes.extend_from_slice(MARKERS);
    bytes.extend_from_slice(&keys::time(due));
    bytes.extend_from_slice(place.get(1..).unwrap_or_default());
    bytes
}

/// Where the entry of a marker lies.
pub(crate) fn marked(marker: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = keys::read_time(marker.strip_prefix(MARKERS)?)?;
    Some([&[ENTRY], rest].concat())
}

/// An open entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open<'a> {
    /// When it closes.
    pub(crate) due: i64,
    /// When its marker is due.
    pub(crate) marked: i64,
    /// The event time of its closing.
    pub(crate) at: i64,
    pub(crate) body: &'a [u8],
}

impl<'a> Open<'a> {
    /// Bytes before the body.
    pub(crate) const HEADER: usize = 24;

    pub(crate) fn read(value: &'a [u8]) -> Option<Self> {
        let (due, rest) = keys::read_time(value)?;
        let (marked, rest) = keys::read_time(rest)?;
        let (at, body) = keys::read_time(rest)?;
        Some(Self { due, marked, at, body })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for time in [self.due, self.marked, self.at] {
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
        let place = place(b"k\0", b"place");
        assert_eq!(marked(&marker(77, &place)), Some(place.clone()));
        assert_eq!(key(&place), Some(&b"k\0"[..]));
        assert!(place.starts_with(&places(b"k\0")) && !place.starts_with(&places(b"k")));
        let open = Open { due: 9, marked: 7, at: -1, body: b"body" };
        let mut value = Vec::new();
        open.write(&mut value);
        assert_eq!(Open::read(&value), Some(open));
    }
}
