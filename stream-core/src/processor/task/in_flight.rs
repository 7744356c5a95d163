//! Records under way: those that await, wait for their key, hold deferred work, or are tried again.
//!
//! Slots stand in the order of dispatch and are released from the front only, so that effects leave in offset order
//! (semantics D7). One key has at most one slot that is not `Waiting`.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::context::{OwnedRecord, Stage};
use crate::group::{CallbackError, LeftOut};
use crate::log::{RecordBatch, RecordRef};
use crate::table::Place;

/// The work of a slot.
#[derive(Clone, Debug)]
pub(super) enum Work {
    One(Rc<OwnedRecord>),
    /// Records of a batch input.
    Many(Rc<RecordBatch>),
}

impl Work {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(records) => records.len(),
        }
    }

    /// Its records, one after the other.
    pub(super) fn each(&self, act: &mut dyn FnMut(RecordRef<'_>)) {
        match self {
            Self::One(record) => act(record.view()),
            Self::Many(records) => records.iter().for_each(act),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum SlotState {
    /// Its key is busy.
    Waiting,
    /// Its callback is awaited.
    Running,
    /// Its callback returned; deferred work is open.
    Open,
    /// It waits to be tried again, or for a codec to load something.
    Resting,
    /// Everything is done.
    Done,
}

#[derive(Debug)]
pub(super) struct InFlightSlot {
    pub(super) id: u64,
    /// Index among the task's inputs.
    pub(super) input: usize,
    /// Offset after its last record.
    pub(super) next: i64,
    pub(super) work: Option<Work>,
    /// Records of a batch input that are left out with it.
    pub(super) left_out: Vec<(LeftOut, Rc<OwnedRecord>)>,
    pub(super) state: SlotState,
    pub(super) attempts: u32,
    /// How often a codec asked for something to be loaded since the last attempt that counts.
    pub(super) loads: u32,
    pub(super) stage: Stage,
    /// The place of its write to its key's value, once it is done.
    pub(super) place: Option<Place>,
    /// The id of the deferred work of the present attempt.
    pub(super) token: Option<u64>,
    /// Deferred work that ended while the callback itself still runs: how many, and why one failed.
    pub(super) early: u32,
    pub(super) early_error: Option<CallbackError>,
    /// Stream time at its dispatch.
    pub(super) seen: i64,
    /// Nothing that its callback sets falls due by stream time before.
    pub(super) horizon: i64,
    /// The same, once its callback has returned and deferred work is open.
    pub(super) set: i64,
    /// Keeps all else from being dispatched: a batch, or a record of a non-awaiting input that is tried again.
    pub(super) alone: bool,
}

impl InFlightSlot {
    pub(super) fn new(id: u64, input: usize, next: i64, work: Work, state: SlotState) -> Self {
        let alone = matches!(work, Work::Many(_));
        Self {
            id,
            input,
            next,
            work: Some(work),
            left_out: Vec::new(),
            state,
            attempts: 0,
            loads: 0,
            stage: Stage::default(),
            place: None,
            token: None,
            early: 0,
            early_error: None,
            seen: i64::MIN,
            horizon: if alone { i64::MAX } else { i64::MIN },
            set: i64::MIN,
            alone,
        }
    }

    /// An attempt begins or has ended: nothing of it counts for the next one.
    pub(super) fn forget_attempt(&mut self, token: Option<u64>) {
        self.stage = Stage::default();
        self.token = token;
        self.early = 0;
        self.early_error = None;
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        match self.work.as_ref()? {
            Work::One(record) => record.view().key,
            Work::Many(_) => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    ring: VecDeque<InFlightSlot>,
    /// For each key under way, the slots that wait for it, in order.
    busy: BTreeMap<Box<[u8]>, VecDeque<u64>>,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &InFlightSlot> {
        self.ring.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Nothing that a record under way may still set falls due by stream time before.
    pub(super) fn horizon(&self) -> i64 {
        let horizon = |slot: &InFlightSlot| match slot.state {
            SlotState::Done => i64::MAX,
            SlotState::Open => slot.set,
            SlotState::Waiting | SlotState::Running | SlotState::Resting => slot.horizon,
        };
        self.ring.iter().map(horizon).min().unwrap_or(i64::MAX)
    }

    /// Whether nothing else may be dispatched.
    pub(super) fn alone(&self) -> bool {
        self.ring.iter().any(|s| s.alone)
    }

    pub(super) fn is_busy(&self, key: &[u8]) -> bool {
        self.busy.contains_key(key)
    }

    /// Adds a slot; its state becomes `Waiting` if its key is busy.
    pub(super) fn push(&mut self, mut slot: InFlightSlot) {
        if slot.state != SlotState::Done
            && let Some(key) = slot.key()
        {
            if let Some(queue) = self.busy.get_mut(key) {
                queue.push_back(slot.id);
                slot.state = SlotState::Waiting;
            } else {
                self.busy.insert(key.into(), VecDeque::new());
            }
        }
        self.ring.push_back(slot);
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut InFlightSlot> {
        let at = self.ring.binary_search_by_key(&id, |s| s.id).ok()?;
        self.ring.get_mut(at)
    }

    /// The slot that opened this deferred work.
    pub(super) fn deferred(&mut self, token: u64) -> Option<&mut InFlightSlot> {
        self.ring.iter_mut().find(|s| s.token == Some(token))
    }

    /// Whether it is the newest slot.
    pub(super) fn is_last(&self, id: u64) -> bool {
        self.ring.back().is_some_and(|slot| slot.id == id)
    }

    /// A key's slot is done: the next one that waits for the key.
    pub(super) fn free(&mut self, key: &[u8]) -> Option<u64> {
        let queue = self.busy.get_mut(key)?;
        let next = queue.pop_front();
        if next.is_none() {
            self.busy.remove(key);
        }
        next
    }

    /// The front slot, once it is done.
    pub(super) fn pop_done(&mut self) -> Option<InFlightSlot> {
        if self.ring.front()?.state == SlotState::Done { self.ring.pop_front() } else { None }
    }

    /// For the end of the task: forgets slots that would not end soon, and all behind them.
    pub(super) fn cut_waiting(&mut self) {
        let stuck = |s: &InFlightSlot| matches!(s.state, SlotState::Waiting | SlotState::Resting);
        let at = self.ring.iter().position(stuck).unwrap_or(self.ring.len());
        self.ring.truncate(at);
    }

    /// For the end of the task: forgets a slot and all behind it. What is before it can still be released.
    pub(super) fn cut_from(&mut self, id: u64) {
        self.ring.truncate(self.ring.partition_point(|s| s.id < id));
    }

    /// Forgets the newest slot, whose records are to be dispatched again in another way.
    pub(super) fn remove(&mut self, id: u64) {
        self.ring.retain(|s| s.id != id);
    }

    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.busy.clear();
    }
}
