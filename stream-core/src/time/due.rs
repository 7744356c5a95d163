//! The queues of due work: entries of the library's own tables whose keys sort by the time that decides when they are due.
//!
//! Which of the entries is next is asked of the tables; `due` and `floor` of a [`Queue`] are only bounds that save the asking.
//! A join's queue is in [`super::stream_join::queue`].

use std::borrow::Cow;

use super::due_entry::MARKERS;
use super::stream_join::keys::{Place, read_value};
use crate::context::Core;
use crate::store::{StoreError, prefix_end};
use crate::topology::{EntryKind, TableId};
use crate::window::keys::{self, By};
use crate::window::{JoinWindows, Session, Which, Windows};

/// The kind of entries in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Timers(By),
    /// Of this index among the graph's windows.
    Windows(usize, Windows),
    /// Entries of a join's side, of this index among the graph's joins of topics.
    Joined(usize, Which, JoinWindows),
    /// Of the markers of open sessions or batches.
    Entries(EntryKind),
}

impl Kind {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Timers(by) => by.prefix(),
            Self::Windows(..) => &[],
            Self::Joined(_, side, _) => side.by_time(),
            Self::Entries(_) => MARKERS,
        }
    }

    pub(crate) fn is_wall(self) -> bool {
        matches!(self, Self::Timers(By::WallClock) | Self::Entries(EntryKind::Batch(_)))
    }

    /// Whether it has windows, sessions or a join's records, which stay open until stream time has passed them.
    pub(crate) fn closes(self) -> bool {
        !self.is_wall() && !matches!(self, Self::Timers(_))
    }

    /// When an entry is due; `None` if it is none of this queue's.
    pub(crate) fn due(self, key: &[u8]) -> Option<i64> {
        let (time, _) = keys::read_time(key.strip_prefix(self.prefix())?)?;
        Some(match self {
            Self::Timers(_) | Self::Entries(_) => time,
            Self::Windows(_, windows) => windows.closes(windows.starting(time)),
            Self::Joined(_, side, windows) => windows.kept_until(side, time).saturating_add(1),
        })
    }

    /// The entry of this queue that a write to its table makes, by its key in the queue.
    pub(crate) fn entry<'k>(self, key: &'k [u8], value: &[u8]) -> Option<Cow<'k, [u8]>> {
        let Self::Joined(_, side, _) = self else { return Some(Cow::Borrowed(key)) };
        let place = Place::of_record(key).filter(|place| place.side == side && read_value(value).0)?;
        let mut entry = Vec::with_capacity(key.len());
        place.by_time(&mut entry);
        Some(Cow::Owned(entry))
    }

    /// When something that a record of this event time sets is due by stream time at the earliest. What has fallen due when the
    /// record comes is left out, but for timers, which may be set for any time.
    pub(crate) fn horizon(self, at: Option<i64>, seen: i64) -> i64 {
        let Some(at) = at else { return i64::MIN };
        let open = match self {
            Self::Timers(By::StreamTime) => return i64::MIN,
            Self::Timers(By::WallClock) | Self::Entries(EntryKind::Batch(_)) => return i64::MAX,
            Self::Windows(_, windows) => {
                let mut closing = windows.at(at).map(|window| windows.closes(window));
                return closing.find(|closes| *closes > seen).unwrap_or(i64::MAX);
            }
            Self::Joined(_, side, windows) => windows.kept_until(side, at).saturating_add(1),
            // One that it is merged into is no shorter.
            Self::Entries(EntryKind::Session(sessions)) => sessions.closes(Session { start: at, end: at }),
        };
        open.max(seen.saturating_add(1))
    }
}

/// Entries of a state table that fall due in the order of their keys.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) kind: Kind,
    pub(crate) table: TableId,
    /// No entry is below.
    pub(crate) floor: Vec<u8>,
    /// None is due before.
    pub(crate) due: i64,
    /// The entries of a join of one time, the first of them last: bytes do not sort as keys and arrivals do.
    pub(crate) of_one_time: Vec<Vec<u8>>,
}

impl Queue {
    pub(crate) fn new(kind: Kind, table: TableId) -> Self {
        Self { kind, table, floor: kind.prefix().to_vec(), due: i64::MIN, of_one_time: Vec::new() }
    }

    /// The same, for a table as it is now: of a join, what the bound closes is not looked at.
    pub(crate) fn over(kind: Kind, table: TableId, core: &Core) -> Self {
        let mut queue = Self::new(kind, table);
        if let Kind::Joined(_, side, _) = kind {
            queue.begin_at_bound(core, side);
        }
        queue
    }

    /// Asks the table for the first entry, at this time.
    pub(crate) fn first(&mut self, core: &Core, now: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(table) = core.tables.get(self.table) else { return Ok(None) };
        let table = table.borrow();
        if let Kind::Joined(_, side, _) = self.kind {
            return self.first_open(core, &table, side, now);
        }
        let end = prefix_end(self.kind.prefix());
        let first = table.first(&self.floor, end.as_deref(), |key| core.is_deleted(self.table, key))?;
        self.due = first.as_ref().and_then(|key| self.kind.due(key)).unwrap_or(i64::MAX);
        if let Some(key) = &first {
            self.floor.clone_from(key);
        }
        Ok(first)
    }
}

/// An entry that is due.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) kind: Kind,
    pub(crate) table: TableId,
    pub(crate) key: Vec<u8>,
    pub(crate) at: i64,
}

impl Due {
    /// The order of due work: the earlier due first; but of one join the earlier time, however long its side is kept, and right
    /// before left (semantics J4), whose queues stand in that order.
    pub(crate) fn precedes(&self, other: &Self) -> bool {
        if let (Kind::Joined(join, ..), Kind::Joined(others, ..)) = (self.kind, other.kind)
            && join == others
        {
            return Place::of_time(&self.key).map(|p| p.time) < Place::of_time(&other.key).map(|p| p.time);
        }
        self.at < other.at
    }
}
