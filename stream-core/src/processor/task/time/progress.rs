//! From what has fired to what is written and deleted: the progress that a batch brings, and what follows its acknowledgement.

use super::{After, Fired, Time, TimeProgress};
use crate::context::Stage;
use crate::time::due::Kind;
use crate::topology::TableId;

impl Time {
    pub(in super::super) fn release_superseded(&mut self, stage: &mut Stage) {
        let closed = &self.closed;
        let after = |table| if closed.is_of(table) { After::Mark } else { After::Delete };
        let superseded = |(table, key)| Fired { after: after(table), ..Fired::superseded(table, key) };
        self.fired.extend(stage.superseded.drain(..).map(superseded));
    }

    /// The stream time to be written with the next batch, if it has moved on.
    pub(in super::super) fn to_write(&self) -> Option<i64> {
        let time = if self.atomic { self.released } else { self.acknowledged };
        (self.on && !self.waits && time > self.flushed).then_some(time)
    }

    /// The progress that the next batch brings, if the group keeps time.
    pub(in super::super) fn mark(&mut self) -> Option<Box<TimeProgress>> {
        if !self.on {
            return None;
        }
        self.flushed = self.to_write().unwrap_or(self.flushed);
        let (released, written) = (self.released, self.flushed);
        let (closed, bound) = (self.emitted(), self.closed.flushed);
        Some(Box::new(TimeProgress { released, written, closed, bound, fired: std::mem::take(&mut self.fired) }))
    }

    /// The stream time up to which everything of joins that is due was emitted and released.
    fn emitted(&self) -> i64 {
        let joins = self.queues.iter().filter(|queue| matches!(queue.kind, Kind::Joined(..)));
        joins.map(|queue| queue.due.saturating_sub(1)).min().unwrap_or(i64::MAX).min(self.released)
    }

    /// The stream time of the bounds to be written with the next batch, if joins are closed further than is written.
    pub(in super::super) fn to_close(&self) -> Option<i64> {
        let at = if self.atomic { self.emitted() } else { self.closed.acknowledged.min(self.written) };
        (self.closed.is_on() && !self.waits && at > self.closed.flushed).then_some(at)
    }

    /// A batch is acknowledged. True if the written stream time is that of everything acknowledged.
    pub(in super::super) fn acknowledge(&mut self, mark: &mut TimeProgress) -> bool {
        self.acknowledged = self.acknowledged.max(mark.released);
        self.written = self.written.max(mark.written);
        self.closed.acknowledged = self.closed.acknowledged.max(mark.closed);
        self.closed.written = self.closed.written.max(mark.bound);
        self.deletable.append(&mut mark.fired);
        self.written >= self.acknowledged
    }

    /// The entries that may be deleted by now.
    pub(in super::super) fn take_deletable(&mut self) -> Vec<Fired> {
        let (written, closed) = (self.written, self.closed.written);
        let may = |f: &Fired| f.due <= if f.after == After::Hide { closed } else { written };
        let (now, later) = std::mem::take(&mut self.deletable).into_iter().partition(may);
        self.deletable = later;
        now
    }

    /// An entry, of which everything is acknowledged, is hidden until the join's bound closes it.
    pub(in super::super) fn hide(&mut self, table: TableId, key: Box<[u8]>, due: i64) {
        self.deletable.push(Fired { due, after: After::Hide, ..Fired::superseded(table, key) });
    }

    /// An entry's mark is handed over with the next batch.
    pub(in super::super) fn begin_marking(&mut self, table: TableId, key: Box<[u8]>) {
        self.marking.insert((table, key.clone()));
        self.fired.push(Fired { after: After::Marked, ..Fired::superseded(table, key) });
    }

    /// An entry's mark is acknowledged.
    pub(in super::super) fn marked(&mut self, table: TableId, key: &[u8]) {
        self.marking.remove(&(table, key.into()));
    }
}
