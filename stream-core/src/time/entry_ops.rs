//! Operations that sessions and batches share: they read and write open entries.
//!
//! The entries are those of [`due_entry`], whose invariants hold here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::due_entry::{self, DueEntry};
use crate::codec::Codec;
use crate::context::Ctx;
use crate::topology::{CallbackError, CallbackResult, DueEntryEdge, Failure, TableId, typed};

/// An entry as it will be, and what there is of it.
pub(super) struct EntryWrite<'a> {
    pub(super) entry_key: &'a [u8],
    /// When its marker is due, if it has one.
    pub(super) marker_due: Option<i64>,
    pub(super) due: i64,
    pub(super) event_time: i64,
}

impl<S> Ctx<'_, S> {
    /// A key without an entry, and without a superseded one that is not deleted yet: such an entry has to survive a crash.
    pub(super) fn free_entry_key(
        &mut self,
        table: TableId,
        key: &[u8],
        begins: &[u8],
        from: u32,
    ) -> Result<Vec<u8>, CallbackError> {
        for number in from..=u32::MAX {
            let entry_key = [&*due_entry::entry_key(key, begins), &number.to_be_bytes()].concat();
            let is_superseded =
                self.stage.superseded.iter().any(|(of, superseded)| *of == table && **superseded == *entry_key);
            if !is_superseded
                && !self.core.is_deleted(table, &entry_key)
                && self.state_value(table, &entry_key)?.is_none()
            {
                return Ok(entry_key);
            }
        }
        Err(CallbackError::msg("there are too many entries of a key at one time"))
    }

    pub(super) fn stage_entry(
        &mut self,
        table: TableId,
        entry: &EntryWrite<'_>,
        body: impl FnOnce(&mut Vec<u8>) -> CallbackResult,
    ) -> CallbackResult {
        let EntryWrite { entry_key, marker_due: before, due, event_time } = *entry;
        let mut marker_due = before.filter(|marker_due| *marker_due <= due);
        if let Some(at) = marker_due
            && self.state_value(table, &due_entry::marker(at, entry_key))?.is_none()
        {
            marker_due = None;
        }
        if marker_due.is_none() {
            self.stage_encoded(table, &due_entry::marker(due, entry_key), |_| Ok(()))?;
            let too_late = before.filter(|before| *before > due).map(|before| due_entry::marker(before, entry_key));
            self.stage.superseded.extend(too_late.map(|marker| (table, marker.into_boxed_slice())));
        }
        self.stage_encoded(table, entry_key, |out| {
            DueEntry { due, marker_due: marker_due.unwrap_or(due), event_time, body: &[] }.write(out);
            body(out)
        })
    }

    /// The first entry from `from` up to `end`, as this callback sees it.
    pub(super) fn state_first(
        &mut self,
        table: TableId,
        from: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, CallbackError> {
        let core = self.core;
        let Some(partition) = core.tables.get(table) else { return Ok(None) };
        let staged = self.stage.state.of(table);
        let staged: BTreeMap<&[u8], Option<&[u8]>> =
            staged.filter(|(key, _)| from <= *key && end.is_none_or(|end| *key < end)).collect();
        let superseded =
            |key: &[u8]| self.stage.superseded.iter().any(|(of, superseded)| *of == table && **superseded == *key);
        let pass = |key: &[u8]| core.is_deleted(table, key) || staged.contains_key(key) || superseded(key);
        let stored = partition.borrow().first(from, end, pass);
        let mut own = staged.iter().filter(|(key, _)| !superseded(key));
        let own = own.find_map(|(key, value)| Some((key.to_vec(), value.as_ref()?.to_vec())));
        let stored = stored.map_err(|error| self.store_failed(error))?;
        match stored {
            Some(key) if own.as_ref().is_none_or(|(own, _)| key < *own) => {
                let value = self.state_value(table, &key)?;
                Ok(value.map(|value| (key, value)))
            }
            _ => Ok(own),
        }
    }
}

impl<'a, S> Ctx<'a, S> {
    pub(super) fn entry_edge(
        &self,
        (graph, index): (u64, usize),
        of: &'static str,
        what: &'static str,
    ) -> Result<(&'a DueEntryEdge, &'a [u8]), CallbackError> {
        let edge = self.core.graph.due_entries.get(index).filter(|_| graph == self.core.graph.id);
        let edge = edge.ok_or_else(|| foreign(of))?;
        Ok((edge, self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey(what)))?))
    }

    pub(super) fn entry_codec<T: 'static>(
        &self,
        edge: &DueEntryEdge,
        of: &'static str,
    ) -> Result<(&'a str, &'a Arc<dyn Codec<T>>), CallbackError> {
        let table = self.core.graph.tables.get(edge.table).ok_or_else(|| foreign(of))?;
        Ok((&table.topic, typed::<T>(&table.codec).ok_or_else(|| foreign(of))?))
    }

    pub(super) fn state_topic(&self, table: TableId) -> &'a str {
        self.core.graph.tables.get(table).map_or("", |edge| &edge.topic)
    }
}

pub(super) fn foreign(what: &'static str) -> CallbackError {
    CallbackError::of(Failure::ForeignHandle(what))
}

pub(super) fn unreadable(topic: &str) -> CallbackError {
    CallbackError::msg(format_args!("an entry of {topic} can't be read: was it written by something else?"))
}
