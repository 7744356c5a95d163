//! The staged effects of one record: done so far, and not released.

use super::StateWrites;
use crate::log::{ProduceBatch, RecordRef};
use crate::store::StoreError;
use crate::topology::{CallbackError, CallbackResult, CodecOf, LeftOut, TableId};

/// The write of a callback to its key's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Write {
    #[default]
    None,
    Set,
    Delete,
}

/// The reason why a callback did not get a value, through no fault of its record's.
#[derive(Clone, Debug)]
pub(crate) enum Blocker {
    /// A codec wants this to be loaded.
    Load(CodecOf, u32),
    /// Something is due before the record's event time, which is this.
    Due(i64),
    /// A lookup is being restored.
    Lookup(usize),
    /// A lookup has ended.
    LookupEnded(usize, String),
    /// The store failed.
    Store(StoreError),
}

/// Ends the attempt at a record that something is due before; [`Blocker::Due`] says until when.
#[derive(Debug, thiserror::Error)]
#[error("timers or windows are due first")]
struct DueFirst;

/// How often a record is left out, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeftOutOf {
    /// Windows, sessions and joins that it was late for.
    pub(crate) late: u32,
    pub(crate) null_key: u32,
    pub(crate) null_value: u32,
}

impl LeftOutOf {
    pub(crate) fn add(&mut self, reason: LeftOut) {
        match reason {
            LeftOut::Late => self.late += 1,
            LeftOut::NullKey => self.null_key += 1,
            LeftOut::NullValue => self.null_value += 1,
            // Errors of a record, which its input's policy meets.
            LeftOut::Ahead | LeftOut::Negative | LeftOut::Undecodable | LeftOut::Failed => {}
        }
    }

    pub(crate) fn is_any(self) -> bool {
        self.late + self.null_key + self.null_value > 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (LeftOut, u32)> {
        let all =
            [(LeftOut::Late, self.late), (LeftOut::NullKey, self.null_key), (LeftOut::NullValue, self.null_value)];
        all.into_iter().filter(|(_, n)| *n > 0)
    }
}

/// The staged effects of one record. Reused from record to record, so that it allocates nothing.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Emits. While records are processed one by one this is the task's outbox itself, cut back on an error.
    pub(crate) out: ProduceBatch,
    /// The write to the key's value.
    pub(crate) write: Write,
    /// The value, for [`Write::Set`].
    pub(crate) value: Vec<u8>,
    /// Scratch for encoding.
    pub(crate) spare: Vec<u8>,
    /// The slot of a record that deferred work or awaits.
    pub(crate) slot: Option<u64>,
    /// Writes to the library's own tables.
    pub(crate) state: StateWrites,
    /// Entries of those tables that this record supersedes. With exactly-once delivery they are deleted in the same
    /// transaction; with at-least-once delivery, when the record's writes are acknowledged. An entry by time of a join's table
    /// is that of a record that has found its first match: it gets its mark then.
    pub(crate) superseded: Vec<(TableId, Box<[u8]>)>,
    /// The record's event time.
    pub(crate) at: i64,
    /// Stream time, the record's included.
    pub(crate) time: i64,
    /// When something is due that comes before the record.
    pub(crate) due: i64,
    /// Why it is left out, if it is.
    pub(crate) left_out: LeftOutOf,
    /// How many values the callback has added to batches.
    pub(crate) collected: u32,
    /// Number of deferred works still open.
    pub(crate) deferred: u32,
    /// The reason why the callback did not get a value, if one did not come.
    pub(crate) blocker: Option<Blocker>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            out: ProduceBatch::new(),
            write: Write::None,
            value: Vec::new(),
            spare: Vec::new(),
            slot: None,
            state: StateWrites::default(),
            superseded: Vec::new(),
            at: i64::MIN,
            time: i64::MIN,
            due: i64::MAX,
            left_out: LeftOutOf::default(),
            collected: 0,
            deferred: 0,
            blocker: None,
        }
    }
}

impl Stage {
    /// Forgets everything but the emits.
    pub(crate) fn reset(&mut self) {
        self.write = Write::None;
        self.slot = None;
        self.deferred = 0;
        self.blocker = None;
        (self.left_out, self.collected) = (LeftOutOf::default(), 0);
        if !self.state.is_empty() {
            self.state.clear();
        }
        self.superseded.clear();
    }

    /// Stream time gets to the record's event time, unless something is due before.
    pub(crate) fn reach(&mut self, at: i64) -> CallbackResult {
        if at.min(i64::MAX - 1) >= self.due {
            self.blocker = Some(Blocker::Due(at));
            return Err(CallbackError::from(DueFirst));
        }
        self.at = at;
        self.time = self.time.max(at);
        Ok(())
    }

    /// A record arrives: stream time gets to its event time, if it has one. Gives the record as its callback sees it.
    pub(crate) fn arrive<'r>(
        &mut self,
        at: Option<i64>,
        record: RecordRef<'r>,
    ) -> Result<RecordRef<'r>, CallbackError> {
        match at {
            Some(at) => self.reach(at)?,
            None => self.at = record.timestamp,
        }
        Ok(RecordRef { timestamp: self.at, ..record })
    }

    /// Whether there is more to release than emits.
    pub(crate) fn has_written(&self) -> bool {
        self.write != Write::None || !self.state.is_empty() || !self.superseded.is_empty()
    }

    /// The value that the table gets: `None` for no write, `Some(None)` for a deletion.
    pub(crate) fn written(&self) -> Option<Option<&[u8]>> {
        match self.write {
            Write::None => None,
            Write::Delete => Some(None),
            Write::Set => Some(Some(&self.value)),
        }
    }
}
