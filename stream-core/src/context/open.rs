//! What a callback can do with sessions and batches.
//!
//! Their entries are those of [`open`], whose invariants hold here.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ctx;
use crate::codec::{Codec, encode_state};
use crate::group::graph::{OpenEdge, Opened};
use crate::group::handler::{CodecOf, typed};
use crate::group::{Batched, CallbackError, CallbackResult, Failure, Sessioned};
use crate::store::prefix_end;
use crate::window::batches::{Batch, Origin};
use crate::window::open::{self, Open};
use crate::window::{Batches, Session, SessionChange, keys};

/// An open session that a record belongs to.
struct Found {
    place: Vec<u8>,
    session: Session,
    marked: i64,
    accumulator: Vec<u8>,
}

/// An open batch.
struct Gathered {
    place: Vec<u8>,
    /// When its marker is due, if it has one.
    marked: Option<i64>,
    /// The largest event time of its records.
    at: i64,
    batch: Batch,
}

impl Gathered {
    fn read(place: Vec<u8>, value: &[u8]) -> Option<Self> {
        let open = Open::read(value)?;
        Some(Self { place, marked: Some(open.marked), at: open.at, batch: Batch::read(open.body)? })
    }

    /// When it began, and its number among those of that time: its place ends in both.
    fn since(&self) -> (i64, u32) {
        let read = || {
            let (since, number) = keys::read_time(self.place.last_chunk::<12>()?)?;
            Some((since, u32::from_be_bytes(number.try_into().ok()?)))
        };
        read().unwrap_or((i64::MIN, 0))
    }

    /// Its size as a record of its topic.
    fn len(&self) -> usize {
        self.place.len() + Open::HEADER + self.batch.len()
    }
}

/// An entry as it will be, and what there is of it.
struct Entry<'a> {
    place: &'a [u8],
    /// When its marker is due, if it has one.
    marked: Option<i64>,
    due: i64,
    at: i64,
}

