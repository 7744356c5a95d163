//! Making and deleting a system's topics, and saying so.

use std::sync::Arc;

use clap::ValueEnum;
use stream_core::log::{Cleanup, LogError, LogHandle, LogResult, TopicConfig, TopicSpec};

use crate::console::say;

/// What is done with a system's topics.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Action {
    /// Make the topics that are missing
    Create,
    /// Delete the topics, those that groups made for themselves as well, and all that is in them
    Delete,
}

/// A topic that keeps the last record of each key.
pub fn compacted(name: &str, partitions: i32) -> TopicSpec {
    let config = TopicConfig::new().cleanup(Cleanup::Compact);
    TopicSpec::new(name).partitions(partitions).config(config)
}

/// How many partitions a topic has; `otherwise` where it is missing.
///
/// # Errors
/// When the log fails.
pub async fn partitions_of(log: &LogHandle, topic: &str, otherwise: i32) -> LogResult<i32> {
    let found = log.topics(vec![topic.into()]).await?.pop().flatten();
    Ok(found.map_or(otherwise, |t| t.partitions))
}

/// Makes the topics that are missing; returns their names.
///
/// # Errors
/// When the log fails.
pub async fn create_missing(log: &LogHandle, specs: Vec<TopicSpec>) -> LogResult<Vec<Arc<str>>> {
    let names: Vec<_> = specs.iter().map(|s| Arc::clone(&s.name)).collect();
    let found = log.topics(names).await?;
    let missing: Vec<_> = specs.into_iter().zip(found).filter(|(_, f)| f.is_none()).map(|(s, _)| s).collect();
    let names: Vec<_> = missing.iter().map(|s| Arc::clone(&s.name)).collect();
    if missing.is_empty() {
        return Ok(names);
    }
    match log.create_topics(missing).await {
        // Somebody else was faster.
        Ok(()) | Err(LogError::TopicExists { .. }) => Ok(names),
        Err(error) => Err(error),
    }
}

/// Deletes the topics that exist; returns their names.
///
/// # Errors
/// When the log fails.
pub async fn delete_existing(log: &LogHandle, names: Vec<Arc<str>>) -> LogResult<Vec<Arc<str>>> {
    let found = log.topics(names.clone()).await?;
    let names: Vec<_> = names.into_iter().zip(found).filter(|(_, f)| f.is_some()).map(|(n, _)| n).collect();
    if names.is_empty() {
        return Ok(names);
    }
    match log.delete_topics(names.clone()).await {
        Ok(()) | Err(LogError::UnknownTopic { .. }) => Ok(names),
        Err(error) => Err(error),
    }
}

/// Makes those of the shared topics that are missing, or deletes them and those that groups made for themselves. Says what
/// became of each.
///
/// # Errors
/// When the log fails.
pub async fn manage(
    log: &LogHandle,
    action: Action,
    shared: Vec<TopicSpec>,
    of_groups: Vec<Arc<str>>,
) -> LogResult<()> {
    let mut names: Vec<_> = shared.iter().map(|s| Arc::clone(&s.name)).collect();
    let (touched, done, otherwise) = match action {
        Action::Create => (create_missing(log, shared).await?, "created", "exists"),
        Action::Delete => {
            names.extend(of_groups);
            (delete_existing(log, names.clone()).await?, "deleted", "is not there")
        }
    };
    for name in &names {
        say(format_args!("{name}: {}", if touched.contains(name) { done } else { otherwise }));
    }
    Ok(())
}
