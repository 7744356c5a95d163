//! One input of a task, and which input is next (semantics D4).

use std::sync::Arc;
use std::task::{Context, Poll};

use super::recording::Place;
use crate::log::{Fetch, FetchLimits, Fetched, LogError, OffsetAndMetadata, RecordBatch, TopicPartition};

/// One input partition of a task.
pub(super) struct TaskInput {
    /// Which input edge of the graph.
    pub(super) edge: usize,
    /// It is read in step with what the group re-keys.
    pub(super) aligned: bool,
    pub(super) partition: TopicPartition,
    fetch: Box<dyn Fetch>,
    /// Records fetched; those from `at` on are not dispatched yet.
    pub(super) batch: RecordBatch,
    pub(super) at: usize,
    /// The last fetch reached the end, and nothing came since.
    caught_up: bool,
    /// Everything below is fetched.
    pub(super) read: i64,
    /// In a group that is kept in step: what is known of the times of records that are not dispatched.
    lows: Option<Lows>,
    /// The batch was just fetched, and nobody has looked where its keys are.
    pub(super) unchecked: bool,
    /// How many records were looked at for that.
    pub(super) looked: u32,
    /// A record whose codec had something to load, by the offset behind it, and how often it had.
    pub(super) loaded: (i64, u32),
    /// Below this a batch callback is given one record at a time.
    pub(super) single_until: i64,
    /// Everything below is released: done, and its effects in the outbox or further.
    pub(super) released: i64,
    /// Everything below is acknowledged: what may be committed, once the state's position says so.
    pub(super) acknowledged: i64,
    /// The metadata of its committed offsets.
    pub(super) metadata: Arc<str>,
    /// The position that was last written to the state; `None` if it is to be written whatever it is.
    pub(super) recorded: Option<i64>,
}

/// The times of an input's records that are not dispatched.
enum Lows {
    /// An input's come in their order, by and large: the next is the earliest, and none is earlier than what was fetched before
    /// it, which ended with this one.
    InOrder(i64),
    /// A topic that the group sends to itself does not: of each record fetched, the earliest time of it and those behind it.
    Any(Vec<i64>),
}

impl TaskInput {
    /// `in_step` if the group is kept in step.
    pub(super) fn new(edge: usize, (aligned, in_step): (bool, bool), place: Place, mut fetch: Box<dyn Fetch>) -> Self {
        let lows = match (in_step, aligned) {
            (false, _) => None,
            (true, true) => Some(Lows::InOrder(i64::MIN)),
            (true, false) => Some(Lows::Any(Vec::new())),
        };
        if in_step && !aligned {
            // Compared with the partition's end.
            fetch.know_ends();
        }
        let Place { partition, start, metadata, recorded } = place;
        Self {
            edge,
            aligned,
            partition,
            fetch,
            batch: RecordBatch::new(),
            at: 0,
            caught_up: false,
            read: start,
            lows,
            unchecked: false,
            looked: 0,
            loaded: (i64::MIN, 0),
            single_until: i64::MIN,
            released: start,
            acknowledged: start,
            metadata,
            recorded: recorded.then_some(start),
        }
    }

    /// A position of it, to commit.
    pub(super) fn commit(&self, offset: i64) -> (TopicPartition, OffsetAndMetadata) {
        (self.partition.clone(), OffsetAndMetadata::new(offset, Arc::clone(&self.metadata)))
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.partition.topic
    }

    /// Time of the next record.
    pub(super) fn head(&self) -> Option<i64> {
        self.batch.get(self.at).map(|r| r.timestamp)
    }

