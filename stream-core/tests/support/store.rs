//! What the tests of stores share: an id, a fingerprint, reading and writing in a word.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use stream_core::store::{Checkpoint, Direction, KeyRange, Pair, Scan, Store, StoreId};

pub const FINGERPRINT: &str = "numbers json v1";

pub fn id() -> StoreId {
    StoreId::new("numbers-table", 3)
}

pub fn put(store: &dyn Store, key: &[u8], value: &[u8]) {
    store.write(&mut [(key, Some(value))].into_iter()).unwrap();
}

pub fn delete(store: &dyn Store, key: &[u8]) {
    store.write(&mut [(key, None)].into_iter()).unwrap();
}

pub fn at(offset: i64) -> Checkpoint {
    Checkpoint { offset, at_ms: 1_700_000_000_000 + offset }
}

pub fn pairs(scan: Scan<'_>) -> Vec<Pair> {
    scan.map(Result::unwrap).collect()
}

pub fn keys(scan: Scan<'_>) -> Vec<Vec<u8>> {
    pairs(scan).into_iter().map(|(key, _)| key).collect()
}

pub fn all(store: &dyn Store) -> Vec<Pair> {
    pairs(store.range(KeyRange::ALL, Direction::Forward))
}

/// Numbers that look random and are the same every time.
pub struct Xorshift(pub u64);

impl Xorshift {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    pub fn key(&mut self, alphabet: &[u8], longest: usize) -> Vec<u8> {
        let length = self.below(longest + 1);
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}
