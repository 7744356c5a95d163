//! One partition's records: segments of batches, its ends, and who waits for more.
//!
//! Offsets are given once and never change. A transaction marker takes an offset and is no record, so offsets have
//! gaps; compaction makes more of them. This file must never ask for the time, and never wake anybody itself: wakers
//! are handed out, to be called when the log's lock is released.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use crate::log::{FetchLimits, Headers, Isolation, NewRecord, RecordBatch};

/// A segment is closed when it has this many bytes, unless the topic says `segment.bytes`.
pub(super) const SEGMENT_BYTES: usize = 1 << 20;
/// Or this many records.
const SEGMENT_RECORDS: usize = 1 << 14;

/// The metadata of each record of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) offset: i64,
    /// The transaction that it belongs to, 0 for none.
    pub(super) txn: u64,
    /// When compaction may drop it, for a tombstone that has been through one compaction; else 0.
    pub(super) horizon: i64,
}

/// A run of records. `records` and `meta` have the same length, offsets rise.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) records: RecordBatch,
    pub(super) meta: Vec<Meta>,
    pub(super) max_timestamp: i64,
}

impl Segment {
    pub(super) fn last_offset(&self) -> i64 {
        self.meta.last().map_or(-1, |m| m.offset)
    }

    pub(super) fn first_offset(&self) -> i64 {
        self.meta.first().map_or(i64::MAX, |m| m.offset)
    }

    fn is_full(&self, bytes: usize) -> bool {
        self.records.bytes() >= bytes || self.meta.len() >= SEGMENT_RECORDS
    }
}

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// None of them is empty.
    pub(super) segments: VecDeque<Segment>,
    /// The first offset that may be read.
    pub(super) start: i64,
    /// The next offset to be given: the high watermark.
    pub(super) next: i64,
    /// Open transactions and their first offset here.
    pub(super) open: BTreeMap<u64, i64>,
    /// Aborted transactions and the offset of their marker, as long as records of theirs may be here.
    pub(super) aborted: BTreeMap<u64, i64>,
    /// Bytes that the last compaction left, and bytes now.
    pub(super) clean_bytes: usize,
    pub(super) bytes: usize,
    waiting: Vec<(u64, Waker)>,
}

impl Partition {
    /// The end for a reader: the last stable offset or the high watermark.
    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.next,
            Isolation::ReadCommitted => self.open.values().copied().min().unwrap_or(self.next),
        }
    }

    /// Appends a record and gives its offset, and whether a new segment was begun for it.
    pub(super) fn append(
        &mut self,
        record: &NewRecord<'_>,
        headers: Headers<'_>,
        timestamp: i64,
        txn: u64,
        segment_bytes: usize,
    ) -> (i64, bool) {
        let rolled = self.segments.back().is_none_or(|s| s.is_full(segment_bytes));
        if rolled {
            self.segments.push_back(Segment { max_timestamp: i64::MIN, ..Segment::default() });
        }
        let offset = self.next;
        if let Some(segment) = self.segments.back_mut() {
            let before = segment.records.bytes();
            segment.records.push(offset, timestamp, record.key, record.value, headers.iter());
            segment.meta.push(Meta { offset, txn, horizon: 0 });
            segment.max_timestamp = segment.max_timestamp.max(timestamp);
            self.bytes += segment.records.bytes() - before;
        }
        self.next += 1;
        if txn != 0 {
            self.open.entry(txn).or_insert(offset);
        }
        (offset, rolled && self.segments.len() > 1)
    }

    /// Ends a transaction here: a marker takes an offset.
    pub(super) fn marker(&mut self, txn: u64, commit: bool) {
        if self.open.remove(&txn).is_some() && !commit {
            self.aborted.insert(txn, self.next);
        }
        self.next += 1;
    }

    /// Copies records from an offset on, and gives the position behind them. Records of aborted transactions and
    /// markers are passed over when reading committed; the position passes them too.
    pub(super) fn read(&self, from: i64, isolation: Isolation, limits: FetchLimits, into: &mut RecordBatch) -> i64 {
        let end = self.end(isolation).max(from);
        let skip_aborted = isolation == Isolation::ReadCommitted && !self.aborted.is_empty();
        let mut bytes = 0;
        let first = self.segments.partition_point(|s| s.last_offset() < from);
        for segment in self.segments.iter().skip(first) {
            let at = segment.meta.partition_point(|m| m.offset < from);
            for (index, meta) in segment.meta.iter().enumerate().skip(at) {
                if meta.offset >= end {
                    return end;
                }
                if skip_aborted && meta.txn != 0 && self.aborted.contains_key(&meta.txn) {
                    continue;
                }
                let Some(r) = segment.records.get(index) else { continue };
                let size = r.key.map_or(0, <[u8]>::len) + r.value.map_or(0, <[u8]>::len);
                if !into.is_empty() && (into.len() >= limits.records || bytes + size > limits.bytes) {
                    return meta.offset;
                }
                bytes += size;
                into.push(r.offset, r.timestamp, r.key, r.value, r.headers.iter());
            }
        }
        end
    }

    /// The first offset whose record is at or after a time, else the end.
    pub(super) fn offset_at(&self, time: i64, isolation: Isolation) -> i64 {
        let end = self.end(isolation);
        for segment in self.segments.iter().filter(|s| s.max_timestamp >= time) {
            let found = segment.records.iter().find(|r| r.timestamp >= time && r.offset >= self.start);
            if let Some(record) = found {
                return record.offset.min(end);
            }
        }
        end
    }

    /// Forgets the records below an offset.
    pub(super) fn delete_below(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.next));
        while let Some(segment) = self.segments.front()
            && segment.last_offset() < self.start
        {
            let gone = segment.records.bytes();
            self.bytes = self.bytes.saturating_sub(gone);
            self.clean_bytes = self.clean_bytes.saturating_sub(gone);
            self.segments.pop_front();
        }
        let start = self.start;
        self.aborted.retain(|_, marker| *marker >= start);
    }

    /// Deletes from the start what is older than a time, and what is beyond a size. Open transactions and readers'
    /// positions do not hold it up.
    pub(super) fn retain(&mut self, oldest: Option<i64>, most_bytes: Option<usize>) {
        let mut bytes = self.bytes;
        let mut below = self.start;
        for (meta, record) in self.segments.iter().flat_map(Segment::both) {
            let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            let old = oldest.is_some_and(|oldest| record.timestamp < oldest);
            let beyond = most_bytes.is_some_and(|most| bytes > most);
            if meta.offset >= self.start && !old && !beyond {
                break;
            }
            bytes = bytes.saturating_sub(size);
            below = meta.offset + 1;
        }
        let none_left = self.segments.back().is_none_or(|s| s.last_offset() < below);
        self.delete_below(if none_left && below > self.start { self.next } else { below });
    }

    /// Wakes a fetch when something changes here.
    pub(super) fn wait(&mut self, fetch: u64, waker: &Waker) {
        match self.waiting.iter_mut().find(|(id, _)| *id == fetch) {
            Some((_, known)) => known.clone_from(waker),
            None => self.waiting.push((fetch, waker.clone())),
        }
    }

    pub(super) fn stop_waiting(&mut self, fetch: u64) {
        self.waiting.retain(|(id, _)| *id != fetch);
    }

    /// Hands out everybody who waits.
    pub(super) fn wake(&mut self, into: &mut Vec<Waker>) {
        into.extend(self.waiting.drain(..).map(|(_, waker)| waker));
    }
}
