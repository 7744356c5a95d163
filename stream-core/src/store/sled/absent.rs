//! Keys that are known to be absent from a tree, so that their removal is left out.
//!
//! sled finds out by a look-up that a key is not there, and then writes nothing. But a checkpoint may delete hundreds of thousands of
//! keys that were never stored, because they came and went within the write buffer. In key order they lie beside each other, and a
//! look at the next key that is there proves all of them absent at once.
//!
//! Nothing is concluded from what was written or deleted before: an unfinished checkpoint of an earlier process may have left any
//! key. Only for one call that writes, during which nobody else does.

use sled::{Error, IVec, Tree};

/// Looks that may be left out at most, when they did not help.
const LONGEST_PAUSE: u32 = 256;

/// A gap between two keys of a tree, found while keys are removed.
#[derive(Default)]
pub(super) struct Absent {
    /// No key from the first on, up to the second, is there; without a second one, up to the end.
    gap: Option<(Vec<u8>, Option<IVec>)>,
    /// Removals that the gap saved.
    saved: u32,
    /// The number of keys to be found absent before the next look, and how many there were.
    pause: u32,
    passed: u32,
}

impl Absent {
    /// Whether a key is known to be absent.
    pub(super) fn contains(&mut self, key: &[u8]) -> bool {
        let Some((from, to)) = &self.gap else { return false };
        let within = from.as_slice() <= key && to.as_ref().is_none_or(|to| key < to.as_ref());
        self.saved += u32::from(within);
        within
    }

    /// A key was looked for and is absent: looks how far the gap goes, unless that was of no use lately.
    pub(super) fn found(&mut self, keys: &Tree, key: &[u8]) -> Result<(), Error> {
        if self.gap.is_some() {
            // A look costs about as much as two removals of absent keys.
            self.pause = if self.saved >= 2 { 0 } else { (self.pause * 2 + 1).min(LONGEST_PAUSE) };
            self.gap = None;
            self.passed = 0;
        }
        if self.passed < self.pause {
            self.passed += 1;
            return Ok(());
        }
        let next = keys.range(key..).next().transpose()?;
        self.gap = Some((key.to_vec(), next.map(|(key, _)| key)));
        self.saved = 0;
        Ok(())
    }

    /// A key is being written.
    pub(super) fn written(&mut self, key: &[u8]) {
        if let Some((from, to)) = &mut self.gap
            && from.as_slice() <= key
            && to.as_ref().is_none_or(|to| key < to.as_ref())
        {
            *to = Some(key.into());
        }
    }
}
