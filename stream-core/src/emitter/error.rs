//! Errors of an emitter. Each names its topic.

use std::sync::Arc;

use crate::codec::CodecError;
use crate::log::LogError;

/// Why an emitter can't be opened, or a record was not written.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum EmitError {
    /// The topic is not there.
    #[error("emitter: {problem}; {remedy}")]
    Topic { topic: Arc<str>, problem: String, remedy: String },
    /// The codec could not get ready.
    #[error("emitter for {topic}: its codec could not get ready")]
    Codec {
        topic: Arc<str>,
        #[source]
        error: CodecError,
    },
    /// The emitter could not be opened.
    #[error("emitter for {topic}: {doing}")]
    Open {
        topic: Arc<str>,
        doing: &'static str,
        #[source]
        error: LogError,
    },
    /// A value has no bytes. Nothing was taken.
    #[error("emit to {topic}: the value can't be encoded")]
    Encode {
        topic: Arc<str>,
        #[source]
        error: CodecError,
    },
    /// A time below zero, in milliseconds since the epoch. Nothing was taken.
    #[error("emit to {topic}: the time {at} is below zero")]
    Negative { topic: Arc<str>, at: i64 },
    /// So much is under way that nothing more is taken at present. Nothing was taken.
    #[error("emit to {topic}: {bytes} bytes are under way, which is the bound: use emit(), which waits")]
    Full { topic: Arc<str>, bytes: usize },
    /// The record was not written, or it is not known whether it was.
    #[error("emit to {topic}: the record was not written, or it is not known whether it was")]
    Log {
        topic: Arc<str>,
        #[source]
        error: LogError,
    },
    /// Records whose acknowledgement nobody awaited were not written, or it is not known whether they were.
    #[error("{failed} records emitted to {topic} were not written, or it is not known whether they were")]
    Unacknowledged {
        topic: Arc<str>,
        failed: usize,
        #[source]
        first: LogError,
    },
    /// The emitter was closed.
    #[error("emit to {topic}: the emitter is closed")]
    Closed { topic: Arc<str> },
}

crate::chain::debug_as_chain!(EmitError);

impl EmitError {
    pub(super) fn log(topic: &Arc<str>, error: LogError) -> Self {
        Self::Log { topic: Arc::clone(topic), error }
    }

    pub(super) fn closed(topic: &Arc<str>) -> Self {
        Self::Closed { topic: Arc::clone(topic) }
    }
}
