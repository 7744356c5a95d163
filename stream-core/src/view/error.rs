//! Errors of a view.

use std::sync::Arc;

use crate::codec::CodecError;
use crate::log::LogError;
use crate::replica::ReplicaError;
use crate::store::StoreError;

/// Why a view can't be opened, or a read is not answered.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum ViewError {
    /// The topic is not there, or is no table.
    #[error("view: {problem}; {remedy}")]
    Topic { topic: Arc<str>, problem: String, remedy: String },
    /// The log failed.
    #[error("view of {topic}: {doing}")]
    Log {
        topic: Arc<str>,
        doing: &'static str,
        #[source]
        error: LogError,
    },
    /// The store failed.
    #[error("view of {topic}: its store failed")]
    Store {
        topic: Arc<str>,
        #[source]
        error: StoreError,
    },
    /// The codec could not get ready.
    #[error("view of {topic}: its codec could not get ready")]
    Codec {
        topic: Arc<str>,
        #[source]
        error: CodecError,
    },
    /// A thread for the view could not be started.
    #[error("view of {topic}: a thread could not be started")]
    Thread {
        topic: Arc<str>,
        #[source]
        error: Arc<std::io::Error>,
    },
    /// A value can't be decoded.
    #[error("view of {topic}: the value of key {key} can't be decoded")]
    Decode {
        topic: Arc<str>,
        key: String,
        #[source]
        error: CodecError,
    },
    /// The codec needs something, such as a schema, that is not loaded yet.
    #[error(
        "view of {topic}: what the value of key {key} needs (id {id}) is not loaded: use get_loading() or next_loading()"
    )]
    NotLoaded { topic: Arc<str>, key: String, id: u32 },
    /// The answer is not known yet.
    #[error("view of {topic}: {partition} is being restored, so the answer is not known yet: wait_caught_up() first")]
    Restoring { topic: Arc<str>, partition: i32 },
    /// It can't go on.
    #[error("view of {topic} has failed: {reason}")]
    Failed { topic: Arc<str>, reason: String },
    /// It was closed.
    #[error("view of {topic} is closed")]
    Closed { topic: Arc<str> },
}

crate::chain::debug_as_chain!(ViewError);

impl ViewError {
    pub(super) fn log(topic: &Arc<str>, doing: &'static str, error: LogError) -> Self {
        Self::Log { topic: Arc::clone(topic), doing, error }
    }

    pub(super) fn store(topic: &Arc<str>, error: StoreError) -> Self {
        Self::Store { topic: Arc::clone(topic), error }
    }

    pub(super) fn copy(topic: &Arc<str>, error: ReplicaError) -> Self {
        let topic = Arc::clone(topic);
        match error {
            ReplicaError::Store(error) => Self::Store { topic, error },
            ReplicaError::Restoring(partition) => Self::Restoring { topic, partition: partition.partition },
            ReplicaError::Closed => Self::Closed { topic },
            ReplicaError::Failed(reason) => Self::Failed { topic, reason: reason.to_string() },
        }
    }

    pub(super) fn decode(topic: &Arc<str>, key: &[u8], error: CodecError) -> Self {
        let (topic, key) = (Arc::clone(topic), String::from_utf8_lossy(key).into_owned());
        match error {
            CodecError::NotLoaded(id) => Self::NotLoaded { topic, key, id },
            error => Self::Decode { topic, key, error },
        }
    }
}
