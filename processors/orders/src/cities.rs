//! Which cities have a topic of their own: the first so many that came, the same on every instance and for ever.
//!
//! They are listed in a topic of one partition. A city that is not on the list is appended to it; its place among the
//! *different* names, counted from the list's beginning, decides: below the limit it has a topic, else it shares one. Two
//! instances that append at once read the same list afterwards, so they agree, and the limit holds.
//!
//! Invariants: `State::list` is what the list says below `State::next`; a city's topic exists before its name is given
//! out. Nothing here waits for a city that is known.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use processors_common::topics::create_missing;
use stream_core::codec::Text;
use stream_core::emitter::{EmitError, Emitter};
use stream_core::log::{FetchLimits, Fetched, Isolation, LogError, LogHandle, RecordBatch, TopicPartition, TopicSpec};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::city::{OTHER, room, slug};
use crate::topics::TopicNames;

/// How many topics, and of what kind.
#[derive(Clone, Copy, Debug)]
pub struct CityTopics {
    /// So many cities have a topic of their own.
    pub max: usize,
    /// Partitions of each.
    pub partitions: i32,
    /// Replicas of each; the broker's default if not set.
    pub replication: Option<i32>,
}

impl Default for CityTopics {
    fn default() -> Self {
        Self { max: 100, partitions: 3, replication: None }
    }
}

/// Knows each city's topic.
pub struct Cities {
    log: LogHandle,
    names: TopicNames,
    topics: CityTopics,
    other: Arc<str>,
    claims: Emitter<String>,
    known: RwLock<BTreeMap<String, Arc<str>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: i64,
    list: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum CitiesError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Emit(#[from] EmitError),
}

impl Cities {
    /// Opens the list, and makes it if it is missing.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn open(log: LogHandle, names: &TopicNames, topics: CityTopics) -> Result<Arc<Self>, EmitError> {
        let list = names.city_list(topics.replication);
        let name = Arc::clone(&list.name);
        let made = create_missing(&log, vec![list]).await;
        made.map_err(|error| EmitError::Log { topic: Arc::clone(&name), error })?;
        let claims = Emitter::new(name, Text, Arc::clone(&log)).await?;
        let other = names.city(OTHER).into();
        let (known, state) = (RwLock::default(), Mutex::default());
        Ok(Arc::new(Self { log, names: names.clone(), topics, other, claims, known, state }))
    }

    /// What gets the orders of cities that have no topic of their own.
    pub fn other(&self) -> &Arc<str> {
        &self.other
    }

    /// A city's topic, which exists. Waits as long as the log is out of reach: no order is at fault for that.
    pub async fn topic(&self, city: &str) -> Arc<str> {
        let slug = slug(city, room(&self.names.city_prefix));
        let mut wait = Duration::from_millis(50);
        loop {
            if let Some(topic) = self.known(&slug) {
                return topic;
            }
            match self.learn(&slug).await {
                Ok(topic) => return topic,
                Err(error) => tracing::warn!(slug, ?error, "a city's topic can't be had; trying again"),
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    fn known(&self, slug: &str) -> Option<Arc<str>> {
        if slug == OTHER {
            return Some(Arc::clone(&self.other));
        }
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(slug).cloned()
    }

    async fn learn(&self, slug: &str) -> Result<Arc<str>, CitiesError> {
        let mut state = self.state.lock().await;
        // What others have claimed meanwhile; once the list is full it changes nothing any more.
        while state.list.len() < self.topics.max && !state.has(slug) {
            let before = state.next;
            self.read(&mut state).await?;
            if state.list.len() < self.topics.max && !state.has(slug) && state.next == before {
                self.claims.emit_acknowledged(slug, &slug.to_owned()).await?;
            }
        }
        if !state.has(slug) {
            return Ok(Arc::clone(&self.other));
        }
        let topic: Arc<str> = self.names.city(slug).into();
        let mut spec = TopicSpec::new(Arc::clone(&topic)).partitions(self.topics.partitions);
        spec.replication = self.topics.replication;
        if !create_missing(&self.log, vec![spec]).await?.is_empty() {
            tracing::info!(%topic, "a city's topic");
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(slug.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Reads the list to its end.
    async fn read(&self, state: &mut State) -> Result<(), CitiesError> {
        let list = TopicPartition::new(self.names.cities(), 0);
        let reader = self.log.reader(Isolation::ReadCommitted)?;
        let mut fetch = reader.read(list, state.next).await?;
        let mut batch = RecordBatch::new();
        while let Fetched::Records = poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await? {
            for record in batch.iter() {
                state.next = record.offset + 1;
                let slug = record.value.map(String::from_utf8_lossy).unwrap_or_default();
                if !slug.is_empty() && state.list.len() < self.topics.max && !state.has(&slug) {
                    state.list.push(slug.into_owned());
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn has(&self, slug: &str) -> bool {
        self.list.iter().any(|s| s == slug)
    }
}

impl std::fmt::Debug for Cities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cities({})", self.names.cities())
    }
}
