//! Typed scans of a view.

use std::fmt;

use super::error::ViewError;
use super::{Inner, View};
use crate::replica::{Merge, decode_loading};
use crate::store::{Direction, Pair};

/// A key of a view and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row<V> {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: V,
}

impl<V> Row<V> {
    /// The key as text; what is not UTF-8 in it is replaced.
    pub fn key_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// Rows of all partitions in key order. Nothing is read before the first is asked for; then one row at a time.
///
/// Keys that change while it runs may be seen as they were or as they are. A value that can't be decoded is an error
/// of its row only; any other error ends the scan.
#[must_use = "nothing is read before the first row is asked for"]
pub struct Rows<'v, V> {
    inner: &'v Inner<V>,
    pairs: Merge<'v>,
}

impl<'v, V: 'static> Rows<'v, V> {
    pub(super) fn new(view: &'v View<V>, pairs: Merge<'v>) -> Self {
        Self { inner: &view.inner, pairs }
    }

    /// The same rows from the largest key down. Call it before the first row is asked for; later it does nothing.
    pub fn descending(mut self) -> Self {
        self.pairs.direct(Direction::Reverse);
        self
    }

    /// The next row, like [`next`](Iterator::next), but what its value needs is loaded: for codecs such as Avro.
    pub async fn next_loading(&mut self) -> Option<Result<Row<V>, ViewError>> {
        match self.next_pair()? {
            Ok((key, bytes)) => Some(match decode_loading(&*self.inner.codec, &bytes).await {
                Ok(value) => Ok(Row { key, value }),
                Err(error) => Err(ViewError::decode(self.inner.topic(), &key, error)),
            }),
            Err(error) => Some(Err(error)),
        }
    }

    fn next_pair(&mut self) -> Option<Result<Pair, ViewError>> {
        Some(self.pairs.next()?.map_err(|e| ViewError::copy(self.inner.topic(), e)))
    }
}

impl<V: 'static> Iterator for Rows<'_, V> {
    type Item = Result<Row<V>, ViewError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_pair()?.and_then(|(key, bytes)| match self.inner.codec.decode(&bytes) {
            Ok(value) => Ok(Row { key, value }),
            Err(error) => Err(ViewError::decode(self.inner.topic(), &key, error)),
        }))
    }
}

impl<V> fmt::Debug for Rows<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}
