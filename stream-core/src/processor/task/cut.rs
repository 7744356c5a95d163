//! Where the changelogs of joins can be cut: below the oldest record that is not closed (see `closed`).
//!
//! The offset of each record is not kept. Instead some offsets are noted with the stream time at which everything below them is
//! closed, and given once the bound has passed that. So a cut comes a little late, never early. A record that is written later,
//! be it for a second time, lies above. The bound by which it is known that a cut may be made lies above it, too.
//!
//! Nothing of it is kept on disk: a new owner begins with its own notes. No record is ever deleted by its age.

use std::collections::VecDeque;

use crate::context::Core;
use crate::store::StoreError;
use crate::time::stream_join::queue::last_closes;
use crate::topology::{TableId, Topology};
use crate::window::{JoinWindows, Which};

/// How many notes a join has at most; above that, each second one goes.
const NOTES: usize = 256;

#[derive(Debug)]
struct Of {
    table: TableId,
    windows: JoinWindows,
    /// Offsets, each with the stream time at which everything below it is closed.
    notes: VecDeque<(i64, i64)>,
}

#[derive(Debug)]
pub(super) struct Cuts(Vec<Of>);

impl Cuts {
    /// Begins with what was restored.
    pub(super) fn new(graph: &Topology, core: &Core) -> Result<Self, StoreError> {
        let mut all = Vec::new();
        for join in &graph.stream_joins {
            let mut of = Of { table: join.table, windows: join.windows, notes: VecDeque::new() };
            let mut last = None;
            for side in [Which::Right, Which::Left] {
                last = last.max(last_closes(core, join.table, side, join.windows)?);
            }
            of.note(core, last.unwrap_or(i64::MIN));
            all.push(of);
        }
        Ok(Self(all))
    }

    /// The bound of this stream time is in the changelogs; no record is later than `seen`. Gives what may be cut: of each
    /// join its table, and the first offset that stays.
    pub(super) fn bound(&mut self, core: &Core, closed: i64, seen: i64) -> Vec<(TableId, i64)> {
        let mut cuts = Vec::new();
        for of in &mut self.0 {
            let mut cut = None;
            while let Some((offset, closes)) = of.notes.front().copied()
                && closes <= closed
            {
                cut = Some(offset);
                of.notes.pop_front();
            }
            cuts.extend(cut.map(|offset| (of.table, offset)));
            let last = |side| of.windows.kept_until(side, seen).saturating_add(1);
            of.note(core, last(Which::Right).max(last(Which::Left)));
        }
        cuts
    }
}

impl Of {
    fn note(&mut self, core: &Core, closes: i64) {
        let Some(offset) = core.tables.get(self.table).map(|table| table.borrow().next_offset()) else { return };
        if self.notes.back().is_none_or(|(last, _)| *last < offset) {
            self.notes.push_back((offset, closes));
        }
        if self.notes.len() > NOTES {
            let mut keep = false;
            self.notes.retain(|_| {
                keep = !keep;
                !keep
            });
        }
    }
}