    /// Whether everything that it has is dispatched.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.caught_up && self.head().is_none()
    }

    /// Whether it has no record now, and may yet bring one that is to be processed first. What comes back to a group that is kept
    /// in step is never far behind: the limit waits for it.
    fn may_bring_earlier(&self) -> bool {
        !self.caught_up && !matches!(self.lows, Some(Lows::Any(_)))
    }

    /// Whether the next record is beyond the limit of aligned inputs.
    pub(super) fn is_held(&self, limit: i64) -> bool {
        self.aligned && self.head().is_some_and(|head| head > limit)
    }

    /// Fetches if there is no record left; afterwards `cx` is woken when there is something.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, limits: FetchLimits) -> Result<(), LogError> {
        while self.at >= self.batch.len() {
            self.at = 0;
            match self.fetch.poll_fetch(cx, &mut self.batch, limits) {
                Poll::Pending => {
                    self.batch.clear();
                    break;
                }
                Poll::Ready(Ok(Fetched::End(at))) => {
                    self.caught_up = true;
                    self.read = at.max(self.read);
                }
                Poll::Ready(Ok(Fetched::Records)) => {
                    (self.caught_up, self.unchecked) = (false, true);
                    self.note_times();
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Records were fetched.
    fn note_times(&mut self) {
        let last = self.batch.len().checked_sub(1).and_then(|last| self.batch.get(last));
        let Some(last) = last.map(|last| (last.offset, last.timestamp)) else { return };
        self.read = last.0 + 1;
        match &mut self.lows {
            None => {}
            Some(Lows::InOrder(time)) => *time = last.1,
            Some(Lows::Any(lows)) => {
                lows.clear();
                lows.extend(self.batch.iter().map(|record| record.timestamp));
                let mut low = i64::MAX;
                for time in lows.iter_mut().rev() {
                    low = low.min(*time);
                    *time = low;
                }
            }
        }
    }

    /// The earliest time of its records that are not dispatched, as far as it is known here.
    pub(super) fn low(&self) -> Option<i64> {
        match self.lows.as_ref()? {
            Lows::InOrder(last) => self.head().or_else(|| (!self.caught_up).then_some(*last)),
            Lows::Any(lows) => self.head().and_then(|_| lows.get(self.at).copied()),
        }
    }

    /// Goes back to what is acknowledged.
    pub(super) fn forget(&mut self) {
        self.batch.clear();
        self.at = 0;
        self.caught_up = false;
        self.read = self.acknowledged;
        match &mut self.lows {
            None => {}
            Some(Lows::InOrder(last)) => *last = i64::MIN,
            Some(Lows::Any(lows)) => lows.clear(),
        }
        self.released = self.acknowledged;
        // Whether the last one was written is not known.
        self.recorded = None;
    }

    /// Has the fetch go back, too.
    pub(super) async fn seek(&mut self) -> Result<(), LogError> {
        self.fetch.seek(self.acknowledged).await
    }
}

/// The earliest of the records that are beyond the limit of aligned inputs.
pub(super) fn held(inputs: &[TaskInput], limit: i64) -> Option<i64> {
    inputs.iter().filter(|i| i.is_held(limit)).filter_map(TaskInput::head).min()
}

/// Which input is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// None has a record.
    Nothing,
    /// This one, for records up to this time.
    Input(usize, i64),
    /// This one, but another may yet bring an earlier record.
    Unsure(usize, i64),
}

/// The input with the earliest head, of equal ones the first; but none that is aligned beyond the limit.
pub(super) fn choose(inputs: &[TaskInput], limit: i64) -> Next {
    let mut best: Option<(i64, usize)> = None;
    let mut until = i64::MAX;
    let mut unsure = false;
    for (i, input) in inputs.iter().enumerate() {
        if input.is_held(limit) {
            continue;
        }
        match (input.head(), best) {
            (None, _) => unsure |= input.may_bring_earlier(),
            (Some(ts), None) => best = Some((ts, i)),
            (Some(ts), Some((least, _))) if ts < least => {
                // Equal times go to the earlier edge: this one stops just before.
                until = least.saturating_sub(1);
                best = Some((ts, i));
            }
            (Some(ts), Some(_)) => until = until.min(ts),
        }
    }
    if let Some((_, i)) = best
        && inputs.get(i).is_some_and(|input| input.aligned)
    {
        until = until.min(limit);
    }
    match best {
        None => Next::Nothing,
        Some((_, i)) if unsure => Next::Unsure(i, until),
        Some((_, i)) => Next::Input(i, until),
    }
}
