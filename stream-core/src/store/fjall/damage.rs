//! Damage of fjall's files: how it is distinguished from other errors, and marked.

use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::Error;

/// A file whose presence says that the database beside it is damaged.
pub(super) const DAMAGED: &str = "damaged";

/// Whether an error means that the files are not what fjall wrote, as against a disk that is full, say.
pub(super) fn is_damage(error: &Error) -> bool {
    let of_io = |error: &io::Error| {
        // A file that is there already: its marker is gone, so that fjall takes the database for a new one. An invalid argument: a place in
        // a file that is none.
        matches!(
            error.kind(),
            ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::InvalidInput
                | ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
                | ErrorKind::Other
        )
    };
    match error {
        Error::Io(error) | Error::Storage(fjall::LsmError::Io(error)) => of_io(error),
        Error::Locked | Error::Poisoned | Error::KeyspaceDeleted => false,
        _ => true,
    }
}

/// Makes an error of a panic: fjall may panic over damage. Where panics abort the process, such a store has to be removed by hand.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(Error::Io(io::Error::new(
            ErrorKind::InvalidData,
            format!("fjall could not make sense of its files: {text}"),
        )))
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
    Error::Io(io::Error::new(ErrorKind::InvalidData, format!("its {what} can't be read")))
}

/// The error of a key that fjall does not take.
pub(super) fn too_long(length: usize, longest: usize) -> Error {
    let reason =
        format!("a key of {length} bytes, and fjall takes {longest} at most: use another store for this table");
    Error::Io(io::Error::new(ErrorKind::Unsupported, reason))
}
