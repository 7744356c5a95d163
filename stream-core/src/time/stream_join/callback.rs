//! The callbacks behind a join of two topics: a record that arrives on a side, one that stays without a match, and one that
//! is sent on under another key.
//!
//! Due work comes before a record that arrives, so that whatever a side still keeps may be matched.

use std::sync::Arc;

use super::buffer::Kept;
use super::keys::{self as join_keys, Place};
use crate::codec::{Bytes, Codec, CodecError};
use crate::context::{Core, Ctx, Source, Stage};
use crate::group::around::Layer;
use crate::group::callback::{SyncHandler, Timed, decode, event_time, event_time_of};
use crate::log::RecordRef;
use crate::topology::{CallbackError, CallbackResult, CodecOf, Failure, TableId};
use crate::window::{JoinWindows, Nulls, Which};

/// The header in which a record that is sent on under another key has its [arrival](join_keys::arrival): one that is sent
/// twice after a crash is the same record.
const ARRIVAL: &str = "join-arrival";

/// Appends a message's key.
pub(super) type KeyOf<M> = Box<dyn Fn(&M, &mut Vec<u8>) + Send + Sync>;

type Call<L, R, S> = Box<dyn Fn(&mut Ctx<'_, S>, Option<&L>, Option<&R>) -> CallbackResult + Send + Sync>;

/// The definition of a join that both sides share.
pub(super) struct Both<L, R, S> {
    pub(super) windows: JoinWindows,
    /// Index of its table.
    pub(super) table: TableId,
    pub(super) nulls: Nulls,
    pub(super) left: SideOf<L>,
    pub(super) right: SideOf<R>,
    pub(super) call: Call<L, R, S>,
}

pub(super) struct SideOf<M> {
    pub(super) which: Which,
    /// Its records come by a topic of the group's own.
    pub(super) re_keyed: bool,
    /// The input that its records arrive by.
    pub(super) input: usize,
    pub(super) codec: Arc<dyn Codec<M>>,
    /// The callback is called for a record of it that has no match.
    pub(super) outer: bool,
}

impl<M> SideOf<M> {
    /// The number that distinguishes a record from others of its key and time.
    fn arrival(&self, record: RecordRef<'_>) -> i64 {
        let sent = record.headers.get(ARRIVAL).filter(|_| self.re_keyed);
        sent.and_then(|bytes| bytes.try_into().ok()).map_or(record.offset, i64::from_be_bytes)
    }
}

/// A join seen from one of its sides.
pub(super) trait Half: Send + Sync {
    type S: 'static;
    type Mine: 'static;
    type Other: 'static;

    fn windows(&self) -> (JoinWindows, Nulls);
    fn table(&self) -> TableId;
    fn mine(&self) -> &SideOf<Self::Mine>;
    fn other(&self) -> &SideOf<Self::Other>;
    fn call(&self, ctx: &mut Ctx<'_, Self::S>, mine: &Self::Mine, other: Option<&Self::Other>) -> CallbackResult;
}

pub(super) struct LeftOf<L, R, S>(pub(super) Arc<Both<L, R, S>>);
pub(super) struct RightOf<L, R, S>(pub(super) Arc<Both<L, R, S>>);

macro_rules! half {
    ($half:ident, $mine:ident of $M:ident, $other:ident of $O:ident, |$m:ident, $o:ident| $args:tt) => {
        impl<L: 'static, R: 'static, S: 'static> Half for $half<L, R, S> {
            type S = S;
            type Mine = $M;
            type Other = $O;

            fn windows(&self) -> (JoinWindows, Nulls) {
                (self.0.windows, self.0.nulls)
            }
            fn table(&self) -> TableId {
                self.0.table
            }
            fn mine(&self) -> &SideOf<$M> {
                &self.0.$mine
            }
            fn other(&self) -> &SideOf<$O> {
                &self.0.$other
            }
            fn call(&self, ctx: &mut Ctx<'_, S>, $m: &$M, $o: Option<&$O>) -> CallbackResult {
                let (left, right) = $args;
                (self.0.call)(ctx, left, right)
            }
        }
    };
}
half!(LeftOf, left of L, right of R, |mine, other| (Some(mine), other));
half!(RightOf, right of R, left of L, |mine, other| (other, Some(mine)));

/// Calls a half's callback, with what is around it.
fn call<'a, H: Half>(
    half: &'a H,
    layer: Option<&'a Layer>,
    mut ctx: Ctx<'a, H::S>,
    mine: &H::Mine,
    other: Option<&H::Other>,
) -> CallbackResult {
    Layer::call(layer, &mut ctx, |ctx| half.call(ctx, mine, other))
}

