//! Simulated crashes: where a process dies, and what its successor finds.
//!
//! A process is a number here, its life. A handle belongs to the life that opened it and must never work in a later one,
//! so that a part of the dead process that is still running in the simulation can't write.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::store::{Checkpoint, StoreId};

/// A point in a store's life at which the process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashPoint {
    /// One key was written or deleted, of a batch perhaps.
    Written,
    /// All values are durable, the checkpoint is not.
    BeforeCheckpoint(Checkpoint),
    /// The checkpoint is durable, and its caller does not know yet.
    AfterCheckpoint(Checkpoint),
}

/// Which of the writes after the last checkpoint survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Survivors {
    /// All of them: the process died, the machine lives.
    All,
    /// None.
    Checkpointed,
    /// Each key's by the toss of a coin, from this seed: a store may keep any part.
    Some(u64),
}

impl Survivors {
    /// Says for one key after the other whether its writes survive.
    pub(super) fn coin(self) -> impl FnMut() -> bool {
        let mut state = match self {
            Self::Some(seed) => seed,
            _ => 0,
        };
        move || match self {
            Self::All => true,
            Self::Checkpointed => false,
            Self::Some(_) => {
                // SplitMix64.
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ (z >> 31)) & 1 == 1
            }
        }
    }
}

pub(super) type Dies = Box<dyn FnMut(&StoreId, CrashPoint) -> bool + Send>;

/// Which process lives, and when it dies.
#[derive(Default)]
pub(super) struct Crashes {
    life: AtomicU64,
    dead: AtomicBool,
    /// Whether there is a condition, so that without one no lock is taken.
    armed: AtomicBool,
    dies: Mutex<Option<Dies>>,
}

impl Crashes {
    pub(super) fn set(&self, dies: Option<Dies>) {
        self.armed.store(dies.is_some(), Ordering::Release);
        *self.dies.lock().unwrap_or_else(PoisonError::into_inner) = dies;
    }

    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    pub(super) fn next_life(&self) {
        self.life.fetch_add(1, Ordering::AcqRel);
        self.dead.store(false, Ordering::Release);
    }

    /// Whether that process still lives.
    pub(super) fn alive(&self, life: u64) -> Result<(), &'static str> {
        if self.life() != life || self.dead.load(Ordering::Acquire) {
            return Err("the process died here (simulated)");
        }
        Ok(())
    }

    /// Passes a point, or dies there.
    pub(super) fn pass(&self, life: u64, id: &StoreId, point: CrashPoint) -> Result<(), &'static str> {
        self.alive(life)?;
        if self.armed.load(Ordering::Acquire)
            && let Some(dies) = &mut *self.dies.lock().unwrap_or_else(PoisonError::into_inner)
            && dies(id, point)
        {
            self.dead.store(true, Ordering::Release);
        }
        self.alive(life)
    }
}

impl fmt::Debug for Crashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crashes").field("life", &self.life).field("dead", &self.dead).finish_non_exhaustive()
    }
}
