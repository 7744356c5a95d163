//! Waiting for topics that somebody else makes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::log::{LogHandle, LogResult, TopicInfo};

/// Looks topics up until all are there, within a bound: then gives them in the order asked, else the first that is missing.
/// `who` waits, in the log's words.
pub(crate) async fn for_topics(
    log: &LogHandle,
    names: &[Arc<str>],
    bound: Duration,
    who: &str,
) -> LogResult<Result<Vec<TopicInfo>, Arc<str>>> {
    let until = Instant::now() + bound;
    let mut told = false;
    loop {
        let found = log.topics(names.to_vec()).await?;
        let missing = names.iter().zip(&found).find(|(_, found)| found.is_none());
        let Some((missing, _)) = missing else { return Ok(Ok(found.into_iter().flatten().collect())) };
        if Instant::now() >= until {
            return Ok(Err(Arc::clone(missing)));
        }
        if !told {
            tracing::info!(topic = %missing, "{who} waits for a topic");
            told = true;
        }
        // Topics are not announced, so they are asked for.
        sleep(Duration::from_millis(200)).await;
    }
}
