//! The context of a producer's client: its log lines, its errors, and its delivery reports.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::delivery_table::DeliveryTable;
use crate::log::kafka::config;
use crate::log::kafka::context::Ctx;
use crate::log::kafka::error::{ErrorContext, code, words};
use crate::log::{LogError, NewRecord, TopicPartition};

/// The context of a producer's client.
pub(super) struct ProducerCtx {
    pub(super) base: Ctx,
    pub(super) error_context: Arc<ErrorContext>,
    pub(super) deliveries: Arc<DeliveryTable>,
}

impl ClientContext for ProducerCtx {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.base.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.base.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if self.base.look(statistics) {
            self.error_context.health.note_brokers_lost();
        }
    }
}

impl ProducerContext for ProducerCtx {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, word: usize) {
        match result {
            Ok(message) => self.deliveries.written(word, message.offset()),
            Err((error, _)) => self.deliveries.failed(word, |record| undelivered(&self.error_context, error, record)),
        }
    }
}

/// Why a record was not written.
pub(super) fn undelivered(error_context: &ErrorContext, error: &KafkaError, record: NewRecord<'_>) -> LogError {
    use RDKafkaErrorCode as C;
    let what = || format!("writing to topic {}", record.topic);
    let topic = record.topic.to_string();
    match (code(error), record.partition) {
        (Some(C::MessageSizeTooLarge | C::MessageBatchTooLarge | C::InvalidMessageSize), _) => {
            let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            let limit = if size >= config::MAX_RECORD_BYTES {
                format!("{} bytes, the most that is sent at all", config::MAX_RECORD_BYTES)
            } else {
                "the topic's max.message.bytes".to_owned()
            };
            LogError::TooLarge { topic, size, limit }
        }
        (
            Some(
                code @ (C::InvalidRecord
                | C::InvalidTimestamp
                | C::PolicyViolation
                | C::UnsupportedForMessageFormat
                | C::InvalidArgument),
            ),
            _,
        ) => LogError::Refused { topic, reason: words(code) },
        (Some(C::InvalidDifferentRecord), _) => LogError::Neighbour { topic },
        (Some(C::UnknownTopic | C::UnknownTopicOrPartition), _) => LogError::UnknownTopic { topic },
        (Some(C::UnknownPartition), Some(partition)) => {
            LogError::UnknownPartition { partition: TopicPartition::new(Arc::clone(record.topic), partition) }
        }
        (Some(C::State), _) => {
            LogError::Abortable { what: what(), reason: "no transaction is open, or it must be aborted".into() }
        }
        (Some(code), _) => error_context.coded(&what(), code, &words(code)),
        (None, _) => LogError::Fatal { what: what(), reason: error.to_string() },
    }
}
