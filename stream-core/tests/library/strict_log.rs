//! A log that refuses properties of topics, or hides their settings, as brokers may.

#![allow(unreachable_pub, reason = "each test file uses a part of it")]

use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, FutureExt};
use stream_core::clock::Clock;
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    GroupMember, Isolation, Log, LogError, LogResult, Member, MemberOptions, OffsetSpec, Offsets, Producer,
    ProducerOptions, Reader, TopicConfig, TopicInfo, TopicPartition, TopicSpec,
};

/// An embedded log whose broker refuses properties at a topic's creation, or hides topics' settings.
pub struct Strict {
    pub log: Arc<InMemory>,
    refused: Vec<&'static str>,
    hides: bool,
    pub made: Mutex<Vec<TopicSpec>>,
}

impl Strict {
    pub fn new(refused: &[&'static str], hides: bool) -> Arc<Self> {
        Self::over(InMemory::new(), refused, hides)
    }

    pub fn over(log: Arc<InMemory>, refused: &[&'static str], hides: bool) -> Arc<Self> {
        Arc::new(Self { log, refused: refused.to_vec(), hides, made: Mutex::default() })
    }
}

/// The properties that a topic is asked to have.
fn names(config: &TopicConfig) -> Vec<&str> {
    let named = [
        ("cleanup.policy", config.cleanup.is_some()),
        ("retention.bytes", config.retention_bytes.is_some()),
        ("max.message.bytes", config.max_message_bytes.is_some()),
        ("compression.type", config.compression_type.is_some()),
        ("message.timestamp.type", config.timestamp_type.is_some()),
        ("message.timestamp.before.max.ms", config.timestamp_before_max_ms.is_some()),
        ("message.timestamp.after.max.ms", config.timestamp_after_max_ms.is_some()),
    ];
    let named = named.into_iter().filter(|(_, is)| *is).map(|(name, _)| name);
    named.chain(config.other.iter().map(|(name, _)| name.as_str())).collect()
}

impl stream_core::log::Sealed for Strict {}

impl Log for Strict {
    fn name(&self) -> String {
        "a strict log".to_owned()
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.log.clock()
    }
    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>> {
        let (found, hides) = (self.log.topics(names), self.hides);
        async move {
            let mut found = found.await?;
            if hides {
                found.iter_mut().flatten().for_each(|info| info.config = TopicConfig::default());
            }
            Ok(found)
        }
        .boxed()
    }
    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>> {
        self.log.topic_id(name)
    }
    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>> {
        // As Kafka does: each topic is judged alone, the others are created all the same.
        let (refused, good): (Vec<_>, Vec<_>) =
            topics.into_iter().partition(|t| names(&t.config).iter().any(|name| self.refused.contains(name)));
        self.made.lock().unwrap().extend(good.iter().cloned());
        let made = self.log.create_topics(good);
        if refused.is_empty() {
            return made;
        }
        let (what, reason) = ("create topics".to_owned(), "InvalidConfig, on purpose".to_owned());
        async move {
            made.await?;
            Err(LogError::Config { what, reason })
        }
        .boxed()
    }
    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>> {
        self.log.delete_topics(names)
    }
    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>> {
        self.log.grow_topic(name, total)
    }
    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>> {
        self.log.delete_records(below)
    }
    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>> {
        self.log.offsets(of, isolation)
    }
    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>> {
        self.log.group_offsets(group, of)
    }
    fn group_members(&self, group: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>> {
        self.log.group_members(group)
    }
    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>> {
        self.log.member(options)
    }
    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>> {
        self.log.producer(options)
    }
    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>> {
        self.log.reader(isolation)
    }
}
