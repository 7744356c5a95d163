//! The trace of a run, as one number: two runs of a seed that differ in anything visible differ in it.

use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Sums up events. Each is also a log line (target `simulation`), to be read when a seed is run again.
#[derive(Debug)]
pub(super) struct Trace {
    began: Instant,
    hash: Mutex<Fnv>,
}

#[derive(Debug)]
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), hash: Mutex::new(Fnv(0xcbf2_9ce4_8422_2325)) }
    }

    /// Notes an event of somebody.
    pub(super) fn note(&self, who: &str, what: fmt::Arguments<'_>) {
        let at = self.began.elapsed().as_millis();
        tracing::debug!(target: "simulation", at, who, "{what}");
        let mut hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        hash.add(&at.to_le_bytes());
        // Writing to a hash does not fail.
        _ = hash.write_str(who);
        _ = hash.write_fmt(what);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}
