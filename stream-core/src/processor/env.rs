//! What all tasks of an instance share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::options::Options;
use crate::group::GroupGraph;
use crate::log::{LogHandle, Producer, Reader};
use crate::store::StoreBackend;
use crate::view::Copies;

/// Made anew at each start of an instance; read-only from then on but for the counters.
pub(super) struct Env {
    pub(super) graph: Arc<GroupGraph>,
    pub(super) log: LogHandle,
    pub(super) options: Options,
    pub(super) producer: Arc<dyn Producer>,
    /// Reads changelogs and joined tables.
    pub(super) reader: Arc<dyn Reader>,
    pub(super) stores: Arc<dyn StoreBackend>,
    pub(super) lookups: Vec<Arc<Copies>>,
    /// Largest record that each output takes.
    pub(super) limits: Vec<usize>,
    pub(super) table_limit: usize,
    /// How long each table's topic keeps tombstones.
    pub(super) tombstones: BTreeMap<Arc<str>, i64>,
    pub(super) counters: Arc<Counters>,
}

impl Env {
    pub(super) fn tombstone_retention_ms(&self, topic: &str) -> Option<i64> {
        self.tombstones.get(topic).copied()
    }
}

/// Counts since the processor was made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Records whose work is acknowledged.
    pub(crate) done: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
}
