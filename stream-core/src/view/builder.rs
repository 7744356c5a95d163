//! Opening a view: its topic is checked, its stores opened, its updater started.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;

use super::error::ViewError;
use super::{Inner, View};
use crate::codec::Codec;
use crate::log::{Isolation, LogHandle, Partitioner, TopicInfo};
use crate::replica::{Listener, Listeners, ReplicaUpdater, TableReplica, UpdaterOptions, Updates};
use crate::store::{SledStores, StoreBackend, StoreError, StoreId};
use crate::topics::{expires, wait};
use crate::workers::Workers;

/// A view to be opened. Made by [`View::builder`].
#[must_use = "a view does nothing before open()"]
pub struct ViewBuilder<V> {
    topic: Arc<str>,
    codec: Arc<dyn Codec<V>>,
    log: LogHandle,
    state_dir: PathBuf,
    stores: Option<Arc<dyn StoreBackend>>,
    partitioner: Partitioner,
    options: UpdaterOptions,
    wait_for_topic: Duration,
    here: bool,
    listeners: Vec<Listener<V>>,
}

impl<V: 'static> ViewBuilder<V> {
    pub(super) fn new(topic: Arc<str>, codec: Arc<dyn Codec<V>>, log: LogHandle) -> Self {
        Self {
            topic,
            codec,
            log,
            state_dir: PathBuf::from("state"),
            stores: None,
            partitioner: Partitioner::default(),
            options: UpdaterOptions::default(),
            wait_for_topic: Duration::from_secs(30),
            here: false,
            listeners: Vec::new(),
        }
    }

    /// Where the stores lie: in `views/<topic>/` below this directory, so that views and processors of one process can
    /// share it. Two views of one topic can't; that is [`StoreError::Locked`]. Default: `state`.
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = dir.into();
        self
    }

    /// Stores of another kind, such as [`MemoryStores`](crate::store::MemoryStores). They must not be shared with a
    /// processor or another view.
    pub fn stores(mut self, stores: Arc<dyn StoreBackend>) -> Self {
        self.stores = Some(stores);
        self
    }

    /// How who writes the table chooses partitions; default as Java clients do. Reads are right whatever is set here,
    /// but cheaper if it fits.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// How often it is recorded how far the stores are; default 10 s. After a crash, up to this much is read again.
    pub fn checkpoint_interval(mut self, every: Duration) -> Self {
        self.options.checkpoint = every;
        self
    }

    /// How often the log is asked how the topic is: so soon an outage is seen in the state; default 10 s.
    pub fn check_interval(mut self, every: Duration) -> Self {
        self.options.probe = every;
        self
    }

    /// How long to wait for the topic, which its own group makes; default 30 s.
    pub fn wait_for_topic(mut self, bound: Duration) -> Self {
        self.wait_for_topic = bound;
        self
    }

    /// Runs the view on the runtime that opens it, instead of a separate thread: for simulations, and tests on a
    /// paused clock. Its writes to the store block that runtime for moments.
    pub fn on_this_runtime(mut self) -> Self {
        self.here = true;
        self
    }

    /// Calls a listener with each change of a complete partition, once it can be read: the partition, the key, and the
    /// new value, `None` if it was deleted. Not called for what a restore brings. Changes that are missed during
    /// an outage follow afterwards. It must not block, for the view waits for it.
    pub fn on_update(mut self, listener: impl Fn(i32, &[u8], Option<&V>) + Send + Sync + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Opens the view. It is restored meanwhile and afterwards: see [`View::wait_caught_up`].
    ///
    /// # Errors
    /// When the topic does not exist or is not compacted, or the stores can't be opened.
    pub async fn open(self) -> Result<View<V>, ViewError> {
        let info = self.find_topic().await?;
        if let Some((problem, remedy)) = expires(&info, self.log.brokers()) {
            return Err(ViewError::Topic { topic: Arc::clone(&self.topic), problem, remedy });
        }
        let prepared = self.codec.prepare(&self.topic).await;
        prepared.map_err(|error| ViewError::Codec { topic: Arc::clone(&self.topic), error })?;
        let backend = self.backend().map_err(|e| ViewError::store(&self.topic, e))?;
        let replica = TableReplica::open(&info, &*backend, self.codec.name(), self.partitioner);
        let replica = Arc::new(replica.map_err(|e| ViewError::store(&self.topic, e))?);
        let (codec, topic) = (Arc::clone(&self.codec), Arc::clone(&self.topic));
        let listeners = (!self.listeners.is_empty())
            .then(|| Arc::new(Listeners { codec, topic, all: self.listeners }) as Arc<dyn Updates>);
        let reader = self.log.reader(Isolation::ReadCommitted);
        let reader = reader.map_err(|e| ViewError::log(&self.topic, "make a reader", e))?;
        let (updater, work) =
            ReplicaUpdater::new(Arc::clone(&replica), &self.log, reader, &info, listeners, self.options);
        if self.here {
            tokio::spawn(work);
        } else {
            spawn_thread(&self.topic, work)?;
        }
        Ok(View { inner: Arc::new(Inner { replica, codec: self.codec, updater: Mutex::new(Some(updater)) }) })
    }

    fn backend(&self) -> Result<Arc<dyn StoreBackend>, StoreError> {
        if let Some(stores) = &self.stores {
            return Ok(Arc::clone(stores));
        }
        Ok(Arc::new(SledStores::open_dir(self.state_dir.join("views").join(&*self.topic))?))
    }

    async fn find_topic(&self) -> Result<TopicInfo, ViewError> {
        let topic = &self.topic;
        let found = wait::for_topics(&self.log, std::slice::from_ref(topic), self.wait_for_topic, "a view").await;
        let found = found.map_err(|e| ViewError::log(topic, "look the topic up", e))?;
        found.ok().and_then(|found| found.into_iter().next()).ok_or_else(|| ViewError::Topic {
            topic: Arc::clone(topic),
            problem: format!("table topic {topic} does not exist"),
            remedy: "start the group that owns it first, or create the topic with cleanup.policy=compact".to_owned(),
        })
    }
}

/// Does the work on its own thread: a store's writes may wait for the disk, which would hold up whatever shares
/// the thread.
fn spawn_thread(topic: &Arc<str>, work: BoxFuture<'static, ()>) -> Result<(), ViewError> {
    let failed = |e: std::io::Error| ViewError::Thread { topic: Arc::clone(topic), error: Arc::new(e) };
    let thread = Workers::threads(&format!("view-{topic}"), 1).map_err(failed)?;
    thread.spawn(0, Box::new(move || work));
    Ok(())
}

impl TableReplica {
    /// Opens the stores of all partitions of a table.
    pub(crate) fn open(
        info: &TopicInfo,
        stores: &dyn StoreBackend,
        codec: &str,
        partitioner: Partitioner,
    ) -> Result<Self, StoreError> {
        let open = |p| stores.open(&StoreId::new(Arc::clone(&info.name), p), codec);
        let opened = (0..info.partitions).map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(Arc::clone(&info.name), opened, partitioner))
    }
}