impl<S> Ctx<'_, S> {
    /// Folds the record into the session of its key that its event time belongs to, and gives what has become of the key's
    /// sessions: those that are no more, the earliest first, then the one that the record is in. Where the record brings two
    /// sessions together, `merge` makes one accumulator of an earlier and a later one, before the record is folded into it.
    ///
    /// A record whose session has closed already is left out, and counted; it changes nothing
    /// ([W4](crate::semantics#w4-sessions)). To emit a change with the session's end as its time, set
    /// [`Emit::timestamp`](super::Emit::timestamp).
    ///
    /// With at-least-once delivery, a record that is processed again after a crash is folded in twice, or finds its session
    /// closed although the session was open the first time: its first effect is then in the session's result.
    ///
    /// # Errors
    /// When the record has no key, an accumulator can't be decoded or encoded or is larger than the topic takes, or the store
    /// fails.
    pub fn aggregate_session<A: 'static>(
        &mut self,
        to: Sessioned<A>,
        fold: impl FnOnce(Option<A>) -> A,
        mut merge: impl FnMut(A, A) -> A,
    ) -> Result<Vec<SessionChange<A>>, CallbackError> {
        let (edge, key) = self.open_edge((to.graph, to.index), "session", "aggregate_session()")?;
        let Opened::Session(sessions) = edge.kind else { return Err(foreign("session")) };
        let at = self.record.timestamp;
        let found = self.sessions_at(edge.state, key, at, sessions.gap)?;
        let start = found.iter().map(|f| f.session.start).fold(at, i64::min);
        let end = found.iter().map(|f| f.session.end).fold(at, i64::max);
        let session = Session { start, end };
        let due = sessions.closes(session);
        if due <= self.stage.time {
            self.stage.left_out.late += 1;
            return Ok(Vec::new());
        }
        let (topic, codec) = self.open_codec::<A>(edge, "session")?;
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
        let place = match kept {
            Some(kept) => kept.place.clone(),
            None => self.free_place(edge.state, key, &latest_first(start), 0)?,
        };
        let entry = Entry { place: &place, marked: kept.map(|f| f.marked), due, at: end };
        self.all_or_nothing(|ctx| {
            ctx.stage_open(edge.state, &entry, |out| {
                out.extend_from_slice(&keys::time(start));
                encode_state(&**codec, &value, out)
                    .map_err(|error| CallbackError::of(Failure::Encode { edge: format!("table {topic:?}"), error }))
            })
        })?;
        let merged = found.iter().filter(|f| f.place != place);
        self.stage.void.extend(merged.map(|f| (edge.state, Box::from(&*f.place))));
        let retracted = found.iter().map(|f| f.session).filter(|s| *s != session).map(SessionChange::Retracted);
        Ok(retracted.chain([SessionChange::Updated(session, value)]).collect())
    }

    /// Adds a value to the open batch of the record's key. The batch closes by its number of records or by the wall clock:
    /// see [`on_batch`](crate::group::GroupBuilder::on_batch).
    ///
    /// With at-least-once delivery, a record that is processed again after a crash is not added a second time while its batch is
    /// open. If its batch has closed meanwhile, it is added to another one, too.
    ///
    /// # Errors
    /// When the record has no key, the value can't be encoded or is larger than the topic takes, or the store fails.
    pub fn collect<T: 'static>(&mut self, to: Batched<T>, value: impl Borrow<T>) -> CallbackResult {
        let (edge, key) = self.open_edge((to.graph, to.index), "batch", "collect()")?;
        let Opened::Batch(batches) = edge.kind else { return Err(foreign("batch")) };
        let (topic, codec) = self.open_codec::<T>(edge, "batch")?;
        let mut bytes = Vec::new();
        encode_state(&**codec, value.borrow(), &mut bytes)
            .map_err(|error| CallbackError::of(Failure::Encode { edge: format!("table {topic:?}"), error }))?;
        let origin =
            (self.record.offset >= 0).then_some((&**self.source.topic, self.record.offset, self.stage.collected));
        self.stage.collected += 1;

        let (now, at) = (self.core.clock.now_ms(), self.record.timestamp);
        let mut last = None;
        for (place, value) in self.open_entries(edge.state, key)? {
            let gathered = Gathered::read(place, &value).ok_or_else(|| unreadable(topic))?;
            if gathered.batch.has(origin, &bytes) {
                // What was not acknowledged then may lack its marker.
                return self.all_or_nothing(|ctx| ctx.stage_batch(edge.state, &gathered, &batches, now));
            }
            last = Some(gathered);
        }
        self.all_or_nothing(|ctx| ctx.add_to_batch(edge.state, key, &batches, last, (now, at), (origin, &bytes)))
    }

    /// Adds to the last batch of a key, or to one after it if that takes nothing more.
    fn add_to_batch(
        &mut self,
        state: usize,
        key: &[u8],
        batches: &Batches,
        last: Option<Gathered>,
        (now, at): (i64, i64),
        (origin, value): (Origin<'_>, &[u8]),
    ) -> CallbackResult {
        let limit = self.core.state_limits.get(state).copied().unwrap_or(usize::MAX);
        // A place of its own, never that of an earlier batch: whoever closed that may delete it late, after an instance took
        // it for dead. It sorts behind the last one, whatever the clock does.
        let (since, number) = match last.as_ref().map(Gathered::since) {
            Some((since, number)) if since >= now => (since, number.saturating_add(1)),
            _ => (now, 0),
        };
        let mut room = None;
        if let Some(mut last) = last.filter(|last| !last.batch.is_full()) {
            if last.len() + Batch::len_of(origin, value) <= limit {
                room = Some(last);
            } else {
                last.batch.fill();
                self.stage_batch(state, &last, batches, now)?;
            }
        }
        let mut to = if let Some(room) = room {
            room
        } else {
            let place = self.free_place(state, key, &keys::time(since), number)?;
            Gathered { place, marked: None, at, batch: Batch::new(now) }
        };
        to.at = to.at.max(at);
        to.batch.push(now, origin, value);
        if to.batch.count() >= batches.most {
            to.batch.fill();
        }
        self.stage_batch(state, &to, batches, now)
    }

    fn stage_batch(&mut self, state: usize, of: &Gathered, batches: &Batches, now: i64) -> CallbackResult {
        let due = of.batch.closes(batches, now);
        self.stage_open(state, &Entry { place: &of.place, marked: of.marked, due, at: of.at }, |out| {
            of.batch.write(out);
            Ok(())
        })
    }

    /// The open sessions of a key that a time belongs to, the earliest first.
    fn sessions_at(&mut self, state: usize, key: &[u8], at: i64, gap: i64) -> Result<Vec<Found>, CallbackError> {
        let mut found = Vec::new();
        // The latest lies first: what ends too early has only such behind it.
        let mut from = open::place(key, &latest_first(at.saturating_add(gap)));
        let end = prefix_end(&open::places(key));
        while let Some((place, value)) = self.state_first(state, &from, end.as_deref())? {
            let read = Open::read(&value).and_then(|open| Some((open, keys::read_time(open.body)?)));
            let (open, (start, accumulator)) = read.ok_or_else(|| unreadable(self.state_topic(state)))?;
            if open.at < at.saturating_sub(gap) {
                break;
            }
            from.clone_from(&place);
            from.push(0);
            let (session, accumulator) = (Session { start, end: open.at }, accumulator.to_vec());
            found.push(Found { place, session, marked: open.marked, accumulator });
        }
        found.reverse();
        Ok(found)
    }

    /// All open entries of a key, in order.
    fn open_entries(&mut self, state: usize, key: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, CallbackError> {
        let mut all = Vec::new();
        let mut from = open::places(key);
        let end = prefix_end(&from);
        while let Some((place, value)) = self.state_first(state, &from, end.as_deref())? {
            from.clone_from(&place);
            from.push(0);
            all.push((place, value));
        }
        Ok(all)
    }

    /// A place where nothing lies, nor anything that means nothing any more and is not deleted yet: that is to be there after
    /// a crash.
    fn free_place(&mut self, state: usize, key: &[u8], begins: &[u8], from: u32) -> Result<Vec<u8>, CallbackError> {
        for number in from..=u32::MAX {
            let place = [&*open::place(key, begins), &number.to_be_bytes()].concat();
            let is_void = self.stage.void.iter().any(|(of, void)| *of == state && **void == *place);
            if !is_void && !self.core.is_gone(state, &place) && self.state_value(state, &place)?.is_none() {
                return Ok(place);
            }
        }
        Err(CallbackError::msg("there are too many entries of a key at one time"))
    }

    fn stage_open(
        &mut self,
        state: usize,
        entry: &Entry<'_>,
        body: impl FnOnce(&mut Vec<u8>) -> CallbackResult,
    ) -> CallbackResult {
        let Entry { place, marked: before, due, at } = *entry;
        let mut marked = before.filter(|marked| *marked <= due);
        if let Some(at) = marked
            && self.state_value(state, &open::marker(at, place))?.is_none()
        {
            marked = None;
        }
        if marked.is_none() {
            self.stage_encoded(state, &open::marker(due, place), |_| Ok(()))?;
            let too_late = before.filter(|before| *before > due).map(|before| open::marker(before, place));
            self.stage.void.extend(too_late.map(|marker| (state, marker.into_boxed_slice())));
        }
        self.stage_encoded(state, place, |out| {
            Open { due, marked: marked.unwrap_or(due), at, body: &[] }.write(out);
            body(out)
        })
    }

    /// The first entry from `from` up to `end`, as this callback sees it.
    fn state_first(
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

    fn decode_accumulator<A: 'static>(&mut self, edge: &OpenEdge, bytes: &[u8]) -> Result<A, CallbackError> {
        let Some(state) = self.core.graph.state.get(edge.state) else { return Err(foreign("session")) };
        let value = self.decode_table(&state.topic, &state.codec, CodecOf::State(edge.state), Some(bytes))?;
        value.ok_or_else(|| unreadable(&state.topic))
    }
}

impl<'a, S> Ctx<'a, S> {
    fn open_edge(
        &self,
        (graph, index): (u64, usize),
        of: &'static str,
        what: &'static str,
    ) -> Result<(&'a OpenEdge, &'a [u8]), CallbackError> {
        let edge = self.core.graph.open.get(index).filter(|_| graph == self.core.graph.id);
        let edge = edge.ok_or_else(|| foreign(of))?;
        Ok((edge, self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey(what)))?))
    }

    fn open_codec<T: 'static>(
        &self,
        edge: &OpenEdge,
        of: &'static str,
    ) -> Result<(&'a str, &'a Arc<dyn Codec<T>>), CallbackError> {
        let state = self.core.graph.state.get(edge.state).ok_or_else(|| foreign(of))?;
        Ok((&state.topic, typed::<T>(&state.codec).ok_or_else(|| foreign(of))?))
    }

    fn state_topic(&self, state: usize) -> &'a str {
        self.core.graph.state.get(state).map_or("", |edge| &edge.topic)
    }
}

/// A time as bytes of which the largest sorts first.
fn latest_first(at: i64) -> [u8; 8] {
    keys::time(at).map(|byte| !byte)
}

fn foreign(what: &'static str) -> CallbackError {
    CallbackError::of(Failure::ForeignHandle(what))
}

fn unreadable(topic: &str) -> CallbackError {
    CallbackError::msg(format_args!("an entry of {topic} can't be read: was it written by something else?"))
}
