//! State that the callbacks of one task share. It lives on the task's worker thread and never leaves it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::deferred::DeferredEnd;
use super::pending_deletes::PendingDeletes;
use crate::clock::Clock;
use crate::log::{Headers, LogError, RecordBatch, RecordRef};
use crate::replica::TableReplica;
use crate::store::{Store, StoreError};
use crate::table::TablePartition;
use crate::topology::{CallbackError, Failure, TableId, Tables, Topology};

/// The shared part of a task.
pub(crate) struct Core {
    pub(crate) graph: Arc<Topology>,
    pub(crate) partition: i32,
    /// The tables that the task writes, as `Topology::tables` has them. Borrowed only within one call of this module or of the
    /// task, never across a callback.
    pub(crate) tables: Tables<RefCell<TablePartition>>,
    /// Entries of the library's own tables whose timers or windows have fired, and which are deleted with the writes of
    /// their callbacks (exactly-once), or once those are acknowledged (at-least-once).
    pub(crate) pending_deletes: RefCell<PendingDeletes>,
    pub(crate) joins: Vec<Arc<dyn Store>>,
    pub(crate) lookups: Vec<Arc<TableReplica>>,
    /// Largest record that each output takes, in bytes.
    pub(crate) limits: Vec<usize>,
    /// Largest record that the topic of each table takes.
    pub(crate) table_limits: Tables<usize>,
    /// Largest record that a topic takes which has refused one.
    pub(crate) learned: RefCell<BTreeMap<Arc<str>, usize>>,
    /// What a record has done is acknowledged as a whole.
    pub(crate) atomic: bool,
    pub(crate) clock: Arc<dyn Clock>,
    /// The clock's time when it was read last: with each slice of records, and where a record seems to be ahead.
    pub(crate) now: Cell<i64>,
    /// How far ahead of the clock event times of each input may be, in milliseconds; `i64::MAX` for no limit.
    pub(crate) max_ahead: Vec<i64>,
    /// Callbacks can read or write state by key.
    pub(crate) keyed: bool,
    pub(crate) deferrals: mpsc::UnboundedSender<DeferredEnd>,
    pub(crate) last_work_id: Cell<u64>,
}

impl Core {
    pub(crate) fn next_work_id(&self) -> u64 {
        self.last_work_id.set(self.last_work_id.get() + 1);
        self.last_work_id.get()
    }

    /// The largest record that the topic of a table takes.
    pub(crate) fn table_limit(&self, table: TableId) -> usize {
        self.table_limits.get(table).copied().unwrap_or(usize::MAX)
    }

    /// The largest record that a topic takes, where its output takes so much.
    pub(crate) fn limit(&self, topic: &str, of_output: usize) -> usize {
        let learned = self.learned.borrow();
        learned.get(topic).map_or(of_output, |learned| of_output.min(*learned))
    }

    /// The stores of the tables and the joins.
    pub(crate) fn stores(&self) -> Vec<Arc<dyn Store>> {
        let tables = self.tables.iter().map(|t| Arc::clone(t.borrow().store()));
        tables.chain(self.joins.iter().map(Arc::clone)).collect()
    }

    pub(crate) fn input_topic(&self, input: usize) -> Arc<str> {
        self.graph.inputs.get(input).map_or_else(|| Arc::from(""), |e| Arc::clone(&e.input.topic))
    }

    /// Gives a record's event time back if it counts: it is not below zero, and not too far ahead of the clock (semantics T1).
    pub(crate) fn check_time(&self, input: usize, at: i64) -> Result<i64, CallbackError> {
        self.check_no_time(at)?;
        let limit = self.max_ahead.get(input).copied().unwrap_or(i64::MAX);
        let ahead = |now: i64| limit < i64::MAX && at > now.saturating_add(limit);
        if ahead(self.now.get()) {
            let now = self.look_at_clock();
            if ahead(now) {
                return Err(CallbackError::of(Failure::Ahead { at, now, limit }));
            }
        }
        Ok(at)
    }

    /// Checks the timestamp of a record that has no event time: nothing is ever written for a time below zero.
    #[allow(clippy::unused_self, reason = "beside check_time")]
    pub(crate) fn check_no_time(&self, timestamp: i64) -> Result<(), CallbackError> {
        if timestamp < 0 { Err(CallbackError::of(Failure::Negative { at: timestamp })) } else { Ok(()) }
    }

    /// Reads the clock, and keeps what it says for the next records.
    pub(crate) fn look_at_clock(&self) -> i64 {
        let now = self.clock.now_ms();
        self.now.set(now);
        now
    }

    /// Shows `read` the table's value of a key as later records of the partition see it.
    pub(crate) fn with_table_value<R>(
        &self,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, StoreError> {
        let Some(table) = &self.tables.group else { return Ok(read(None)) };
        table.borrow().with_value(key, read)
    }
}

impl Core {
    /// The value of a key in one of the library's own tables, as later records of the partition see it.
    pub(crate) fn state_value(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if self.is_deleted(table, key) {
            return Ok(None);
        }
        let Some(table) = self.tables.get(table) else { return Ok(None) };
        table.borrow().with_value(key, |value| value.map(<[u8]>::to_vec))
    }

    pub(crate) fn is_deleted(&self, table: TableId, key: &[u8]) -> bool {
        self.pending_deletes.borrow().contains(table, key)
    }
}

/// Where a record came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) input: usize,
    pub(crate) topic: &'a Arc<str>,
}

/// A record that outlives its batch: one that awaits, waits for its key, or has deferred work.
#[derive(Debug)]
pub(crate) struct OwnedRecord {
    pub(crate) input: usize,
    pub(crate) topic: Arc<str>,
    /// Holds exactly this record.
    batch: RecordBatch,
}

impl OwnedRecord {
    pub(crate) fn new(source: Source<'_>, record: RecordRef<'_>) -> Self {
        let mut batch = RecordBatch::new();
        batch.push(record.offset, record.timestamp, record.key, record.value, record.headers.iter());
        Self { input: source.input, topic: Arc::clone(source.topic), batch }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source { input: self.input, topic: &self.topic }
    }

    pub(crate) fn view(&self) -> RecordRef<'_> {
        self.batch.get(0).unwrap_or(RecordRef {
            offset: -1,
            timestamp: 0,
            key: None,
            value: None,
            headers: Headers::default(),
        })
    }
}

pub(crate) fn too_large(topic: &str, size: usize, limit: usize) -> LogError {
    LogError::TooLarge { topic: topic.to_owned(), size, limit: format!("{limit} bytes") }
}
