//! The owners of a group's partitions, and whether anybody wrote to a partition's tables, or emitted, behind a new owner's back.
//!
//! With at-least-once delivery, an instance that was taken for dead may do that when it wakes (semantics D2). Only then do the
//! checks excuse what the tables say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log::ProduceBatch;

/// A partition of a group.
type Of = (usize, i32);

/// Shared by the instances' connections.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<OwnersState>);

#[derive(Debug, Default)]
struct OwnersState {
    /// The instance that was given a partition last.
    of: BTreeMap<Of, String>,
    /// Instances that were ever given one.
    had: BTreeSet<String>,
    /// Batches on their way, by instance.
    flying: BTreeMap<String, BTreeMap<u64, Writes>>,
    batches: u64,
    stale: usize,
}

/// The writes of a batch.
#[derive(Debug)]
struct Writes {
    /// Partitions of table writes: only tables are written to by number.
    tables: BTreeSet<i32>,
    /// Emits. They may be the work of any partition.
    emits: bool,
}

impl OwnersState {
    /// Whether an instance had partitions, and others have all of them.
    fn is_succeeded(&self, life: &str) -> bool {
        self.had.contains(life) && self.of.values().all(|owner| owner != life)
    }
}

impl Owners {
    fn state(&self) -> MutexGuard<'_, OwnersState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance is given partitions. What others have on its way to them may land behind its writes.
    pub(super) fn assigned(&self, group: usize, life: &str, partitions: impl Iterator<Item = i32>) {
        let mut state = self.state();
        state.had.insert(life.to_owned());
        for partition in partitions {
            let before = state.of.insert((group, partition), life.to_owned());
            let Some(before) = before.filter(|before| before != life) else { continue };
            let succeeded = state.is_succeeded(&before);
            let late = |batch: &Writes| batch.tables.contains(&partition) || (batch.emits && succeeded);
            let late = state.flying.get(&before).is_some_and(|batches| batches.values().any(late));
            state.stale += usize::from(late);
        }
    }

    /// An instance sends a batch. Gives its number.
    pub(super) fn sends(&self, group: usize, life: &str, batch: &ProduceBatch) -> u64 {
        let tables: BTreeSet<i32> = batch.iter().filter_map(|(record, _)| record.partition).collect();
        let emits = batch.iter().any(|(record, _)| record.partition.is_none());
        let mut state = self.state();
        let others = |partition: &&i32| state.of.get(&(group, **partition)).is_some_and(|owner| owner != life);
        let behind = tables.iter().filter(others).count() + usize::from(emits && state.is_succeeded(life));
        state.stale += behind;
        state.batches += 1;
        let number = state.batches;
        state.flying.entry(life.to_owned()).or_default().insert(number, Writes { tables, emits });
        number
    }

    /// It has heard what became of a batch.
    pub(super) fn heard(&self, life: &str, number: u64) {
        if let Some(batches) = self.state().flying.get_mut(life) {
            batches.remove(&number);
        }
    }

    /// Nothing of an instance is on its way any more.
    pub(super) fn forget(&self, life: &str) {
        self.state().flying.remove(life);
    }

    /// How often somebody wrote, or may have written, to a partition that another had by then.
    pub(super) fn stale(&self) -> usize {
        self.state().stale
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::NewRecord;

    fn write(partition: Option<i32>) -> ProduceBatch {
        let topic = Arc::from("group-table");
        let mut batch = ProduceBatch::new();
        let record = NewRecord { topic: &topic, partition, timestamp: None, key: Some(b"k"), value: None };
        batch.push(record, std::iter::empty());
        batch
    }

    #[test]
    fn a_table_write_to_a_partition_that_another_has_is_stale() {
        let owners = Owners::default();
        owners.assigned(0, "a", [0, 1].into_iter());
        owners.assigned(1, "z", [0].into_iter());
        owners.heard("a", owners.sends(0, "a", &write(Some(0))));
        owners.assigned(0, "b", [0].into_iter());
        assert_eq!(owners.stale(), 0, "it was acknowledged before");
        owners.sends(0, "a", &write(Some(1)));
        owners.sends(0, "a", &write(None));
        assert_eq!(owners.stale(), 0, "its own partition, and no table");
        owners.sends(0, "a", &write(Some(0)));
        assert_eq!(owners.stale(), 1);
    }

    #[test]
    fn what_an_instance_emits_that_has_nothing_any_more_is_stale() {
        let owners = Owners::default();
        owners.sends(0, "a", &write(None));
        owners.assigned(0, "a", [0, 1].into_iter());
        owners.assigned(0, "b", [0].into_iter());
        assert_eq!(owners.stale(), 0, "it still has one, and had none before");
        owners.assigned(0, "b", [1].into_iter());
        assert_eq!(owners.stale(), 1, "its emits may be on their way");
        owners.forget("a");
        owners.heard("a", owners.sends(0, "a", &write(None)));
        assert_eq!(owners.stale(), 2);
        owners.assigned(0, "a", [0].into_iter());
        owners.sends(0, "a", &write(None));
        assert_eq!(owners.stale(), 2);
    }

    #[test]
    fn a_table_write_on_its_way_when_the_partition_moves_is_stale_unless_it_is_forgotten() {
        for forgotten in [false, true] {
            let owners = Owners::default();
            owners.assigned(0, "a", [0].into_iter());
            owners.sends(0, "a", &write(Some(0)));
            if forgotten {
                owners.forget("a");
            }
            owners.assigned(0, "b", [0].into_iter());
            assert_eq!(owners.stale(), usize::from(!forgotten));
        }
    }
}
