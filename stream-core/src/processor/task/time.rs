//! A task's time: stream time, and what is due by it or by the wall clock (semantics T1 to T3, W2, W3).
//!
//! Invariants:
//! - Stream time never goes back, but for what is taken back after a failed delivery. It goes on from one due time to the
//!   next: what is due comes before the record that made it due, and only while no record is under way.
//! - With at-least-once delivery, the topics of a batch are not acknowledged together. So stream time is written for what is acknowledged
//!   only, a position counts as committable once the stream time behind it is, and what has fired is deleted once what
//!   came of it is acknowledged and the stream time that it was due by is written. After a crash a record is therefore
//!   never late that was not late before and whose work is not done, and nothing that is due gets lost.
//! - With exactly-once delivery all of it is in the transaction of the record that it belongs to.
//! - What is due before a record fires before its callback begins. So no record is begun while one under way may still set
//!   something that is due before it (`horizon`), and the records of a slice give way to what they make due (`interrupts`).
//!
//! Which of the entries is next is asked of the tables: see [`crate::time::due`].

mod fired;
mod progress;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;

use futures::future::{BoxFuture, LocalBoxFuture};

pub(super) use self::fired::{After, Fired, TimeProgress, Trying};
use super::closed::Closed;
use super::cut::Cuts;
use crate::context::{Core, Stage, StateWrites};
use crate::group::CallbackError;
use crate::store::StoreError;
use crate::table::Place;
use crate::time::due::{Due, Kind, Queue};
use crate::time::stream_join::keys as join_keys;
use crate::time::stream_join::queue::last_closes;
use crate::topology::{TableId, Topology};
use crate::window::Which;
use crate::window::keys::{self, By};

/// The time of a task. In a group without timers and windows it does nothing.
pub(super) struct Time {
    pub(super) on: bool,
    /// A batch is acknowledged as a whole.
    pub(super) atomic: bool,
    /// Stream time of what was dispatched, released, acknowledged; handed over to be written; written.
    pub(super) seen: i64,
    pub(super) released: i64,
    acknowledged: i64,
    flushed: i64,
    pub(super) written: i64,
    /// How far joins are closed.
    pub(super) closed: Closed,
    /// Where their changelogs can be cut.
    pub(super) cuts: Cuts,
    /// Stream time does not go with what is handed over next.
    pub(super) waits: bool,
    /// The time of a record that is not dispatched before everything due until then has fired.
    target: i64,
    held: bool,
    /// Open windows, sessions and joined records close, because the partition is quiet.
    closing: bool,
    /// Something that was just set is due by the wall clock already.
    wall_passed: bool,
    queues: Vec<Queue>,
    /// Nothing is due by stream time before.
    pub(super) due: i64,
    /// Sleeps until then.
    wall: Option<(i64, BoxFuture<'static, ()>)>,
    /// Entries that have fired since the last flush.
    pub(super) fired: Vec<Fired>,
    /// Entries that have fired, are acknowledged, and wait for stream time to be written.
    deletable: Vec<Fired>,
    /// Entries of joins whose match is acknowledged, and whose mark is on its way.
    marking: BTreeSet<(TableId, Box<[u8]>)>,
    /// A wait before the next due callback: for something that it needs, or before a retry.
    pub(super) resolving: Option<LocalBoxFuture<'static, Result<(), CallbackError>>>,
    /// Due work that failed, and is called again.
    pub(super) trying: Option<Trying>,
    /// Due work that has written something since the last hand-over: its table and its key.
    pub(super) makers: Vec<(TableId, Box<[u8]>)>,
}

impl Time {
    /// Goes on where the tables say.
    pub(super) fn new(graph: &Topology, atomic: bool, core: &Core) -> Result<Self, StoreError> {
        let on = graph.tables.time().is_some();
        let stored = if on { core.state_value(TableId::TIME, keys::STREAM_TIME)? } else { None };
        let at = stored.and_then(|v| keys::read_time(&v).map(|(at, _)| at)).unwrap_or(i64::MIN);
        let closed = Closed::new(graph, core);
        // Nothing is accepted that a bound has closed, even if the topic of stream time was lost.
        let at = at.max(closed.written);
        let mut queues = Vec::new();
        for by in [By::StreamTime, By::WallClock] {
            if graph.timers.iter().any(|t| t.by == by) {
                queues.push(Queue::new(Kind::Timers(by), TableId::TIME));
            }
        }
        let windows = graph.windows.iter().enumerate();
        queues.extend(windows.map(|(i, w)| Queue::new(Kind::Windows(i, w.windows), w.table)));
        for (i, join) in graph.stream_joins.iter().enumerate() {
            for side in [Which::Right, Which::Left].into_iter().filter(|side| join.emits_nulls(*side)) {
                queues.push(Queue::new(Kind::Joined(i, side, join.windows), join.table));
            }
        }
        queues.extend(graph.due_entries.iter().map(|o| Queue::new(Kind::Entries(o.kind), o.table)));
        let queues = queues.into_iter().map(|queue| Queue::over(queue.kind, queue.table, core)).collect();
        let mut time = Self {
            on,
            closed,
            cuts: Cuts::new(graph, core)?,
            atomic,
            seen: at,
            released: at,
            acknowledged: at,
            flushed: at,
            written: at,
            waits: false,
            target: i64::MIN,
            held: false,
            closing: false,
            wall_passed: false,
            queues,
            due: i64::MAX,
            wall: None,
            fired: Vec::new(),
            deletable: Vec::new(),
            marking: BTreeSet::new(),
            resolving: None,
            trying: None,
            makers: Vec::new(),
        };
        time.bound();
        Ok(time)
    }

