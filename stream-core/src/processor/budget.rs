//! How many bytes a transaction may have: what the log acknowledges in a quarter of the transaction's time-out.
//!
//! Only transactions that were as large as they might be say how much that is: a smaller one waits for its records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Before anything is known.
const FIRST: usize = 256 << 10;
/// The time after which a measurement no longer counts.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The budget of an instance's transactions.
#[derive(Debug)]
pub(super) struct Budget {
    /// How long a transaction may stay open.
    timeout: Duration,
    /// Bytes that were acknowledged, and how long that took.
    measured: VecDeque<(Instant, usize, Duration)>,
    bytes: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, measured: VecDeque::new(), bytes: Arc::new(AtomicUsize::new(FIRST)) }
    }

    /// The most bytes of a transaction, for others to read.
    pub(super) fn shared(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.bytes)
    }

    /// The most bytes of a transaction.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When a transaction that begins now is given up, well before the log does it.
    pub(super) fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.timeout * 3 / 4).unwrap_or(now + Duration::from_secs(24 * 60 * 60))
    }

    /// A transaction of so many bytes was acknowledged.
    pub(super) fn acknowledged(&mut self, bytes: usize, took: Duration) {
        if bytes.saturating_mul(2) >= self.bytes() {
            self.measure(bytes, took);
        }
    }

    /// A transaction was given up, of which so much was acknowledged.
    pub(super) fn given_up(&mut self, acknowledged: usize, took: Duration) {
        let half = self.bytes() / 2;
        self.measured.clear();
        if acknowledged > 0 {
            self.measure(acknowledged, took);
        }
        self.bytes.store(self.bytes().min(half).max(1), Ordering::Relaxed);
    }

    fn measure(&mut self, bytes: usize, took: Duration) {
        let now = Instant::now();
        self.measured.push_back((now, bytes, took.max(Duration::from_millis(1))));
        while self.measured.front().is_some_and(|(at, ..)| now.duration_since(*at) > REMEMBERED) {
            self.measured.pop_front();
        }
        let all: usize = self.measured.iter().map(|(_, bytes, _)| *bytes).sum();
        let time: Duration = self.measured.iter().map(|(.., took)| *took).sum();
        let most = (all as u128).saturating_mul(self.timeout.as_millis()) / time.as_millis().max(1) / 4;
        self.bytes.store(usize::try_from(most).unwrap_or(usize::MAX).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn full_transactions_of_the_last_minute_decide() {
        let mut budget = Budget::new(TIMEOUT);
        // One that is not full says nothing of the log.
        budget.acknowledged(1_000, Duration::from_millis(100));
        assert_eq!(budget.bytes(), FIRST);
        budget.acknowledged(FIRST, Duration::from_millis(200));
        assert_eq!(budget.bytes(), FIRST * 5 * 10 / 4);
        tokio::time::advance(Duration::from_secs(61)).await;
        budget.acknowledged(FIRST * 50 / 4, Duration::from_secs(5));
        assert_eq!(budget.bytes(), FIRST * 50 / 4 / 5 * 10 / 4, "what was before a minute counts no more");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_took_too_long_makes_it_smaller_down_to_one_record() {
        let mut budget = Budget::new(TIMEOUT);
        budget.given_up(75_000, Duration::from_millis(7_500));
        assert_eq!(budget.bytes(), 25_000);
        for _ in 0..40 {
            budget.given_up(0, Duration::from_millis(7_500));
        }
        assert_eq!(budget.bytes(), 1);
        budget.acknowledged(500, Duration::from_millis(10));
        assert!(budget.bytes() > 500, "it grows again");
    }
}
