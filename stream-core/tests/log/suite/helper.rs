//! What the cases share: writing and reading a few records, and a member of a group that is polled all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use stream_core::log::{
    Assigned, Delivery, Fetch, FetchLimits, Fetched, GroupHandle, Isolation, LogError, LogHandle, LogResult, Member,
    MemberEvent, MemberOptions, NewRecord, ProduceBatch, Producer, ProducerOptions, RecordBatch, RevokeToken,
    Subscription, TopicPartition,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::until;

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rec {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A partition.
pub fn tp(topic: &Arc<str>, partition: i32) -> TopicPartition {
    TopicPartition::new(Arc::clone(topic), partition)
}

/// No headers.
pub fn bare() -> impl Iterator<Item = (&'static str, Option<&'static [u8]>)> {
    std::iter::empty()
}

/// A producer without transactions.
pub async fn producer(log: &LogHandle) -> Arc<dyn Producer> {
    log.producer(ProducerOptions::default()).await.unwrap()
}

/// A producer with transactions.
pub async fn transactional(log: &LogHandle, id: &Arc<str>) -> Arc<dyn Producer> {
    let mut options = ProducerOptions::default();
    options.transactional_id = Some(Arc::clone(id));
    log.producer(options).await.unwrap()
}

/// A batch of records with keys and values for one partition.
pub fn batch(topic: &Arc<str>, partition: i32, records: &[(&str, &str)]) -> Arc<ProduceBatch> {
    let mut batch = ProduceBatch::new();
    for (key, value) in records {
        batch.push(record(topic, Some(partition), Some(key.as_bytes()), Some(value.as_bytes())), bare());
    }
    Arc::new(batch)
}

/// A record without a time.
pub fn record<'a>(
    topic: &'a Arc<str>,
    partition: Option<i32>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
) -> NewRecord<'a> {
    NewRecord { topic, partition, timestamp: None, key, value }
}

/// Writes records to one partition; all must arrive.
pub async fn write(producer: &Arc<dyn Producer>, topic: &Arc<str>, partition: i32, records: &[(&str, &str)]) {
    all_arrived(&producer.send(batch(topic, partition, records)).await);
}

/// Writes `n` records to one partition with the values `from..from + n`.
pub async fn write_numbers(producer: &Arc<dyn Producer>, topic: &Arc<str>, partition: i32, from: usize, n: usize) {
    let mut batch = ProduceBatch::new();
    for i in from..from + n {
        batch.push(record(topic, Some(partition), Some(b"k"), Some(i.to_string().as_bytes())), bare());
    }
    all_arrived(&producer.send(Arc::new(batch)).await);
}

pub fn all_arrived(delivery: &Delivery) {
    assert!(delivery.failed.is_empty(), "not delivered: {:?}", delivery.failed);
}

/// Waits for what one fetch brings.
pub async fn fetch_with(fetch: &mut dyn Fetch, limits: FetchLimits) -> LogResult<(Fetched, Vec<Rec>)> {
    let mut into = RecordBatch::new();
    let fetched = poll_fn(|cx| fetch.poll_fetch(cx, &mut into, limits)).await?;
    let records = into.iter().map(|r| Rec {
        offset: r.offset,
        timestamp: r.timestamp,
        key: r.key.map(<[u8]>::to_vec),
        value: r.value.map(<[u8]>::to_vec),
        headers: r.headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect(),
    });
    let records: Vec<_> = records.collect();
    assert_eq!(fetched == Fetched::Records, !records.is_empty(), "{fetched:?} with {} records", records.len());
    Ok((fetched, records))
}

/// Waits for what one fetch brings, within the default limits.
pub async fn fetch_one(fetch: &mut dyn Fetch) -> LogResult<(Fetched, Vec<Rec>)> {
    fetch_with(fetch, FetchLimits::default()).await
}

/// Everything up to the next end.
pub async fn to_end(fetch: &mut dyn Fetch) -> Vec<Rec> {
    let mut all = Vec::new();
    loop {
        match fetch_one(fetch).await.unwrap() {
            (Fetched::Records, records) => all.extend(records),
            (Fetched::End(_), _) => return all,
        }
    }
}

/// The next `n` records, over ends.
pub async fn take(fetch: &mut dyn Fetch, n: usize) -> Vec<Rec> {
    let mut all = Vec::new();
    while all.len() < n {
        let limits = FetchLimits::new(n - all.len(), 1 << 20);
        all.extend(fetch_with(fetch, limits).await.unwrap().1);
    }
    all
}

/// Whether a fetch has nothing to say, asked for a while.
pub async fn is_silent(fetch: &mut dyn Fetch) -> bool {
    tokio::time::timeout(Duration::from_millis(700), fetch_one(fetch)).await.is_err()
}

/// A fetch of a reader.
pub async fn open(
    log: &LogHandle,
    topic: &Arc<str>,
    partition: i32,
    from: i64,
    isolation: Isolation,
) -> Box<dyn Fetch> {
    let reader = log.reader(isolation).unwrap();
    reader.read(tp(topic, partition), from).await.unwrap()
}

/// All records of a partition.
pub async fn read_all(log: &LogHandle, topic: &Arc<str>, partition: i32, isolation: Isolation) -> Vec<Rec> {
    let mut fetch = open(log, topic, partition, 0, isolation).await;
    to_end(&mut *fetch).await
}

