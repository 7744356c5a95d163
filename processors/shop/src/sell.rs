//! Writing products at a pace.

use std::cell::Cell;
use std::time::Duration;

use stream_core::clock::Clock;
use stream_core::emitter::{EmitError, Emitter};
use tokio::time::{MissedTickBehavior, interval, timeout};

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

/// Why selling ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SellError {
    /// A product could not be written.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// It was to stop, and the broker did not answer.
    #[error("stopped after {written} products; the broker does not answer, so the last of them may not be written")]
    Unanswered {
        /// How many were handed over.
        written: u64,
    },
}

/// How long acknowledgements are awaited once it is to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Writes products until as many are written as the pace says, or `stop` resolves. Returns how many; all of them are
/// acknowledged. `on_written` gets the number now and then.
///
/// # Errors
/// When one can't be written, or the broker does not answer when it is to stop.
pub async fn sell(
    emitter: &Emitter<Product>,
    generator: Generator,
    pace: Pace,
    times: Times<'_>,
    stop: impl Future<Output = ()>,
    on_written: impl Fn(u64),
) -> Result<u64, SellError> {
    let written = Cell::new(0);
    tokio::select! {
        biased;
        () = stop => match timeout(GRACE, emitter.flush()).await {
            Ok(flushed) => flushed?,
            Err(_) => return Err(SellError::Unanswered { written: written.get() }),
        },
        sold = write(emitter, generator, pace, times, &written, on_written) => sold?,
    }
    Ok(written.get())
}

/// Writes until enough are written, all of them acknowledged.
async fn write(
    emitter: &Emitter<Product>,
    mut generator: Generator,
    pace: Pace,
    times: Times<'_>,
    written: &Cell<u64>,
    on_written: impl Fn(u64),
) -> Result<(), EmitError> {
    let wanted = pace.count.unwrap_or(u64::MAX);
    let mut tick = (!pace.interval.is_zero()).then(|| interval(pace.interval));
    if let Some(tick) = &mut tick {
        // A slow broker makes it late once; it must not make up for that in one burst.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut known_good = 0;
    while written.get() < wanted {
        if let Some(tick) = &mut tick {
            tick.tick().await;
        }
        for _ in 0..u64::from(pace.rate).min(wanted - written.get()) {
            let product = generator.next(times.of(written.get()));
            // Its acknowledgement is awaited by the flush.
            _ = emitter.emit(&product.product_id, &product).await?;
            written.set(written.get() + 1);
        }
        on_written(written.get());
        if tick.is_some() || written.get() >= known_good + FLUSH_EVERY {
            emitter.flush().await?;
            known_good = written.get();
        }
        // As fast as possible: whoever is to stop it must have a chance.
        tokio::task::yield_now().await;
    }
    emitter.flush().await
}
