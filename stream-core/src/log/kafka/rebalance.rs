//! The context of consumers: hands a member's rebalances on to it.
//!
//! A client that is closing gets one answer. librdkafka may leave two rebalances behind when it closes: one that nobody had
//! answered and the one of its own end. The first answer lets go of everything, and the group may be left before the second.
//! An answer that comes then waits for ever: librdkafka drops it without a reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

use super::context::Ctx;

pub(super) type Consumer = BaseConsumer<ConsumerCtx>;

/// A member of a group, as the context of its client knows it.
pub(super) trait Membership: Send + Sync {
    /// Answers an assignment.
    fn assign(self: Arc<Self>, consumer: &Consumer, tpl: &TopicPartitionList);

    /// Answers a revocation, which may be a loss.
    fn revoke(&self, consumer: &Consumer, tpl: &TopicPartitionList);

    /// Takes note of a line about the member's id.
    fn member_id_changed(&self, line: &str);
}

/// The context of a consumer, which may be a member of a group.
pub(super) struct ConsumerCtx {
    base: Ctx,
    member: Option<Arc<dyn Membership>>,
    /// It is closing, or another client has taken its place.
    retired: AtomicBool,
    /// The one answer that is owed after that was given.
    answered: AtomicBool,
}

impl ConsumerCtx {
    /// Outside any group.
    pub(super) fn alone(base: Ctx) -> Self {
        Self { base, member: None, retired: AtomicBool::new(false), answered: AtomicBool::new(false) }
    }

    pub(super) fn member(base: Ctx, member: Arc<dyn Membership>) -> Self {
        Self { base, member: Some(member), retired: AtomicBool::new(false), answered: AtomicBool::new(false) }
    }

    /// This client is served for its closing only: its events mean nothing to the member any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether its client can never reach a broker again.
    pub(super) fn has_lost_brokers(&self) -> bool {
        self.base.has_lost_brokers()
    }

    fn member_now(&self) -> Option<&Arc<dyn Membership>> {
        self.member.as_ref().filter(|_| !self.retired.load(Ordering::Acquire))
    }
}

impl ClientContext for ConsumerCtx {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match self.member_now() {
            Some(member) if facility == "MEMBERID" => member.member_id_changed(line),
            _ => self.base.log(level, facility, line),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.base.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.base.look(statistics);
    }
}

impl ConsumerContext for ConsumerCtx {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        match self.member_now() {
            Some(member) if assigned => Arc::clone(member).assign(consumer, tpl),
            Some(member) => member.revoke(consumer, tpl),
            // Either way librdkafka takes everything away, for it is closing.
            None if !self.answered.swap(true, Ordering::AcqRel) => drop(consumer.incremental_unassign(tpl)),
            None => {}
        }
    }
}
