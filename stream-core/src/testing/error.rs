//! Why a test's run fails.

use crate::codec::CodecError;
use crate::log::{LogError, TopicPartition};
use crate::processor::ProcessorError;
use crate::store::StoreError;
use crate::view::ViewError;

/// An error of a test's run.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum TesterError {
    /// A group failed.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A value can't be encoded or decoded.
    #[error("topic {topic}: a value can't be encoded or decoded")]
    Codec {
        topic: String,
        #[source]
        error: CodecError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A group has not processed everything although a long (virtual) time has passed.
    #[error("group {group} is stuck: {partition} is done up to {done} of {end}")]
    Stuck { group: String, partition: TopicPartition, done: i64, end: i64 },
    /// A condition did not come true although a long (virtual) time has passed.
    #[error("{0} did not happen")]
    Never(String),
    /// No such instance of a group was added.
    #[error("group {group} has no instance {instance}")]
    UnknownInstance { group: String, instance: usize },
    /// No such group was added.
    #[error("no group {0} was added to this tester")]
    UnknownGroup(String),
}

crate::chain::debug_as_chain!(TesterError);
