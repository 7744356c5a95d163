//! Options of stores by fjall.

/// How [`FjallStores`](super::FjallStores) work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FjallOptions {
    /// Bytes of blocks that each open store keeps in memory; default 32 MiB.
    pub cache_bytes: u64,
    /// Bytes of writes that each open store collects in memory before it writes them to a file in key order; default 16 MiB. While a
    /// file is written, the next ones are collected, so that a store may take twice as much.
    pub memtable_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, memtable_bytes: 16 << 20 }
    }
}

impl FjallOptions {
    /// Sets the bytes of blocks that each open store keeps in memory.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets the bytes of writes that each open store collects in memory.
    #[must_use]
    pub fn memtable_bytes(mut self, bytes: u64) -> Self {
        self.memtable_bytes = bytes;
        self
    }
}
