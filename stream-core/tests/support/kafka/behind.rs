//! A log whose host has a clock that is behind.

use std::sync::Arc;

use futures::future::BoxFuture;
use stream_core::clock::{Clock, SystemClock};
use stream_core::log::{
    GroupMember, Isolation, Log, LogError, LogHandle, LogResult, Member, MemberOptions, OffsetSpec, Offsets, Producer,
    ProducerOptions, Reader, TopicInfo, TopicPartition, TopicSpec,
};

/// The machine's clock, so many milliseconds behind.
#[derive(Debug)]
struct Slow(i64);

impl Clock for Slow {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() - self.0
    }
    fn sleep_until(&self, at: i64) -> BoxFuture<'static, ()> {
        SystemClock.sleep_until(at + self.0)
    }
}

/// A log as a host sees it whose clock is so many milliseconds behind.
pub struct Behind(pub LogHandle, pub i64);

impl stream_core::log::Sealed for Behind {}

impl Log for Behind {
    fn name(&self) -> String {
        self.0.name()
    }
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(Slow(self.1))
    }
    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>> {
        self.0.topics(names)
    }
    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>> {
        self.0.topic_id(name)
    }
    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>> {
        self.0.create_topics(topics)
    }
    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>> {
        self.0.delete_topics(names)
    }
    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>> {
        self.0.grow_topic(name, total)
    }
    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>> {
        self.0.delete_records(below)
    }
    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>> {
        self.0.offsets(of, isolation)
    }
    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>> {
        self.0.group_offsets(group, of)
    }
    fn group_members(&self, group: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>> {
        self.0.group_members(group)
    }
    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>> {
        self.0.member(options)
    }
    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>> {
        self.0.producer(options)
    }
    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>> {
        self.0.reader(isolation)
    }
    fn brokers_lost(&self) -> BoxFuture<'static, LogError> {
        self.0.brokers_lost()
    }
}
