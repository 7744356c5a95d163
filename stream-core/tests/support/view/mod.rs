//! What the tests of views and lookups share: a log with a table topic, and a line to it that can be cut.
#![allow(dead_code, reason = "each test file uses a part")]

mod line;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::line::Line;
use stream_core::clock::ManualClock;
use stream_core::codec::Text;
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    Cleanup, LogHandle, NewRecord, ProduceBatch, Producer, ProducerOptions, TopicConfig, TopicSpec,
};
use stream_core::store::{MemoryStores, StoreBackend};
use stream_core::view::{Row, Rows, View, ViewBuilder, ViewError, ViewState};

pub(crate) const TABLE: &str = "people-table";
pub(crate) const RETENTION_MS: i64 = 3_600_000;

/// A log with a table topic, a producer, and stores that outlive views.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) embedded: Arc<InMemory>,
    pub(crate) log: LogHandle,
    pub(crate) stores: Arc<MemoryStores>,
    producer: Arc<dyn Producer>,
}

impl World {
    pub(crate) async fn new(partitions: i32) -> Self {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let embedded = InMemory::with_clock(Arc::clone(&clock) as _);
        let log: LogHandle = Arc::clone(&embedded) as _;
        let producer = log.producer(ProducerOptions::default()).await.unwrap();
        let world = Self { clock, embedded, log, stores: Arc::new(MemoryStores::new()), producer };
        world.make_table(partitions).await;
        world
    }

    pub(crate) async fn make_table(&self, partitions: i32) {
        self.make(TABLE, partitions, Some(Cleanup::Compact)).await;
    }

    pub(crate) async fn make(&self, topic: &str, partitions: i32, cleanup: Option<Cleanup>) {
        let config = TopicConfig::new().cleanup(cleanup).delete_retention_ms(RETENTION_MS);
        self.log.create_topics(vec![TopicSpec::new(topic).partitions(partitions).config(config)]).await.unwrap();
    }

    /// Writes to the table; `None` deletes.
    pub(crate) async fn put(&self, pairs: &[(&str, Option<&str>)]) {
        self.put_to(TABLE, None, pairs).await;
    }

    pub(crate) async fn put_to(&self, topic: &str, partition: Option<i32>, pairs: &[(&str, Option<&str>)]) {
        let topic: Arc<str> = topic.into();
        let mut batch = ProduceBatch::new();
        for (key, value) in pairs {
            let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
            batch.push(NewRecord { topic: &topic, partition, timestamp: None, key, value }, std::iter::empty());
        }
        let delivery = self.producer.send(Arc::new(batch)).await;
        assert!(delivery.failed.is_empty(), "{:?}", delivery.failed);
    }

    /// A view of the table that asks the log how it is all the time.
    pub(crate) fn view(&self) -> ViewBuilder<String> {
        self.view_on(Arc::clone(&self.log))
    }

    pub(crate) fn view_on(&self, log: LogHandle) -> ViewBuilder<String> {
        let stores = Arc::clone(&self.stores) as Arc<dyn StoreBackend>;
        let view = View::builder(TABLE, Text, log).stores(stores).wait_for_topic(Duration::ZERO);
        view.check_interval(Duration::from_millis(10))
    }

    /// An open view that has everything.
    pub(crate) async fn open(&self) -> View<String> {
        caught_up(self.view().open().await.unwrap()).await
    }
}

pub(crate) async fn caught_up(view: View<String>) -> View<String> {
    within(view.wait_caught_up()).await.unwrap();
    view
}

/// Bounds a wait, so that what never happens is a failure and not a hang.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("nothing happened for half a minute")
}

/// Waits for a state.
pub(crate) async fn in_state(view: &View<String>, state: ViewState) {
    within(view.watch().wait_for(|s| s.state == state)).await.unwrap();
}

/// Waits for a view to have a value.
pub(crate) async fn until_has(view: &View<String>, key: &str, value: Option<&str>) {
    let has = async {
        while view.get(key).ok() != Some(value.map(str::to_owned)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), has).await;
    assert!(in_time.is_ok(), "{key} is {:?}, not {value:?}; {:?} {:?}", view.get(key), view.status(), view.progress());
}

/// Keys and values of rows, in the order in which they come.
pub(crate) fn pairs(rows: Rows<'_, String>) -> Vec<(String, String)> {
    let pair = |row: Result<Row<String>, ViewError>| row.map(|r| (r.key_text().into_owned(), r.value));
    rows.map(pair).collect::<Result<_, _>>().unwrap()
}

pub(crate) fn keys(rows: Rows<'_, String>) -> Vec<String> {
    pairs(rows).into_iter().map(|(key, _)| key).collect()
}
