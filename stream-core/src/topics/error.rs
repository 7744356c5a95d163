//! Why the topics of a group can't be used.

use crate::log::LogError;

/// Why the topics of a group can't be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TopicsError {
    /// A topic is not as the group needs it.
    #[error("group {group}: {problem}; {remedy}")]
    Topic { group: String, problem: String, remedy: String },
    /// The log failed.
    #[error("group {group}: {doing}: {error}")]
    Log { group: String, doing: String, error: LogError },
}
