//! Full copies of a table: one store a partition, all of them on this machine.

use std::sync::Arc;

use crate::log::Partitioner;
use crate::store::{Store, StoreError};

/// The stores of all partitions of a table. Written by its followers only.
#[derive(Debug)]
pub(crate) struct Copies {
    stores: Vec<Arc<dyn Store>>,
    partitioner: Partitioner,
}

impl Copies {
    pub(crate) fn new(stores: Vec<Arc<dyn Store>>, partitioner: Partitioner) -> Self {
        Self { stores, partitioner }
    }

    /// The value of a key. Its partition by the partitioner is asked first, then the others: who wrote the table may
    /// have chosen partitions in another way.
    pub(crate) fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let count = i32::try_from(self.stores.len()).unwrap_or(i32::MAX);
        let likely = usize::try_from(self.partitioner.partition(key, count)).unwrap_or_default();
        let likely_first = self.stores.iter().cycle().skip(likely).take(self.stores.len());
        for store in likely_first {
            if let Some(value) = store.get(key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}
