//! Why a processor stops.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::chain;
use crate::codec::CodecError;
use crate::group::CallbackError;
use crate::log::LogError;
use crate::store::StoreError;
use crate::table::FollowError;
use crate::topics::TopicsError;

/// Why a processor stops, or could not start.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum ProcessorError {
    /// A record failed, and its input's policy is to fail.
    #[error("group {group}: record {topic}[{partition}]@{offset} (key {key}) failed")]
    Record {
        group: String,
        topic: String,
        partition: i32,
        /// The record's offset; -1 where a visitor, a timer or a window failed.
        offset: i64,
        key: String,
        #[source]
        error: CallbackError,
    },
    /// A topic is not as the group needs it.
    #[error("group {group}: {problem}; {remedy}")]
    Topic { group: String, problem: String, remedy: String },
    /// Another member of the group works on something else.
    #[error(
        "group {group}: its member {member} subscribes to {theirs}, this one to {ours}: stop it, or give this group \
         another name"
    )]
    OtherMember { group: String, member: String, theirs: String, ours: String },
    /// A codec could not get ready.
    #[error("group {group}: the codec of topic {topic} could not get ready")]
    Codec {
        group: String,
        topic: String,
        #[source]
        error: CodecError,
    },
    /// A position in an input is lost, or the committed offset differs from the position in the group's state.
    #[error("group {group}: {problem}; {remedy}")]
    Position {
        group: String,
        partition: String,
        problem: String,
        remedy: String,
        /// An option says how to go on, so that a new start does.
        by_option: bool,
    },
    /// The memory that the processor may take is too little.
    #[error(
        "group {group}: a memory of {bytes} bytes is too little for {inputs} partitions of inputs and {stores} stores, which \
         this instance may get: give it {least} at least (Processor::memory)"
    )]
    Memory { group: String, bytes: usize, least: usize, inputs: usize, stores: usize },
    /// The group's state was written under another definition.
    #[error("group {group}: {what} was kept as {old}, and is now {new}; {remedy}")]
    Meaning { group: String, what: String, old: String, new: String, remedy: String },
    /// Another instance has the same transactional id.
    #[error(
        "group {group}: another instance took over the transactional id {id} twice within a minute: it comes from {from}, \
         and a copy of that is in use elsewhere; {remedy}"
    )]
    SameId { group: String, id: String, from: String, remedy: String },
    /// The log failed.
    #[error("group {group}: {doing}")]
    Log {
        group: String,
        doing: String,
        #[source]
        error: LogError,
    },
    /// The transactions can't go on: the producer was fenced, or nobody knows how one ended. Nothing is lost: a new start
    /// asks what is committed.
    #[error("group {group}: commit a transaction")]
    Transaction {
        group: String,
        #[source]
        error: LogError,
    },
    /// A topic refuses, again and again, what the library itself writes to it: stream time, the end of a timer, or the
    /// positions that the state contains.
    #[error("group {group}: {topic} refuses a record that the library itself writes")]
    OwnRecord {
        group: String,
        topic: String,
        #[source]
        error: LogError,
    },
    /// The store failed.
    #[error("group {group}: the store failed")]
    Store {
        group: String,
        #[source]
        error: StoreError,
    },
    /// The copy of a looked-up table can't be kept up to date.
    #[error("group {group}: lookup {table}: {reason}")]
    Lookup { group: String, table: String, reason: String },
    /// A partition's work could not be finished within the bound.
    #[error("group {group}: the work under way did not end within {bound:?}; it will be done again after a restart")]
    DrainTimeout { group: String, bound: Duration },
    /// The copies of looked-up tables could not be closed.
    #[error("group {group}: the copies of looked-up tables do not end, so it can't start again in this process")]
    Hung { group: String },
    /// A worker thread could not be started.
    #[error("group {group}: a worker thread could not be started")]
    Worker {
        group: String,
        #[source]
        error: Arc<std::io::Error>,
    },
    /// A partition's task panicked, outside of any callback of the group's.
    #[error("group {group}: the task of partition {partition} panicked: {reason}; this is a bug: please report it")]
    Panic { group: String, partition: i32, reason: String },
}

crate::chain::debug_as_chain!(ProcessorError);

impl ProcessorError {
    /// The outermost error of type `E` among this error and its causes: the callback's own error, as it was given to `?`.
    ///
    /// ```
    /// use stream_core::processor::ProcessorError;
    ///
    /// fn is_out_of_stock(error: &ProcessorError) -> bool {
    ///     error.downcast_ref::<OutOfStock>().is_some()
    /// }
    /// # #[derive(Debug)]
    /// # struct OutOfStock;
    /// # impl std::fmt::Display for OutOfStock {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("out of stock") }
    /// # }
    /// # impl std::error::Error for OutOfStock {}
    /// ```
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        chain::find(self)
    }

    pub(crate) fn log(group: &str, doing: impl Into<String>, error: LogError) -> Self {
        Self::Log { group: group.to_owned(), doing: doing.into(), error }
    }

    pub(crate) fn store(group: &str, error: StoreError) -> Self {
        Self::Store { group: group.to_owned(), error }
    }

    pub(crate) fn follow(group: &str, doing: impl Into<String>, error: FollowError) -> Self {
        match error {
            FollowError::Log(error) => Self::log(group, doing, error),
            FollowError::Store(error) => Self::store(group, error),
        }
    }

    /// The record that failed, if it was one: topic, partition, offset.
    pub(crate) fn record(&self) -> Option<(String, i32, i64)> {
        match self {
            Self::Record { topic, partition, offset, .. } => Some((topic.clone(), *partition, *offset)),
            _ => None,
        }
    }

    /// Whether the log could not do something that it may do later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Transaction { error, .. } | Self::Log { error, .. } if error.is_passing())
    }

    /// Whether neither a record nor the group is at fault, so that a new start mends it.
    pub(crate) fn is_restartable(&self) -> bool {
        match self {
            Self::Transaction { error, .. } => !matches!(error, LogError::Config { .. } | LogError::Auth { .. }),
            Self::Log { error: LogError::BrokersLost { .. }, .. } | Self::Position { by_option: true, .. } => true,
            _ => false,
        }
    }

    /// Whether a new start may help. Not so if a topic is wrong, which stays so until somebody mends it; a record that
    /// fails may do so because of something else that passes, so that it is tried again as often as
    /// [`OnFailure`](super::OnFailure) says.
    pub(crate) fn is_transient(&self) -> bool {
        !matches!(
            self,
            Self::Topic { .. }
                | Self::OtherMember { .. }
                | Self::Hung { .. }
                | Self::Position { by_option: false, .. }
                | Self::Meaning { .. }
                | Self::SameId { .. }
        )
    }
}

impl From<TopicsError> for ProcessorError {
    fn from(error: TopicsError) -> Self {
        match error {
            TopicsError::Topic { group, problem, remedy } => Self::Topic { group, problem, remedy },
            TopicsError::Log { group, doing, error } => Self::log(&group, doing, error),
        }
    }
}

/// Result of a processor's work.
pub type ProcessorResult<T> = Result<T, ProcessorError>;
