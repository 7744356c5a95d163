//! librdkafka's log lines and its reports of trouble with brokers.
//!
//! Must never block: it is called on the threads that poll.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client_health::{BrokersLost, ClientHealth};

/// Locks, whatever became of the last holder: all that is locked here stays valid at each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines about a broker that is away come again and again: this often is enough.
const REPEAT: Duration = Duration::from_secs(30);

/// The last trouble with the brokers, to say why something timed out.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
    reported: Mutex<Option<Instant>>,
    partition_error: Mutex<String>,
    /// Set for a producer's: its client can never reach a broker again.
    brokers_lost: AtomicBool,
}

impl Health {
    /// Something went well.
    pub(super) fn well(&self) {
        *lock(&self.trouble) = None;
    }

    /// The last trouble since something went well.
    pub(super) fn trouble(&self) -> Option<(RDKafkaErrorCode, String)> {
        lock(&self.trouble).clone()
    }

    pub(super) fn note_brokers_lost(&self) {
        self.brokers_lost.store(true, Ordering::Release);
    }

    pub(super) fn has_lost_brokers(&self) -> bool {
        self.brokers_lost.load(Ordering::Acquire)
    }

    /// librdkafka's words on the last error of a partition; its error values carry the code only.
    pub(super) fn partition_error(&self) -> String {
        lock(&self.partition_error).clone()
    }

    /// Whether it is time to log again that brokers are away.
    fn may_report(&self) -> bool {
        let mut reported = lock(&self.reported);
        if reported.is_some_and(|at| at.elapsed() < REPEAT) {
            return false;
        }
        *reported = Some(Instant::now());
        true
    }
}

/// The context of a client.
#[derive(Debug)]
pub(super) struct Ctx {
    /// The client's name, for log lines.
    name: String,
    health: std::sync::Arc<Health>,
    client_health: ClientHealth,
}

impl Ctx {
    pub(super) fn new(name: String, health: std::sync::Arc<Health>, brokers_lost: &BrokersLost) -> Self {
        Self { name, health, client_health: ClientHealth::new(brokers_lost) }
    }

    pub(super) fn has_lost_brokers(&self) -> bool {
        self.client_health.has_lost_brokers()
    }

    /// Looks at the client's statistics. True if they show that it can never reach a broker again.
    pub(super) fn look(&self, statistics: &[u8]) -> bool {
        self.client_health.check(&self.name, statistics)
    }
}

impl ClientContext for Ctx {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let client = self.name.as_str();
        // A broker that is away: logged once in a while, by `error`, which also knows whether all of them are.
        let noise = matches!(facility, "FAIL" | "ERROR" | "CONNECT" | "MAXPOLL" | "TERMINATE");
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
                if noise =>
            {
                tracing::debug!(target: "kafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "kafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", client, facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::debug!(target: "kafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Debug => tracing::trace!(target: "kafka", client, facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as C;
        let client = self.name.as_str();
        let code = error.rdkafka_error_code().unwrap_or(C::Unknown);
        match code {
            // Not errors, or handled where they are read.
            C::PartitionEOF => {}
            C::AutoOffsetReset => reason.clone_into(&mut lock(&self.health.partition_error)),
            C::BrokerTransportFailure
            | C::AllBrokersDown
            | C::Resolve
            | C::SSL
            | C::Authentication
            | C::SaslAuthenticationFailed
            | C::OperationTimedOut => {
                let worse = matches!(code, C::Authentication | C::SaslAuthenticationFailed | C::SSL | C::Resolve);
                let mut trouble = lock(&self.health.trouble);
                // "All brokers are down" explains less than what was said before it.
                if worse || trouble.is_none() || code != C::AllBrokersDown {
                    *trouble = Some((code, reason.to_owned()));
                }
                drop(trouble);
                if self.health.may_report() {
                    tracing::warn!(target: "kafka", client, "{reason}; trying again");
                } else {
                    tracing::debug!(target: "kafka", client, "{reason}");
                }
            }
            _ => {
                reason.clone_into(&mut lock(&self.health.partition_error));
                tracing::debug!(target: "kafka", client, %error, "{reason}");
            }
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.look(statistics);
    }
}
