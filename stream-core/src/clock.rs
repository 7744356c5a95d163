//! Time, behind a trait, so that tests and simulations decide what it is.
//!
//! Two kinds of time are kept apart. **Wall-clock time** is what records and processing-time timers see: it comes from
//! a [`Clock`]. **Internal waits** (commit intervals, back-off, time-outs) use `tokio::time`, which a paused runtime
//! moves by itself. Nothing else in the library may ask the system for the time.

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use tokio::sync::watch;

/// Wall-clock time in milliseconds since the Unix epoch.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Now.
    fn now_ms(&self) -> i64;

    /// Resolves once `now_ms() >= at`.
    fn sleep_until(&self, at: i64) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'static, ()> {
        let clock = *self;
        Box::pin(async move {
            // In steps: the machine's clock may be set, and sleeps do not follow it.
            while let Ok(left @ 1..) = u64::try_from(at.saturating_sub(clock.now_ms())) {
                tokio::time::sleep(Duration::from_millis(left.min(1000))).await;
            }
        })
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<i64>,
}

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn new(now_ms: i64) -> Self {
        Self { now: watch::Sender::new(now_ms) }
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now.send_modify(|now| *now = now.saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.now.borrow()
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= at).await.is_err() {
                // The clock is gone: its time never comes.
                futures::future::pending::<()>().await;
            }
        })
    }
}
