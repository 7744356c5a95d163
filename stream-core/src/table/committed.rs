//! The committed values of a partition: the store, overlaid with what is acknowledged and not stored yet.
//!
//! It never shows a value that may still be taken back (semantics D2), and one call's work is bounded, whatever the
//! table holds.

use std::collections::BinaryHeap;
use std::ops::Bound;

use super::TablePartition;
use crate::store::{Direction, KeyRange, Pair, StoreError};

/// Bytes of keys and values in an answer, roughly: the first row may be larger.
const BYTES: usize = 1 << 20;

/// Keys looked at for an answer, for each row that is asked for; deleted ones and their like are no rows.
const LOOKED_AT: usize = 4;

/// Rows in key order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CommittedRows {
    pub(crate) rows: Vec<Pair>,
    /// Everything up to this key is in `rows`, and there may be more above it; `None`: there is no more.
    pub(crate) up_to: Option<Vec<u8>>,
}

impl TablePartition {
    /// The committed value of a key.
    pub(crate) fn committed(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.buffer.get(key).and_then(|entry| entry.unstored()) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.store.get(key),
        }
    }

    /// The first committed rows of a range, at most so many.
    pub(crate) fn committed_rows(&self, range: KeyRange<'_>, most: usize) -> Result<CommittedRows, StoreError> {
        let most = most.max(1);
        let (overlay, whole) = self.first_unstored(range, most);
        let ceiling = if whole { None } else { overlay.last().copied() };
        let mut overlay = overlay.into_iter().peekable();
        let mut stored = self.store.range(range, Direction::Forward).peekable();
        let (mut found, mut looked_at, mut bytes) = (CommittedRows::default(), 0, 0);
        let mut last = Vec::new();
        loop {
            let from_store = match (overlay.peek(), stored.peek()) {
                (None, None) => return Ok(found),
                (_, Some(Err(error))) => return Err(error.clone()),
                (Some(key), Some(Ok((stored, _)))) => stored.as_slice() < *key,
                (overlaid, _) => overlaid.is_none(),
            };
            if found.rows.len() >= most || looked_at >= most * LOOKED_AT || bytes >= BYTES {
                found.up_to = Some(last);
                return Ok(found);
            }
            looked_at += 1;
            if from_store {
                let Some(pair) = stored.next() else { continue };
                let (key, value) = pair?;
                last.clone_from(&key);
                bytes += key.len() + value.len();
                found.rows.push((key, value));
                continue;
            }
            let Some(key) = overlay.next() else { continue };
            if matches!(stored.peek(), Some(Ok((stored, _))) if stored.as_slice() == key) {
                stored.next();
            }
            key.clone_into(&mut last);
            if let Some(Some(value)) = self.buffer.get(key).and_then(|entry| entry.unstored()) {
                bytes += key.len() + value.len();
                found.rows.push((key.to_vec(), value.to_vec()));
            }
            if ceiling == Some(key) {
                found.up_to = Some(last);
                return Ok(found);
            }
        }
    }

    /// The smallest `most` keys of a range with something that is not stored, in order; whether these are all.
    fn first_unstored(&self, range: KeyRange<'_>, most: usize) -> (Vec<&[u8]>, bool) {
        let above = |key: &[u8]| match range.from {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        let below = |key: &[u8]| match range.to {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        };
        let mut smallest = BinaryHeap::with_capacity(most + 1);
        let mut whole = true;
        for entry in self.buffer.iter() {
            let key = &*entry.key;
            if entry.unstored().is_none() || !above(key) || !below(key) {
                continue;
            }
            if smallest.len() == most {
                whole = false;
                if smallest.peek().is_some_and(|largest| *largest <= key) {
                    continue;
                }
                smallest.pop();
            }
            smallest.push(key);
        }
        (smallest.into_sorted_vec(), whole)
    }
}
