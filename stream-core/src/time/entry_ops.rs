//! What the operations of sessions and of batches share: they read and write open entries.
//!
//! The entries are those of [`due_entry`], whose invariants hold here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::due_entry::{self, Open};
use crate::codec::Codec;
use crate::context::Ctx;
use crate::topology::{CallbackError, CallbackResult, Failure, OpenEdge, typed};

/// An entry as it will be, and what there is of it.
pub(super) struct Entry<'a> {
    pub(super) place: &'a [u8],
    /// When its marker is due, if it has one.
    pub(super) marked: Option<i64>,
    pub(super) due: i64,
    pub(super) at: i64,
}

impl<S> Ctx<'_, S> {
    /// A place where nothing lies, nor anything that means nothing any more and is not deleted yet: that is to be there after
    /// a crash.
    pub(super) fn free_place(
        &mut self,
        state: usize,
        key: &[u8],
        begins: &[u8],
        from: u32,
    ) -> Result<Vec<u8>, CallbackError> {
        for number in from..=u32::MAX {
            let place = [&*due_entry::place(key, begins), &number.to_be_bytes()].concat();
            let is_void = self.stage.void.iter().any(|(of, void)| *of == state && **void == *place);
            if !is_void && !self.core.is_gone(state, &place) && self.state_value(state, &place)?.is_none() {
                return Ok(place);
            }
        }
        Err(CallbackError::msg("there are too many entries of a key at one time"))
    }

    pub(super) fn stage_open(
        &mut self,
        state: usize,
        entry: &Entry<'_>,
        body: impl FnOnce(&mut Vec<u8>) -> CallbackResult,
    ) -> CallbackResult {
        let Entry { place, marked: before, due, at } = *entry;
        let mut marked = before.filter(|marked| *marked <= due);
        if let Some(at) = marked
            && self.state_value(state, &due_entry::marker(at, place))?.is_none()
        {
            marked = None;
        }
        if marked.is_none() {
            self.stage_encoded(state, &due_entry::marker(due, place), |_| Ok(()))?;
            let too_late = before.filter(|before| *before > due).map(|before| due_entry::marker(before, place));
            self.stage.void.extend(too_late.map(|marker| (state, marker.into_boxed_slice())));
        }
        self.stage_encoded(state, place, |out| {
            Open { due, marked: marked.unwrap_or(due), at, body: &[] }.write(out);
            body(out)
        })
    }

    /// The first entry from `from` up to `end`, as this callback sees it.
    pub(super) fn state_first(
        &mut self,
        state: usize,
        from: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, CallbackError> {
        let core = self.core;
        let Some(table) = core.state.get(state) else { return Ok(None) };
        let staged = self.stage.state.of(state);
        let staged: BTreeMap<&[u8], Option<&[u8]>> =
            staged.filter(|(key, _)| from <= *key && end.is_none_or(|end| *key < end)).collect();
        let void = |key: &[u8]| self.stage.void.iter().any(|(of, void)| *of == state && **void == *key);
        let pass = |key: &[u8]| core.is_gone(state, key) || staged.contains_key(key) || void(key);
        let stored = table.borrow().first(from, end, pass);
        let mut own = staged.iter().filter(|(key, _)| !void(key));
        let own = own.find_map(|(key, value)| Some((key.to_vec(), value.as_ref()?.to_vec())));
        let stored = stored.map_err(|error| self.store_failed(error))?;
        match stored {
            Some(key) if own.as_ref().is_none_or(|(own, _)| key < *own) => {
                let value = self.state_value(state, &key)?;
                Ok(value.map(|value| (key, value)))
            }
            _ => Ok(own),
        }
    }
}

impl<'a, S> Ctx<'a, S> {
    pub(super) fn open_edge(
        &self,
        (graph, index): (u64, usize),
        of: &'static str,
        what: &'static str,
    ) -> Result<(&'a OpenEdge, &'a [u8]), CallbackError> {
        let edge = self.core.graph.open.get(index).filter(|_| graph == self.core.graph.id);
        let edge = edge.ok_or_else(|| foreign(of))?;
        Ok((edge, self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey(what)))?))
    }

    pub(super) fn open_codec<T: 'static>(
        &self,
        edge: &OpenEdge,
        of: &'static str,
    ) -> Result<(&'a str, &'a Arc<dyn Codec<T>>), CallbackError> {
        let state = self.core.graph.state.get(edge.state).ok_or_else(|| foreign(of))?;
        Ok((&state.topic, typed::<T>(&state.codec).ok_or_else(|| foreign(of))?))
    }

    pub(super) fn state_topic(&self, state: usize) -> &'a str {
        self.core.graph.state.get(state).map_or("", |edge| &edge.topic)
    }
}

pub(super) fn foreign(what: &'static str) -> CallbackError {
    CallbackError::of(Failure::ForeignHandle(what))
}

pub(super) fn unreadable(topic: &str) -> CallbackError {
    CallbackError::msg(format_args!("an entry of {topic} can't be read: was it written by something else?"))
}
