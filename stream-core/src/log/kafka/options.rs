//! The options of a connection to Kafka, and their checks.
//!
//! Secrets stay inside this module's types: they must never be printed, so `Debug` masks them here, once.

use std::fmt;
use std::time::Duration;

use super::security::{Security, config};
use crate::log::LogResult;

/// How to reach a Kafka.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KafkaOptions {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// The name that brokers see; shows in their logs and quotas.
    pub client_id: String,
    /// Encryption and authentication.
    pub security: Security,
    /// How long one request, with its retries, may take before it fails. Members go on trying for ever.
    pub request_timeout: Duration,
    /// How many bytes of each partition are fetched ahead at most; one fetch's answer may come on top. All partitions that
    /// are read take so much memory each, when their reader is behind.
    pub prefetch: usize,
    /// How producers compress batches. Readers need no setting: they read batches of every kind.
    pub compression: Compression,
    /// librdkafka properties for every client.
    pub common: Properties,
    /// librdkafka properties for consumers.
    pub consumer: Properties,
    /// librdkafka properties for producers.
    pub producer: Properties,
}

impl KafkaOptions {
    /// Plain text to these brokers (`host:port`, several separated by commas), a request may take 30 s, 4 MiB of each
    /// partition are fetched ahead.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: "stream-core".into(),
            security: Security::Plaintext,
            request_timeout: Duration::from_secs(30),
            prefetch: 4 << 20,
            compression: Compression::None,
            common: Properties::default(),
            consumer: Properties::default(),
            producer: Properties::default(),
        }
    }

    /// Sets the name that brokers see.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }

    /// Sets encryption and authentication.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Sets how long a request may take.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets how many bytes of each partition are fetched ahead at most. Less saves memory where one process reads many
    /// partitions; more can make a restore faster over a slow network.
    #[must_use]
    pub fn prefetch(mut self, bytes: usize) -> Self {
        self.prefetch = bytes;
        self
    }

    /// Sets how producers compress batches; not at all by default. The topics that a group makes for itself keep batches
    /// as they are produced.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets a librdkafka property of every client.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.common.0.push((name.into(), value.into()));
        self
    }

    /// Sets a librdkafka property of consumers.
    #[must_use]
    pub fn consumer_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.consumer.0.push((name.into(), value.into()));
        self
    }

    /// Sets a librdkafka property of producers.
    #[must_use]
    pub fn producer_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.producer.0.push((name.into(), value.into()));
        self
    }

    /// Says what is wrong with them, before librdkafka would in its own words.
    pub(super) fn check(&self) -> LogResult<()> {
        let brokers = self.brokers.split(',').map(str::trim);
        if self.brokers.trim().is_empty() || brokers.clone().any(str::is_empty) {
            return Err(config("Kafka brokers", format!("{:?} is no list of host:port", self.brokers)));
        }
        if let Some(url) = brokers.clone().find(|b| b.contains("://")) {
            return Err(config("Kafka brokers", format!("{url:?} is a URL, host:port is asked for")));
        }
        if self.request_timeout < Duration::from_millis(100) {
            return Err(config("Kafka request time-out", "it must be at least 100 ms".into()));
        }
        self.security.check()?;
        [&self.common, &self.consumer, &self.producer].into_iter().try_for_each(Properties::check)
    }
}

/// How producers compress batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Small batches for much work.
    Gzip,
    /// Little work.
    Snappy,
    /// Little work, and batches as small as Snappy's or smaller.
    Lz4,
    /// Batches about as small as Gzip's for less work. Brokers know it since Kafka 2.1.
    Zstd,
}

impl Compression {
    /// librdkafka's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// librdkafka properties by name.
#[derive(Clone, Default)]
pub struct Properties(pub(super) Vec<(String, String)>);

/// The settings that the adapter itself relies on, and the option to use instead of each.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "KafkaOptions::brokers"),
    ("metadata.broker.list", "KafkaOptions::brokers"),
    ("client.id", "KafkaOptions::client_id"),
    ("security.protocol", "KafkaOptions::security"),
    ("group.id", "MemberOptions::group"),
    ("group.instance.id", "MemberOptions::instance_id"),
    ("group.protocol", "MemberOptions::new_protocol"),
    ("session.timeout.ms", "MemberOptions::session_timeout"),
    ("heartbeat.interval.ms", "MemberOptions::session_timeout"),
    ("socket.timeout.ms", "KafkaOptions::request_timeout"),
    ("ssl.endpoint.identification.algorithm", "Tls::verify_hostname"),
    ("isolation.level", "MemberOptions::isolation"),
    ("auto.offset.reset", "MemberOptions::reset"),
    ("max.poll.interval.ms", "MemberOptions::revoke_timeout"),
    ("transactional.id", "ProducerOptions::transactional_id"),
    ("transaction.timeout.ms", "ProducerOptions::transaction_timeout"),
    ("partitioner", "ProducerOptions::partitioner"),
    ("message.timeout.ms", "ProducerOptions::delivery_timeout"),
    ("delivery.timeout.ms", "ProducerOptions::delivery_timeout"),
    ("batch.size", "ProducerOptions::max_batch_bytes"),
    ("message.max.bytes", "ProducerOptions::max_batch_bytes"),
    ("delivery.report.only.error", ""),
    ("partition.assignment.strategy", ""),
    ("enable.auto.commit", ""),
    ("enable.auto.offset.store", ""),
    ("enable.partition.eof", ""),
    ("enable.idempotence", ""),
    ("acks", ""),
    ("request.required.acks", ""),
    ("allow.auto.create.topics", ""),
];

