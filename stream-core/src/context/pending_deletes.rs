//! Entries of the library's own tables that mean nothing any more, and are not deleted yet.

use std::collections::BTreeSet;

/// By table, so that an entry is found by its key as it is.
#[derive(Debug, Default)]
pub(crate) struct PendingDeletes(Vec<BTreeSet<Box<[u8]>>>);

impl PendingDeletes {
    pub(crate) fn insert(&mut self, table: usize, key: Box<[u8]>) {
        if self.0.len() <= table {
            self.0.resize_with(table + 1, BTreeSet::new);
        }
        if let Some(keys) = self.0.get_mut(table) {
            keys.insert(key);
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, table: usize, key: &[u8]) -> bool {
        self.0.get_mut(table).is_some_and(|keys| keys.remove(key))
    }

    pub(crate) fn contains(&self, table: usize, key: &[u8]) -> bool {
        self.0.get(table).is_some_and(|keys| keys.contains(key))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize, &[u8]) -> bool) {
        for (table, keys) in self.0.iter_mut().enumerate() {
            keys.retain(|key| keep(table, key));
        }
    }
}
