//! Errors of fjall: what they mean.

use std::io::{self, ErrorKind};

use fjall::{Error, LsmError};

use crate::store::folder::{Cause, EngineError};

impl EngineError for Error {
    const ENGINE: &'static str = "fjall";

    fn cause(&self) -> Cause {
        match self {
            Self::Locked => Cause::Locked,
            // By an earlier call, or by its thread, which writes and merges files: the first error is in fjall's log lines.
            Self::Poisoned => Cause::Refused("fjall could not write its files".into()),
            Self::KeyspaceDeleted => Cause::Other,
            Self::Io(error) | Self::Storage(LsmError::Io(error)) => match error.kind() {
                // A file that is there already: its marker is gone, so that fjall takes the database for a new one. An invalid
                // argument: a place in a file that is none.
                ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::InvalidInput
                | ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
                | ErrorKind::Other => Cause::Damage,
                // Of a key that is too long, and not of the system's.
                ErrorKind::Unsupported if error.get_ref().is_some() => Cause::Other,
                _ => Cause::Refused(error.to_string()),
            },
            _ => Cause::Damage,
        }
    }

    fn nonsense(text: String) -> Self {
        Self::invalid(text)
    }

    fn invalid(text: String) -> Self {
        Self::Io(io::Error::new(ErrorKind::InvalidData, text))
    }
}

/// The error of a key that fjall does not take.
pub(super) fn too_long(length: usize, longest: usize) -> Error {
    let reason =
        format!("a key of {length} bytes, and fjall takes {longest} at most: use another store for this table");
    Error::Io(io::Error::new(ErrorKind::Unsupported, reason))
}
