//! Operations of a callback on sessions.
//!
//! Their entries are those of [`due_entry`], whose invariants hold here.

use crate::codec::encode_state;
use crate::context::Ctx;
use crate::store::prefix_end;
use crate::time::due_entry::{self, DueEntry};
use crate::time::entry_ops::{EntryWrite, foreign, unreadable};
use crate::topology::{CallbackError, CodecOf, DueEntryEdge, EntryKind, Failure, SessionHandle, TableId};
use crate::window::{Session, SessionChange, keys};

/// An open session that a record belongs to.
struct Found {
    entry_key: Vec<u8>,
    session: Session,
    marker_due: i64,
    accumulator: Vec<u8>,
}

impl<S> Ctx<'_, S> {
    /// Folds the record into the session of its key that its event time belongs to, and gives what has become of the key's
    /// sessions: those that are no more, the earliest first, then the one that the record is in. Where the record brings two
    /// sessions together, `merge` makes one accumulator of an earlier and a later one, before the record is folded into it.
    ///
    /// A record whose session has closed already is left out, and counted; it changes nothing
    /// ([W4](crate::semantics#w4-sessions)). To emit a change with the session's end as its time, set
    /// [`Emit::timestamp`](crate::context::Emit::timestamp).
    ///
    /// With at-least-once delivery, a record that is processed again after a crash is folded in twice, or finds its session
    /// closed although the session was open the first time: its first effect is then in the session's result.
    ///
    /// # Errors
    /// When the record has no key, an accumulator can't be decoded or encoded or is larger than the topic takes, or the store
    /// fails.
    pub fn aggregate_session<A: 'static>(
        &mut self,
        to: SessionHandle<A>,
        fold: impl FnOnce(Option<A>) -> A,
        mut merge: impl FnMut(A, A) -> A,
    ) -> Result<Vec<SessionChange<A>>, CallbackError> {
        let (edge, key) = self.entry_edge((to.graph, to.index), "session", "aggregate_session()")?;
        let EntryKind::Session(sessions) = edge.kind else { return Err(foreign("session")) };
        let at = self.record.timestamp;
        let found = self.sessions_at(edge.table, key, at, sessions.gap)?;
        let start = found.iter().map(|f| f.session.start).fold(at, i64::min);
        let end = found.iter().map(|f| f.session.end).fold(at, i64::max);
        let session = Session { start, end };
        let due = sessions.closes(session);
        if due <= self.stage.time {
            self.stage.left_out.late += 1;
            return Ok(Vec::new());
        }
        let (topic, codec) = self.entry_codec::<A>(edge, "session")?;
        let mut value = None;
        for one in &found {
            let next = self.decode_accumulator(edge, &one.accumulator)?;
            value = Some(match value {
                None => next,
                Some(before) => merge(before, next),
            });
        }
        let value = fold(value);

        let kept = found.first().filter(|f| f.session.start == start);
        let entry_key = match kept {
            Some(kept) => kept.entry_key.clone(),
            None => self.free_entry_key(edge.table, key, &latest_first(start), 0)?,
        };
        let entry = EntryWrite { entry_key: &entry_key, marker_due: kept.map(|f| f.marker_due), due, event_time: end };
        self.all_or_nothing(|ctx| {
            ctx.stage_entry(edge.table, &entry, |out| {
                out.extend_from_slice(&keys::time(start));
                encode_state(&**codec, &value, out)
                    .map_err(|error| CallbackError::of(Failure::Encode { edge: format!("table {topic:?}"), error }))
            })
        })?;
        let merged = found.iter().filter(|f| f.entry_key != entry_key);
        self.stage.superseded.extend(merged.map(|f| (edge.table, Box::from(&*f.entry_key))));
        let retracted = found.iter().map(|f| f.session).filter(|s| *s != session).map(SessionChange::Retracted);
        Ok(retracted.chain([SessionChange::Updated(session, value)]).collect())
    }

    /// The open sessions of a key that a time belongs to, the earliest first.
    fn sessions_at(&mut self, table: TableId, key: &[u8], at: i64, gap: i64) -> Result<Vec<Found>, CallbackError> {
        let mut found = Vec::new();
        // The latest comes first: behind one that ends too early are only such.
        let mut from = due_entry::entry_key(key, &latest_first(at.saturating_add(gap)));
        let end = prefix_end(&due_entry::entry_prefix(key));
        while let Some((entry_key, value)) = self.state_first(table, &from, end.as_deref())? {
            let read = DueEntry::read(&value).and_then(|entry| Some((entry, keys::read_time(entry.body)?)));
            let (entry, (start, accumulator)) = read.ok_or_else(|| unreadable(self.state_topic(table)))?;
            if entry.event_time < at.saturating_sub(gap) {
                break;
            }
            from.clone_from(&entry_key);
            from.push(0);
            let (session, accumulator) = (Session { start, end: entry.event_time }, accumulator.to_vec());
            found.push(Found { entry_key, session, marker_due: entry.marker_due, accumulator });
        }
        found.reverse();
        Ok(found)
    }

    fn decode_accumulator<A: 'static>(&mut self, edge: &DueEntryEdge, bytes: &[u8]) -> Result<A, CallbackError> {
        let Some(table) = self.core.graph.tables.get(edge.table) else { return Err(foreign("session")) };
        let value = self.decode_table(&table.topic, &table.codec, CodecOf::Table(edge.table), Some(bytes))?;
        value.ok_or_else(|| unreadable(&table.topic))
    }
}

/// A time as bytes of which the largest sorts first.
fn latest_first(at: i64) -> [u8; 8] {
    keys::time(at).map(|byte| !byte)
}
