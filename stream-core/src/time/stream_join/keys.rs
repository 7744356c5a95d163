//! Keys of a join's own table, `<group>-join-<name>`: each record that is kept has two entries.
//!
//! | key | value |
//! |---|---|
//! | `0` side length-of-key key time arrival | the record's value, to be found by its key and time |
//! | `1` side time key arrival | [`OPEN`] if a null is to be emitted when it falls due, else nothing |
//!
//! Side is 0 for right and 1 for left; times sort as numbers; arrival is the record's offset, and where it was sent on under
//! another key that of its source with the partition, so that a record that is done again has the same entries.
//!
//! These are formats on disk and in topics: they must never change without a new name for the topic.

use crate::window::Which;
use crate::window::keys::{read_time, time};

/// The value of an entry by time while its record is unmatched and its null is not emitted yet.
pub(crate) const OPEN: &[u8] = &[1];
/// The value of any other entry by time.
pub(crate) const SETTLED: &[u8] = &[];

const BY_KEY: u8 = 0;
const BY_TIME: u8 = 1;

impl Which {
    fn byte(self) -> u8 {
        match self {
            Self::Right => 0,
            Self::Left => 1,
        }
    }

    /// The first byte of the keys of a side's entries by time.
    pub(crate) fn by_time(self) -> &'static [u8] {
        match self {
            Self::Right => &[BY_TIME, 0],
            Self::Left => &[BY_TIME, 1],
        }
    }
}

/// The place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) side: Which,
    pub(crate) key: &'a [u8],
    pub(crate) time: i64,
    pub(crate) arrival: i64,
}

impl<'a> Place<'a> {
    /// Its entry by key.
    pub(crate) fn by_key(&self, to: &mut Vec<u8>) {
        self.from(to);
        to.extend_from_slice(&self.arrival.to_be_bytes());
    }

    /// Where the entries by key begin of this time and later ones.
    pub(crate) fn from(&self, to: &mut Vec<u8>) {
        to.clear();
        to.extend_from_slice(&[BY_KEY, self.side.byte()]);
        to.extend_from_slice(&u32::try_from(self.key.len()).unwrap_or(u32::MAX).to_be_bytes());
        to.extend_from_slice(self.key);
        to.extend_from_slice(&time(self.time));
    }

    /// Its entry by time.
    pub(crate) fn by_time(&self, to: &mut Vec<u8>) {
        to.clear();
        to.extend_from_slice(self.side.by_time());
        to.extend_from_slice(&time(self.time));
        to.extend_from_slice(self.key);
        to.extend_from_slice(&self.arrival.to_be_bytes());
    }

    /// The place of an entry by time.
    pub(crate) fn of_time(entry: &'a [u8]) -> Option<Self> {
        let side = [Which::Right, Which::Left].into_iter().find(|side| entry.starts_with(side.by_time()))?;
        let (time, rest) = read_time(entry.strip_prefix(side.by_time())?)?;
        let (key, arrival) = rest.split_last_chunk::<8>()?;
        Some(Self { side, key, time, arrival: i64::from_be_bytes(*arrival) })
    }
}

/// The number that distinguishes a record from all others of a topic with several partitions; those of one partition sort
/// by their offsets.
pub(crate) fn arrival(partition: i32, offset: i64) -> i64 {
    const OFFSETS: u32 = 44;
    (i64::from(partition) << OFFSETS) | (offset & ((1 << OFFSETS) - 1))
}

/// The time and the arrival that an entry by key ends with.
pub(crate) fn read_end(entry: &[u8]) -> Option<(i64, i64)> {
    let (rest, arrival) = entry.split_last_chunk::<8>()?;
    let (_, at) = rest.split_last_chunk::<8>()?;
    Some((read_time(at)?.0, i64::from_be_bytes(*arrival)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(side: Which, key: &[u8], time: i64, arrival: i64) -> Place<'_> {
        Place { side, key, time, arrival }
    }

    #[test]
    fn a_record_s_entries_give_its_place_back() {
        let (mut entry, at) = (Vec::new(), place(Which::Left, b"k\0", -7, 12));
        at.by_time(&mut entry);
        assert_eq!(Place::of_time(&entry), Some(at));
        at.by_key(&mut entry);
        assert_eq!(read_end(&entry), Some((-7, 12)));
    }

    #[test]
    fn entries_by_time_sort_by_time_then_key_then_arrival() {
        let order = [(1, &b"b"[..], 9), (2, b"a", 3), (2, b"a", 4), (2, b"ab", 1), (2, b"b", 0)];
        let entries = order.map(|(time, key, arrival)| {
            let mut entry = Vec::new();
            place(Which::Right, key, time, arrival).by_time(&mut entry);
            entry
        });
        assert!(entries.is_sorted());
    }

    #[test]
    fn a_range_by_key_holds_no_other_key() {
        let (mut from, mut to, mut other) = (Vec::new(), Vec::new(), Vec::new());
        place(Which::Right, b"a", 0, 0).from(&mut from);
        place(Which::Right, b"a", i64::MAX, 0).from(&mut to);
        for key in [&b"ab"[..], b"b", b"", b"a\0"] {
            place(Which::Right, key, 5, 0).by_key(&mut other);
            assert!(other < from || other > to, "{key:?}");
        }
        place(Which::Right, b"a", 5, 0).by_key(&mut other);
        assert!(from < other && other < to);
    }
}
