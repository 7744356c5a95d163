//! Reads of a table's derived entries: the store's, with those of the write buffer over them.

use std::ops::{Bound, ControlFlow};

use super::TablePartition;
use crate::store::{Direction, KeyRange, StoreError};

impl TablePartition {
    /// The bound that the changelog has.
    pub(crate) fn bound(&self) -> Option<&[u8]> {
        self.derived.as_ref()?.bound.as_deref()
    }

    /// Whether this is the key of its bound, which is no state.
    pub(crate) fn is_bound(&self, key: &[u8]) -> bool {
        self.derived.as_ref().is_some_and(|derived| derived.layout.bound() == key)
    }

    /// Shows `each` the derived entries from `from` up to `end`, those of unacknowledged records included, in order until it
    /// breaks.
    pub(crate) fn scan_derived(
        &self,
        from: &[u8],
        end: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let Some(derived) = &self.derived else { return Ok(()) };
        let (from, to) = (Bound::Included(from), Bound::Excluded(end));
        let range = KeyRange { from, to };
        if range.is_empty() {
            return Ok(());
        }
        let value = |record: &[u8]| Some(derived.layout.value(self.buffered_value(record)??));
        let buffered = derived.entries.range::<[u8], _>((from, to));
        let mut buffered = buffered.filter_map(|(key, record)| Some((&**key, value(record)?))).peekable();
        let mut record = Vec::new();
        for pair in self.store.range(range, Direction::Forward) {
            let (key, value) = pair?;
            while let Some((first, value)) = buffered.next_if(|(first, _)| **first < *key) {
                if each(first, value).is_break() {
                    return Ok(());
                }
            }
            // What the buffer has of a record is newer, and comes in its turn.
            let is_older = derived.layout.record(&key, &mut record) && self.buffered_value(&record).is_some();
            if !is_older && each(&key, &value).is_break() {
                return Ok(());
            }
        }
        for (key, value) in buffered {
            if each(key, value).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The last derived entry from `from` up to `end`.
    pub(crate) fn last_derived(&self, from: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(derived) = &self.derived else { return Ok(None) };
        let range = KeyRange { from: Bound::Included(from), to: Bound::Excluded(end) };
        if range.is_empty() {
            return Ok(None);
        }
        let mut last =
            derived.entries.range::<[u8], _>((range.from, range.to)).next_back().map(|(key, _)| key.to_vec());
        let mut record = Vec::new();
        for pair in self.store.range(range, Direction::Reverse) {
            let (key, _) = pair?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                break;
            }
            let is_older = derived.layout.record(&key, &mut record) && self.buffered_value(&record).is_some();
            if !is_older {
                last = Some(key);
                break;
            }
        }
        Ok(last)
    }
}