impl Properties {
    fn check(&self) -> LogResult<()> {
        for (name, _) in &self.0 {
            if let Some((_, instead)) = OURS.iter().find(|(n, _)| n == name) {
                let reason = if instead.is_empty() {
                    "nothing lost and nothing doubled depends on its value, it can't be set".to_owned()
                } else {
                    format!("set {instead} instead")
                };
                return Err(config(&format!("Kafka property {name}"), reason));
            }
        }
        Ok(())
    }
}

/// Whether a property's value must not be shown.
pub(super) fn is_secret(name: &str) -> bool {
    ["password", "secret", "jaas", "token", ".pem", "oauthbearer.config"].iter().any(|s| name.contains(s))
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(k, v)| (k, if is_secret(k) { "***" } else { v }))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::security::{Sasl, SaslMechanism, Tls};
    use super::*;
    #[cfg(not(feature = "tls"))]
    use crate::log::LogError;

    #[test]
    fn debug_shows_no_secret() {
        let sasl = Sasl::new(SaslMechanism::Plain, "ann", "hush")
            .tls(Tls { key_password: Some("hush".into()), ..Tls::default() });
        let options = KafkaOptions::new("a:1")
            .security(Security::Sasl(sasl))
            .property("sasl.password", "hush")
            .producer_property("linger.ms", "7");
        let shown = format!("{options:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("ann") && shown.contains("linger.ms") && shown.contains('7'), "{shown}");
    }

    #[test]
    fn nonsense_is_named() {
        let refused = |o: KafkaOptions| o.check().unwrap_err().to_string();
        assert!(refused(KafkaOptions::new(" ")).contains("host:port"));
        assert!(refused(KafkaOptions::new("a:1,,b:2")).contains("host:port"));
        assert!(refused(KafkaOptions::new("http://a:1")).contains("URL"));
        assert!(refused(KafkaOptions::new("a:1").property("group.id", "g")).contains("MemberOptions::group"));
        assert!(refused(KafkaOptions::new("a:1").producer_property("acks", "1")).contains("can't be set"));
        let ours = ["delivery.report.only.error", "message.max.bytes", "heartbeat.interval.ms", "socket.timeout.ms"];
        for name in ours.into_iter().chain(["ssl.endpoint.identification.algorithm"]) {
            let error = refused(KafkaOptions::new("a:1").property(name, "1"));
            assert!(error.contains(name) && (error.contains("instead") || error.contains("can't be set")), "{error}");
        }
        let empty = Security::Sasl(Sasl::new(SaslMechanism::Plain, "", "x"));
        assert!(refused(KafkaOptions::new("a:1").security(empty)).contains("user"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_names_the_feature_it_needs() {
        for security in [
            Security::Tls(Tls::default()),
            Security::Sasl(Sasl::new(SaslMechanism::ScramSha512, "u", "p")),
            Security::Sasl(Sasl::new(SaslMechanism::Plain, "u", "p").tls(Tls::default())),
        ] {
            let error = KafkaOptions::new("a:1").security(security).check().unwrap_err();
            assert!(matches!(&error, LogError::Config { reason, .. } if reason.contains("feature \"tls\"")), "{error}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_files_are_looked_at_first() {
        let with = |tls| KafkaOptions::new("a:1").security(Security::Tls(tls)).check().unwrap_err().to_string();
        let missing = with(Tls { ca: Some("/nowhere/ca.pem".into()), ..Tls::default() });
        assert!(missing.contains("CA file /nowhere/ca.pem"), "{missing}");
        let half = with(Tls { cert: Some("/nowhere/c.pem".into()), ..Tls::default() });
        assert!(half.contains("go together"), "{half}");
    }
}