    fn bound(&mut self) {
        let queues = self.queues.iter().filter(|q| !q.kind.is_wall());
        self.due = queues.map(|q| q.due).min().unwrap_or(i64::MAX);
    }

    /// A record's event time makes something due, which comes first: the record is held.
    pub(super) fn hold(&mut self, at: i64) {
        self.target = self.target.max(at);
        self.held = true;
    }

    /// The last record is held, whatever is due.
    pub(super) fn block(&mut self) {
        self.held = true;
    }

    /// Stream time once a record of this event time is dispatched.
    pub(super) fn reached_by(&self, at: Option<i64>) -> i64 {
        at.map_or(self.seen, |at| self.seen.max(at.min(i64::MAX - 1)))
    }

    /// When something that the callback of a record sets, which is dispatched now, is due by stream time at the earliest.
    pub(super) fn horizon(&self, at: Option<i64>) -> i64 {
        self.queues.iter().map(|queue| queue.kind.horizon(at, self.seen)).min().unwrap_or(i64::MAX)
    }

    /// When something that these writes set is due by stream time.
    pub(super) fn first_due(&self, writes: &StateWrites) -> i64 {
        let set = writes.iter().filter(|(.., value)| value.is_some());
        let due = |(table, key, value): (TableId, &[u8], Option<&[u8]>)| {
            let queues = self.queues.iter().filter(move |q| q.table == table && !q.kind.is_wall());
            queues.filter_map(|q| q.kind.due(&q.kind.entry(key, value?)?)).min()
        };
        set.filter_map(due).min().unwrap_or(i64::MAX)
    }

    /// Whether something comes before the next record.
    pub(super) fn interrupts(&self) -> bool {
        self.on && (self.is_due() || self.wall_passed)
    }

    /// Whether the last record was held.
    pub(super) fn take_held(&mut self) -> bool {
        std::mem::take(&mut self.held)
    }

    /// A record is dispatched with this event time, unless something is due before it.
    pub(super) fn dispatch(&mut self, at: i64) -> bool {
        if at.min(i64::MAX - 1) >= self.due {
            self.hold(at);
            return false;
        }
        self.seen = self.seen.max(at);
        true
    }

    /// Everything done up to this stream time is released.
    pub(super) fn release(&mut self, time: i64) {
        self.seen = self.seen.max(time);
        self.released = self.released.max(time);
    }

    /// Whether something is due by stream time, as far as is known without asking.
    pub(super) fn is_due(&self) -> bool {
        self.closing || (self.due < i64::MAX && self.due <= self.target.max(self.seen))
    }

    /// Has everything that is open close in its order, and stream time go on to the last of it.
    pub(super) fn close_open(&mut self) {
        self.closing = true;
    }

    /// The earliest time at which something is due by the wall clock, new entries included.
    pub(super) fn look_at_wall(&mut self) -> i64 {
        self.wall_passed = false;
        self.wall_due()
    }

    /// While everything closes: stream time may get to what closes next.
    fn close_next(&mut self, core: &Core) -> Result<(), StoreError> {
        let (mut next, now) = (i64::MAX, self.target.max(self.seen));
        for queue in self.queues.iter_mut().filter(|q| q.kind.closes()) {
            queue.first(core, now)?;
            next = next.min(queue.due);
        }
        self.closing = next < i64::MAX;
        if self.closing {
            self.target = self.target.max(next);
        } else {
            self.close_kept(core)?;
        }
        Ok(())
    }

    /// Everything that had to be emitted was: stream time goes on to the end of what joins keep besides.
    fn close_kept(&mut self, core: &Core) -> Result<(), StoreError> {
        let mut last = self.seen;
        for join in &core.graph.stream_joins {
            for side in [Which::Right, Which::Left] {
                last = last.max(last_closes(core, join.table, side, join.windows)?.unwrap_or(i64::MIN));
            }
        }
        self.release(last);
        Ok(())
    }

