//! The search for the record that its topic refuses.
//!
//! Until the culprit is found, hand-overs are small and each is sent alone: few suspects one at a time, of many, half of
//! them at a time. What is not suspect goes together. Once everything up to where the failure was seen is acknowledged, the
//! search ends.

use std::collections::BTreeSet;

use super::input::TaskInput;

/// More suspects than this are halved.
const FEW: usize = 16;

/// A record: input, offset.
pub(super) type Suspect = (usize, i64);

/// The evidence of a failure, for the search to start from.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Records one of which may be to blame.
    pub(super) suspects: BTreeSet<Suspect>,
    /// Something may be to blame that can't be distinguished from others: a timer or a window.
    pub(super) unnamed: bool,
    /// The most that one failed hand-over was made by.
    pub(super) makers: usize,
    /// Timers and windows of the failed hand-overs.
    pub(super) fires: usize,
    /// The positions released with the last of them.
    pub(super) until: Vec<i64>,
}

/// How far a search is.
#[derive(Debug)]
pub(super) struct Search {
    /// The positions up to which it goes.
    until: Option<Vec<i64>>,
    /// For so many timers and windows, which move no position.
    fires: usize,
    suspects: BTreeSet<Suspect>,
    /// Records of a hand-over.
    most: usize,
    /// Records dispatched since the last hand-over.
    begun: usize,
    /// Nothing more before the next hand-over.
    closed: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self { until: None, fires: 0, suspects: BTreeSet::new(), most: usize::MAX, begun: 0, closed: false }
    }
}

impl Search {
    /// Begins, or goes on with less at a time, after a failure that names nobody.
    pub(super) fn begin(&mut self, trace: Trace) {
        let Trace { suspects, unnamed, makers, fires, until } = trace;
        if suspects.is_empty() && !unnamed {
            return;
        }
        if unnamed || suspects.len() > FEW {
            self.suspects.clear();
            self.most = (self.most.min(makers) / 2).max(1);
        } else {
            self.suspects = suspects;
        }
        self.fires = self.fires.max(fires);
        self.until = Some(match self.until.take() {
            Some(old) => old.iter().zip(&until).map(|(a, b)| *a.max(b)).collect(),
            None => until,
        });
    }

    /// The task goes back: what was begun is not handed over.
    pub(super) fn restart(&mut self) {
        (self.begun, self.closed) = (0, false);
    }

    /// Whether what is handed over now is sent alone.
    pub(super) fn is_on(&self, inputs: &[TaskInput]) -> bool {
        self.fires > 0
            || self
                .until
                .as_ref()
                .is_some_and(|until| inputs.iter().zip(until).any(|(i, until)| i.acknowledged < *until))
    }

    /// Whether there is anything to reach.
    pub(super) fn has_goal(&self) -> bool {
        self.until.is_some() || self.fires > 0
    }

    /// Whether more may be dispatched before the next hand-over.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether something waits for the next hand-over.
    pub(super) fn has_begun(&self) -> bool {
        self.begun > 0
    }

    /// Nothing more before the next hand-over.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether a record may go into the next hand-over; `fresh` if nothing is in it, or on the way to it.
    pub(super) fn admits(&mut self, suspect: Suspect, fresh: bool) -> bool {
        self.closed |= self.suspects.contains(&suspect) && !(fresh && self.begun == 0);
        !self.closed
    }

    /// A record goes into the next hand-over; `None` for a timer or a window.
    pub(super) fn dispatched(&mut self, suspect: Option<Suspect>) {
        self.begun += 1;
        self.closed |= self.begun >= self.most || suspect.is_some_and(|s| self.suspects.contains(&s));
    }

    pub(super) fn flushed(&mut self) {
        self.restart();
    }

    /// A hand-over is acknowledged, of so many records, timers and windows. One of the task's own writes says nothing.
    pub(super) fn acknowledged(&mut self, makers: usize, fires: usize, inputs: &[TaskInput]) {
        self.fires = self.fires.saturating_sub(fires);
        self.suspects.retain(|(input, offset)| inputs.get(*input).is_some_and(|i| i.acknowledged <= *offset));
        if makers > 0 {
            self.most = self.most.saturating_mul(2);
        }
        if !self.is_on(inputs) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(suspects: impl Iterator<Item = i64>) -> Trace {
        let suspects: BTreeSet<_> = suspects.map(|offset| (0, offset)).collect();
        Trace { makers: suspects.len(), suspects, until: vec![2_000], ..Trace::default() }
    }

    /// How many hand-overs it takes to find one of `of`, all of which are suspect.
    fn hand_overs(of: i64, culprit: i64) -> usize {
        let mut search = Search::default();
        search.begin(trace(0..of));
        let (mut from, mut hand_overs) = (0, 0);
        loop {
            let mut next = from;
            while next < of && search.admits((0, next), true) {
                search.dispatched(Some((0, next)));
                next += 1;
            }
            search.flushed();
            hand_overs += 1;
            if !(from..next).contains(&culprit) {
                search.most = search.most.saturating_mul(2);
                from = next;
            } else if next - from == 1 {
                return hand_overs;
            } else {
                search.begin(trace(from..next));
            }
        }
    }

    #[test]
    fn a_culprit_among_many_is_found_by_halving() {
        for culprit in [0, 1, 999, 1_300, 1_999] {
            let took = hand_overs(2_000, culprit);
            assert!(took <= 60, "{culprit}: {took}");
        }
    }

    #[test]
    fn what_the_task_itself_writes_makes_no_hand_over_larger() {
        let mut search = Search::default();
        search.begin(trace(0..100));
        let most = search.most;
        search.fires = 1;
        search.acknowledged(0, 0, &[]);
        assert_eq!(search.most, most);
        search.acknowledged(most, 0, &[]);
        assert_eq!(search.most, most * 2);
    }

    #[test]
    fn few_suspects_go_one_at_a_time_and_all_others_together() {
        let mut search = Search::default();
        search.begin(trace([5, 9].into_iter()));
        for offset in 0..5 {
            assert!(search.admits((0, offset), false));
            search.dispatched(Some((0, offset)));
        }
        assert!(!search.admits((0, 5), false), "what is before a suspect goes first");
        search.flushed();
        assert!(search.admits((0, 5), true));
        search.dispatched(Some((0, 5)));
        assert!(search.is_closed(), "nothing goes with it");
    }
}
