//! Writing products at a pace.

use std::time::Duration;

use stream_core::clock::Clock;
use stream_core::emitter::{EmitError, Emitter};
use tokio::time::{MissedTickBehavior, interval};

use crate::generator::Generator;
use crate::product::Product;

/// 2025-01-01: when the products of a given seed begin to be made, so that they are the same in every run.
const SEEDED_START_MS: u64 = 1_735_689_600_000;

/// About 30 a second.
const SEEDED_STEP_MS: u64 = 33;

/// When they are written as fast as possible: after how many the acknowledgements are awaited.
const FLUSH_EVERY: u64 = 10_000;

/// How fast, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Products at a time.
    pub rate: u32,
    /// From one time to the next; zero is as fast as possible.
    pub interval: Duration,
    /// How many in all; for ever if not set.
    pub count: Option<u64>,
}

/// What decides the products' times.
#[derive(Clone, Copy, Debug)]
pub enum Times<'a> {
    /// Steps from a fixed time on.
    Seeded,
    /// A clock.
    Clock(&'a dyn Clock),
}

impl Times<'_> {
    fn of(self, n: u64) -> u64 {
        match self {
            Self::Seeded => SEEDED_START_MS + n * SEEDED_STEP_MS,
            Self::Clock(clock) => u64::try_from(clock.now_ms()).unwrap_or_default(),
        }
    }
}

/// Writes products until as many are written as the pace says, or `stop` resolves. Returns how many; all of them are
/// acknowledged. `on_written` is told the number now and then.
///
/// # Errors
/// When one can't be written.
pub async fn sell(
    emitter: &Emitter<Product>,
    mut generator: Generator,
    pace: Pace,
    times: Times<'_>,
    stop: impl Future<Output = ()>,
    on_written: impl Fn(u64),
) -> Result<u64, EmitError> {
    let wanted = pace.count.unwrap_or(u64::MAX);
    let mut tick = (!pace.interval.is_zero()).then(|| interval(pace.interval));
    if let Some(tick) = &mut tick {
        // A slow broker makes it late once; it must not make up for that in one burst.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let (mut written, mut known_good) = (0, 0);
    let mut stop = std::pin::pin!(stop);
    while written < wanted {
        let due = async {
            if let Some(tick) = &mut tick {
                tick.tick().await;
            }
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = due => {}
        }
        for _ in 0..u64::from(pace.rate).min(wanted - written) {
            let product = generator.next(times.of(written));
            // Its acknowledgement is awaited by the flush.
            _ = emitter.emit(&product.product_id, &product).await?;
            written += 1;
        }
        on_written(written);
        if tick.is_some() || written >= known_good + FLUSH_EVERY {
            emitter.flush().await?;
            known_good = written;
        }
    }
    emitter.flush().await?;
    Ok(written)
}
