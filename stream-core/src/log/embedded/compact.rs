//! Compaction: the last record of each key stays, tombstones go after their time, offsets never change.
//!
//! As in Kafka, nothing at or behind the last stable offset or in the active end is touched, and a tombstone lives
//! for `delete.retention.ms` after the first compaction that met it.

use rustc_hash::FxHashMap;

use super::partition::{Meta, Partition, SEGMENT_BYTES, Segment};
use crate::log::{Isolation, RecordRef};

/// Where the active end begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Active {
    /// At the newest segment.
    Segment,
    /// At the newest record.
    Record,
}

impl Partition {
    /// Whether as much was written since the last compaction as that one left.
    pub(super) fn is_dirty(&self) -> bool {
        self.bytes > 2 * self.clean_bytes.max(SEGMENT_BYTES)
    }

    /// Compacts everything below the active end.
    pub(super) fn compact(&mut self, active: Active, now: i64, delete_retention: i64) {
        let Some(newest) = self.segments.back() else { return };
        let active = match active {
            Active::Segment => newest.first_offset(),
            Active::Record => newest.last_offset(),
        };
        let limit = active.min(self.end(Isolation::ReadCommitted));

        let mut last: FxHashMap<&[u8], i64> = FxHashMap::default();
        for (meta, record) in self.segments.iter().flat_map(Segment::both) {
            if meta.offset < limit && !self.aborted.contains_key(&meta.txn) {
                last.insert(record.key.unwrap_or_default(), meta.offset);
            }
        }

        let mut kept = Kept::default();
        for (meta, record) in self.segments.iter().flat_map(Segment::both) {
            let mut meta = *meta;
            if meta.offset < self.start {
                continue;
            }
            if meta.offset < limit {
                let superseded = last.get(record.key.unwrap_or_default()) != Some(&meta.offset);
                let over = record.value.is_none() && meta.horizon != 0 && meta.horizon <= now;
                if superseded || over {
                    continue;
                }
                if record.value.is_none() && meta.horizon == 0 {
                    meta.horizon = now.saturating_add(delete_retention).max(1);
                }
                // Committed long ago: nothing needs to know of its transaction any more.
                meta.txn = 0;
                kept.clean_bytes += kept.push(meta, &record);
            } else {
                kept.push(meta, &record);
            }
        }
        (self.segments, self.bytes, self.clean_bytes) = (kept.segments, kept.bytes, kept.clean_bytes);
        self.aborted.retain(|_, marker| *marker >= limit);
    }
}

impl Segment {
    pub(super) fn both(&self) -> impl Iterator<Item = (&Meta, RecordRef<'_>)> {
        self.meta.iter().zip(self.records.iter())
    }
}

#[derive(Default)]
struct Kept {
    segments: std::collections::VecDeque<Segment>,
    bytes: usize,
    clean_bytes: usize,
}

impl Kept {
    /// Copies a record and gives its bytes.
    fn push(&mut self, meta: Meta, record: &RecordRef<'_>) -> usize {
        if self.segments.back().is_none_or(|s| s.records.bytes() >= SEGMENT_BYTES) {
            self.segments.push_back(Segment { max_timestamp: i64::MIN, ..Segment::default() });
        }
        let Some(segment) = self.segments.back_mut() else { return 0 };
        let before = segment.records.bytes();
        segment.records.push(meta.offset, record.timestamp, record.key, record.value, record.headers.iter());
        segment.meta.push(meta);
        segment.max_timestamp = segment.max_timestamp.max(record.timestamp);
        let size = segment.records.bytes() - before;
        self.bytes += size;
        size
    }
}
