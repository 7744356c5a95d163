//! Why the topics of a group can't be used.

use crate::log::LogError;

/// Why the topics of a group can't be used.
#[derive(Clone, thiserror::Error)]
pub(crate) enum TopicsError {
    /// A topic is not as the group needs it.
    #[error("group {group}: {problem}; {remedy}")]
    Topic { group: String, problem: String, remedy: String },
    /// The log failed.
    #[error("group {group}: {doing}")]
    Log {
        group: String,
        doing: String,
        #[source]
        error: LogError,
    },
}

crate::chain::debug_as_chain!(TopicsError);
