//! Options of stores in files.

/// How [`SledStores`](super::SledStores) work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SledOptions {
    /// Bytes of pages that each open store keeps in memory, about; default 64 MiB. What a machine needs is this times
    /// the partitions that it may be assigned.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

impl SledOptions {
    /// Sets the bytes of pages that each open store keeps in memory, about.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }
}
