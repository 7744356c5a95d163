//! Waiting for topics that somebody else makes, and for a log that does not answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::log::{LogHandle, LogResult, TopicInfo};

/// How long a log may take to answer before its user is warned: a start that waits longer seems to do nothing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// The message for a user who waits for a log that does not answer.
pub(crate) fn no_answer(log: &LogHandle) -> String {
    let from = log.brokers().unwrap_or_else(|| log.name());
    format!("no answer from {from} for {} s: is it running, and the address right?", ANSWERS_WITHIN.as_secs())
}

/// Awaits what a log is asked, and warns once if the answer takes long: then `late(true)` is called, and `late(false)` with
/// the answer. `who` waits, in the log's words.
pub(crate) async fn answer<T>(log: &LogHandle, who: &str, late: impl Fn(bool), asked: impl Future<Output = T>) -> T {
    let mut asked = std::pin::pin!(asked);
    if let Ok(answer) = tokio::time::timeout(ANSWERS_WITHIN, &mut asked).await {
        return answer;
    }
    tracing::warn!("{who} waits: {}", no_answer(log));
    late(true);
    let answer = asked.await;
    late(false);
    answer
}

/// Looks topics up until all are there, within a bound: then gives them in the order asked, else the first that is missing.
/// `who` waits, in the log's words.
pub(crate) async fn for_topics(
    log: &LogHandle,
    names: &[Arc<str>],
    bound: Duration,
    who: &str,
) -> LogResult<Result<Vec<TopicInfo>, Arc<str>>> {
    let until = Instant::now() + bound;
    let mut logged = false;
    loop {
        let found = answer(log, who, |_| {}, log.topics(names.to_vec())).await?;
        let missing = names.iter().zip(&found).find(|(_, found)| found.is_none());
        let Some((missing, _)) = missing else { return Ok(Ok(found.into_iter().flatten().collect())) };
        if Instant::now() >= until {
            return Ok(Err(Arc::clone(missing)));
        }
        if !logged {
            tracing::info!(topic = %missing, "{who} waits for a topic");
            logged = true;
        }
        // Topics are not announced, so they are asked for.
        sleep(Duration::from_millis(200)).await;
    }
}
