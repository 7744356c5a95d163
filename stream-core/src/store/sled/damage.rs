//! Damage of sled's files: how it is distinguished from other errors, and marked.

use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sled::Error;

/// A file whose presence says that the database beside it is damaged.
pub(super) const DAMAGED: &str = "damaged";

/// Whether an error means that the files are not what sled wrote, as against a disk that is full, say.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::Io(error) => {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData)
        }
        _ => true,
    }
}

/// Makes an error of a panic: sled panics over some kinds of damage. Where panics abort the process, such a store has to
/// be removed by hand.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(Error::ReportableBug(format!("sled could not make sense of its files: {text}")))
    })
}

/// Has the store wiped when it is next opened.
pub(super) fn mark_damaged(path: &Path, error: &Error) {
    tracing::warn!(store = %path.display(), %error, "store is damaged: it will be wiped and restored at the next start");
    if let Err(error) = fs::write(path.join(DAMAGED), error.to_string()) {
        tracing::warn!(store = %path.display(), %error, "could not mark the store: remove it by hand");
    }
}

/// The error of something stored that this library never writes so.
pub(super) fn unreadable(what: &str) -> Error {
    Error::Io(std::io::Error::new(ErrorKind::InvalidData, format!("its {what} can't be read")))
}
