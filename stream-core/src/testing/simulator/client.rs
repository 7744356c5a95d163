//! An instance's connection to the log: calls take time, and end with the instance's life.
//!
//! It must never change what a call does or answers, only when, and whether the instance lives to see it.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::client_fetch::SimFetch;
use super::client_group::SimMember;
use super::client_producer::SimProducer;
use super::life::Life;
use crate::clock::Clock;
use crate::log::{
    Fetch, GroupMember, Isolation, Log, LogHandle, LogResult, Member, MemberOptions, OffsetSpec, Offsets, Producer,
    ProducerOptions, Reader, TopicInfo, TopicPartition, TopicSpec,
};

/// The log as one life of an instance has it.
pub(super) struct Client {
    inner: LogHandle,
    life: Arc<Life>,
}

impl Client {
    pub(super) fn new(inner: LogHandle, life: Arc<Life>) -> Self {
        Self { inner, life }
    }

    fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        ask: impl FnOnce(LogHandle) -> BoxFuture<'static, T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let inner = Arc::clone(&self.inner);
        self.life.call(what, move || ask(inner))
    }
}

impl crate::log::Sealed for Client {}

impl Log for Client {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }

    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>> {
        self.ask("topics", |log| log.topics(names))
    }

    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>> {
        self.ask("a topic's id", |log| log.topic_id(name))
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>> {
        self.ask("create topics", |log| log.create_topics(topics))
    }

    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>> {
        self.ask("delete topics", |log| log.delete_topics(names))
    }

    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>> {
        self.ask("grow a topic", move |log| log.grow_topic(name, total))
    }

    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>> {
        self.ask("delete records", |log| log.delete_records(below))
    }

    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>> {
        self.ask("offsets", move |log| log.offsets(of, isolation))
    }

    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>> {
        self.ask("group offsets", |log| log.group_offsets(group, of))
    }

    fn group_members(&self, group: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>> {
        self.ask("group members", |log| log.group_members(group))
    }

    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>> {
        let inner = self.inner.member(options)?;
        Ok(Box::new(SimMember::new(inner, Arc::clone(&self.life))))
    }

    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>> {
        let life = Arc::clone(&self.life);
        self.ask("make a producer", move |log| {
            async move {
                let inner = log.producer(options).await?;
                life.keep(&inner);
                Ok(Arc::new(SimProducer::new(inner, life)) as Arc<dyn Producer>)
            }
            .boxed()
        })
    }

    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>> {
        let inner = self.inner.reader(isolation)?;
        Ok(Arc::new(SimReader { inner, life: Arc::clone(&self.life) }))
    }
}

struct SimReader {
    inner: Arc<dyn Reader>,
    life: Arc<Life>,
}

impl crate::log::Sealed for SimReader {}

impl Reader for SimReader {
    fn read(&self, partition: TopicPartition, from: i64) -> BoxFuture<'static, LogResult<Box<dyn Fetch>>> {
        let (inner, life) = (Arc::clone(&self.inner), Arc::clone(&self.life));
        self.life.call("read", move || {
            async move {
                let of = partition.clone();
                let fetch = inner.read(partition, from).await?;
                Ok(Box::new(SimFetch::new(fetch, of, life)) as Box<dyn Fetch>)
            }
            .boxed()
        })
    }
}
