//! The context of a callback: its record, the group's state, and the calls that change state or emit.
//!
//! A [`Ctx`] stages everything on a `Stage`: nothing leaves it before the callback has returned `Ok` and every record
//! before it is done ([D7](crate::semantics#d7-effects-are-staged)). This module must never send, store or commit anything
//! itself.

mod core;
mod deferred;
mod emit;
mod pass_on;
mod pending_deletes;
mod stage;
mod state;
mod state_writes;
mod table;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub(crate) use self::core::{Core, OwnedRecord, Source, too_large};
pub use self::deferred::Deferred;
pub(crate) use self::deferred::DeferredEnd;
pub use self::emit::Emit;
pub(crate) use self::stage::{Blocker, LeftOutOf, Stage, Write};
pub(crate) use self::state_writes::{StateWrites, table_time};
use crate::codec::CodecError;
use crate::key::{FromKey, Key};
use crate::log::{Headers, RecordRef};
use crate::replica::ReplicaError;
use crate::store::StoreError;
use crate::topology::{AnyCodec, CallbackError, CodecOf, Failure, Join, Lookup, typed};

/// The context of a callback for one record. `S` is the type of the group's table: [`NoTable`](crate::group::NoTable) or
/// [`Table<V>`](crate::group::Table).
///
/// ```
/// use stream_core::Table;
/// use stream_core::prelude::*;
///
/// // A callback may be a function: the context names the table's type.
/// fn count(ctx: &mut Ctx<'_, Table<i64>>, word: String) -> CallbackResult {
///     if ctx.value_is_null() || ctx.headers().get("test").is_some() {
///         return Ok(());
///     }
///     let late = ctx.now_ms() - ctx.timestamp(); // both in milliseconds since the epoch
///     println!("{} {}[{}]@{}: {word}, {late} ms", ctx.group(), ctx.topic(), ctx.partition(), ctx.offset());
///     println!("key {:?}, as text {}", ctx.key(), ctx.key_text()?);
///     let n = ctx.value()?.unwrap_or(0);
///     ctx.set(n + 1)
/// }
///
/// let mut g = Group::define("counts").table(Int64);
/// g.input("words", Text, count);
/// # g.build()?;
/// # Ok::<(), BuildError>(())
/// ```
pub struct Ctx<'a, S> {
    pub(crate) core: &'a Core,
    pub(crate) source: Source<'a>,
    pub(crate) record: RecordRef<'a>,
    pub(crate) stage: &'a mut Stage,
    of: PhantomData<fn(S)>,
}

impl<'a, S> Ctx<'a, S> {
    pub(crate) fn new(core: &'a Core, source: Source<'a>, record: RecordRef<'a>, stage: &'a mut Stage) -> Self {
        Self { core, source, record, stage, of: PhantomData }
    }

