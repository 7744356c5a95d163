//! The metadata that a store in files keeps beside its keys: what it is, how much of the changelog it has, and its origin.

use super::damage::EngineError;
use crate::store::Checkpoint;

pub(in crate::store) const CHECKPOINT: &str = "checkpoint";
pub(in crate::store) const FINGERPRINT: &str = "fingerprint";
pub(in crate::store) const ORIGIN: &str = "origin";

/// The metadata of a store that was opened.
pub(in crate::store) struct Recorded {
    pub(in crate::store) fingerprint: Option<String>,
    pub(in crate::store) checkpoint: Option<Checkpoint>,
    pub(in crate::store) has_keys: bool,
}

/// The checkpoint as it is stored: the offset, then the time.
pub(in crate::store) fn checkpoint_bytes(at: Checkpoint) -> [u8; 16] {
    let mut value = [0; 16];
    let (offset, at_ms) = value.split_at_mut(8);
    offset.copy_from_slice(&at.offset.to_be_bytes());
    at_ms.copy_from_slice(&at.at_ms.to_be_bytes());
    value
}

/// Reads a stored checkpoint.
pub(in crate::store) fn read_checkpoint<E: EngineError>(bytes: &[u8]) -> Result<Checkpoint, E> {
    let checkpoint = bytes
        .split_first_chunk()
        .and_then(|(offset, rest)| Some((i64::from_be_bytes(*offset), i64::from_be_bytes(rest.try_into().ok()?))));
    let (offset, at_ms) = checkpoint.ok_or_else(|| E::unreadable(CHECKPOINT))?;
    Ok(Checkpoint { offset, at_ms })
}

/// Reads a stored text.
pub(in crate::store) fn read_text<E: EngineError>(name: &str, bytes: &[u8]) -> Result<String, E> {
    String::from_utf8(bytes.to_vec()).map_err(|_| E::unreadable(name))
}
