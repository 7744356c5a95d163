//! Making and deleting a system's topics, and saying so.

use std::sync::Arc;

use stream_core::log::{Cleanup, LogError, LogHandle, LogResult, TopicConfig, TopicSpec};

/// A topic that keeps the last record of each key.
pub fn compacted(name: &str, partitions: i32) -> TopicSpec {
    let config = TopicConfig { cleanup: Some(Cleanup::Compact), ..TopicConfig::default() };
    TopicSpec::new(name).partitions(partitions).config(config)
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
