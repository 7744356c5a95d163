//! The parts of one connection that all its pieces share: options, threads for blocking calls, and clients without a group.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::KafkaError;

use super::blocking::{Pool, spawn};
use super::client_health::BrokersLost;
use super::config;
use super::context::{Ctx, Health, lock};
use super::error::ErrorContext;
use super::options::KafkaOptions;
use super::rebalance::{Consumer, ConsumerCtx};
use super::topic_ids::TopicIds;
use crate::log::{ErrorClass, Isolation, LogError, LogResult};

/// How long a thread that polls waits at most before it looks whether it should stop.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Groups whose clients are kept.
const GROUPS: usize = 4;

pub(super) struct Connection {
    pub(super) options: KafkaOptions,
    pub(super) error_context: ErrorContext,
    pub(super) pool: Pool,
    /// Recreated after an error that may pass: that client may have lost all brokers.
    admin: Mutex<Option<Arc<AdminClient<Ctx>>>>,
    /// The lost clients of producers and readers; members and look-ups get new clients anyway.
    pub(super) brokers_lost: BrokersLost,
    committed: Mutex<Option<Arc<Polled>>>,
    uncommitted: Mutex<Option<Arc<Polled>>>,
    /// Clients that look the offsets of one group up, the one used last at the end.
    groups: Mutex<Vec<(String, Arc<Polled>)>>,
    pub(super) ids: Mutex<Weak<TopicIds>>,
    /// Topics of which it was said that their settings are not shown to us.
    pub(super) hidden: Mutex<BTreeSet<Arc<str>>>,
}

impl Connection {
    pub(super) fn new(options: KafkaOptions) -> LogResult<Self> {
        config::check(&options)?;
        let connection = Self {
            error_context: ErrorContext { brokers: options.brokers.clone(), health: Arc::default() },
            admin: Mutex::default(),
            brokers_lost: BrokersLost::default(),
            pool: Pool::default(),
            committed: Mutex::default(),
            uncommitted: Mutex::default(),
            groups: Mutex::default(),
            ids: Mutex::default(),
            hidden: Mutex::default(),
            options,
        };
        // Options that librdkafka refuses are reported at once.
        connection.admin()?;
        Ok(connection)
    }

    pub(super) fn admin(&self) -> LogResult<Arc<AdminClient<Ctx>>> {
        let mut place = lock(&self.admin);
        if let Some(admin) = &*place {
            return Ok(Arc::clone(admin));
        }
        let ctx = Ctx::new("admin".into(), Arc::clone(&self.error_context.health), &BrokersLost::default());
        let admin = AdminClient::from_config_and_context(&config::admin(&self.options), ctx);
        let admin = Arc::new(admin.map_err(|e| config::refused(&e))?);
        *place = Some(Arc::clone(&admin));
        Ok(admin)
    }

    /// Why something could not be done with topics.
    pub(super) fn admin_error(&self, what: &str, error: &KafkaError) -> LogError {
        let error = self.error_context.error(what, error);
        if error.class() == ErrorClass::Retriable
            && let Some(admin) = lock(&self.admin).take()
        {
            // Closing takes a moment, and the caller must not wait for it.
            drop(self.pool.run("closing a client", move || {
                drop(admin);
                Ok(())
            }));
        }
        error
    }

    /// The client that looks up metadata and offsets; started when first needed.
    pub(super) fn query(&self, isolation: Isolation) -> LogResult<Arc<Polled>> {
        let place = match isolation {
            Isolation::ReadCommitted => &self.committed,
            Isolation::ReadUncommitted => &self.uncommitted,
        };
        let mut place = lock(place);
        if let Some(polled) = place.as_ref().filter(|polled| !polled.has_lost_brokers()) {
            return Ok(Arc::clone(polled));
        }
        let polled = self.look_up("queries".into(), &config::query(&self.options, isolation))?;
        *place = Some(Arc::clone(&polled));
        Ok(polled)
    }

    fn look_up(&self, name: String, config: &ClientConfig) -> LogResult<Arc<Polled>> {
        // Its own: no other client has to start over for it.
        Ok(Arc::new(Polled::start(
            config,
            name,
            Arc::clone(&self.error_context.health),
            BrokersLost::default(),
            || {},
        )?))
    }

    /// The client that looks a group's offsets up, kept for as long as there are few others.
    pub(super) fn group_client(&self, group: &str) -> LogResult<Arc<Polled>> {
        let mut clients = lock(&self.groups);
        clients.retain(|(_, polled)| !polled.has_lost_brokers());
        let (name, polled) = if let Some(at) = clients.iter().position(|(name, _)| name == group) {
            clients.remove(at)
        } else {
            let config = config::group_query(&self.options, group);
            (group.to_owned(), self.look_up(format!("offsets of {group}"), &config)?)
        };
        clients.push((name, Arc::clone(&polled)));
        if clients.len() > GROUPS {
            clients.remove(0);
        }
        Ok(polled)
    }
}

/// A consumer outside any group, and the thread that serves its log lines and errors.
pub(super) struct Polled {
    /// Gone only while this is dropped.
    consumer: Option<Arc<Consumer>>,
    stop: Arc<AtomicBool>,
    brokers_lost: BrokersLost,
}

impl Polled {
    pub(super) fn start(
        config: &ClientConfig,
        name: String,
        health: Arc<Health>,
        brokers_lost: BrokersLost,
        when_brokers_lost: impl FnOnce() + Send + 'static,
    ) -> LogResult<Self> {
        let ctx = ConsumerCtx::alone(Ctx::new(name, health, &brokers_lost));
        let consumer = Consumer::from_config_and_context(config, ctx).map_err(|e| config::refused(&e))?;
        let consumer = Arc::new(consumer);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (Arc::clone(&consumer), Arc::clone(&stop));
        let (watched, mut when_brokers_lost) = (brokers_lost.clone(), Some(when_brokers_lost));
        spawn("kafka-events", move || {
            while !stopped.load(Ordering::Acquire) {
                // Errors went to the context; records have queues of their own.
                if polled.poll(POLL).is_some_and(|got| got.is_ok()) {
                    tracing::error!(target: "kafka", "a record came outside its partition's queue and is lost");
                }
                if watched.any()
                    && let Some(notify) = when_brokers_lost.take()
                {
                    notify();
                }
            }
            close(polled);
        })?;
        Ok(Self { consumer: Some(consumer), stop, brokers_lost })
    }

    pub(super) fn has_lost_brokers(&self) -> bool {
        self.brokers_lost.any()
    }

    pub(super) fn consumer(&self) -> LogResult<&Arc<Consumer>> {
        self.consumer.as_ref().ok_or_else(|| LogError::Closed { what: "Kafka client".into() })
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        // The thread must be the last to hold it, for closing it takes time.
        self.consumer = None;
        self.stop.store(true, Ordering::Release);
    }
}

/// Drops a consumer as the last holder, so that no other thread has to wait for its end.
pub(super) fn close(consumer: Arc<Consumer>) {
    for _ in 0..200 {
        if Arc::strong_count(&consumer) == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(consumer);
}
