//! The place of an open store: its folder, what is stored there, and whether it may still be written.
//!
//! Must never: let a store be written after a call that failed, for what it has then is not known.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::damage::{Cause, EngineError, mark_damaged, refused};
use super::state_dir::StateDir;
use crate::store::StoreError;

/// The place of an open store. A store drops it last.
pub(in crate::store) struct Place {
    path: PathBuf,
    fingerprint: String,
    /// Set by the first change that failed, or damage that was found. From then on nothing is written.
    failed: AtomicBool,
    /// Held, never read: the lock of the state directory must outlive the database.
    _dir: Arc<StateDir>,
}

impl Place {
    /// The place of a store with this fingerprint, as it is on the disk.
    pub(super) fn new(path: PathBuf, fingerprint: String, dir: Arc<StateDir>) -> Self {
        Self { path, fingerprint, failed: AtomicBool::new(false), _dir: dir }
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::store) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The error of a store of somebody else.
    pub(super) fn is_of(&self, found: String) -> StoreError {
        StoreError::Fingerprint { path: self.path.clone(), found, expected: self.fingerprint.clone() }
    }

    /// Whether a change failed, or damage was found.
    #[cfg(feature = "fjall")]
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// An error if nothing may be written any more.
    pub(super) fn usable(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            let reason = "an earlier call failed; it must be closed and opened again".into();
            return Err(StoreError::Failed { path: self.path.clone(), reason });
        }
        Ok(())
    }

    /// Runs a call that changes the store, unless one failed before.
    pub(in crate::store) fn change<E: EngineError>(
        &self,
        call: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), StoreError> {
        self.usable()?;
        call().map_err(|error| {
            self.failed.store(true, Ordering::Release);
            self.report(&error)
        })
    }

    /// Takes note of an error.
    pub(in crate::store) fn report(&self, error: &impl EngineError) -> StoreError {
        match error.cause() {
            Cause::Damage => {
                self.failed.store(true, Ordering::Release);
                mark_damaged(&self.path, error);
            }
            Cause::Refused(reason) => return refused(&self.path, &reason),
            Cause::Locked | Cause::Other => {}
        }
        StoreError::Failed { path: self.path.clone(), reason: error.to_string() }
    }
}
