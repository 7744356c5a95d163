//! The format of a join's own table, `<group>-kept-<name>`.
//!
//! | key | value | in the changelog |
//! |---|---|---|
//! | `0` side time key arrival | as the first byte of its record's value | no: [derived](crate::store::Derive) |
//! | `1` side length-of-key key time arrival | [`OPEN`] or [`SETTLED`], then the record's value | yes |
//! | `2` side length-of-key key time arrival | nothing: no null of this record is to be emitted | yes, once a record at most |
//! | `3` | for each side the time below which its records are closed | yes, one for many records |
//!
//! Side is 0 for right and 1 for left; times sort as numbers; arrival is the record's offset, and where it was sent on under
//! another key that of its source with the partition, so that a record that is done again has the same entries.
//!
//! A record is **open** while its null may still have to be emitted: its value begins with [`OPEN`], and it has no mark
//! (`2`). The mark comes with its first match. With exactly-once delivery it may come with its null, too, if that is in
//! another transaction than those of others that are due at the same time.
//!
//! These are formats on disk and in topics: they must never change without a new name for the topic.

use crate::store::{Derive, Layout};
use crate::window::Which;
use crate::window::keys::{read_time, time};

/// The first byte of a value, and a derived entry's value, if the record came without a match and its side emits nulls.
pub(crate) const OPEN: &[u8] = &[1];
/// The same of any other record.
pub(crate) const SETTLED: &[u8] = &[0];

const BY_TIME: u8 = 0;
const BY_KEY: u8 = 1;
const MARK: u8 = 2;
/// The key of the bound.
pub(crate) const BOUND: &[u8] = &[3];
/// The first byte of the keys of records.
pub(crate) const RECORDS: &[u8] = &[BY_KEY];

impl Which {
    fn byte(self) -> u8 {
        match self {
            Self::Right => 0,
            Self::Left => 1,
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        [Self::Right, Self::Left].into_iter().find(|side| side.byte() == byte)
    }

    /// The first bytes of the keys of a side's entries by time.
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
    /// Its record.
    pub(crate) fn by_key(&self, to: &mut Vec<u8>) {
        self.from(to);
        to.extend_from_slice(&self.arrival.to_be_bytes());
    }

    /// Its mark.
    pub(crate) fn mark(&self, to: &mut Vec<u8>) {
        self.by_key(to);
        if let Some(first) = to.first_mut() {
            *first = MARK;
        }
    }

    /// Where the records begin of this time and later ones.
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
        let (_, rest) = entry.strip_prefix(&[BY_TIME])?.split_first()?;
        let side = Which::of_byte(*entry.get(1)?)?;
        let (time, rest) = read_time(rest)?;
        let (key, arrival) = rest.split_last_chunk::<8>()?;
        Some(Self { side, key, time, arrival: i64::from_be_bytes(*arrival) })
    }

    /// The place of a record.
    pub(crate) fn of_record(record: &'a [u8]) -> Option<Self> {
        Self::of(record.strip_prefix(RECORDS)?)
    }

    /// The place of a mark.
    fn of_mark(mark: &'a [u8]) -> Option<Self> {
        Self::of(mark.strip_prefix(&[MARK])?)
    }

