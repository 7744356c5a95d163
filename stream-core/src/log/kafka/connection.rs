//! What all pieces of one connection share: options, threads for blocking calls, and clients without a group.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::BaseConsumer;

use super::blocking::{Pool, spawn};
use super::config;
use super::context::{Ctx, Health, lock};
use super::error::Scene;
use super::options::KafkaOptions;
use super::rebalance::ConsumerCtx;
use super::topic_ids::TopicIds;
use crate::log::{Isolation, LogResult};

pub(super) type Consumer = BaseConsumer<ConsumerCtx>;

/// How long a thread that polls waits at most before it looks whether it should stop.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Groups whose clients are kept.
const GROUPS: usize = 4;

pub(super) struct Connection {
    pub(super) options: KafkaOptions,
    pub(super) scene: Scene,
    pub(super) pool: Pool,
    admin: AdminClient<Ctx>,
    committed: Mutex<Option<Arc<Polled>>>,
    uncommitted: Mutex<Option<Arc<Polled>>>,
    /// Clients that look the offsets of one group up, the one used last at the end.
    groups: Mutex<Vec<(String, Arc<Polled>)>>,
    pub(super) ids: Mutex<Weak<TopicIds>>,
}

impl Connection {
    pub(super) fn new(options: KafkaOptions) -> LogResult<Self> {
        config::check(&options)?;
        let health = Arc::new(Health::default());
        let ctx = Ctx::new("admin".into(), Arc::clone(&health));
        let admin = AdminClient::from_config_and_context(&config::admin(&options), ctx);
        Ok(Self {
            admin: admin.map_err(|e| config::refused(&e))?,
            scene: Scene { brokers: options.brokers.clone(), health },
            pool: Pool::default(),
            committed: Mutex::default(),
            uncommitted: Mutex::default(),
            groups: Mutex::default(),
            ids: Mutex::default(),
            options,
        })
    }

    pub(super) fn admin(&self) -> &AdminClient<Ctx> {
        &self.admin
    }

    /// The client that looks up metadata and offsets; started when first needed.
    pub(super) fn query(&self, isolation: Isolation) -> LogResult<Arc<Polled>> {
        let place = match isolation {
            Isolation::ReadCommitted => &self.committed,
            Isolation::ReadUncommitted => &self.uncommitted,
        };
        let mut place = lock(place);
        if let Some(polled) = &*place {
            return Ok(Arc::clone(polled));
        }
        let ctx = ConsumerCtx::alone(Ctx::new("queries".into(), Arc::clone(&self.scene.health)));
        let polled = Arc::new(Polled::start(&config::query(&self.options, isolation), ctx)?);
        *place = Some(Arc::clone(&polled));
        Ok(polled)
    }

    /// The client that looks a group's offsets up, kept for as long as there are few others.
    pub(super) fn group_client(&self, group: &str) -> LogResult<Arc<Polled>> {
        let mut clients = lock(&self.groups);
        let (name, polled) = if let Some(at) = clients.iter().position(|(name, _)| name == group) {
            clients.remove(at)
        } else {
            let ctx = Ctx::new(format!("offsets of {group}"), Arc::clone(&self.scene.health));
            let config = config::group_query(&self.options, group);
            let polled = Polled::start(&config, ConsumerCtx::alone(ctx))?;
            (group.to_owned(), Arc::new(polled))
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
}

impl Polled {
    pub(super) fn start(config: &ClientConfig, ctx: ConsumerCtx) -> LogResult<Self> {
        let consumer = Consumer::from_config_and_context(config, ctx).map_err(|e| config::refused(&e))?;
        let consumer = Arc::new(consumer);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (Arc::clone(&consumer), Arc::clone(&stop));
        spawn("kafka-events", move || {
            while !stopped.load(Ordering::Acquire) {
                // Errors went to the context; records have queues of their own.
                if polled.poll(POLL).is_some_and(|got| got.is_ok()) {
                    tracing::error!(target: "kafka", "a record came outside its partition's queue and is lost");
                }
            }
            close(polled);
        })?;
        Ok(Self { consumer: Some(consumer), stop })
    }

    pub(super) fn consumer(&self) -> LogResult<&Arc<Consumer>> {
        self.consumer.as_ref().ok_or_else(|| crate::log::LogError::Closed { what: "Kafka client".into() })
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