/// A record arrives on a side.
pub(super) struct Arrival<H>(pub(super) H, pub(super) Option<Layer>);

impl<H: Half> Timed for Arrival<H> {
    fn event_time(&self, core: &Core, input: usize, record: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        event_time_of(&self.0.mine().codec, core, input, record)
    }

    fn surround(&mut self, layer: Layer) {
        self.1 = Some(layer);
    }
}

impl<H: Half> SyncHandler for Arrival<H> {
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        let (mine, (windows, nulls)) = (self.0.mine(), self.0.windows());
        if record.value.is_none() {
            let at = event_time(&mine.codec, None, core, source.input, record)?;
            stage.arrive(at, record)?;
            stage.left_out.null_value += 1;
            return Ok(());
        }
        let message = decode(&mine.codec, record.value, CodecOf::Input(source.input), stage)?;
        let at = event_time(&mine.codec, Some(&message), core, source.input, record)?;
        let record = stage.arrive(at, record)?;
        if windows.kept_until(mine.which, record.timestamp) < stage.time {
            stage.left_out.late += 1;
            return Ok(());
        }
        let Some(key) = record.key else {
            if mine.outer {
                return call(&self.0, self.1.as_ref(), Ctx::new(core, source, record, stage), &message, None);
            }
            stage.left_out.null_key += 1;
            return Ok(());
        };
        let kept = self.keep(core, record, key, stage)?;
        for found in &kept {
            let theirs = self.read_kept(core, found, stage)?;
            let timestamp = record.timestamp.max(found.time);
            stage.at = timestamp;
            let record = RecordRef { timestamp, ..record };
            call(&self.0, self.1.as_ref(), Ctx::new(core, source, record, stage), &message, Some(&theirs))?;
        }
        if kept.is_empty() && mine.outer && nulls == Nulls::Eager {
            call(&self.0, self.1.as_ref(), Ctx::new(core, source, record, stage), &message, None)?;
        }
        Ok(())
    }
}

impl<H: Half> Arrival<H> {
    /// A record of the other side. That it can't be decoded is no fault of the one that arrives.
    fn read_kept(&self, core: &Core, found: &Kept, stage: &mut Stage) -> Result<H::Other, CallbackError> {
        let other = self.0.other();
        decode(&other.codec, Some(&found.value), CodecOf::Input(other.input), stage).map_err(|error| {
            match (error.failure(), core.graph.tables.get(self.0.table())) {
                (Failure::Decode(error @ CodecError::Invalid(_)), Some(table)) => {
                    CallbackError::of(Failure::DecodeTable { table: table.topic.to_string(), error: error.clone() })
                }
                _ => error,
            }
        })
    }

    /// Keeps the record, and notes of what it matches that there is a match. Gives those in the order of their times.
    fn keep(
        &self,
        core: &Core,
        record: RecordRef<'_>,
        key: &[u8],
        stage: &mut Stage,
    ) -> Result<Vec<Kept>, CallbackError> {
        let (mine, other, table) = (self.0.mine(), self.0.other(), self.0.table());
        let (windows, nulls) = self.0.windows();
        let null_on_close = |side_outer: bool| side_outer && nulls == Nulls::OnClose;
        let (from, to) = windows.matching(mine.which, record.timestamp);
        // What is closed is kept no longer, though a copy may still have it.
        let from = from.max(windows.first_kept(other.which, stage.time));
        let theirs = |time, arrival| Place { side: other.which, key, time, arrival };
        let kept = core.kept(table, theirs(from, 0), to).map_err(|e| stage.store_failed(e))?;

        let place = Place { side: mine.which, key, time: record.timestamp, arrival: mine.arrival(record) };
        let mut scratch = std::mem::take(&mut stage.spare);
        // A record that is done again after a crash may have found a match that is closed by now. With at-least-once
        // delivery nothing is settled before its match is acknowledged.
        let is_matched = !kept.is_empty();
        let open = null_on_close(mine.outer)
            && !(core.atomic && is_matched)
            && core.came_open(table, place, &mut scratch).map_err(|e| stage.store_failed(e))?;
        stage.keep(core, table, place, record.value.unwrap_or_default(), open, &mut scratch)?;
        if open && is_matched && !core.is_marked(table, place, &mut scratch).map_err(|e| stage.store_failed(e))? {
            stage.settle(table, place, &mut scratch);
        }
        for found in kept.iter().filter(|found| found.open && null_on_close(other.outer)) {
            let place = theirs(found.time, found.arrival);
            if !core.is_marked(table, place, &mut scratch).map_err(|e| stage.store_failed(e))? {
                stage.settle(table, place, &mut scratch);
            }
        }
        stage.spare = scratch;
        Ok(kept)
    }
}

