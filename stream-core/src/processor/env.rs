//! The environment that all tasks of an instance share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::alignment::Alignment;
use super::batch_limits::BatchLimits;
use super::counters::Counters;
use super::egress::Egress;
use super::faults::CallbackFaults;
use super::memory::Memory;
use super::options::Options;
use super::placement::Placement;
use crate::group::GroupGraph;
use crate::log::{LogHandle, Reader};
use crate::replica::TableReplica;
use crate::store::StoreBackend;
use crate::topology::Tables;

/// Created at each start of an instance; read-only from then on but for the counters.
pub(super) struct Env {
    pub(super) graph: Arc<GroupGraph>,
    pub(super) log: LogHandle,
    pub(super) options: Options,
    pub(super) egress: Egress,
    /// Reads changelogs and joined tables.
    pub(super) reader: Arc<dyn Reader>,
    pub(super) stores: Arc<dyn StoreBackend>,
    pub(super) lookups: Vec<Arc<TableReplica>>,
    /// Largest record that each output takes.
    pub(super) limits: Vec<usize>,
    /// Largest record that the topic of each table takes.
    pub(super) table_limits: Tables<usize>,
    /// How long each table's topic keeps tombstones.
    pub(super) tombstones: BTreeMap<Arc<str>, i64>,
    /// Whether the keys of each input are where they should be, for inputs of which it matters.
    pub(super) placements: Vec<Option<Placement>>,
    /// Where something is re-keyed.
    pub(super) alignment: Option<Arc<Alignment>>,
    pub(super) batches: Arc<BatchLimits>,
    pub(super) counters: Arc<Counters>,
    pub(super) memory: Arc<Memory>,
    pub(super) faults: CallbackFaults,
    /// Brokers without topic ids were met, and that was logged.
    pub(super) no_ids: AtomicBool,
}

impl Env {
    pub(super) fn tombstone_retention_ms(&self, topic: &str) -> Option<i64> {
        self.tombstones.get(topic).copied()
    }
}
