//! The state of a producer's transaction, and the errors of its calls.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};

use super::context::ProducerCtx;
use crate::log::kafka::error::{ErrorContext, lasting, membership_over, passing};
use crate::log::kafka::query::again_if;
use crate::log::{LogError, LogResult};

/// Where this producer's transaction is.
pub(super) enum Transaction {
    /// Not a transactional producer.
    Never,
    None,
    Open,
    /// This producer is of no further use.
    Dead(LogError),
}

impl Transaction {
    /// Whether this is a transactional producer.
    pub(super) fn is_possible(&self) -> bool {
        !matches!(self, Self::Never)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Why no record can be sent now.
    pub(super) fn refuses(&self) -> Option<LogError> {
        match self {
            Self::Never | Self::Open => None,
            Self::None => Some(not_open("writing records")),
            Self::Dead(error) => Some(error.clone()),
        }
    }
}

pub(super) fn not_open(what: &str) -> LogError {
    LogError::Config { what: what.to_owned(), reason: "no transaction is open: begin one first".into() }
}

/// The error of a transaction's call, by its class.
pub(super) fn classed(error_context: &ErrorContext, what: &str, error: &KafkaError) -> LogError {
    use RDKafkaErrorCode as C;
    let KafkaError::Transaction(e) = error else { return error_context.error(what, error) };
    let (code, reason) = (e.code(), e.string());
    let named = what.to_owned();
    match code {
        C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch => LogError::Fenced { what: named, reason },
        // To abort, as librdkafka asks for some of them, helps nobody: the next transaction would end the same way.
        _ if lasting(code) => error_context.coded(what, code, &reason),
        _ if e.is_fatal() => LogError::Fatal { what: named, reason },
        _ if membership_over(code) => LogError::NotMember { what: named, group: "of the offsets".into(), reason },
        _ if e.txn_requires_abort() => LogError::Abortable { what: named, reason },
        _ => error_context.coded(what, code, &reason),
    }
}

/// Tries until it works, fails for good, or the time is up.
pub(super) fn again(until: Instant, step: impl FnMut(Duration) -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let passes = |e: &KafkaError| match e {
        KafkaError::Transaction(e) => {
            !e.is_fatal() && !e.txn_requires_abort() && (e.is_retriable() || passing(e.code()))
        }
        _ => false,
    };
    again_if(until, passes, step)
}

/// Fences older producers of the same id and ends their open transaction.
pub(super) fn init(client: &BaseProducer<ProducerCtx>, error_context: &ErrorContext, until: Instant) -> LogResult<()> {
    let what = "starting a transactional producer";
    let done = again(until, |time| client.init_transactions(time));
    done.map_err(|e| classed(error_context, what, &e))
}