    /// When something is due by the wall clock at the earliest.
    pub(super) fn wall_due(&self) -> i64 {
        self.queues.iter().filter(|q| q.kind.is_wall()).map(|q| q.due).min().unwrap_or(i64::MAX)
    }

    /// The sleep until something is due by the wall clock.
    pub(super) fn wall_sleep(&mut self, core: &Core) -> Pin<&mut (dyn Future<Output = ()> + Send)> {
        let due = self.wall_due();
        let slept = self.wall.take().filter(|(until, _)| *until == due);
        self.wall.insert(slept.unwrap_or_else(|| (due, core.clock.sleep_until(due)))).1.as_mut()
    }

    pub(super) fn slept(&mut self) {
        self.wall = None;
    }

    /// The entry that is due first, if any is.
    pub(super) fn next(&mut self, core: &Core) -> Result<Option<Due>, StoreError> {
        if self.closing {
            self.close_next(core)?;
        }
        let (stream, wall) = (self.target.max(self.seen), core.clock.now_ms());
        let mut next: Option<Due> = None;
        for queue in &mut self.queues {
            let now = if queue.kind.is_wall() { wall } else { stream };
            if queue.due > now {
                continue;
            }
            if let Some(key) = queue.first(core, now)?
                && queue.due <= now
            {
                let due = Due { kind: queue.kind, table: queue.table, key, at: queue.due };
                if next.as_ref().is_none_or(|next| due.precedes(next)) {
                    next = Some(due);
                }
            }
        }
        self.bound();
        Ok(next)
    }

    /// Passes over an entry that nothing can be called for.
    pub(super) fn pass(&mut self, due: &Due) {
        if let Some(queue) = self.queues.iter_mut().find(|q| q.kind == due.kind && q.table == due.table) {
            queue.floor.clone_from(&due.key);
            queue.floor.push(0);
        }
    }

    /// Makes a record's writes to the state tables visible. Superseded entries are deleted with it, or once
    /// [it is released](Self::release_superseded) and acknowledged. Those of joins get their marks instead.
    pub(super) fn apply(&mut self, core: &Core, stage: &mut Stage) {
        if self.atomic {
            let mut mark = Vec::new();
            for (table, key) in stage.superseded.drain(..) {
                if !self.closed.is_of(table) {
                    stage.state.push(core, table, stage.at, &key, None);
                } else if let Some(place) = join_keys::Place::of_time(&key) {
                    place.mark(&mut mark);
                    stage.state.push(core, table, place.time, &mark, Some(&[]));
                }
            }
        }
        let mut applied = stage.state.take_applied();
        for (table, key, value) in stage.state.iter() {
            applied.extend(self.apply_one(core, table, key, value).map(|place| (table, place)));
        }
        stage.state.set_applied(applied);
        for (table, key) in &stage.superseded {
            core.pending_deletes.borrow_mut().insert(*table, key.clone());
        }
        self.bound();
    }

    fn apply_one(&mut self, core: &Core, table: TableId, key: &[u8], value: Option<&[u8]>) -> Option<Place> {
        let partition = core.tables.get(table)?;
        core.pending_deletes.borrow_mut().remove(table, key);
        let place = partition.borrow_mut().apply(key, value);
        let Some(value) = value else { return Some(place) };
        for queue in self.queues.iter_mut().filter(|q| q.table == table) {
            let Some(entry) = queue.kind.entry(key, value) else { continue };
            if let Some(due) = queue.kind.due(&entry) {
                if due < queue.due && queue.kind.is_wall() {
                    self.wall_passed |= due <= core.clock.now_ms();
                }
                queue.due = queue.due.min(due);
                queue.of_one_time.clear();
                if *entry < *queue.floor {
                    queue.floor = entry.into_owned();
                }
            }
        }
        Some(place)
    }

    /// Goes back to what is acknowledged. The tables have gone back already.
    pub(super) fn rollback(&mut self, core: &Rc<Core>) {
        self.seen = self.acknowledged;
        self.released = self.acknowledged;
        self.flushed = self.written;
        self.closed.flushed = self.closed.written;
        self.target = i64::MIN;
        (self.held, self.closing, self.wall_passed) = (false, false, false);
        self.waits = false;
        self.resolving = None;
        self.trying = None;
        self.makers.clear();
        self.fired.clear();
        // Their matches are acknowledged, and their marks were taken back.
        for (table, key) in std::mem::take(&mut self.marking) {
            self.deletable.push(Fired { after: After::Mark, ..Fired::superseded(table, key) });
        }
        let mut gone = core.pending_deletes.borrow_mut();
        // What came of these is acknowledged.
        gone.retain(|table, key| self.deletable.iter().any(|f| f.table == table && *f.key == *key));
        for queue in &mut self.queues {
            *queue = Queue::over(queue.kind, queue.table, core);
        }
        self.wall = None;
        self.bound();
    }
}
