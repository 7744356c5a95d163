//! Definitions that sessions and batches share.

use std::sync::Arc;

use super::due_callback::OnDue;
use crate::codec::{Codec, CodecError};
use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::topology::{CallbackResult, CodecOf, DueEntryEdge, EntryKind, ErrorPolicy};

impl<S: 'static> GroupBuilder<S> {
    pub(super) fn add_due_entry<T: 'static>(
        &mut self,
        name: Arc<str>,
        topic: Arc<str>,
        kind: EntryKind,
        codec: impl Codec<T>,
    ) -> usize {
        let table = self.add_state(topic, codec);
        self.edges().due_entries.push(DueEntryEdge { name, kind, table, policy: ErrorPolicy::fail() });
        self.callbacks.due_entries.push(None);
        self.graph.due_entries.len() - 1
    }

    pub(super) fn on_due<T: 'static, V: 'static>(
        &mut self,
        what: &'static str,
        (graph, index): (u64, usize),
        read: fn(&dyn Codec<T>, &[u8]) -> Result<V, CodecError>,
        call: impl Fn(&mut Ctx<'_, S>, V, i64) -> CallbackResult + Send + Sync + 'static,
    ) {
        let edge = self.graph.due_entries.get(index).filter(|_| graph == self.graph.id);
        let edge = edge.and_then(|edge| self.graph.tables.get(edge.table).map(|table| (edge, table)));
        match edge.zip(self.callbacks.due_entries.get_mut(index)) {
            None => self.name_foreign(what),
            Some(((edge, table), set)) => {
                let (codec, of) = (Arc::clone(&table.codec), CodecOf::Table(edge.table));
                *set = Some(OnDue::<T, V, S, _>::boxed(codec, of, read, call));
            }
        }
    }
}

pub(super) fn unreadable() -> CodecError {
    CodecError::invalid("an entry of the library's own table can't be read: was its topic written by something else?")
}
