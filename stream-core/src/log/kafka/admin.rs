//! Topics: looking them up with their settings, creating, growing and deleting them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::Offset;
use rdkafka::admin::TopicReplication;
use rdkafka::admin::{
    AdminOptions, ConfigResource, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::connection::Connection;
use super::context::lock;
use super::query::{self, PAUSE, Partitions};
use crate::log::{Cleanup, LogError, LogResult, Offsets, TimestampType, TopicConfig, TopicInfo, TopicSpec};

/// How often the settings of topics are asked for that are not shown.
const LOOKS: u32 = 4;

impl Connection {
    fn admin_options(&self) -> AdminOptions {
        let time = self.options.request_timeout;
        AdminOptions::new().request_timeout(Some(time)).operation_timeout(Some(time))
    }

    /// Waits on the pool until a topic looks as it should.
    async fn wait_for(
        self: Arc<Self>,
        what: String,
        topic: Arc<str>,
        done: impl Fn(Option<&Partitions>) -> bool + Send + 'static,
    ) -> LogResult<()> {
        let this = Arc::clone(&self);
        let wait = move || {
            let until = this.until();
            loop {
                if done(this.partitions(&topic, until)?.as_ref()) {
                    return Ok(());
                }
                if Instant::now() >= until {
                    return Err(LogError::Timeout { what, reason: "the brokers don't show it yet".into() });
                }
                std::thread::sleep(PAUSE);
            }
        };
        self.pool.run("waiting for a topic", wait).await
    }

    /// Fails soon, and in good words, if nobody can be reached.
    async fn reach(self: &Arc<Self>, what: &'static str) -> LogResult<()> {
        let this = Arc::clone(self);
        let ask = move || {
            let client = this.query(crate::log::Isolation::ReadCommitted)?;
            let consumer = client.consumer()?;
            let until = this.until();
            // A look at a topic that can't be: it costs the broker nothing, whatever it holds.
            let asked = query::again(until, |time| {
                rdkafka::consumer::Consumer::client(&**consumer).fetch_metadata(Some("__consumer_offsets"), time)
            });
            asked.map_err(|e| this.error_context.error(what, &e))?;
            this.error_context.health.well();
            Ok(())
        };
        self.pool.run(what, ask).await
    }

    pub(super) async fn topics(self: Arc<Self>, names: Vec<Arc<str>>) -> LogResult<Vec<Option<TopicInfo>>> {
        let (this, asked) = (Arc::clone(&self), names.clone());
        let look = move || {
            let until = this.until();
            asked.iter().map(|name| this.partitions(name, until)).collect::<LogResult<Vec<_>>>()
        };
        let found = self.pool.run("looking up topics", look).await?;
        let existing: Vec<Arc<str>> =
            names.iter().zip(&found).filter(|(_, f)| f.is_some()).map(|(n, _)| Arc::clone(n)).collect();
        let configs = self.configs(&existing).await?;
        let info = names.into_iter().zip(found).map(|(name, found)| {
            let p = found?;
            let config = configs.get(&*name).cloned().unwrap_or_default();
            Some(TopicInfo::new(name, p.count, p.replication, config))
        });
        Ok(info.collect())
    }

    /// The settings of topics, by name; of those that we may see.
    async fn configs(&self, topics: &[Arc<str>]) -> LogResult<BTreeMap<String, TopicConfig>> {
        let mut found = BTreeMap::new();
        for look in 0.. {
            let shown = |t: &&Arc<str>| found.contains_key(&***t);
            let missing: Vec<&Arc<str>> = topics.iter().filter(|t| !shown(t)).collect();
            let known = lock(&self.hidden).clone();
            if missing.iter().all(|t| look > 0 && known.contains(*t)) {
                break;
            }
            if look == LOOKS {
                self.say_hidden(&missing);
                break;
            }
            if look > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            found.append(&mut self.shown(&missing).await?);
        }
        lock(&self.hidden).retain(|t| !found.contains_key(&**t));
        Ok(found)
    }

    /// The settings that the broker shows. The client does not say why it does not show others: the topic may be too new,
    /// or we may read it, but not see its settings.
    async fn shown(&self, topics: &[&Arc<str>]) -> LogResult<BTreeMap<String, TopicConfig>> {
        let asked: Vec<_> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
        let what = "looking up the settings of topics";
        let answer = self.admin()?.describe_configs(&asked, &self.admin_options()).await;
        let mut found = BTreeMap::new();
        for one in answer.map_err(|e| self.admin_error(what, &e))? {
            match one {
                Ok(resource) if resource.entries.is_empty() => {}
                Ok(resource) => {
                    if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
                        found.insert(name.clone(), settings(&resource));
                    }
                }
                Err(RDKafkaErrorCode::TopicAuthorizationFailed) => {}
                Err(code) => return Err(self.error_context.error(what, &KafkaError::AdminOp(code))),
            }
        }
        Ok(found)
    }

    /// Says once of each topic that its settings are not shown to us.
    fn say_hidden(&self, topics: &[&Arc<str>]) {
        let mut known = lock(&self.hidden);
        let new: Vec<&str> = topics.iter().filter(|t| known.insert(Arc::clone(t))).map(|t| &***t).collect();
        if !new.is_empty() {
            tracing::warn!(
                target: "kafka",
                topics = new.join(", "),
                "not allowed to see the settings of topics (DescribeConfigs): Kafka's defaults are assumed, and whether \
                 they suit their use is not checked"
            );
        }
    }

    pub(super) async fn create_topics(self: Arc<Self>, topics: Vec<TopicSpec>) -> LogResult<()> {
        if topics.is_empty() {
            return Ok(());
        }
        self.reach("creating topics").await?;
        let owned: Vec<Vec<(String, String)>> = topics.iter().map(|t| t.config.properties()).collect();
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .zip(&owned)
            .map(|(t, properties)| {
                let replication = TopicReplication::Fixed(t.replication.unwrap_or(-1));
                let topic = NewTopic::new(&t.name, t.partitions.unwrap_or(-1), replication);
                properties.iter().fold(topic, |topic, (k, v)| topic.set(k, v))
            })
            .collect();
        let answer = self.admin()?.create_topics(&new, &self.admin_options()).await;
        let answer = answer.map_err(|e| self.admin_error("creating topics", &e))?;
        let (mut failed, mut exists) = (None, None);
        for (one, spec) in answer.into_iter().zip(&topics) {
            let what = format!("creating topic {}", spec.name);
            match one {
                Ok(_) => {}
                // Somebody else may just have made it, so that it is waited for, too.
                Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => {
                    exists.get_or_insert(LogError::TopicExists { topic });
                }
                Err((_, code)) => {
                    failed.get_or_insert_with(|| self.error_context.error(&what, &KafkaError::AdminOp(code)));
                    continue;
                }
            }
            let led = |p: Option<&Partitions>| p.is_some_and(|p| p.led);
            Arc::clone(&self).wait_for(what, Arc::clone(&spec.name), led).await?;
        }
        failed.or(exists).map_or(Ok(()), Err)
    }

    pub(super) async fn delete_topics(self: Arc<Self>, names: Vec<Arc<str>>) -> LogResult<()> {
        if names.is_empty() {
            return Ok(());
        }
        self.reach("deleting topics").await?;
        let asked: Vec<&str> = names.iter().map(|n| &**n).collect();
        let answer = self.admin()?.delete_topics(&asked, &self.admin_options()).await;
        let answer = answer.map_err(|e| self.admin_error("deleting topics", &e))?;
        let mut failed = None;
        for (one, name) in answer.into_iter().zip(names) {
            let what = format!("deleting topic {name}");
            match one {
                Ok(_) => Arc::clone(&self).wait_for(what, name, |p| p.is_none()).await?,
                Err((topic, RDKafkaErrorCode::UnknownTopicOrPartition)) => {
                    failed.get_or_insert(LogError::UnknownTopic { topic });
                }
                Err((_, code)) => {
                    failed.get_or_insert_with(|| self.error_context.error(&what, &KafkaError::AdminOp(code)));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    pub(super) async fn grow_topic(self: Arc<Self>, name: Arc<str>, total: i32) -> LogResult<()> {
        let what = format!("growing topic {name} to {total} partitions");
        self.reach("growing a topic").await?;
        let new = NewPartitions::new(&name, usize::try_from(total).unwrap_or(0));
        let answer = self.admin()?.create_partitions([&new], &self.admin_options()).await;
        let answer = answer.map_err(|e| self.admin_error(&what, &e))?;
        match answer.into_iter().next() {
            Some(Err((topic, RDKafkaErrorCode::UnknownTopicOrPartition))) => Err(LogError::UnknownTopic { topic }),
            Some(Err((_, code))) => Err(self.error_context.error(&what, &KafkaError::AdminOp(code))),
            _ => {
                let grown = move |p: Option<&Partitions>| p.is_some_and(|p| p.count >= total && p.led);
                self.wait_for(what, Arc::clone(&name), grown).await
            }
        }
    }

    pub(super) async fn delete_records(self: Arc<Self>, below: Offsets) -> LogResult<()> {
        let what = "deleting records";
        if below.is_empty() {
            return Ok(());
        }
        let (this, of) = (Arc::clone(&self), below.clone());
        let exist = move || this.exist(of.iter().map(|(tp, _)| tp), this.until());
        self.pool.run(what, exist).await?;
        let list = query::list(below.iter().map(|(tp, offset)| (tp, Offset::Offset(*offset))));
        let list = list.map_err(|e| self.error_context.error(what, &e))?;
        let answer = self.admin()?.delete_records(&list, &self.admin_options()).await;
        let answer = answer.map_err(|e| self.admin_error(what, &e))?;
        for e in answer.elements() {
            let tp = crate::log::TopicPartition::new(e.topic(), e.partition());
            e.error().map_err(|error| match super::error::code(&error) {
                Some(RDKafkaErrorCode::OffsetOutOfRange) => LogError::Config {
                    what: format!("deleting records of {tp}"),
                    reason: "the offset is behind the partition's end".into(),
                },
                _ => self.error_context.partition_error(what, &tp, &error),
            })?;
        }
        Ok(())
    }
}

fn settings(resource: &ConfigResource) -> TopicConfig {
    let value = |name: &str| resource.get(name).and_then(|e| e.value.as_deref());
    let number = |name: &str| value(name).and_then(|v| v.parse().ok());
    let cleanup = value("cleanup.policy").map(|v| match (v.contains("compact"), v.contains("delete")) {
        (true, true) => Cleanup::CompactDelete,
        (true, false) => Cleanup::Compact,
        _ => Cleanup::Delete,
    });
    TopicConfig {
        cleanup,
        retention_ms: number("retention.ms"),
        delete_retention_ms: number("delete.retention.ms"),
        max_message_bytes: number("max.message.bytes"),
        retention_bytes: number("retention.bytes"),
        timestamp_type: value("message.timestamp.type").and_then(|v| match v {
            "CreateTime" => Some(TimestampType::CreateTime),
            "LogAppendTime" => Some(TimestampType::LogAppendTime),
            _ => None,
        }),
        timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
        timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
        compression_type: value("compression.type").map(str::to_owned),
        min_insync_replicas: value("min.insync.replicas").and_then(|v| v.parse().ok()),
        other: Vec::new(),
    }
}
