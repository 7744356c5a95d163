//! Clients of librdkafka that can never reach a broker again.
//!
//! When a cluster says for a moment that it has no broker at all (its only one was fenced, as after a machine has slept),
//! librdkafka since 2.10 forgets every broker that it knew, and may fail to go back to those of its configuration: it
//! then waits for ever ([issue 5301](https://github.com/confluentinc/librdkafka/issues/5301)). Its statistics show that: they
//! name no broker that it learned of or was configured with. Such a client can only be replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::log::LogError;

/// How often a client reports its statistics.
pub(super) const STATISTICS_MS: u32 = 5000;
/// The number of reports in a row without a broker: there is none for a moment whenever librdkafka starts over.
const IN_A_ROW: u32 = 2;

/// How many of some clients have lost all brokers so far.
#[derive(Clone, Debug, Default)]
pub(super) struct BrokersLost {
    count: Arc<watch::Sender<u64>>,
    /// Those that these are some of.
    all: Option<Arc<watch::Sender<u64>>>,
}

impl BrokersLost {
    /// Some of these.
    pub(super) fn some(&self) -> Self {
        Self { count: Arc::default(), all: Some(Arc::clone(&self.count)) }
    }

    /// Whether any was.
    pub(super) fn any(&self) -> bool {
        *self.count.borrow() > 0
    }

    fn report(&self) {
        for count in std::iter::once(&self.count).chain(&self.all) {
            count.send_modify(|count| *count += 1);
        }
    }

    /// Resolves with the next one.
    pub(super) fn next(&self, brokers: &str) -> BoxFuture<'static, LogError> {
        let (mut count, brokers) = (self.count.subscribe(), brokers.to_owned());
        async move {
            if count.changed().await.is_err() {
                // The connection was dropped, and with it all of its clients.
                std::future::pending::<()>().await;
            }
            LogError::BrokersLost { brokers }
        }
        .boxed()
    }
}

/// Watches over one client.
#[derive(Debug)]
pub(super) struct ClientHealth {
    brokers_lost: BrokersLost,
    without: AtomicU32,
}

impl ClientHealth {
    pub(super) fn new(brokers_lost: &BrokersLost) -> Self {
        Self { brokers_lost: brokers_lost.clone(), without: AtomicU32::new(0) }
    }

    pub(super) fn has_lost_brokers(&self) -> bool {
        self.without.load(Ordering::Relaxed) >= IN_A_ROW
    }

    /// Looks at a client's statistics. True if they show that it has lost all brokers, once.
    pub(super) fn check(&self, client: &str, statistics: &[u8]) -> bool {
        let Ok(statistics) = std::str::from_utf8(statistics) else { return false };
        // Brokers come first, so that this seldom looks far.
        if ["configured", "learned"].iter().any(|source| statistics.contains(&format!("\"source\":\"{source}\""))) {
            self.without.store(0, Ordering::Relaxed);
            return false;
        }
        let brokers_lost = self.without.fetch_add(1, Ordering::Relaxed) + 1 == IN_A_ROW;
        if brokers_lost {
            tracing::error!(target: "kafka", client, "librdkafka has lost all brokers for good: the client is recreated");
            self.brokers_lost.report();
        }
        brokers_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(sources: &[&str]) -> Vec<u8> {
        let broker =
            |source: &&str| format!("\"{source}\": {{ \"nodeid\":1, \"source\":\"{source}\", \"state\":\"UP\" }}");
        let brokers: Vec<String> = sources.iter().map(broker).collect();
        format!("{{ \"name\": \"a\", \"brokers\":{{ {} }}, \"topics\":{{}} }}", brokers.join(", ")).into_bytes()
    }

    #[test]
    fn a_client_without_brokers_is_stranded_if_it_stays_so() {
        let brokers_lost = BrokersLost::default();
        let one = brokers_lost.some();
        let client_health = ClientHealth::new(&one);
        let (fine, bare) = (statistics(&["internal", "configured"]), statistics(&["internal", "logical"]));
        assert!(!client_health.check("a", &fine));
        assert!(!client_health.check("a", &bare), "it may be about to start over");
        assert!(!client_health.check("a", &statistics(&["learned"])));
        assert!(!client_health.check("a", &bare));
        assert!(brokers_lost.next("b").now_or_never().is_none());
        let next = brokers_lost.next("broker:9092");
        assert!(client_health.check("a", &bare));
        assert!(!client_health.check("a", &bare), "reported once");
        assert!(brokers_lost.any() && one.any() && !brokers_lost.some().any());
        assert_eq!(next.now_or_never(), Some(LogError::BrokersLost { brokers: "broker:9092".into() }));
    }
}
