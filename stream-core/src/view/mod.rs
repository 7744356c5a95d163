//! Views: a read-only full copy of a table outside of a processor.
//!
//! ```no_run
//! # use stream_core::{codec::Text, log::embedded::InMemory, view::View};
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! # let log = InMemory::new();
//! let names = View::builder("users-table", Text, log).open().await?;
//! names.wait_caught_up().await?;
//! if let Some(name) = names.get("u-1")? {
//!     println!("{name}");
//! }
//! for row in names.prefix("u-").descending().take(10) {
//!     println!("{}", row?.value);
//! }
//! names.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A view runs on its own thread, because stores may wait for the disk; reads run on the caller's thread and go straight to
//! the stores. While the log is away the view serves what it has, and recovers without help.
//!
//! The engine below is `replica`, which lookups inside of a processor share. Nothing here may write to a topic.

mod builder;
mod error;
mod rows;

use std::fmt;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use self::builder::ViewBuilder;
pub use self::error::ViewError;
pub use self::rows::{Row, Rows};
use crate::codec::Codec;
use crate::log::LogHandle;
use crate::replica::{ReplicaUpdater, TableReplica, decode_loading, prefix_bounds};
pub use crate::replica::{ViewProgress, ViewState, ViewStatus};
use crate::store::Direction;

/// A read-only full copy of a table. Clones are the same view; it ends, with a last checkpoint, once all are dropped or
/// one is [`close`](Self::close)d.
///
/// ```no_run
/// # use stream_core::prelude::*;
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// # let log = InMemory::new();
/// let counts = View::builder("counts-table", Int64, log).state_dir("state").open().await?;
/// counts.wait_caught_up().await?;
/// let apples: Option<i64> = counts.get("apple")?;
/// let seen = counts.has("pear")?;
/// for row in counts.range("a".."c").chain(counts.prefix("user-")) {
///     let row = row?;
///     println!("{}: {}", String::from_utf8_lossy(&row.key), row.value);
/// }
/// println!("{} has {} rows", counts.topic(), counts.iter().count());
/// counts.close().await;
/// # Ok(())
/// # }
/// ```
pub struct View<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    replica: Arc<TableReplica>,
    codec: Arc<dyn Codec<V>>,
    /// `None` once it is closed.
    updater: Mutex<Option<ReplicaUpdater>>,
}

impl<V> Inner<V> {
    fn topic(&self) -> &Arc<str> {
        self.replica.topic()
    }
}

impl<V: 'static> View<V> {
    /// A view of a table topic, such as `<group>-table`, with the codec that the table is written with.
    pub fn builder(topic: impl Into<Arc<str>>, codec: impl Codec<V>, log: LogHandle) -> ViewBuilder<V> {
        ViewBuilder::new(topic.into(), Arc::new(codec), log)
    }

    /// The table's topic.
    pub fn topic(&self) -> &str {
        self.inner.topic()
    }

    /// The value of a key; reads the store and decodes, no more.
    ///
    /// # Errors
    /// [`ViewError::Restoring`] when the answer is not known yet, and what can go wrong with a store or a value. With a
    /// codec that has to load something for some values, as Avro's, also [`ViewError::NotLoaded`]: use
    /// [`get_loading`](Self::get_loading).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<V>, ViewError> {
        let Some(bytes) = self.bytes(key.as_ref())? else { return Ok(None) };
        let decoded = self.inner.codec.decode(&bytes);
        decoded.map(Some).map_err(|e| ViewError::decode(self.inner.topic(), key.as_ref(), e))
    }

    /// As [`get`](Self::get), and loads what the value needs. Waits only then.
    ///
    /// # Errors
    /// As [`get`](Self::get), or when it can't be loaded.
    pub async fn get_loading(&self, key: impl AsRef<[u8]>) -> Result<Option<V>, ViewError> {
        let Some(bytes) = self.bytes(key.as_ref())? else { return Ok(None) };
        let decoded = decode_loading(&*self.inner.codec, &bytes).await;
        decoded.map(Some).map_err(|e| ViewError::decode(self.inner.topic(), key.as_ref(), e))
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`get`](Self::get), but for the value.
    pub fn has(&self, key: impl AsRef<[u8]>) -> Result<bool, ViewError> {
        Ok(self.bytes(key.as_ref())?.is_some())
    }

    fn bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.inner.replica.get_bytes(key).map_err(|e| ViewError::copy(self.inner.topic(), e))
    }

    /// All rows, in byte order of the keys.
    pub fn iter(&self) -> Rows<'_, V> {
        self.range::<&[u8]>(..)
    }

    /// The rows of a range of keys, in byte order: `view.range("a".."c")`.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Rows<'_, V> {
        let owned = |bound: std::ops::Bound<&K>| bound.map(|key| key.as_ref().to_vec());
        let (from, to) = (owned(range.start_bound()), owned(range.end_bound()));
        Rows::new(self, self.inner.replica.scan(from, to, Direction::Forward))
    }

    /// The rows whose key begins with a prefix, in byte order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Rows<'_, V> {
        let (from, to) = prefix_bounds(prefix.as_ref());
        Rows::new(self, self.inner.replica.scan(from, to, Direction::Forward))
    }

    /// Whether every partition has reached the topic's end since it was begun and follows it.
    pub fn caught_up(&self) -> bool {
        self.status().state == ViewState::Running
    }

    /// Resolves once the view is [`caught_up`](Self::caught_up).
    ///
    /// # Errors
    /// When the view fails or is closed before.
    pub async fn wait_caught_up(&self) -> Result<(), ViewError> {
        let mut status = self.watch();
        let over = |s: &ViewStatus| matches!(s.state, ViewState::Running | ViewState::Failed | ViewState::Closed);
        let status = status.wait_for(over).await.map(|s| s.clone());
        match status {
            Ok(ViewStatus { state: ViewState::Running, .. }) => Ok(()),
            Ok(ViewStatus { state: ViewState::Failed, reason }) => Err(ViewError::Failed {
                topic: Arc::clone(self.inner.topic()),
                reason: reason.as_deref().unwrap_or("for no known reason").to_owned(),
            }),
            _ => Err(ViewError::Closed { topic: Arc::clone(self.inner.topic()) }),
        }
    }

    /// The present status of the view.
    pub fn status(&self) -> ViewStatus {
        self.watch().borrow().clone()
    }

    /// The status of the view, to be awaited.
    pub fn watch(&self) -> watch::Receiver<ViewStatus> {
        self.inner.replica.status()
    }

    /// How far each partition is.
    pub fn progress(&self) -> Vec<ViewProgress> {
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let each = self.inner.replica.partitions().iter().map(|copy| ViewProgress {
            partition: copy.partition.clone(),
            complete: copy.is_complete(),
            position: known(copy.position()),
            end: known(copy.end()),
        });
        each.collect()
    }

    /// Ends the view: records how far it is and stops following. Reads by other clones are [`ViewError::Closed`] from
    /// now on. The stores, and with them the state directory, are free once all clones are dropped as well.
    pub async fn close(self) {
        let updater = self.inner.updater.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(updater) = updater {
            updater.close().await;
        }
    }
}

impl<'v, V: 'static> IntoIterator for &'v View<V> {
    type Item = Result<Row<V>, ViewError>;
    type IntoIter = Rows<'v, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<V> Clone for View<V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<V> fmt::Debug for View<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.inner.replica.status();
        write!(f, "View({}, {:?})", self.inner.topic(), status.borrow().state)
    }
}
