//! What is noted of due work: entries that have fired, the progress that a batch brings, and work that failed.

use crate::group::CallbackError;
use crate::time::due::Due;
use crate::topology::TableId;

/// An entry that has fired and is not deleted yet.
#[derive(Clone, Debug)]
pub(in super::super) struct Fired {
    pub(in super::super) table: TableId,
    pub(in super::super) key: Box<[u8]>,
    /// The stream time that must be written before.
    pub(in super::super) due: i64,
    /// The entry to delete once this one's deletion is acknowledged.
    pub(in super::super) then: Option<Box<[u8]>>,
    pub(in super::super) after: After,
}

/// What becomes of an entry that has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum After {
    /// It is deleted.
    Delete,
    /// It is a join's: it stays hidden until the join's bound closes it.
    Hide,
    /// It is a join's, and has found its first match: it gets its mark, and is hidden until then.
    Mark,
    /// It has its mark once this is acknowledged.
    Marked,
}

impl Fired {
    /// An entry that is deleted once what was done until now is acknowledged.
    pub(in super::super) fn superseded(table: TableId, key: Box<[u8]>) -> Self {
        Self { table, key, due: i64::MIN, then: None, after: After::Delete }
    }
}

/// The progress of time that a batch brings, once it is acknowledged.
#[derive(Debug)]
pub(in super::super) struct TimeProgress {
    pub(super) released: i64,
    pub(super) written: i64,
    /// Stream time up to which joins are closed with it, and that of the bounds in it.
    pub(super) closed: i64,
    pub(super) bound: i64,
    pub(super) fired: Vec<Fired>,
}

/// Due work that failed, and is called again.
#[derive(Debug)]
pub(in super::super) struct Trying {
    pub(in super::super) table: TableId,
    pub(in super::super) key: Vec<u8>,
    /// How often it needed something to be loaded since the last attempt that counts.
    pub(in super::super) loads: u32,
    pub(in super::super) attempts: u32,
    /// The error if something that it needs can't be loaded.
    pub(in super::super) unloadable: Option<CallbackError>,
}

impl Trying {
    pub(in super::super) fn is(&self, due: &Due) -> bool {
        self.table == due.table && self.key == due.key
    }
}