/// The values of records, as text.
pub fn values(records: &[Rec]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap_or_default()).unwrap()).collect()
}

/// The offsets of records.
pub fn offsets(records: &[Rec]) -> Vec<i64> {
    records.iter().map(|r| r.offset).collect()
}

/// What happened to a [`Client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Failed(LogError),
}

/// What a [`Client`] knows.
#[derive(Default)]
pub struct Known {
    pub owned: BTreeMap<TopicPartition, Assigned>,
    pub revoking: Vec<(Vec<TopicPartition>, RevokeToken)>,
    pub history: Vec<Happened>,
    /// Keep revocations in `revoking` instead of letting go at once.
    pub hold: bool,
}

/// A member of a group that is polled all the time by a task of its own.
pub struct Client {
    known: Arc<Mutex<Known>>,
    pub group: Arc<dyn GroupHandle>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Box<dyn Member>>,
}

/// Options of a member with times that suit tests (6 s is the least session that a broker allows by default).
pub fn member_options(group: &Arc<str>, topics: &[&Arc<str>]) -> MemberOptions {
    let topics = topics.iter().map(|t| Arc::clone(t)).collect();
    lead_options(group, Subscription::Topics(topics))
}

/// A lead, and what is consumed with it.
pub fn lead_of(lead: &Arc<str>, with: &[&Arc<str>]) -> Subscription {
    Subscription::CoPartitioned { lead: Arc::clone(lead), with: with.iter().map(|t| Arc::clone(t)).collect() }
}

/// The same for any subscription.
pub fn lead_options(group: &Arc<str>, subscription: Subscription) -> MemberOptions {
    let mut options = MemberOptions::new(Arc::clone(group), subscription);
    options.session_timeout = Duration::from_secs(6);
    options.revoke_timeout = Duration::from_secs(30);
    options
}

impl Client {
    /// Joins.
    pub fn join(log: &LogHandle, options: MemberOptions) -> Self {
        Self::run(log.member(options).unwrap())
    }

    /// Polls a member from now on.
    pub fn run(mut member: Box<dyn Member>) -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let group = member.group();
        let (stop, mut stopped) = oneshot::channel();
        let shared = Arc::clone(&known);
        let task = tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    _ = &mut stopped => return member,
                    event = member.next() => event,
                };
                if !shared.lock().unwrap().note(event) {
                    let _ = (&mut stopped).await;
                    return member;
                }
            }
        });
        Self { known, group, stop, task }
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Keeps revocations from now on.
    pub fn hold(&self) {
        self.known().hold = true;
    }

    /// What it owns.
    pub fn owned(&self) -> BTreeSet<TopicPartition> {
        self.known().owned.keys().cloned().collect()
    }

    pub fn history(&self) -> Vec<Happened> {
        self.known().history.clone()
    }

    /// Everything that was revoked, and lost.
    pub fn gone(&self) -> (BTreeSet<TopicPartition>, BTreeSet<TopicPartition>) {
        let (mut revoked, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for event in &self.known().history {
            match event {
                Happened::Revoked(list) => revoked.extend(list.iter().cloned()),
                Happened::Lost(list) => lost.extend(list.iter().cloned()),
                _ => {}
            }
        }
        (revoked, lost)
    }

    /// Takes one partition's assignment out.
    pub fn take(&self, partition: &TopicPartition) -> Assigned {
        self.known().owned.remove(partition).unwrap_or_else(|| panic!("{partition} is not assigned"))
    }

    /// Waits until it owns that many partitions.
    pub async fn owns(&self, n: usize) -> BTreeSet<TopicPartition> {
        until(&format!("owns {n} partitions"), async || self.owned().len() == n).await;
        self.owned()
    }

    /// Stops polling and gives the member back; it is a zombie then.
    pub async fn freeze(self) -> (Box<dyn Member>, Arc<Mutex<Known>>) {
        let _ = self.stop.send(());
        (self.task.await.unwrap(), self.known)
    }

    /// Closes it.
    pub async fn close(self) {
        let (member, known) = self.freeze().await;
        *known.lock().unwrap() = Known::default();
        member.close().await.unwrap();
    }
}

impl Known {
    /// Takes an event in; whether to go on.
    fn note(&mut self, event: LogResult<MemberEvent>) -> bool {
        match event {
            // The greeting of one that gets nothing.
            Ok(MemberEvent::Assigned(list)) if list.is_empty() => {}
            Ok(MemberEvent::Assigned(list)) => {
                self.history.push(Happened::Assigned(list.iter().map(|a| a.partition.clone()).collect()));
                for assigned in list {
                    let again = self.owned.insert(assigned.partition.clone(), assigned);
                    assert!(again.is_none(), "assigned twice: {}", again.unwrap().partition);
                }
            }
            Ok(MemberEvent::Revoking { partitions, done }) => {
                self.history.push(Happened::Revoked(partitions.clone()));
                if self.hold {
                    self.revoking.push((partitions, done));
                } else {
                    self.owned.retain(|p, _| !partitions.contains(p));
                    drop(done);
                }
            }
            Ok(MemberEvent::Lost(list)) => {
                self.owned.retain(|p, _| !list.contains(p));
                self.revoking.retain(|(held, _)| !held.iter().any(|p| list.contains(p)));
                self.history.push(Happened::Lost(list));
            }
            Ok(_) => {}
            Err(error) => {
                self.history.push(Happened::Failed(error));
                return false;
            }
        }
        true
    }
}
