//! Errors of a log.

use super::TopicPartition;

/// An error of the log. `what` says what was being done, `reason` what the log answered.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum LogError {
    /// No broker could be reached.
    #[error("{what}: no broker reached at {brokers}: {reason}")]
    Unreachable { what: String, brokers: String, reason: String },
    /// The client has permanently lost all brokers, even if the cluster is up. Recreate it, and everything that was made
    /// with it.
    #[error(
        "the client lost all brokers, and can't find back to {brokers} (a fault of librdkafka, its issue 5301): recreate it"
    )]
    BrokersLost { brokers: String },
    /// The log refused who we are or what we want.
    #[error("{what}: not authorised: {reason}")]
    Auth { what: String, reason: String },
    /// A topic that does not exist.
    #[error("topic {topic} does not exist")]
    UnknownTopic { topic: String },
    /// A partition that does not exist.
    #[error("{partition} does not exist: the topic has fewer partitions")]
    UnknownPartition { partition: TopicPartition },
    /// A topic to be created that exists.
    #[error("topic {topic} exists already")]
    TopicExists { topic: String },
    /// A record above the client's or the topic's limit.
    #[error("a record of {size} bytes for topic {topic} is larger than its limit ({limit})")]
    TooLarge { topic: String, size: usize, limit: String },
    /// A record that its topic does not take as it is, as one without a key on a compacted topic: it is the record that
    /// is wrong, not the one who writes it.
    #[error("a record for topic {topic} is refused: {reason}")]
    Refused { topic: String, reason: String },
    /// A record that was not written because other records of its batch were refused. Written again without those, it
    /// may succeed.
    ///
    /// Kafka's client says so only where at least two records of a batch were refused. A single refused record gives its
    /// own error, [`Refused`](Self::Refused), to every record of its batch.
    #[error("a record for topic {topic} was not written: a different record of the batch was invalid")]
    Neighbour { topic: String },
    /// A position that the log no longer, or not yet, has.
    #[error("{partition} has no offset {offset} (its records are {start}..{end})")]
    OffsetOutOfRange { partition: TopicPartition, offset: i64, start: i64, end: i64 },
    /// It took too long.
    #[error("{what}: timed out: {reason}")]
    Timeout { what: String, reason: String },
    /// The member's generation has ended.
    #[error("{what}: no longer a member of group {group}: {reason}")]
    NotMember { what: String, group: String, reason: String },
    /// A newer producer of the same transactional id took over.
    #[error("{what}: fenced by a newer producer: {reason}")]
    Fenced { what: String, reason: String },
    /// The open transaction must be aborted.
    #[error("{what}: the transaction must be aborted: {reason}")]
    Abortable { what: String, reason: String },
    /// A record was dropped on purpose before it was acknowledged.
    #[error("the record was purged before it was acknowledged")]
    Purged,
    /// Options that make no sense.
    #[error("{what}: {reason}")]
    Config { what: String, reason: String },
    /// May work the next time.
    #[error("{what}: {reason} (may be retried)")]
    Retriable { what: String, reason: String },
    /// Anything else: will not work the next time either.
    #[error("{what}: {reason}")]
    Fatal { what: String, reason: String },
    /// Used after it was closed.
    #[error("{what}: already closed")]
    Closed { what: String },
}

crate::chain::debug_as_chain!(LogError);

/// The possible reaction to an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The same call may succeed later.
    Retriable,
    /// The open transaction must be aborted, then things go on.
    Abortable,
    /// Only a new start, or a person, can mend it.
    Fatal,
}

impl LogError {
    /// The possible reaction to it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Retriable { .. } => ErrorClass::Retriable,
            Self::Abortable { .. }
            | Self::NotMember { .. }
            | Self::Purged
            | Self::Neighbour { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. } => ErrorClass::Abortable,
            _ => ErrorClass::Fatal,
        }
    }

    /// Whether one record is at fault, which can never be written as it is; others can. Nothing of it was written.
    pub fn blames_record(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Refused { .. } | Self::UnknownPartition { .. })
    }

    /// Whether it passes: nothing is wrong with what was asked, and the same may succeed later.
    pub fn is_passing(&self) -> bool {
        self.class() == ErrorClass::Retriable
    }

    /// Whether the writer can write nothing any more.
    pub(crate) fn ends_producer(&self) -> bool {
        matches!(self, Self::Fatal { .. } | Self::Fenced { .. } | Self::Closed { .. } | Self::BrokersLost { .. })
    }
}
