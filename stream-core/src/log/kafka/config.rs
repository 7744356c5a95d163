//! From our options to librdkafka's properties, for each kind of client.
//!
//! Every value that correctness depends on is set here, after the user's own, and nowhere else.

use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::client_health::STATISTICS_MS;
use super::options::{KafkaOptions, Properties, is_secret};
use super::security::{Security, Tls};
use crate::log::{Isolation, LogError, LogResult, MemberOptions, Partitioner, ProducerOptions};

/// The largest record that is sent at all; what a topic takes is the broker's to say.
pub(super) const MAX_RECORD_BYTES: usize = 64 << 20;
/// As in Java clients, and a little below the default `max.message.bytes` of a topic.
const BATCH_BYTES: usize = 1_000_000;
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a record may wait to be taken by librdkafka, and from then on for its acknowledgement: librdkafka counts from
/// there, and both together are the bound past which nothing is written.
pub(super) fn delivery_bounds(options: &ProducerOptions) -> (Duration, Duration) {
    let bound = options.delivery_timeout.unwrap_or(DELIVERY_TIMEOUT);
    let entering = bound / 3;
    let rest = bound.saturating_sub(entering);
    let written = match &options.transactional_id {
        None => rest,
        // librdkafka wants records to fail before their transaction does.
        Some(_) => rest.min(options.transaction_timeout.unwrap_or(TRANSACTION_TIMEOUT)),
    };
    (entering, written)
}

fn ms(d: Duration) -> String {
    d.as_millis().to_string()
}

fn apply(config: &mut ClientConfig, properties: &Properties) {
    for (name, value) in &properties.0 {
        config.set(name, value);
    }
}

fn file(config: &mut ClientConfig, name: &str, path: Option<&Path>) {
    if let Some(path) = path {
        config.set(name, path.to_string_lossy());
    }
}

fn tls(config: &mut ClientConfig, tls: &Tls) {
    file(config, "ssl.ca.location", tls.ca.as_deref());
    file(config, "ssl.certificate.location", tls.cert.as_deref());
    file(config, "ssl.key.location", tls.key.as_deref());
    if let Some(password) = &tls.key_password {
        config.set("ssl.key.password", password.expose());
    }
    config.set("ssl.endpoint.identification.algorithm", if tls.verify_hostname { "https" } else { "none" });
}

fn base(options: &KafkaOptions) -> ClientConfig {
    let mut c = ClientConfig::new();
    c.set_log_level(RDKafkaLogLevel::Info);
    // A broker that comes back is found again soon.
    c.set("reconnect.backoff.ms", "100").set("reconnect.backoff.max.ms", "2000");
    // A topic that is created properly is known by then; one that does not exist is recognized in good time.
    c.set("topic.metadata.propagation.max.ms", "5000");
    c.set("socket.timeout.ms", ms(options.request_timeout.clamp(Duration::from_secs(1), Duration::from_secs(60))));
    c.set("socket.nagle.disable", "true");
    c.set("statistics.interval.ms", STATISTICS_MS.to_string());
    apply(&mut c, &options.common);
    c.set("bootstrap.servers", &options.brokers).set("client.id", &options.client_id);
    // A topic is created because somebody asked for it, never by a look at it.
    c.set("allow.auto.create.topics", "false");
    match &options.security {
        Security::Plaintext => {
            c.set("security.protocol", "plaintext");
        }
        Security::Tls(t) => {
            c.set("security.protocol", "ssl");
            tls(&mut c, t);
        }
        Security::Sasl(sasl) => {
            c.set("security.protocol", if sasl.tls.is_some() { "sasl_ssl" } else { "sasl_plaintext" });
            c.set("sasl.mechanism", sasl.mechanism.name());
            c.set("sasl.username", &sasl.user).set("sasl.password", sasl.password.expose());
            if let Some(t) = &sasl.tls {
                tls(&mut c, t);
            }
        }
    }
    c
}

/// A client for topics; librdkafka takes it for a producer.
pub(super) fn admin(options: &KafkaOptions) -> ClientConfig {
    let mut c = base(options);
    // Nobody polls this client's events: they would pile up.
    c.set("statistics.interval.ms", "0").set_log_level(RDKafkaLogLevel::Emerg);
    c
}

/// A bound on what is fetched ahead of each partition counts instead of the connection's, if it is lower.
fn fetching(options: &KafkaOptions, isolation: Isolation, prefetch: Option<usize>) -> ClientConfig {
    let mut c = base(options);
    // Only matters for how soon an end is noticed: a fetch with records is answered at once.
    c.set("fetch.wait.max.ms", "100");
    // The default of a second makes a sawtooth: each full queue would stop fetching for that long.
    c.set("fetch.queue.backoff.ms", "2");
    // Per partition, for each has its own queue. The bytes bound the memory, the number the look-ahead.
    c.set("queued.min.messages", "50000");
    let ahead = prefetch.map_or(options.prefetch, |bound| bound.min(options.prefetch));
    if prefetch.is_some() {
        // A fetch's answer comes on top of what is queued, and stays as a whole as long as one of its records does.
        c.set("fetch.message.max.bytes", (ahead / 2).clamp(16 << 10, 1 << 20).to_string());
    }
    c.set("queued.max.messages.kbytes", (ahead / 1024).clamp(1, 2_097_151).to_string());
    c.set("fetch.error.backoff.ms", "100");
    apply(&mut c, &options.consumer);
    c.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    c.set("enable.partition.eof", "true");
    // Every position is made explicit. One that the log does not have is an error, never a jump.
    c.set("auto.offset.reset", "error");
    c.set("isolation.level", isolation_name(isolation));
    c
}

