//! Entries of the library's own tables that mean nothing any more, and are not deleted yet.

use std::collections::{BTreeMap, BTreeSet};

use crate::topology::TableId;

/// By table, so that an entry is found by its key as it is.
#[derive(Debug, Default)]
pub(crate) struct PendingDeletes(BTreeMap<TableId, BTreeSet<Box<[u8]>>>);

impl PendingDeletes {
    pub(crate) fn insert(&mut self, table: TableId, key: Box<[u8]>) {
        self.0.entry(table).or_default().insert(key);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, table: TableId, key: &[u8]) -> bool {
        self.0.get_mut(&table).is_some_and(|keys| keys.remove(key))
    }

    pub(crate) fn contains(&self, table: TableId, key: &[u8]) -> bool {
        self.0.get(&table).is_some_and(|keys| keys.contains(key))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(TableId, &[u8]) -> bool) {
        for (table, keys) in &mut self.0 {
            keys.retain(|key| keep(*table, key));
        }
    }
}
