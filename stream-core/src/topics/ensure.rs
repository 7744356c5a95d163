//! A topic that a program needs and no group owns: made where it is missing, compared where it exists.

use std::sync::Arc;

use super::own::alter;
use super::{UNKNOWN_BROKERS, wait};
use crate::log::{LogError, LogHandle, TopicInfo, TopicSpec};

/// Why [`ensure_topic`] did not get its topic.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum EnsureTopicError {
    /// The topic exists and is another one than was asked for. Nothing was changed.
    #[error("topic {topic} {problem}; {remedy}")]
    Differs { topic: String, problem: String, remedy: String },
    /// The log failed.
    #[error("topic {topic}: {doing}")]
    Log {
        topic: String,
        doing: &'static str,
        #[source]
        error: LogError,
    },
}

crate::chain::debug_as_chain!(EnsureTopicError);

/// Makes a topic if it is missing, and says how it is. (Goka's `EnsureTopicExists`.)
///
/// A topic that exists is never altered: where it has another number of partitions or replicas, or another value of a setting,
/// than `spec` asks for, that is an error with the command that mends it. What `spec` leaves open may be anything, and so may a
/// setting that the broker does not show, and those of [`TopicConfig::other`](crate::log::TopicConfig::other). Several instances
/// may call this at once.
///
/// ```
/// use stream_core::log::{Cleanup, TopicConfig, TopicSpec};
/// use stream_core::{InMemory, LogHandle};
/// use stream_core::topics::ensure_topic;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let log: LogHandle = InMemory::new();
/// let prices = TopicSpec::new("prices").partitions(8).config(TopicConfig::new().cleanup(Cleanup::Compact));
/// assert_eq!(ensure_topic(&log, prices).await?.partitions, 8);
/// # Ok::<(), stream_core::topics::EnsureTopicError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EnsureTopicError::Differs`] if there is another topic of that name, and [`EnsureTopicError::Log`] if it can't be looked up
/// or made.
pub async fn ensure_topic(log: &LogHandle, spec: TopicSpec) -> Result<TopicInfo, EnsureTopicError> {
    let failed = |doing, error| EnsureTopicError::Log { topic: spec.name.to_string(), doing, error };
    let look_up = async || look_up(log, &spec).await.map_err(|e| failed("can't be looked up", e));
    let mut found = look_up().await?;
    if found.is_none() {
        match log.create_topics(vec![spec.clone()]).await {
            // Somebody else was faster.
            Ok(()) | Err(LogError::TopicExists { .. }) => {}
            Err(error) => return Err(failed("can't be made", error)),
        }
        found = look_up().await?;
    }
    let gone = || failed("was made, and is gone", LogError::UnknownTopic { topic: spec.name.to_string() });
    let found = found.ok_or_else(gone)?;
    compare(log, &spec, &found).map_or(Ok(found), Err)
}

async fn look_up(log: &LogHandle, spec: &TopicSpec) -> Result<Option<TopicInfo>, LogError> {
    let asked = log.topics(vec![Arc::clone(&spec.name)]);
    let who = format!("who needs topic {}", spec.name);
    Ok(wait::answer(log, &who, |_| {}, asked).await?.into_iter().next().flatten())
}

/// The first difference, if there is one.
fn compare(log: &LogHandle, spec: &TopicSpec, is: &TopicInfo) -> Option<EnsureTopicError> {
    let differs = |problem, remedy| EnsureTopicError::Differs { topic: spec.name.to_string(), problem, remedy };
    let numbers = [("partitions", spec.partitions, is.partitions), ("replicas", spec.replication, is.replication)];
    for (what, asked, has) in numbers {
        if let Some(asked) = asked.filter(|asked| *asked != has) {
            let remedy = "ask for what it has, or make it again".to_owned();
            return Some(differs(format!("has {has} {what}, and {asked} were asked for"), remedy));
        }
    }
    let shown = is.config.properties();
    let other = spec.config.properties().into_iter().filter_map(|(name, asked)| {
        let has = shown.iter().find(|(of, _)| *of == name).map(|(_, value)| value)?;
        (*has != asked).then(|| (format!("{name}={has}"), format!("{name}={asked}")))
    });
    let (has, asked): (Vec<_>, Vec<_>) = other.unzip();
    if has.is_empty() {
        return None;
    }
    let brokers = log.brokers().unwrap_or_else(|| UNKNOWN_BROKERS.to_owned());
    let (has, asked) = (has.join(","), asked.join(","));
    let command = alter(&spec.name, &brokers, &asked);
    Some(differs(format!("has {has}, and {asked} was asked for"), format!("ask for what it has, or run: {command}")))
}
