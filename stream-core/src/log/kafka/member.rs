//! A member of a consumer group: the handle, and its commits.
//!
//! Records come from the partitions' own queues, which the tasks poll themselves; events from a thread of their own (`poller`).
//! Commits run in order on a thread of their own, for they must go through while a revocation is held back.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::assignment::{Attendance, Shared};
use super::blocking::{Serial, spawn};
use super::connection::{Connection, close};
use super::context::lock;
use super::error::{ErrorContext, code, membership_over, passing};
use super::fetch::Owner;
use super::poller::{Poller, client};
use super::query::{PAUSE, again, commits, list};
use super::rebalance::Consumer;
use crate::log::{
    Commits, GroupHandle, GroupMetadata, Isolation, LogError, LogResult, Member, MemberEvent, MemberOptions,
    Subscription, TopicPartition,
};

pub(super) struct KafkaMember {
    shared: Arc<Shared>,
    group: Arc<KafkaGroup>,
    events: mpsc::UnboundedReceiver<LogResult<MemberEvent>>,
    /// Until the first `next`.
    idle: Option<Arc<Consumer>>,
    closed: Option<oneshot::Receiver<()>>,
}

impl KafkaMember {
    pub(super) fn new(connection: Arc<Connection>, options: MemberOptions) -> LogResult<Self> {
        check(&options)?;
        let (tx, events) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            error_context: ErrorContext { brokers: connection.options.brokers.clone(), health: Arc::default() },
            connection,
            options,
            consumer: Mutex::new(Weak::new()),
            closing: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            lost: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            held: Mutex::default(),
            metadata: Mutex::default(),
            leaving: AtomicBool::new(false),
            needs_rejoin: AtomicBool::new(false),
            polled: Mutex::new(Instant::now()),
            poller: OnceLock::new(),
            attendance: Mutex::new(Attendance { waiting: false, since: Instant::now() }),
            events: tx,
        });
        let consumer = client(&shared)?;
        let group = Arc::new(KafkaGroup { shared: Arc::clone(&shared), ops: Serial::start("kafka-commit")? });
        Ok(Self { shared, group, events, idle: Some(consumer), closed: None })
    }

    /// Joins the group, once.
    fn start(&mut self) -> LogResult<()> {
        let Some(consumer) = self.idle.take() else { return Ok(()) };
        let (shared, (tx, rx)) = (Arc::clone(&self.shared), oneshot::channel());
        self.closed = Some(rx);
        spawn("kafka-member", move || {
            Poller::new(shared, consumer).run();
            // Nobody may be waiting for it.
            let _ = tx.send(());
        })
    }

    fn stop(&mut self) -> Option<oneshot::Receiver<()>> {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(thread) = self.shared.poller.get() {
            thread.unpark();
        }
        if let Some(never_joined) = self.idle.take() {
            // Closing takes a moment, and the caller must not wait for it.
            drop(self.shared.connection.pool.run("closing a member", move || {
                close(never_joined);
                Ok(())
            }));
        }
        self.closed.take()
    }
}

fn check(options: &MemberOptions) -> LogResult<()> {
    let refuse = |reason: &str| {
        Err(LogError::Config { what: format!("joining group {:?}", options.group), reason: reason.to_owned() })
    };
    if options.group.is_empty() {
        return refuse("the group has no name");
    }
    match &options.subscription {
        Subscription::Topics(topics) if topics.is_empty() => refuse("no topic to subscribe to"),
        Subscription::Topics(topics) if topics.iter().any(|t| t.is_empty() || t.starts_with('^')) => {
            refuse("a topic's name is empty or a pattern")
        }
        Subscription::CoPartitioned { lead, .. } if lead.is_empty() || lead.starts_with('^') => {
            refuse("the lead topic's name is empty or a pattern")
        }
        _ => Ok(()),
    }
}

/// Somebody waits for events, as long as this lives.
struct Attending<'a>(&'a Shared);

impl<'a> Attending<'a> {
    fn begin(shared: &'a Shared) -> Self {
        *lock(&shared.attendance) = Attendance { waiting: true, since: Instant::now() };
        if let Some(thread) = shared.poller.get() {
            thread.unpark();
        }
        Self(shared)
    }
}

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        *lock(&self.0.attendance) = Attendance { waiting: false, since: Instant::now() };
    }
}

impl crate::log::Sealed for KafkaMember {}

