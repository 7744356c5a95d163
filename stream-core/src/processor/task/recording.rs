//! Which of a task's positions its state has, and which are still to be written.

use std::sync::Arc;

use crate::log::TopicPartition;
use crate::processor::env::Env;

/// Where an input starts.
pub(super) struct Place {
    pub(super) partition: TopicPartition,
    pub(super) start: i64,
    pub(super) metadata: Arc<str>,
    /// The state's position is this one already.
    pub(super) recorded: bool,
}

/// The positions that a task still has to write.
#[derive(Debug, Default)]
pub(super) struct Recording {
    /// The task writes them: the group has state, and the guarantee is at-least-once.
    pub(super) on: bool,
    /// With the next batch.
    pub(super) due: bool,
    /// Nothing may be processed before they are acknowledged.
    pub(super) opening: bool,
    /// The meaning of the state, where it is not recorded yet: key and value.
    pub(super) meanings: Vec<(Vec<u8>, Vec<u8>)>,
    /// They are on their way.
    pub(super) meant: bool,
}

impl Recording {
    pub(super) fn new(env: &Env, places: &[Place], meanings: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let on = env.graph.positions().is_some() && env.egress.transactions().is_none();
        let opening = on && (!meanings.is_empty() || places.iter().any(|p| !p.recorded));
        Self { on, due: opening, opening, meanings, meant: false }
    }

    /// Batches under way may not be written.
    pub(super) fn rollback(&mut self) {
        self.meant = false;
        self.due = self.on;
    }
}
