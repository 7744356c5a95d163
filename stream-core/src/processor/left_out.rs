//! Counts of what is left out, by reason, and when an example was logged last.
//!
//! Shared by all tasks of a processor. Nothing here locks: a wrong clock may leave out every record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::group::LeftOut;

/// An example of each reason is logged no more often.
const EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct LeftOuts {
    of: [Of; LeftOut::ALL.len()],
    began: Instant,
    /// A record was ahead of the clock: somebody is to look whether the clock is wrong.
    pub(super) ahead: Notify,
    /// A record ahead of the clock made the processor fail.
    failed_ahead: AtomicBool,
}

#[derive(Debug, Default)]
struct Of {
    count: AtomicU64,
    /// Since the last example.
    unlogged: AtomicU64,
    /// The milliseconds of the next example since it all began; 0 for at once.
    next: AtomicU64,
}

impl Default for LeftOuts {
    fn default() -> Self {
        let (began, ahead, failed_ahead) = (Instant::now(), Notify::new(), AtomicBool::new(false));
        Self { of: Default::default(), began, ahead, failed_ahead }
    }
}

impl LeftOuts {
    fn of(&self, reason: LeftOut) -> &Of {
        let [late, ahead, negative, null_key, null_value, undecodable, failed] = &self.of;
        match reason {
            LeftOut::Late => late,
            LeftOut::Ahead => ahead,
            LeftOut::Negative => negative,
            LeftOut::NullKey => null_key,
            LeftOut::NullValue => null_value,
            LeftOut::Undecodable => undecodable,
            LeftOut::Failed => failed,
        }
    }

    pub(crate) fn count(&self, reason: LeftOut, n: u64) {
        self.of(reason).count.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, reason: LeftOut) -> u64 {
        self.of(reason).count.load(Ordering::Relaxed)
    }

    /// How many there are of each reason, if any.
    pub(crate) fn all(&self) -> BTreeMap<LeftOut, u64> {
        let all = LeftOut::ALL.into_iter().map(|reason| (reason, self.get(reason)));
        all.filter(|(_, n)| *n > 0).collect()
    }

    /// Notes some that are to be logged. Gives their number since the last example if it is time for one.
    pub(super) fn to_log(&self, reason: LeftOut, n: u64) -> Option<u64> {
        let of = self.of(reason);
        of.unlogged.fetch_add(n, Ordering::Relaxed);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = of.next.load(Ordering::Relaxed);
        if now < next {
            return None;
        }
        let then = now.saturating_add(u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX));
        of.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(of.unlogged.swap(0, Ordering::Relaxed))
    }

    /// A record that is ahead of the clock fails the processor.
    pub(super) fn fail_ahead(&self) {
        self.failed_ahead.store(true, Ordering::Release);
    }

    /// Whether one has since this was asked last.
    pub(super) fn take_failed_ahead(&self) -> bool {
        self.failed_ahead.swap(false, Ordering::AcqRel)
    }
}
