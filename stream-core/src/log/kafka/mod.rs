//! Kafka, through librdkafka. The only place that names `rdkafka`.
//!
//! # Threads
//! Calls that block run on threads of the adapter, never on a caller's: a small pool for look-ups, one
//! thread for the commits of each member, one for the events of each client, two for each producer (one hands records
//! over, one serves deliveries), and for a moment one that closes a client, or waits for a producer's writes to arrive. Records are fetched on the thread that asks for them, without waiting.
//!
//! # Headers
//! Names of headers are text. A header whose name is not UTF-8 is left out of its record, which is logged; the client
//! library panics over it, which is caught (where panics abort the process, it ends).
//!
//! # Layout
//! `options` and `config` (what can be set), `connection` (what is shared), `query`, `topic_ids` and `admin` (look-ups and
//! topics), `member`, `poller`, `assignment`, `rebalance` (groups), `fetch` (one partition's records), `reader`, `producer`, `brokers_lost` (clients that
//! librdkafka leaves without a broker).

mod admin;
mod assignment;
mod blocking;
mod client_health;
mod config;
mod connection;
mod context;
mod error;
mod fetch;
mod member;
mod options;
mod poller;
mod producer;
mod query;
mod reader;
mod rebalance;
mod security;
mod topic_id_query;
mod topic_ids;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use self::connection::Connection;
pub use self::options::{Compression, KafkaOptions, Properties};
pub use self::security::{Sasl, SaslMechanism, Secret, Security, Tls};
use super::{
    GroupMember, Isolation, Log, LogError, LogResult, Member, MemberOptions, OffsetSpec, Offsets, Producer,
    ProducerOptions, Reader, TopicInfo, TopicPartition, TopicSpec,
};
use crate::clock::{Clock, SystemClock};

/// A connection to a Kafka.
pub struct Kafka {
    connection: Arc<Connection>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("options", &self.connection.options).finish_non_exhaustive()
    }
}

impl Kafka {
    /// Checks the options and makes a connection. Brokers are looked for in the background: one that can't be reached
    /// shows in the first thing that is asked of it.
    pub fn connect(options: KafkaOptions) -> LogResult<Arc<Self>> {
        Ok(Arc::new(Self { connection: Arc::new(Connection::new(options)?) }))
    }
}

impl crate::log::Sealed for Kafka {}

impl Log for Kafka {
    fn name(&self) -> String {
        format!("kafka at {}", self.connection.options.brokers)
    }

    fn brokers(&self) -> Option<String> {
        Some(self.connection.options.brokers.clone())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>> {
        Arc::clone(&self.connection).topics(names).boxed()
    }

    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>> {
        let connection = Arc::clone(&self.connection);
        self.connection.pool.run("looking up a topic's id", move || connection.topic_id(&name))
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>> {
        Arc::clone(&self.connection).create_topics(topics).boxed()
    }

    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>> {
        Arc::clone(&self.connection).delete_topics(names).boxed()
    }

    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>> {
        Arc::clone(&self.connection).grow_topic(name, total).boxed()
    }

    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>> {
        Arc::clone(&self.connection).delete_records(below).boxed()
    }

    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>> {
        let connection = Arc::clone(&self.connection);
        self.connection.pool.run("looking up offsets", move || connection.offsets(&of, isolation))
    }

    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>> {
        let connection = Arc::clone(&self.connection);
        self.connection.pool.run("looking up a group's offsets", move || connection.group_offsets(&group, &of))
    }

    fn group_members(&self, group: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>> {
        let connection = Arc::clone(&self.connection);
        self.connection.pool.run("looking up a group's members", move || connection.group_members(&group))
    }

    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>> {
        Ok(Box::new(member::KafkaMember::new(Arc::clone(&self.connection), options)?))
    }

    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>> {
        let connection = Arc::clone(&self.connection);
        self.connection.pool.run("making a producer", move || {
            Ok(Arc::new(producer::KafkaProducer::new(&connection, &options)?) as Arc<dyn Producer>)
        })
    }

    fn brokers_lost(&self) -> BoxFuture<'static, LogError> {
        self.connection.brokers_lost.next(&self.connection.options.brokers)
    }

    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>> {
        self.bounded_reader(isolation, None)
    }

    fn bounded_reader(&self, isolation: Isolation, prefetch: Option<usize>) -> LogResult<Arc<dyn Reader>> {
        Ok(Arc::new(reader::KafkaReader::new(Arc::clone(&self.connection), isolation, prefetch)?))
    }
}