    /// The record's key; `None` if it has none.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key
    }

    /// The record's key as text.
    ///
    /// # Errors
    /// When it has none, or it is not UTF-8.
    pub fn key_text(&self) -> Result<&'a str, CallbackError> {
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("key_text()")))?;
        std::str::from_utf8(key).map_err(|_| CallbackError::msg("the record's key is not UTF-8"))
    }

    /// The record's key as another type, such as [`BigEndian`](crate::key::BigEndian) or [`Sorted`](crate::key::Sorted).
    ///
    /// # Errors
    /// When it has none, or its bytes are no such key.
    pub fn key_as<K: FromKey>(&self) -> Result<K, CallbackError> {
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("key_as()")))?;
        K::from_key(key).map_err(|error| CallbackError::from(error).within("the record's key can't be read"))
    }

    /// The topic that the record came from.
    pub fn topic(&self) -> &'a str {
        self.source.topic
    }

    /// The partition of this task.
    pub fn partition(&self) -> i32 {
        self.core.partition
    }

    /// The record's offset; in a visitor and for a timer or a window, -1.
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// The record's event time in milliseconds since the epoch; a timer's due time; a closed window's last millisecond.
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp
    }

    /// The record's headers.
    pub fn headers(&self) -> Headers<'a> {
        self.record.headers
    }

    /// Whether the record's value is null (with [`NullValue::Pass`](crate::group::NullValue)).
    pub fn value_is_null(&self) -> bool {
        self.record.value.is_none()
    }

    /// The group's name.
    pub fn group(&self) -> &'a str {
        self.core.graph.name()
    }

    /// Wall-clock time in milliseconds since the epoch, by the log's clock.
    pub fn now_ms(&self) -> i64 {
        self.core.clock.now_ms()
    }

    /// The value that the joined table has for the record's own key; see
    /// [`GroupBuilder::join`](crate::group::GroupBuilder::join).
    ///
    /// # Errors
    /// When the record has no key, the value can't be decoded, or the store fails.
    pub fn join<T: 'static>(&mut self, table: Join<T>) -> Result<Option<T>, CallbackError> {
        let foreign = || CallbackError::of(Failure::ForeignHandle("join"));
        let edge = self.core.graph.joins.get(table.index).filter(|_| table.graph == self.core.graph.id);
        let (edge, store) = edge.zip(self.core.joins.get(table.index)).ok_or_else(foreign)?;
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("join()")))?;
        let bytes = store.get(key).map_err(|e| self.store_failed(e))?;
        self.decode_table(&edge.topic, &edge.codec, CodecOf::Join(table.index), bytes.as_deref())
    }

    /// The value that another table has for any key; see [`GroupBuilder::lookup`](crate::group::GroupBuilder::lookup).
    ///
    /// # Errors
    /// When the value can't be decoded, or the store fails.
    pub fn lookup<T: 'static>(&mut self, table: Lookup<T>, key: impl Key) -> Result<Option<T>, CallbackError> {
        let foreign = || CallbackError::of(Failure::ForeignHandle("lookup"));
        let edge = self.core.graph.lookups.get(table.index).filter(|_| table.graph == self.core.graph.id);
        let (edge, copy) = edge.zip(self.core.lookups.get(table.index)).ok_or_else(foreign)?;
        let key = key.bytes();
        let key = key.as_deref().ok_or_else(|| CallbackError::of(Failure::NoKey("lookup()")))?;
        let bytes = copy.get_bytes(key).map_err(|e| self.lookup_failed(table.index, &edge.topic, e))?;
        self.decode_table(&edge.topic, &edge.codec, CodecOf::Lookup(table.index), bytes.as_deref())
    }

    /// Notes that it is not the record that is at fault.
    pub(crate) fn store_failed(&mut self, error: StoreError) -> CallbackError {
        self.stage.blocker = Some(Blocker::Store(error.clone()));
        CallbackError::of(Failure::Store(error))
    }

    fn lookup_failed(&mut self, index: usize, table: &str, error: ReplicaError) -> CallbackError {
        let reason = error.to_string();
        self.stage.blocker = Some(match error {
            ReplicaError::Store(error) => Blocker::Store(error),
            ReplicaError::Restoring(_) => Blocker::Lookup(index),
            ReplicaError::Closed | ReplicaError::Failed(_) => Blocker::LookupEnded(index, reason.clone()),
        });
        CallbackError::of(Failure::Lookup { table: table.to_owned(), reason })
    }

    pub(crate) fn decode_table<T: 'static>(
        &mut self,
        topic: &str,
        codec: &Arc<dyn AnyCodec>,
        of: CodecOf,
        bytes: Option<&[u8]>,
    ) -> Result<Option<T>, CallbackError> {
        let Some(bytes) = bytes else { return Ok(None) };
        let codec = typed::<T>(codec).ok_or_else(|| CallbackError::of(Failure::ForeignHandle("table")))?;
        codec.decode(bytes).map(Some).map_err(|error| {
            if let CodecError::NotLoaded(id) = error {
                self.stage.blocker = Some(Blocker::Load(of, id));
            }
            CallbackError::of(Failure::DecodeTable { table: topic.to_owned(), error })
        })
    }

    /// Leaves the record open when the callback returns: its offset is not committed, and nothing that it did is
    /// released, before [`Deferred::done`] is called, from any thread. May be called more than once a record; all must
    /// be done.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// # fn write(line: &str) -> Result<(), std::io::Error> { Ok(()) }
    /// let mut g = Group::define("written");
    /// g.input("lines", Text, |ctx, line| {
    ///     let deferred = ctx.defer();
    ///     std::thread::spawn(move || match write(&line) {
    ///         Ok(()) => deferred.done(),
    ///         Err(error) => deferred.fail(error), // the input's error policy follows
    ///     });
    ///     Ok(())
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn defer(&mut self) -> Deferred {
        let slot = *self.stage.slot.get_or_insert_with(|| self.core.next_work_id());
        self.stage.deferred += 1;
        Deferred::new(slot, self.core.deferrals.clone())
    }
}

impl<S> fmt::Debug for Ctx<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ctx({}[{}]@{})", self.source.topic, self.core.partition, self.record.offset)
    }
}
