//! From librdkafka's errors to the log's.

use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::Health;
use crate::log::LogError;

/// The context that an error's text needs: the brokers, and their health lately.
#[derive(Debug)]
pub(super) struct ErrorContext {
    pub(super) brokers: String,
    pub(super) health: Arc<Health>,
}

/// The code in an error, also where the library does not hand it out.
pub(super) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        KafkaError::PartitionEOF(_) => Some(RDKafkaErrorCode::PartitionEOF),
        other => other.rdkafka_error_code(),
    }
}

impl ErrorContext {
    /// The error of something that was tried.
    pub(super) fn error(&self, what: &str, error: &KafkaError) -> LogError {
        match (code(error), error) {
            (Some(code), KafkaError::Transaction(e)) => self.coded(what, code, &e.to_string()),
            (Some(code), _) => self.coded(what, code, &words(code)),
            (None, KafkaError::Canceled) => LogError::Closed { what: what.to_owned() },
            (None, other) => LogError::Fatal { what: what.to_owned(), reason: other.to_string() },
        }
    }

    /// The same, from a code and words.
    pub(super) fn coded(&self, what: &str, code: RDKafkaErrorCode, reason: &str) -> LogError {
        use RDKafkaErrorCode as C;
        let (what, reason) = (what.to_owned(), reason.to_owned());
        match code {
            C::BrokerTransportFailure
            | C::AllBrokersDown
            | C::Resolve
            | C::SSL
            | C::BrokerNotAvailable
            | C::NetworkException
            | C::OperationTimedOut
            | C::RequestTimedOut
            | C::TimedOutQueue
            | C::MessageTimedOut
            | C::WaitingForCoordinator => self.silence(what, code, reason),
            C::Authentication
            | C::SaslAuthenticationFailed
            | C::UnsupportedSASLMechanism
            | C::TopicAuthorizationFailed
            | C::GroupAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed
            | C::DelegationTokenAuthorizationFailed
            | C::SecurityDisabled => LogError::Auth { what, reason },
            C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch => LogError::Fenced { what, reason },
            C::PurgeQueue | C::PurgeInflight => LogError::Purged,
            C::InvalidConfig
            | C::InvalidPartitions
            | C::InvalidReplicationFactor
            | C::InvalidReplicaAssignment
            | C::InvalidTopic
            | C::InvalidRequest
            | C::PolicyViolation
            | C::InvalidArgument
            | C::InvalidGroupId
            | C::InvalidSessionTimeout
            | C::InvalidTransactionTimeout
            | C::OffsetMetadataTooLarge
            | C::InvalidCommitOffsetSize => LogError::Config { what, reason: format!("{reason}{}", remedy(code)) },
            _ if passing(code) => LogError::Retriable { what, reason },
            _ => LogError::Fatal { what, reason },
        }
    }

    /// No answer: because nobody can be reached, because we are not let in, or just so.
    fn silence(&self, what: String, code: RDKafkaErrorCode, reason: String) -> LogError {
        use RDKafkaErrorCode as C;
        if self.health.has_lost_brokers() {
            return LogError::BrokersLost { brokers: self.brokers.clone() };
        }
        match self.health.trouble() {
            Some((C::Authentication | C::SaslAuthenticationFailed, reason)) => LogError::Auth { what, reason },
            Some((_, trouble)) => LogError::Unreachable { what, brokers: self.brokers.clone(), reason: trouble },
            None if matches!(
                code,
                C::OperationTimedOut | C::RequestTimedOut | C::TimedOutQueue | C::MessageTimedOut
            ) =>
            {
                LogError::Timeout { what, reason }
            }
            None => LogError::Unreachable { what, brokers: self.brokers.clone(), reason },
        }
    }
}

/// The remedy where a setting of the brokers forbids the request.
fn remedy(code: RDKafkaErrorCode) -> &'static str {
    use RDKafkaErrorCode as C;
    match code {
        C::OffsetMetadataTooLarge | C::InvalidCommitOffsetSize => {
            ": raise the brokers' offset.metadata.max.bytes to 64 or more"
        }
        C::InvalidSessionTimeout => {
            ": set the session timeout between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
        }
        C::InvalidTransactionTimeout => {
            ": raise the brokers' transaction.max.timeout.ms, or shorten the commit interval (a transaction may take three of \
             them, and at least ten seconds)"
        }
        _ => "",
    }
}

/// librdkafka's words for a code.
pub(super) fn words(code: RDKafkaErrorCode) -> String {
    code.to_string()
}

/// Whether the same request may well succeed a moment later.
pub(super) fn passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::BrokerTransportFailure
            | C::AllBrokersDown
            | C::OperationTimedOut
            | C::RequestTimedOut
            | C::TimedOutQueue
            | C::WaitingForCoordinator
            | C::LeaderNotAvailable
            | C::NotLeaderForPartition
            | C::BrokerNotAvailable
            | C::ReplicaNotAvailable
            | C::NetworkException
            | C::CoordinatorLoadInProgress
            | C::CoordinatorNotAvailable
            | C::NotCoordinator
            | C::NotEnoughReplicas
            | C::NotEnoughReplicasAfterAppend
            | C::RebalanceInProgress
            | C::NotController
            | C::ConcurrentTransactions
            | C::KafkaStorageError
            | C::FencedLeaderEpoch
            | C::UnknownLeaderEpoch
            | C::OffsetNotAvailable
            | C::UnstableOffsetCommit
            | C::ThrottlingQuotaExceeded
            | C::Retry
            | C::InProgress
            | C::PreviousInProgress
            | C::Partial
    )
}

/// Whether it stays until somebody changes a setting or a right.
pub(super) fn lasting(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::InvalidTransactionTimeout
            | C::OffsetMetadataTooLarge
            | C::InvalidCommitOffsetSize
            | C::TopicAuthorizationFailed
            | C::GroupAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed
            | C::ClusterAuthorizationFailed
    )
}

/// Whether it says that a member's generation has ended.
pub(super) fn membership_over(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::UnknownMemberId
            | C::IllegalGeneration
            | C::FencedInstanceId
            | C::AssignmentLost
            | C::FencedMemberEpoch
            | C::StaleMemberEpoch
            | C::UnreleasedInstanceId
    )
}
