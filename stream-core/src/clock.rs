//! Time, behind a trait, so that tests and simulations decide what it is.
//!
//! Two kinds of time are kept apart. **Wall-clock time** is what records and processing-time timers see: it comes from
//! a [`Clock`]. **Internal waits** (commit intervals, back-off, time-outs) use `tokio::time`, which a paused runtime
//! advances. Nothing else in the library may ask the system for the time.

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

/// A time in milliseconds since the epoch as RFC 3339 has it, with as many digits of the year as it takes.
pub(crate) fn utc(ms: i64) -> String {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let of_day = ms.rem_euclid(DAY_MS);
    // Days since 0000-03-01, in eras of 400 years: so that a leap day is the last of its year.
    let days = ms.div_euclid(DAY_MS) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * since_march + 2) / 5 + 1;
    let month = if since_march < 10 { since_march + 3 } else { since_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1000)
}

/// A span of milliseconds in words: in the largest unit of which there are two at least.
pub(crate) fn span(ms: i64) -> String {
    let units =
        [(365 * 24 * 3_600_000, "years"), (24 * 3_600_000, "days"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let found = units.into_iter().find(|(unit, _)| ms >= 2 * unit);
    found.map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
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

/// A clock that moves only when a call moves it.
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
                // The clock was dropped: its time never comes.
                futures::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spans_are_written_as_people_read_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_704_067_200_000, "2024-01-01T00:00:00.000Z"),
            (1_709_210_096_789, "2024-02-29T12:34:56.789Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (253_402_300_800_000, "10000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
        assert!(!utc(i64::MAX).is_empty() && !utc(i64::MIN).is_empty());
        let spans = [
            (1999, "1999 ms"),
            (2000, "2 s"),
            (7_200_000, "2 h"),
            (7_199_999, "119 min"),
            (i64::MAX, "292471208 years"),
        ];
        for (ms, text) in spans {
            assert_eq!(span(ms), text);
        }
    }
}
