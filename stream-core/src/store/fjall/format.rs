//! The layout of a store's files, by its name.

/// How the files are laid out: how keys are spelled, what the metadata looks like.
pub(super) const FORMAT: &str = "fjall-1";

/// A store's fingerprint as it is on the disk.
pub(super) fn full_fingerprint(fingerprint: &str) -> String {
    format!("{FORMAT} {fingerprint}")
}
