//! The context of consumers: hands a member's rebalances on to it.

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

use std::sync::Arc;

use super::assignment::Shared;
use super::context::Ctx;

/// The context of a consumer, which may be a member of a group.
pub(super) struct ConsumerCtx {
    base: Ctx,
    member: Option<Arc<Shared>>,
}

impl ConsumerCtx {
    /// Outside any group.
    pub(super) fn alone(base: Ctx) -> Self {
        Self { base, member: None }
    }

    pub(super) fn member(base: Ctx, member: Arc<Shared>) -> Self {
        Self { base, member: Some(member) }
    }
}

impl ClientContext for ConsumerCtx {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match &self.member {
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
        match &self.member {
            Some(member) if assigned => member.assign(consumer, tpl),
            Some(member) => member.revoke(consumer, tpl),
            // Never subscribed, so never here; an answer is owed all the same.
            None => drop(consumer.incremental_unassign(tpl)),
        }
    }
}
