//! How far the joins of a task are closed: the stream time up to which every record of a join that is due was emitted, where
//! it has to be, and that is acknowledged.
//!
//! It is written to each join's table as its bound (see `time::stream_join::keys`), by which every copy drops what is closed.
//!
//! Invariants:
//! - A bound never closes a record whose null is not acknowledged, or, with exactly-once delivery, not in a transaction that
//!   commits with the bound or before. So it stays below the due time of what is due next: of what is called again, too.
//! - It never lies above the stream time that is written, for a record that is accepted later may be due by then.

use crate::context::Core;
use crate::time::stream_join::keys::{Place, bound, read_bound};
use crate::topology::{TableId, Topology};
use crate::window::{JoinWindows, Which};

pub(super) struct Closed {
    /// The tables of the joins, and their windows.
    joins: Vec<(TableId, JoinWindows)>,
    /// What is acknowledged; handed over to be written; written.
    pub(super) acknowledged: i64,
    pub(super) flushed: i64,
    pub(super) written: i64,
}

impl Closed {
    /// Goes on where the tables say.
    pub(super) fn new(graph: &Topology, core: &Core) -> Self {
        let joins: Vec<_> = graph.stream_joins.iter().map(|join| (join.table, join.windows)).collect();
        let written = joins.iter().filter_map(|(table, windows)| written(core, *table, *windows)).max();
        let written = written.unwrap_or(i64::MIN);
        Self { joins, acknowledged: written, flushed: written, written }
    }

    pub(super) fn is_on(&self) -> bool {
        !self.joins.is_empty()
    }

    /// Whether a table is a join's.
    pub(super) fn is_of(&self, table: TableId) -> bool {
        self.joins.iter().any(|(of, _)| *of == table)
    }

    /// The stream time that closes a record, if a bound of it is handed over.
    pub(super) fn closes(&self, table: TableId, place: Place<'_>) -> Option<i64> {
        let (_, windows) = self.joins.iter().find(|(of, _)| *of == table)?;
        let at = windows.kept_until(place.side, place.time).saturating_add(1);
        (at <= self.flushed).then_some(at)
    }

    /// The bounds of this stream time: of each join its table, and the value.
    pub(super) fn bounds(&self, at: i64) -> impl Iterator<Item = (TableId, [u8; 16])> {
        let of = move |(table, windows): &(TableId, JoinWindows)| {
            (*table, bound(windows.first_kept(Which::Right, at), windows.first_kept(Which::Left, at)))
        };
        self.joins.iter().map(of)
    }
}

/// The stream time of the bound that a join's table has.
fn written(core: &Core, table: TableId, windows: JoinWindows) -> Option<i64> {
    let table = core.tables.get(table)?.borrow();
    let bound = table.bound()?;
    let at = |side| Some(windows.closed_at(side, read_bound(bound, side)?));
    at(Which::Right).max(at(Which::Left))
}
