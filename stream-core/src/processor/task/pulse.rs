//! When a task looks up from its work: at its commands, at what is to be handed over, and at its worker's other tasks
//! (semantics D15).
//!
//! A callback takes as long as it likes, and to read the clock after each call would cost more than some calls take. So the
//! clock is read after a number of calls that follows from what the last ones took, and at once when somebody knocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long a task works before its worker's other tasks have their turn. Each turn goes through at least one callback.
const SLICE: Duration = Duration::from_millis(1);
/// The same while a command, a visit or a read waits.
const SHORT_SLICE: Duration = Duration::from_micros(200);
/// The clock is read about this often.
const LOOK: Duration = Duration::from_micros(100);
/// Calls between two looks at the clock at most: so many of them may suddenly take long before that is noticed.
const MOST_CALLS: u32 = 16;
/// The longest time that released records wait for more before they are flushed.
const FLUSH_AFTER: Duration = Duration::from_millis(10);

/// A signal to a task, between two callbacks: something waits for it.
#[derive(Clone, Debug, Default)]
pub(in crate::processor) struct Knock(Arc<AtomicBool>);

impl Knock {
    /// After what waits was sent.
    pub(in crate::processor) fn knock(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_heard(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn clear(&self) {
        if self.is_heard() {
            self.0.store(false, Ordering::Release);
        }
    }
}

/// A task's sense of time in its work.
#[derive(Debug)]
pub(super) struct Pulse {
    knock: Knock,
    /// When this slice of work began, and when the clock was read last.
    began: Instant,
    looked: Instant,
    /// Calls between two looks, and how many are left before the next one.
    calls: u32,
    left: u32,
    /// Somebody waits for the end of this slice.
    hurried: bool,
    /// How long what is released may wait, and since when it has waited.
    flush_after: Duration,
    waiting: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(knock: Knock, commit_interval: Duration) -> Self {
        let now = Instant::now();
        let flush_after = FLUSH_AFTER.min(commit_interval / 4);
        Self { knock, began: now, looked: now, calls: 1, left: 1, hurried: false, flush_after, waiting: None }
    }

    /// The task is about to look at its inbox.
    pub(super) fn listen(&mut self) {
        self.knock.clear();
    }

    /// Whether a demand waits while the task works for itself.
    pub(super) fn hurry(&mut self, waits: bool) {
        self.hurried = waits;
    }

    /// The task looks up. Whether what is released has waited long enough, if there is anything.
    pub(super) fn is_overdue(&mut self, moved: bool) -> bool {
        self.looked = Instant::now();
        if !moved {
            self.waiting = None;
            return false;
        }
        self.looked.duration_since(*self.waiting.get_or_insert(self.looked)) >= self.flush_after
    }

    pub(super) fn flushed(&mut self) {
        self.waiting = None;
    }

    /// A slice of work begins, right after the task has looked up.
    pub(super) fn begin(&mut self) {
        self.began = self.looked;
        self.left = self.calls;
    }

    /// A short slice of work begins.
    pub(super) fn begin_short(&mut self) {
        self.looked = Instant::now();
        self.hurried = true;
        self.begin();
    }

    /// Whether the task has worked for a slice since its worker's other tasks had their turn.
    pub(super) fn is_long(&mut self) -> bool {
        self.looked = Instant::now();
        self.looked.duration_since(self.began) >= SLICE
    }

    /// A call has returned. Whether the slice has ended.
    pub(super) fn is_over(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 && !self.knock.is_heard() {
            return false;
        }
        let (now, calls) = (Instant::now(), self.calls - self.left);
        let took = now.duration_since(self.looked);
        self.looked = now;
        if took > LOOK {
            self.calls = 1;
        } else if took < LOOK / 2 && calls == self.calls {
            self.calls = (self.calls * 2).min(MOST_CALLS);
        }
        self.left = self.calls;
        if self.knock.is_heard() {
            // Looked at once this slice has ended: it costs no more looks until then.
            self.hurried = true;
            self.knock.clear();
        }
        now.duration_since(self.began) >= if self.hurried { SHORT_SLICE } else { SLICE }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn pulse() -> Pulse {
        let mut pulse = Pulse::new(Knock::default(), Duration::from_secs(1));
        pulse.begin();
        pulse
    }

    /// Calls until a slice has ended, each of which takes so long.
    async fn calls(pulse: &mut Pulse, each: Duration) -> u32 {
        pulse.is_overdue(false);
        pulse.begin();
        let mut calls = 0;
        loop {
            advance(each).await;
            calls += 1;
            if pulse.is_over() {
                return calls;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slice_lasts_a_millisecond_or_one_call() {
        let mut pulse = pulse();
        assert_eq!(calls(&mut pulse, Duration::from_millis(20)).await, 1);
        for _ in 0..5 {
            let n = calls(&mut pulse, Duration::from_micros(1)).await;
            assert!((1_000..1_000 + MOST_CALLS).contains(&n), "{n}");
        }
        // So many may pass before it is noticed that they take long by now.
        assert!(calls(&mut pulse, Duration::from_millis(20)).await <= MOST_CALLS);
        assert_eq!(calls(&mut pulse, Duration::from_millis(20)).await, 1);
        assert_eq!(calls(&mut pulse, Duration::from_micros(300)).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_knock_is_heard_after_the_call_at_hand() {
        let mut pulse = pulse();
        calls(&mut pulse, Duration::from_micros(1)).await;
        pulse.is_overdue(false);
        pulse.begin();
        pulse.knock.clone().knock();
        advance(Duration::from_millis(20)).await;
        assert!(pulse.is_over(), "although many calls were to come before the next look at the clock");
        pulse.listen();
        pulse.hurry(false);
        pulse.is_overdue(false);
        pulse.begin();
        advance(Duration::from_micros(300)).await;
        assert!(!pulse.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_released_is_overdue_after_a_while() {
        let mut pulse = pulse();
        assert!(!pulse.is_overdue(true));
        advance(FLUSH_AFTER).await;
        assert!(pulse.is_overdue(true));
        pulse.flushed();
        assert!(!pulse.is_overdue(true));
        advance(FLUSH_AFTER).await;
        assert!(!pulse.is_overdue(false), "there is nothing");
        assert!(!pulse.is_overdue(true), "it has waited since now");
    }
}
