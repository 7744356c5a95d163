//! What a restore holds back of a changelog, to write it to the store in bulk: the newest value of each key, in key order.
//!
//! It decides nothing about deletions: a key whose newest value is a deletion is written as one, because the store may have the key from
//! before this restore, or from before a crash.

use std::collections::VecDeque;

/// Bytes of a chunk, at least.
const CHUNK: usize = 1 << 20;

/// Stands for the length of a deletion's value, which has none. No record of Kafka is as long.
const DELETED: u32 = u32::MAX;

/// A record's place: its key, and behind it its value.
#[derive(Clone, Copy, Debug)]
struct Entry {
    chunk: u32,
    at: u32,
    key: u32,
    value: u32,
}

/// Writes of a changelog that the store does not have yet, the newest last.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    chunks: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    bytes: usize,
    /// Bytes that all keys begin with, at most as many as the first one has.
    common: usize,
}

/// The newest writes of a [`Bulk`], by their entries in key order.
#[derive(Debug, Default)]
pub(super) struct Sorted(VecDeque<u32>);

impl Bulk {
    /// Takes a write in.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.common = match self.entries.first().map(|first| self.pair(*first).0) {
            Some(first) => first.iter().zip(key).take(self.common).take_while(|(a, b)| a == b).count(),
            None => key.len(),
        };
        let length = key.len() + value.map_or(0, <[u8]>::len);
        if self.chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < length) {
            self.chunks.push(Vec::with_capacity(CHUNK.max(length)));
        }
        let number = small(self.chunks.len() - 1);
        let Some(chunk) = self.chunks.last_mut() else { return };
        let at = small(chunk.len());
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(value.unwrap_or_default());
        let value = value.map_or(DELETED, |value| small(value.len()));
        self.entries.push(Entry { chunk: number, at, key: small(key.len()), value });
        self.bytes += length + size_of::<Entry>();
    }

    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn pair(&self, entry: Entry) -> (&[u8], Option<&[u8]>) {
        let chunk = self.chunks.get(entry.chunk as usize).map(Vec::as_slice).unwrap_or_default();
        let (at, key) = (entry.at as usize, entry.key as usize);
        let part = |from: usize, length: usize| chunk.get(from..from + length).unwrap_or_default();
        (part(at, key), (entry.value != DELETED).then(|| part(at + key, entry.value as usize)))
    }

    fn at(&self, index: u32) -> (&[u8], Option<&[u8]>) {
        self.entries.get(index as usize).map_or((&[][..], None), |entry| self.pair(*entry))
    }

    /// The newest write of each key, in key order.
    pub(super) fn sorted(&self) -> Sorted {
        // Most comparisons are decided by the eight bytes in which keys begin to differ, which need no look into a chunk.
        let mut order: Vec<(u64, u32)> = (0..small(self.entries.len())).map(|i| (self.differs(i), i)).collect();
        order.sort_unstable_by(|(a, i), (b, j)| a.cmp(b).then_with(|| self.at(*i).0.cmp(self.at(*j).0)).then(i.cmp(j)));
        let mut newest: VecDeque<u32> = VecDeque::with_capacity(order.len());
        let mut last = None;
        for (differs, index) in order {
            if let Some((before, of)) = last.replace((differs, index))
                && before == differs
                && self.at(of).0 == self.at(index).0
            {
                newest.pop_back();
            }
            newest.push_back(index);
        }
        Sorted(newest)
    }

    /// The first eight bytes behind what all keys begin with.
    fn differs(&self, index: u32) -> u64 {
        let mut first = [0; 8];
        first.iter_mut().zip(self.at(index).0.iter().skip(self.common)).for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(first)
    }

    /// The same writes without those that were superseded, if at least half of the bytes are of such.
    pub(super) fn compacted(&self, sorted: &Sorted) -> Option<Self> {
        let live: usize = sorted.0.iter().map(|index| weight(self.at(*index))).sum();
        (live <= self.bytes / 2).then(|| {
            let mut compacted = Self::default();
            for index in &sorted.0 {
                let (key, value) = self.at(*index);
                compacted.push(key, value);
            }
            compacted
        })
    }
}

impl Sorted {
    /// Takes the next writes out, up to a number of bytes, but at least one.
    pub(super) fn next<'b>(&mut self, bulk: &'b Bulk, bytes: usize) -> Vec<(&'b [u8], Option<&'b [u8]>)> {
        let (mut part, mut taken) = (Vec::new(), 0);
        while taken < bytes
            && let Some(index) = self.0.pop_front()
        {
            let pair = bulk.at(index);
            taken += weight(pair);
            part.push(pair);
        }
        part
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn weight((key, value): (&[u8], Option<&[u8]>)) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + size_of::<Entry>()
}

/// Of a number that memory bounds: there is no record and no restore of four billion.
fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write<'a> = (&'a str, Option<&'a str>);

    fn bulk(writes: &[Write<'_>]) -> Bulk {
        let mut bulk = Bulk::default();
        for (key, value) in writes {
            bulk.push(key.as_bytes(), value.map(str::as_bytes));
        }
        bulk
    }

    fn all(bulk: &Bulk) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (mut sorted, mut all) = (bulk.sorted(), Vec::new());
        while !sorted.is_empty() {
            all.extend(sorted.next(bulk, 100).into_iter().map(|(key, value)| (text(key), value.map(text))));
        }
        all
    }

    fn owned(writes: &[Write<'_>]) -> Vec<(String, Option<String>)> {
        writes.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
    }

    #[test]
    fn the_newest_write_of_each_key_comes_in_key_order() {
        let writes =
            [("b", Some("1")), ("a", Some("")), ("b", None), ("c", Some("1")), ("c", Some("2")), ("", Some("x"))];
        let newest = [("", Some("x")), ("a", Some("")), ("b", None), ("c", Some("2"))];
        assert_eq!(all(&bulk(&writes)), owned(&newest));
        assert_eq!(all(&Bulk::default()), []);
    }

    #[test]
    fn keys_that_differ_late_or_only_in_length_are_in_order() {
        let keys =
            ["user-1", "user-1\0", "user-10000000000", "user-10000000001", "user-2", "user-", "user-10000000000"];
        let writes: Vec<Write<'_>> = keys.iter().map(|key| (*key, Some("v"))).collect();
        let mut sorted = keys[..6].to_vec();
        sorted.sort_unstable();
        assert_eq!(all(&bulk(&writes)).into_iter().map(|(key, _)| key).collect::<Vec<_>>(), sorted);
    }

    #[test]
    fn many_writes_over_several_chunks_are_those_of_a_map() {
        let (mut bulk, mut map, mut seed) = (Bulk::default(), std::collections::BTreeMap::new(), 7_u32);
        for n in 0..40_000_u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = ((seed >> 8) % 9_000).to_be_bytes().to_vec();
            let value = (seed % 5 > 0).then(|| n.to_string().repeat(12).into_bytes());
            bulk.push(&key, value.as_deref());
            map.insert(key, value);
        }
        assert!(bulk.chunks.len() > 1);
        let compacted = bulk.compacted(&bulk.sorted()).expect("most were superseded");
        assert!(compacted.bytes() <= bulk.bytes() / 2);
        for bulk in [&bulk, &compacted] {
            let all = bulk.sorted().next(bulk, usize::MAX);
            assert!(all.into_iter().eq(map.iter().map(|(key, value)| (&**key, value.as_deref()))));
        }
        assert!(compacted.compacted(&compacted.sorted()).is_none());
    }
}
