//! Errors of a database that keeps a store's files: what they mean, and the mark that a damaged store gets.

use std::fmt::Display;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::store::StoreError;

/// A file whose presence says that the database beside it is damaged.
const DAMAGED: &str = "damaged";

/// The meaning of an error of a database.
pub(in crate::store) enum Cause {
    /// Another handle has the files.
    Locked,
    /// The files are not what the database wrote.
    Damage,
    /// The system refuses something, with its reason: the disk is full, say.
    Refused(String),
    /// Anything else.
    #[cfg_attr(not(feature = "fjall"), expect(dead_code, reason = "sled has no such error"))]
    Other,
}

/// An error of a database that keeps a store's files.
pub(in crate::store) trait EngineError: Display + Sized {
    /// The name of the database, for messages.
    const ENGINE: &'static str;

    /// What it means.
    fn cause(&self) -> Cause;

    /// The error of files that the database could make no sense of.
    fn nonsense(text: String) -> Self;

    /// The error of something stored that can't be read.
    fn invalid(text: String) -> Self;

    /// The error of something stored that this library never writes so.
    fn unreadable(what: &str) -> Self {
        Self::invalid(format!("its {what} can't be read"))
    }
}

/// Makes an error of a panic: databases panic over some kinds of damage. Where panics abort the process, such a store has to be
/// removed by hand.
pub(in crate::store) fn guarded<T, E: EngineError>(call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(E::nonsense(format!("{} could not make sense of its files: {text}", E::ENGINE)))
    })
}

/// Has the store wiped when it is next opened.
pub(super) fn mark_damaged(path: &Path, error: &impl Display) {
    tracing::warn!(store = %path.display(), %error, "store is damaged: it will be wiped and restored at the next start");
    if let Err(error) = fs::write(path.join(DAMAGED), error.to_string()) {
        tracing::warn!(store = %path.display(), %error, "could not mark the store: remove it by hand");
    }
}

/// Whether an earlier run marked the store.
pub(super) fn is_marked(path: &Path) -> bool {
    path.join(DAMAGED).exists()
}

/// The error of a store to which the system refuses something.
pub(super) fn refused(path: &Path, reason: &impl Display) -> StoreError {
    StoreError::Directory { path: path.to_owned(), reason: reason.to_string() }
}
