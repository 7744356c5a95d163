//! Operations of a callback on its key's value in the group's table.

use super::{Ctx, Write, too_large};
use crate::codec::{ValueOf, encode_state};
use crate::topology::{CallbackError, CallbackResult, CodecOf, Failure, HasTable, TableId, typed};

impl<S> Ctx<'_, S> {
    /// The table's value for the record's key, with what this callback itself has set.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// // The last word of each key, until an empty one comes.
    /// let mut g = Group::define("last").table(Text);
    /// g.input("words", Text, |ctx, word| {
    ///     if word.is_empty() && ctx.has_value()? {
    ///         return ctx.delete();
    ///     }
    ///     println!("{:?} is followed by {word}", ctx.value()?);
    ///     ctx.set(word)
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// When the record has no key, the value can't be decoded, or the store fails.
    pub fn value<V: 'static>(&mut self) -> Result<Option<V>, CallbackError>
    where
        // Not as `S::Value` in the signature, so that without a table the error says what to do.
        S: HasTable<Value = V>,
    {
        let Some(edge) = &self.core.graph.tables.group else { return Ok(None) };
        let of = CodecOf::Table(TableId::GROUP);
        match self.stage.write {
            Write::Delete => Ok(None),
            Write::Set => {
                let bytes = std::mem::take(&mut self.stage.value);
                let value = self.decode_table(&edge.topic, &edge.codec, of, Some(&bytes));
                self.stage.value = bytes;
                value
            }
            Write::None => {
                let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("value()")))?;
                let core = self.core;
                let value = core.with_table_value(key, |bytes| self.decode_table(&edge.topic, &edge.codec, of, bytes));
                value.map_err(|e| self.store_failed(e))?
            }
        }
    }

    /// Whether the table has a value for the record's key.
    ///
    /// # Errors
    /// When the record has no key, or the store fails.
    pub fn has_value(&mut self) -> Result<bool, CallbackError>
    where
        S: HasTable,
    {
        match self.stage.write {
            Write::Delete => Ok(false),
            Write::Set => Ok(true),
            Write::None => {
                let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("has_value()")))?;
                self.core.with_table_value(key, |bytes| bytes.is_some()).map_err(|e| self.store_failed(e))
            }
        }
    }

    /// Sets the table's value for the record's key; see [`value`](Self::value). A null
    /// ([`Nullable`](crate::codec::Nullable)) removes the key.
    ///
    /// # Errors
    /// When the record has no key, or the value can't be encoded or is larger than the table's topic takes.
    pub fn set(&mut self, value: impl ValueOf<S::Value>) -> CallbackResult
    where
        S: HasTable,
    {
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("set()")))?;
        let Some(edge) = &self.core.graph.tables.group else { return Ok(()) };
        let Some(codec) = typed::<S::Value>(&edge.codec) else {
            return Err(CallbackError::of(Failure::ForeignHandle("table")));
        };
        if value.is_null_by(&**codec) {
            self.stage.write = Write::Delete;
            return Ok(());
        }
        // What was set before must survive a value that can't be encoded, for the callback may go on.
        let mut bytes = std::mem::take(&mut self.stage.spare);
        bytes.clear();
        let encoded = encode_state(&**codec, &value, &mut bytes);
        let (size, limit) = (key.len() + bytes.len(), self.core.table_limit(TableId::GROUP));
        if encoded.is_ok() && size <= limit {
            std::mem::swap(&mut self.stage.value, &mut bytes);
            self.stage.write = Write::Set;
        }
        self.stage.spare = bytes;
        encoded
            .map_err(|error| CallbackError::of(Failure::Encode { edge: format!("table {:?}", edge.topic), error }))?;
        if size > limit {
            let error = too_large(&edge.topic, size, limit);
            return Err(CallbackError::of(Failure::Emit(error)));
        }
        Ok(())
    }

    /// Changes the table's value for the record's key: reads it, gives it to `change` (`None` if there is none), and sets what
    /// comes of it.
    ///
    /// ```
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("counts").table(Int64);
    /// g.input("words", Text, |ctx, _word| ctx.update(|n| n.unwrap_or(0) + 1));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Errors
    /// As [`value`](Self::value) and [`set`](Self::set).
    pub fn update<V, N>(&mut self, change: impl FnOnce(Option<V>) -> N) -> CallbackResult
    where
        V: 'static,
        S: HasTable<Value = V>,
        N: ValueOf<V>,
    {
        let value = self.value()?;
        self.set(change(value))
    }

    /// Removes the record's key from the table; see [`value`](Self::value).
    ///
    /// # Errors
    /// When the record has no key.
    pub fn delete(&mut self) -> CallbackResult
    where
        S: HasTable,
    {
        if self.record.key.is_none() {
            return Err(CallbackError::of(Failure::NoKey("delete()")));
        }
        self.stage.write = Write::Delete;
        Ok(())
    }
}