    fn of(rest: &'a [u8]) -> Option<Self> {
        let (side, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let (time, arrival) = read_time(rest)?;
        Some(Self { side: Which::of_byte(*side)?, key, time, arrival: i64::from_be_bytes(arrival.try_into().ok()?) })
    }
}

/// A kept record's value: whether it came without a match on a side that emits nulls, and its own value.
pub(crate) fn read_value(value: &[u8]) -> (bool, &[u8]) {
    match value.split_first() {
        Some((flag, value)) => (OPEN == [*flag], value),
        None => (false, &[]),
    }
}

/// The value of a bound: of each side the time below which its records are closed.
pub(crate) fn bound(right: i64, left: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (first, last) = bytes.split_at_mut(8);
    first.copy_from_slice(&time(right));
    last.copy_from_slice(&time(left));
    bytes
}

/// The time below which a side's records are closed by this value of the bound.
pub(crate) fn read_bound(value: &[u8], side: Which) -> Option<i64> {
    let (right, rest) = read_time(value)?;
    let (left, _) = read_time(rest)?;
    Some(match side {
        Which::Right => right,
        Which::Left => left,
    })
}

/// Where a side's entries by time begin of this time and later ones.
pub(crate) fn from_time(side: Which, at: i64) -> Vec<u8> {
    let mut from = side.by_time().to_vec();
    from.extend_from_slice(&time(at));
    from
}

/// The layout of a join's table.
#[derive(Debug)]
pub(crate) struct JoinLayout;

impl JoinLayout {
    pub(crate) const LAYOUT: Layout = &Self;
}

impl Derive for JoinLayout {
    fn derived(&self, record: &[u8], to: &mut Vec<u8>) -> bool {
        Place::of_record(record).map(|place| place.by_time(to)).is_some()
    }

    fn value(&self, record: &[u8]) -> &'static [u8] {
        if read_value(record).0 { OPEN } else { SETTLED }
    }

    fn record(&self, derived: &[u8], to: &mut Vec<u8>) -> bool {
        Place::of_time(derived).map(|place| place.by_key(to)).is_some()
    }

    fn mark(&self, derived: &[u8], to: &mut Vec<u8>) -> bool {
        Place::of_time(derived).map(|place| place.mark(to)).is_some()
    }

    fn marked(&self, mark: &[u8], to: &mut Vec<u8>) -> bool {
        Place::of_mark(mark).map(|place| place.by_time(to)).is_some()
    }

    fn bound(&self) -> &'static [u8] {
        BOUND
    }

    fn below(&self, bound: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let of = |side: Which| Some((side.by_time().to_vec(), from_time(side, read_bound(bound, side)?)));
        [Which::Right, Which::Left].into_iter().filter_map(of).collect()
    }
}

/// The number that distinguishes a record from all others of a topic with several partitions; those of one partition sort
/// by their offsets.
pub(crate) fn arrival(partition: i32, offset: i64) -> i64 {
    const OFFSETS: u32 = 44;
    (i64::from(partition) << OFFSETS) | (offset & ((1 << OFFSETS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(side: Which, key: &[u8], time: i64, arrival: i64) -> Place<'_> {
        Place { side, key, time, arrival }
    }

    #[test]
    fn a_record_s_entries_give_its_place_back() {
        let (mut entry, mut other) = (Vec::new(), Vec::new());
        for key in [&b"k\0"[..], b"", &[0xff; 300]] {
            let at = place(Which::Left, key, -7, 12);
            at.by_time(&mut entry);
            assert_eq!(Place::of_time(&entry), Some(at));
            at.by_key(&mut other);
            assert_eq!(Place::of_record(&other), Some(at));
            let (mut found, mut mark) = (Vec::new(), Vec::new());
            assert!(JoinLayout.derived(&other, &mut found) && found == entry);
            assert!(JoinLayout.record(&entry, &mut found) && found == other);
            at.mark(&mut mark);
            assert!(JoinLayout.mark(&entry, &mut found) && found == mark);
            assert!(JoinLayout.marked(&mark, &mut found) && found == entry);
            assert!(!JoinLayout.derived(&mark, &mut found) && !JoinLayout.derived(BOUND, &mut found));
        }
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

    #[test]
    fn a_bound_closes_what_is_below_it_on_each_side() {
        let mut entry = Vec::new();
        let ranges = JoinLayout.below(&bound(5, 10));
        let mut closed = |side, time| {
            place(side, b"k", time, 3).by_time(&mut entry);
            ranges.iter().any(|(from, end)| (from..end).contains(&&entry))
        };
        assert!(closed(Which::Right, 4) && !closed(Which::Right, 5));
        assert!(closed(Which::Left, 9) && !closed(Which::Left, 10));
        assert!(closed(Which::Left, -1) && closed(Which::Right, i64::MIN));
    }
}
