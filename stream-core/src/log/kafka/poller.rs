//! The thread that serves a member's events, and joins, leaves and starts over.
//!
//! It owns the member's client, and makes another in two cases: librdkafka left it without a broker
//! ([`client_health`](super::client_health)); or the group was not heard of for longer than a rebalance can take, for after an
//! outage of the whole cluster librdkafka may never ask to join again. A member that is not in the group loses nothing by it.
//!
//! A client is retired before it is closed: its callbacks must not touch what a new one has.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::assignment::Shared;
use super::blocking::spawn;
use super::client_health::BrokersLost;
use super::config;
use super::connection::{POLL, close};
use super::context::{Ctx, lock};
use super::error::code;
use super::rebalance::{Consumer, ConsumerCtx};
use crate::log::{LogError, LogResult, Subscription};

/// Makes a member's client, which is the one that counts from now on.
pub(super) fn client(shared: &Arc<Shared>) -> LogResult<Arc<Consumer>> {
    let name = format!("member of {}", shared.options.group);
    let ctx = Ctx::new(name, Arc::clone(&shared.error_context.health), &BrokersLost::default());
    let config = config::member(&shared.connection.options, &shared.options);
    let consumer = Consumer::from_config_and_context(&config, ConsumerCtx::member(ctx, Arc::<Shared>::clone(shared)));
    let consumer = Arc::new(consumer.map_err(|e| config::refused(&e))?);
    *lock(&shared.consumer) = Arc::downgrade(&consumer);
    Ok(consumer)
}

pub(super) struct Poller {
    shared: Arc<Shared>,
    consumer: Arc<Consumer>,
    subscribed: bool,
    /// When it last was in the group, or began to join it again.
    heard: Instant,
}

impl Poller {
    pub(super) fn new(shared: Arc<Shared>, consumer: Arc<Consumer>) -> Self {
        Self { shared, consumer, subscribed: false, heard: Instant::now() }
    }

    /// Runs until the member is closing.
    pub(super) fn run(mut self) {
        let _ = self.shared.poller.set(std::thread::current());
        while !self.shared.is_closing() {
            self.attend();
            if let Some(why) = self.is_hopeless() {
                self.start_anew(why);
            }
            *lock(&self.shared.polled) = Instant::now();
            self.poll();
        }
        self.consumer.context().retire();
        self.shared.release();
        close(self.consumer);
    }

    fn topics(&self) -> Vec<&str> {
        match &self.shared.options.subscription {
            Subscription::Topics(topics) => topics.iter().map(|t| &**t).collect(),
            Subscription::CoPartitioned { lead, .. } => vec![lead],
        }
    }

    fn what(&self) -> String {
        format!("joining group {}", self.shared.options.group)
    }

    /// Joins, leaves, or leaves to join again.
    fn attend(&mut self) {
        let shared = &self.shared;
        let attended = {
            let attendance = lock(&shared.attendance);
            attendance.waiting || attendance.since.elapsed() < shared.options.session_timeout
        };
        if self.subscribed && !attended {
            // A caller that is stuck must not keep its partitions for ever.
            shared.lose("nobody waited for its events for the time of a session");
        }
        let needs_rejoin = shared.has_remains() || shared.needs_rejoin.load(Ordering::Acquire);
        if self.subscribed && (!attended || (needs_rejoin && !self.consumer.assignment_lost())) {
            shared.leaving.store(true, Ordering::Release);
            shared.needs_rejoin.store(false, Ordering::Release);
            self.consumer.unsubscribe();
            self.subscribed = false;
        }
        if !self.subscribed && attended && lock(&shared.held).is_empty() {
            shared.leaving.store(false, Ordering::Release);
            if let Err(e) = self.consumer.subscribe(&self.topics()) {
                let _ = shared.events.send(Err(shared.error_context.error(&self.what(), &e)));
            }
            self.subscribed = true;
            self.heard = Instant::now();
        }
    }

    /// Why this client will never be in the group again, as far as is known.
    fn is_hopeless(&mut self) -> Option<&'static str> {
        if self.consumer.context().has_lost_brokers() {
            return Some("it lost all brokers for good");
        }
        // Outside it on purpose, with nothing that waits for its unassignment.
        let idle = !self.subscribed && lock(&self.shared.held).is_empty();
        if idle || self.shared.joined.load(Ordering::Acquire) {
            self.heard = Instant::now();
        }
        // Others may hold a rebalance up for as long as this one may.
        let bound = config::rebalance_bound(&self.shared.connection.options, &self.shared.options);
        (self.heard.elapsed() > bound + self.shared.options.session_timeout * 2)
            .then_some("nothing was heard of the group for longer than a rebalance takes")
    }

    fn start_anew(&mut self, why: &'static str) {
        let shared = &self.shared;
        self.heard = Instant::now();
        shared.lose(why);
        let old = Arc::clone(&self.consumer);
        old.context().retire();
        let new = match client(shared) {
            Ok(new) => new,
            Err(error) => {
                let _ = shared.events.send(Err(error));
                return;
            }
        };
        tracing::warn!(target: "kafka", group = %shared.options.group, why, "the member's client is recreated");
        // What the old one was assigned is none of the new one's.
        lock(&shared.held).clear();
        shared.leaving.store(false, Ordering::Release);
        shared.needs_rejoin.store(false, Ordering::Release);
        self.subscribed = false;
        self.consumer = new;
        if let Err(error) = spawn("kafka-closing", move || close(old)) {
            let _ = shared.events.send(Err(error));
        }
    }

    fn poll(&self) {
        match self.consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                use rdkafka::Message as _;
                let what = format!("fetching from {}[{}]", message.topic(), message.partition());
                let reason = "a record came outside its partition's queue".to_owned();
                let _ = self.shared.events.send(Err(LogError::Fatal { what, reason }));
            }
            Some(Err(e)) => {
                if let Some(error) = self.reported(&e) {
                    let _ = self.shared.events.send(Err(error));
                }
            }
        }
    }

    /// The error of librdkafka as the caller has to act on it; `None` if it mends itself.
    fn reported(&self, error: &KafkaError) -> Option<LogError> {
        use RDKafkaErrorCode as C;
        let code = code(error)?;
        let (shared, what) = (&self.shared, self.what());
        let reason = shared.error_context.health.partition_error();
        match (error, code) {
            (_, C::FencedInstanceId) => {
                let reason = "another member of this group has the same instance id".to_owned();
                Some(LogError::Fenced { what, reason })
            }
            (KafkaError::MessageConsumptionFatal(_), _) => Some(LogError::Fatal { what, reason }),
            (_, C::UnknownTopicOrPartition | C::UnknownTopic) => {
                let topics = self.topics();
                let topic = topics.iter().find(|t| reason.contains(**t)).or(topics.first())?;
                Some(LogError::UnknownTopic { topic: (*topic).to_owned() })
            }
            (_, C::PollExceeded) => {
                tracing::warn!(target: "kafka", group = %shared.options.group, "not polled for too long: {reason}");
                None
            }
            (
                _,
                C::TopicAuthorizationFailed
                | C::GroupAuthorizationFailed
                | C::InconsistentGroupProtocol
                | C::InvalidGroupId
                | C::InvalidSessionTimeout
                | C::GroupMaxSizeReached
                | C::UnsupportedAssignor,
            ) => Some(shared.error_context.coded(&what, code, &reason)),
            _ => None,
        }
    }
}

impl Shared {
    /// The client that counts.
    pub(super) fn client(&self) -> Option<Arc<Consumer>> {
        Weak::upgrade(&lock(&self.consumer))
    }
}
