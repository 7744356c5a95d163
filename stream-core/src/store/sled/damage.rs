//! Errors of sled: what they mean.

use std::io::ErrorKind;

use sled::Error;

use crate::store::folder::{Cause, EngineError};

impl EngineError for Error {
    const ENGINE: &'static str = "sled";

    fn cause(&self) -> Cause {
        match self {
            Self::Io(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData => Cause::Damage,
                ErrorKind::Other if error.to_string().starts_with("could not acquire lock") => Cause::Locked,
                _ => Cause::Refused(error.to_string()),
            },
            _ => Cause::Damage,
        }
    }

    fn nonsense(text: String) -> Self {
        Self::ReportableBug(text)
    }

    fn invalid(text: String) -> Self {
        Self::Io(std::io::Error::new(ErrorKind::InvalidData, text))
    }
}