impl Member for KafkaMember {
    fn next(&mut self) -> BoxFuture<'_, LogResult<MemberEvent>> {
        async move {
            self.start()?;
            let attending = Attending::begin(&self.shared);
            let event = self.events.recv().await;
            drop(attending);
            let event = event.unwrap_or_else(|| Err(LogError::Closed { what: "member".into() }))?;
            if matches!(event, MemberEvent::Lost(_)) {
                // From here on the caller knows, and what it commits is meant for the new generation.
                self.shared.lost.fetch_sub(1, Ordering::AcqRel);
            }
            Ok(event)
        }
        .boxed()
    }

    fn group(&self) -> Arc<dyn GroupHandle> {
        Arc::clone(&self.group) as _
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, LogResult<()>> {
        let closed = self.stop();
        let what = format!("leaving group {}", self.shared.options.group);
        // A broker that does not answer must not hold the caller up; the thread goes on alone.
        let bound = self.shared.connection.options.request_timeout + Duration::from_secs(5);
        async move {
            let Some(closed) = closed else { return Ok(()) };
            match tokio::time::timeout(bound, closed).await {
                Ok(_) => Ok(()),
                Err(_) => Err(LogError::Timeout { what, reason: "no answer from the group".into() }),
            }
        }
        .boxed()
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Commits, and who the member is.
pub(super) struct KafkaGroup {
    shared: Arc<Shared>,
    ops: Serial,
}

impl crate::log::Sealed for KafkaGroup {}

impl GroupHandle for KafkaGroup {
    fn commit_with_metadata(&self, offsets: Commits) -> BoxFuture<'static, LogResult<()>> {
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if let Some(reason) = self.shared.over(epoch) {
            return futures::future::err(self.shared.not_member("committing offsets", reason)).boxed();
        }
        if let Some((tp, _)) = offsets.iter().find(|(tp, _)| !self.shared.owns(tp)) {
            return futures::future::err(self.shared.not_member("committing offsets", &format!("{tp} is not its own")))
                .boxed();
        }
        if offsets.is_empty() {
            return futures::future::ok(()).boxed();
        }
        let shared = Arc::clone(&self.shared);
        self.ops.run("committing offsets", move || commit(&shared, &offsets, epoch))
    }

    fn metadata(&self) -> Option<GroupMetadata> {
        let shared = &self.shared;
        let epoch = shared.epoch.load(Ordering::Acquire);
        let detail = if shared.options.new_protocol {
            // Its epochs rise without a callback; and its member id is checked always, whatever the epoch.
            Arc::new(shared.client()?.group_metadata()?)
        } else {
            lock(&shared.metadata).clone()?
        };
        shared.over(epoch).is_none().then(|| GroupMetadata::new(Arc::clone(&shared.options.group), detail))
    }
}

/// Commits within a bound. Runs on the commit thread.
fn commit(shared: &Shared, offsets: &Commits, epoch: u64) -> LogResult<()> {
    let what = format!("committing offsets of group {}", shared.options.group);
    let list = commits(offsets).map_err(|e| shared.error_context.error(&what, &e))?;
    let until = shared.connection.until();
    loop {
        // Librdkafka commits under the generation it has by then, which after a loss is not the caller's any more.
        if let Some(reason) = shared.over(epoch) {
            return Err(shared.not_member(&what, reason));
        }
        let consumer = shared.client().ok_or_else(|| LogError::Closed { what: what.clone() })?;
        let Err(e) = consumer.commit(&list, CommitMode::Sync) else {
            shared.error_context.health.well();
            return Ok(());
        };
        drop(consumer);
        match code(&e) {
            Some(code) if membership_over(code) => return Err(shared.not_member(&what, &super::error::words(code))),
            Some(code) if passing(code) && Instant::now() + PAUSE < until => std::thread::sleep(PAUSE),
            _ => return Err(shared.error_context.error(&what, &e)),
        }
    }
}

impl Owner for Shared {
    fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn isolation(&self) -> Isolation {
        self.options.isolation
    }

    fn position(
        self: Arc<Self>,
        tp: &TopicPartition,
        exact: bool,
    ) -> Option<BoxFuture<'static, LogResult<Option<i64>>>> {
        // As a rule nobody goes by it, and it would be asked for again and again.
        let (shared, tp, pool) = (Arc::clone(&self), tp.clone(), self.connection.pool.clone());
        exact.then(|| {
            pool.run("looking up a position", move || {
                let what = format!("looking up the position in {tp}");
                let Some(consumer) = shared.client() else { return Err(LogError::Closed { what }) };
                let positions = consumer.position().map_err(|e| shared.error_context.error(&what, &e))?;
                let found = positions.find_partition(&tp.topic, tp.partition);
                Ok(Some(found.and_then(|e| e.offset().to_raw()).unwrap_or(-1)))
            })
        })
    }

    fn seek(self: Arc<Self>, tp: &TopicPartition, offset: i64) -> BoxFuture<'static, LogResult<()>> {
        let (shared, tp, pool) = (Arc::clone(&self), tp.clone(), self.connection.pool.clone());
        pool.run("seeking", move || {
            let what = format!("seeking {tp} to {offset}");
            if !shared.owns(&tp) {
                return Err(shared.not_member(&what, "the partition is not its own"));
            }
            let consumer = shared.client().ok_or_else(|| LogError::Closed { what: what.clone() })?;
            let sought = again(shared.connection.until(), |time| seek(&consumer, &tp, offset, time));
            sought.map_err(|e| shared.error_context.partition_error(&what, &tp, &e))
        })
    }

    fn dropped(self: Arc<Self>, _: &TopicPartition) {
        // It stays assigned until the group takes it; librdkafka stops fetching once its queue is full.
    }
}

/// A seek, or where that can't be (a partition whose offset was out of range fetches no more) a new assignment.
fn seek(consumer: &Consumer, tp: &TopicPartition, offset: i64, time: Duration) -> Result<(), KafkaError> {
    let at = list([(tp, Offset::Offset(offset))])?;
    let answer = consumer.seek_partitions(list([(tp, Offset::Offset(offset))])?, time);
    let refused = match &answer {
        Ok(answer) => answer.elements().iter().find_map(|e| e.error().err()),
        Err(e) => return Err(e.clone()),
    };
    match refused.as_ref().and_then(code) {
        None => Ok(()),
        Some(RDKafkaErrorCode::State) => {
            consumer.incremental_unassign(&list([(tp, Offset::Invalid)])?)?;
            consumer.incremental_assign(&at)
        }
        Some(other) => Err(KafkaError::OffsetFetch(other)),
    }
}
