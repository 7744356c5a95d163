//! Operations of a callback on batches.
//!
//! Their entries are those of [`due_entry`], whose invariants hold here.

use crate::codec::{ValueOf, encode_state};
use crate::context::Ctx;
use crate::store::prefix_end;
use crate::time::due_entry::{self, DueEntry};
use crate::time::entry_ops::{EntryWrite, foreign, unreadable};
use crate::topology::{BatchHandle, CallbackError, CallbackResult, EntryKind, Failure, TableId};
use crate::window::batches::{Batch, Origin};
use crate::window::{Batches, keys};

/// An open batch.
struct Gathered {
    entry_key: Vec<u8>,
    /// When its marker is due, if it has one.
    marker_due: Option<i64>,
    /// The largest event time of its records.
    at: i64,
    batch: Batch,
}

impl Gathered {
    fn read(entry_key: Vec<u8>, value: &[u8]) -> Option<Self> {
        let entry = DueEntry::read(value)?;
        Some(Self {
            entry_key,
            marker_due: Some(entry.marker_due),
            at: entry.event_time,
            batch: Batch::read(entry.body)?,
        })
    }

    /// When it began, and its number among those of that time: its place ends in both.
    fn started(&self) -> (i64, u32) {
        let read = || {
            let (started, number) = keys::read_time(self.entry_key.last_chunk::<12>()?)?;
            Some((started, u32::from_be_bytes(number.try_into().ok()?)))
        };
        read().unwrap_or((i64::MIN, 0))
    }

    /// Its size as a record of its topic.
    fn len(&self) -> usize {
        self.entry_key.len() + DueEntry::HEADER + self.batch.len()
    }
}

impl<S> Ctx<'_, S> {
    /// Adds a value to the open batch of the record's key. The batch closes by its number of records or by the wall clock:
    /// see [`on_close`](crate::group::GroupBuilder::on_close).
    ///
    /// With at-least-once delivery, a record that is processed again after a crash is not added a second time while its batch is
    /// open. If its batch has closed meanwhile, it is added to another one, too.
    ///
    /// # Errors
    /// When the record has no key, the value can't be encoded or is larger than the topic takes, or the store fails.
    pub fn collect<T: 'static>(&mut self, to: BatchHandle<T>, value: impl ValueOf<T>) -> CallbackResult {
        let (edge, key) = self.entry_edge((to.graph, to.index), "batch", "collect()")?;
        let EntryKind::Batch(batches) = edge.kind else { return Err(foreign("batch")) };
        let (topic, codec) = self.entry_codec::<T>(edge, "batch")?;
        let mut bytes = Vec::new();
        encode_state(&**codec, &value, &mut bytes)
            .map_err(|error| CallbackError::of(Failure::Encode { edge: format!("table {topic:?}"), error }))?;
        let origin =
            (self.record.offset >= 0).then_some((&**self.source.topic, self.record.offset, self.stage.collected));
        self.stage.collected += 1;

        let (now, at) = (self.core.clock.now_ms(), self.record.timestamp);
        let mut last = None;
        for (entry_key, value) in self.pending_entries(edge.table, key)? {
            let gathered = Gathered::read(entry_key, &value).ok_or_else(|| unreadable(topic))?;
            if gathered.batch.has(origin, &bytes) {
                // What was not acknowledged then may lack its marker.
                return self.all_or_nothing(|ctx| ctx.stage_batch(edge.table, &gathered, &batches, now));
            }
            last = Some(gathered);
        }
        self.all_or_nothing(|ctx| ctx.add_to_batch(edge.table, key, &batches, last, (now, at), (origin, &bytes)))
    }

    /// Adds to the last batch of a key, or to one after it if that takes nothing more.
    fn add_to_batch(
        &mut self,
        table: TableId,
        key: &[u8],
        batches: &Batches,
        last: Option<Gathered>,
        (now, at): (i64, i64),
        (origin, value): (Origin<'_>, &[u8]),
    ) -> CallbackResult {
        let limit = self.core.table_limit(table);
        // A new place, never that of an earlier batch: the instance that closed that batch may delete it late, after another
        // instance took it for dead. It sorts behind the last one, whatever the clock does.
        let (started, number) = match last.as_ref().map(Gathered::started) {
            Some((started, number)) if started >= now => (started, number.saturating_add(1)),
            _ => (now, 0),
        };
        let mut room = None;
        if let Some(mut last) = last.filter(|last| !last.batch.is_full()) {
            if last.len() + Batch::len_of(origin, value) <= limit {
                room = Some(last);
            } else {
                last.batch.fill();
                self.stage_batch(table, &last, batches, now)?;
            }
        }
        let mut to = if let Some(room) = room {
            room
        } else {
            let entry_key = self.free_entry_key(table, key, &keys::time(started), number)?;
            Gathered { entry_key, marker_due: None, at, batch: Batch::new(now) }
        };
        to.at = to.at.max(at);
        to.batch.push(now, origin, value);
        if to.batch.count() >= batches.most {
            to.batch.fill();
        }
        self.stage_batch(table, &to, batches, now)
    }

    fn stage_batch(&mut self, table: TableId, of: &Gathered, batches: &Batches, now: i64) -> CallbackResult {
        let due = of.batch.closes(batches, now);
        self.stage_entry(
            table,
            &EntryWrite { entry_key: &of.entry_key, marker_due: of.marker_due, due, event_time: of.at },
            |out| {
                of.batch.write(out);
                Ok(())
            },
        )
    }

    /// All open entries of a key, in order.
    fn pending_entries(&mut self, table: TableId, key: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, CallbackError> {
        let mut all = Vec::new();
        let mut from = due_entry::entry_prefix(key);
        let end = prefix_end(&from);
        while let Some((entry_key, value)) = self.state_first(table, &from, end.as_deref())? {
            from.clone_from(&entry_key);
            from.push(0);
            all.push((entry_key, value));
        }
        Ok(all)
    }
}