/// A record that is kept has no match, and none can come any more.
pub(super) struct Null<H>(pub(super) H, pub(super) Option<Layer>);

impl<H: Half> Timed for Null<H> {
    fn event_time(&self, _: &Core, _: usize, record: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        Ok(Some(record.timestamp))
    }

    fn surround(&mut self, layer: Layer) {
        self.1 = Some(layer);
    }
}

impl<H: Half> SyncHandler for Null<H> {
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        let mine = self.0.mine();
        let message = decode(&mine.codec, record.value, CodecOf::Input(mine.input), stage)?;
        call(&self.0, self.1.as_ref(), Ctx::new(core, source, record, stage), &message, None)
    }
}

/// Sends a side's records on under the keys that they are joined by. The join is elsewhere: stream time does not move here.
pub(super) struct ReKey<M> {
    pub(super) codec: Arc<dyn Codec<M>>,
    pub(super) key: KeyOf<M>,
    /// Index of the output to its topic.
    pub(super) output: usize,
    pub(super) outer: bool,
}

impl<M> Timed for ReKey<M> {
    fn event_time(&self, _: &Core, _: usize, _: RecordRef<'_>) -> Result<Option<i64>, CallbackError> {
        Ok(None)
    }

    /// Its records are sent on before any callback.
    fn surround(&mut self, _: Layer) {}
}

impl<M: 'static> SyncHandler for ReKey<M> {
    fn call(&self, core: &Core, source: Source<'_>, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        if record.value.is_none() {
            event_time(&self.codec, None, core, source.input, record)?;
            stage.left_out.null_value += 1;
            return Ok(());
        }
        let message = decode(&self.codec, record.value, CodecOf::Input(source.input), stage)?;
        let at = event_time(&self.codec, Some(&message), core, source.input, record)?;
        let timestamp = at.unwrap_or(record.timestamp);
        stage.at = timestamp;
        let mut key = std::mem::take(&mut stage.spare);
        key.clear();
        (self.key)(&message, &mut key);
        let sent = match key.as_slice() {
            [] if !self.outer => {
                stage.left_out.null_key += 1;
                Ok(())
            }
            key => self.send(core, RecordRef { key: (!key.is_empty()).then_some(key), timestamp, ..record }, stage),
        };
        stage.spare = key;
        sent
    }
}

impl<M> ReKey<M> {
    fn send(&self, core: &Core, record: RecordRef<'_>, stage: &mut Stage) -> CallbackResult {
        // One without a key stays where it is.
        let partition = record.key.is_none().then_some(core.partition);
        let arrival = join_keys::arrival(core.partition, record.offset).to_be_bytes();
        let headers = record.headers.iter().filter(|(name, _)| *name != ARRIVAL);
        let headers = headers.chain([(ARRIVAL, Some(arrival.as_slice()))]);
        core.pass_on(stage, self.output, partition, record, headers)
    }
}

/// The bytes of a join's table, by the names of the two codecs: what one of other codecs has written is refused.
pub(super) struct JoinCodec(String);

impl JoinCodec {
    pub(super) fn of(left: &str, right: &str) -> Self {
        Self(format!("join:v2 of {left} and {right}"))
    }
}

impl Codec<Vec<u8>> for JoinCodec {
    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Bytes.encode(value, out)
    }
    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Bytes.decode(bytes)
    }
    fn name(&self) -> &str {
        &self.0
    }
}
