//! The layout of a store's files, by its name.

/// How the files are laid out: the trees, how keys are spelled, what the metadata looks like.
pub(super) const FORMAT: &str = "sled-2";

/// Layouts of earlier versions, which can't be read any more. `sled-1` stored large values whole, as files of sled's own.
pub(super) const FORMATS_BEFORE: [&str; 1] = ["sled-1"];

/// A store's fingerprint as it is on the disk.
pub(super) fn full_fingerprint(fingerprint: &str) -> String {
    format!("{FORMAT} {fingerprint}")
}