fn isolation_name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    }
}

/// A client for metadata and offsets. It has no group.
pub(super) fn query(options: &KafkaOptions, isolation: Isolation) -> ClientConfig {
    let mut c = base(options);
    c.set("isolation.level", isolation_name(isolation));
    c
}

/// A client that looks the ids of topics up, which librdkafka writes in a debug line.
pub(super) fn topic_ids(options: &KafkaOptions) -> ClientConfig {
    let mut c = query(options, Isolation::ReadCommitted);
    // It is polled while it is asked only.
    c.set("statistics.interval.ms", "0");
    let debug = c.get("debug").map_or("topic".to_owned(), |user| format!("{user},topic"));
    c.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    c
}

/// A client that looks a group's offsets up, with require-stable: offsets in an open transaction are waited for.
pub(super) fn group_query(options: &KafkaOptions, group: &str) -> ClientConfig {
    let mut c = query(options, Isolation::ReadCommitted);
    c.set("group.id", group).set("enable.auto.commit", "false");
    c
}

/// A client that reads partitions by hand. librdkafka wants a group's name for it, which is never used.
pub(super) fn reader(options: &KafkaOptions, isolation: Isolation, prefetch: Option<usize>) -> ClientConfig {
    let mut c = fetching(options, isolation, prefetch);
    c.set("group.id", format!("{}-reader-unused", options.client_id));
    c
}

/// A client that is a member of a group.
pub(super) fn member(options: &KafkaOptions, member: &MemberOptions) -> ClientConfig {
    let mut c = fetching(options, member.isolation, member.prefetch);
    c.set("group.id", &*member.group);
    // The line with a changed member id is a debug line.
    let debug = c.get("debug").map_or("cgrp".to_owned(), |user| format!("{user},cgrp"));
    c.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    if let Some(id) = &member.instance_id {
        c.set("group.instance.id", &**id);
    }
    if member.new_protocol {
        // It forbids to set the session's time-out and the strategy.
        c.set("group.protocol", "consumer");
    } else {
        c.set("group.protocol", "classic");
        c.set("partition.assignment.strategy", "cooperative-sticky");
        c.set("session.timeout.ms", ms(member.session_timeout));
        let beat = (member.session_timeout / 10).clamp(Duration::from_millis(100), Duration::from_secs(3));
        c.set("heartbeat.interval.ms", ms(beat));
    }
    c.set("max.poll.interval.ms", ms(rebalance_bound(options, member)));
    c
}

/// How long a member may take to answer a rebalance.
pub(super) fn rebalance_bound(options: &KafkaOptions, member: &MemberOptions) -> Duration {
    // Holding a revocation back must not cost the membership; look-ups of offsets come on top.
    let held = member.revoke_timeout + options.request_timeout + Duration::from_secs(5);
    held.max(member.session_timeout)
}

/// A client that produces.
pub(super) fn producer(options: &KafkaOptions, producer: &ProducerOptions) -> ClientConfig {
    let mut c = base(options);
    c.set("linger.ms", "5");
    // What is beyond waits in our own queue, where it costs nothing twice.
    let queue = producer.queue_bytes.map_or(131_072, |bytes| (bytes / 1024).clamp(1, 131_072));
    c.set("queue.buffering.max.messages", "200000").set("queue.buffering.max.kbytes", queue.to_string());
    c.set("batch.num.messages", "50000");
    c.set("compression.type", options.compression.name());
    apply(&mut c, &options.producer);
    c.set("enable.idempotence", "true").set("acks", "all");
    c.set(
        "partitioner",
        match producer.partitioner {
            Partitioner::Murmur2Random => "murmur2_random",
            Partitioner::Fnv1aRandom => "fnv1a_random",
        },
    );
    c.set("message.timeout.ms", ms(delivery_bounds(producer).1));
    // Batches are kept below the smallest topic's limit, yet a single record may be as large as a topic lets it:
    // librdkafka sends one that is larger than a batch in a separate batch.
    c.set("message.max.bytes", MAX_RECORD_BYTES.to_string());
    let batch = producer.max_batch_bytes.unwrap_or(BATCH_BYTES).clamp(1, MAX_RECORD_BYTES);
    c.set("batch.size", batch.to_string());
    if let Some(id) = &producer.transactional_id {
        let timeout = producer.transaction_timeout.unwrap_or(TRANSACTION_TIMEOUT);
        c.set("transactional.id", &**id).set("transaction.timeout.ms", ms(timeout));
        // librdkafka wants requests to fail before their transaction does.
        c.set("socket.timeout.ms", ms(timeout.min(options.request_timeout)));
    }
    c
}

/// Puts librdkafka's refusal of a property into words, without the value of a secret.
pub(super) fn refused(error: &KafkaError) -> LogError {
    let (what, reason) = match error {
        KafkaError::ClientConfig(_, _, name, _) if is_secret(name) => {
            (format!("Kafka property {name}"), "librdkafka refuses its value".to_owned())
        }
        KafkaError::ClientConfig(_, reason, name, _) => (format!("Kafka property {name}"), reason.clone()),
        KafkaError::ClientCreation(reason) => ("Kafka options".to_owned(), reason.clone()),
        other => ("Kafka options".to_owned(), other.to_string()),
    };
    LogError::Config { what, reason }
}

/// Lets librdkafka look at every property before anything is started.
pub(super) fn check(options: &KafkaOptions) -> LogResult<()> {
    options.check()?;
    for c in [reader(options, Isolation::ReadCommitted, None), producer(options, &ProducerOptions::default())] {
        c.create_native_config().map_err(|e| refused(&e))?;
    }
    Ok(())
}
