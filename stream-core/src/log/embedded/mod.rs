//! The embedded log: topics, groups and transactions inside one process, in memory.
//!
//! It behaves as Kafka does, down to markers that take offsets, generations and fencing; the same conformance suite
//! runs against both. It is not a server: everything is lost with the process, and nothing is deleted by time or size
//! before [`InMemory::apply_retention`] is called (compacted topics are compacted). It spawns no thread, and a task
//! only to see to what a producer has under way in time; nothing in it is random: with a paused clock, one thread and the same calls, the same things happen.
//!
//! [`InMemory::faults`] makes it go wrong on demand.
//!
//! Members live by being polled: one whose [`Member::next`] is not polled for its session
//! time-out is out of its group. A member that is dropped without `close` is such a one.

mod assign;
mod compact;
mod fault_rules;
mod faults;
mod fetch;
mod group;
mod lanes;
mod member;
mod outbox;
mod partition;
mod producer;
mod state;
mod topics;
mod transactions;
mod wire;

#[cfg(feature = "testing")]
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::fault_rules::{Network, Outgoing};
pub use self::faults::{CommitHold, Denial, Fault, Faults, FetchHold, Hidden, On, Pending, ReplicaLoss};
use self::fetch::InMemoryReader;
use self::member::InMemoryMember;
use self::producer::InMemoryProducer;
use self::state::{BrokerState, Shared, ready};
use crate::clock::{Clock, SystemClock};
#[cfg(feature = "testing")]
use crate::log::{FetchLimits, OffsetAndMetadata, RecordBatch};
use crate::log::{
    GroupMember, Isolation, Log, LogError, LogResult, Member, MemberOptions, OffsetSpec, Offsets, Producer,
    ProducerOptions, Reader, TopicConfig, TopicInfo, TopicPartition, TopicSpec,
};

const NAME: &str = "the embedded log";

/// An embedded log. All handles of one see the same topics and groups.
pub struct InMemory {
    shared: Arc<Shared>,
}

impl InMemory {
    /// An empty log on the machine's clock.
    #[allow(clippy::new_ret_no_self, reason = "a log is shared")]
    pub fn new() -> Arc<Self> {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty log on a clock of your choice: records without a time get its time, and tombstones age by it.
    /// Sessions, transactions and delivery time-outs go by `tokio::time`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { shared: Shared::new(clock, None) })
    }

    /// As [`with_clock`](Self::with_clock), for calls that come from outside of the one runtime that all goes by: the
    /// paused time of a tester is not the machine's.
    #[cfg(feature = "testing")]
    pub(crate) fn on_runtime(clock: Arc<dyn Clock>, runtime: &tokio::runtime::Runtime) -> Arc<Self> {
        Arc::new(Self { shared: Shared::new(clock, Some(runtime.handle().clone())) })
    }

    /// Makes things go wrong.
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.shared))
    }

    /// Changes the cluster's defaults of topics, as in a broker's `server.properties`: for topics that do not set them
    /// themselves, those that exist included. What is `None` is as in Kafka.
    pub fn set_topic_defaults(&self, defaults: &TopicConfig) {
        self.shared.with(|state| state.topics.set_defaults(defaults));
    }

    /// Changes settings of a topic, as `kafka-configs.sh --alter --add-config` does. What is `None` stays.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn alter_topic(&self, name: &str, change: &TopicConfig) -> LogResult<()> {
        self.shared.with(|state| state.topics.alter(&name.into(), change))
    }

    /// Compacts all compacted topics, up to the last record of each partition (which is the active end) and to the
    /// last stable offset. Otherwise a partition is compacted when its log has doubled.
    pub fn compact_now(&self) {
        self.shared.with(|state| {
            let now = state.clock.now_ms();
            state.topics.all().for_each(|topic| topic.compact(now));
        });
    }

    /// Deletes from the start of each partition what its topic's `retention.ms` and `retention.bytes` do not keep, whether
    /// it was read or not. A broker does so every five minutes, segment by segment; here it goes record by record.
    pub fn apply_retention(&self) {
        self.shared.with(|state| {
            let now = state.clock.now_ms();
            for topic in state.topics.all() {
                topic.retain(now);
                topic.partitions.iter_mut().for_each(|p| p.wake(&mut state.wake));
            }
        });
    }

    /// The id of a topic, whether the log is in reach or not.
    #[cfg(feature = "testing")]
    pub(crate) fn id_of(&self, topic: &Arc<str>) -> Option<String> {
        self.shared.with(|state| state.topics.number(topic).map(|n| n.to_string()))
    }

    /// The committed offsets of a group.
    #[cfg(feature = "testing")]
    pub(crate) fn committed(&self, group: &str) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        self.shared.with(|state| state.groups.get(group).map(|g| g.committed.clone()).unwrap_or_default())
    }

    /// Sets committed offsets of a group, as `kafka-consumer-groups.sh --reset-offsets` does. It refuses, and gives false,
    /// while the group has members, or a transaction that is not decided has offsets of it.
    #[cfg(feature = "testing")]
    pub(crate) fn reset_offsets(&self, group: &str, to: Offsets) -> bool {
        self.shared.with(|state| {
            let Some(group) = state.groups.get_mut(group) else { return false };
            let quiet = group.members.is_empty() && group.pending.is_empty();
            if quiet {
                group.committed.extend(crate::log::types::without_metadata(to));
            }
            quiet
        })
    }

    /// Offsets and values of a partition's records, committed or not.
    #[cfg(feature = "testing")]
    pub(crate) fn records(&self, of: &TopicPartition) -> Vec<(i64, Vec<u8>)> {
        self.shared.with(|state| {
            let Ok(partition) = state.topics.partition(of) else { return Vec::new() };
            let mut records = RecordBatch::new();
            let limits = FetchLimits { records: usize::MAX, bytes: usize::MAX };
            partition.read(partition.start, Isolation::ReadUncommitted, limits, &mut records);
            records.iter().map(|r| (r.offset, r.value.unwrap_or_default().to_vec())).collect()
        })
    }

    /// Deletes a partition's records below an offset, whether the log is in reach or not.
    #[cfg(feature = "testing")]
    pub(crate) fn delete_below(&self, of: &TopicPartition, offset: i64) {
        self.shared.with(|state| {
            if let Ok(partition) = state.topics.partition(of) {
                partition.delete_below(offset);
                partition.wake(&mut state.wake);
            }
        });
    }

    /// Deletes a topic and makes it again with its settings. Its committed offsets are forgotten, or stay for a while.
    #[cfg(feature = "testing")]
    pub(crate) fn recreate_topic(&self, name: &str, forget: bool) {
        self.shared.with(|state| {
            let name: Arc<str> = name.into();
            let Ok(mut topic) = state.topics.delete(&name) else { return };
            topic.partitions.iter_mut().for_each(|p| p.wake(&mut state.wake));
            for group in state.groups.values_mut().filter(|_| forget) {
                group.committed.retain(|of, _| of.topic != name);
            }
            // It is there already, with the same settings.
            _ = state.topics.create(topic.spec());
            state.topic_changed(&name);
        });
    }

    /// The first commit of a group that went back: partition, from and to.
    #[cfg(feature = "testing")]
    pub(crate) fn set_back(&self, group: &str) -> Option<(TopicPartition, i64, i64)> {
        self.shared.with(|state| state.groups.get(group)?.set_back.clone())
    }

    /// The settings of a topic, whether they are shown or not.
    #[cfg(feature = "testing")]
    pub(crate) fn topic_config(&self, name: &str) -> Option<TopicConfig> {
        self.shared.with(|state| Some(state.topics.get(&name.into())?.config.clone()))
    }

    /// The members of a group, whether the log is in reach or not.
    #[cfg(feature = "testing")]
    pub(crate) fn member_ids(&self, group: &str) -> Vec<String> {
        self.shared.with(|state| {
            let members = state.groups.get(group).into_iter().flat_map(|g| g.members.keys());
            members.map(|id| member::member_id(*id)).collect()
        })
    }

    /// Does something with the state if the log is in reach.
    fn ask<R: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&mut BrokerState) -> LogResult<R>,
    ) -> BoxFuture<'static, LogResult<R>> {
        let answer = self.shared.with(|state| {
            state.reach(what)?;
            work(state)
        });
        ready(answer)
    }
}

/// Does something with each of a list, and gives the first error.
fn each<T>(list: Vec<T>, mut work: impl FnMut(T) -> LogResult<()>) -> LogResult<()> {
    // All are tried, whatever becomes of one.
    let results: Vec<_> = list.into_iter().map(&mut work).collect();
    results.into_iter().collect()
}

impl crate::log::Sealed for InMemory {}

impl Log for InMemory {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock)
    }

    fn topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<Vec<Option<TopicInfo>>>> {
        self.ask("look topics up", |state| {
            let shown = state.rules.configs_shown();
            let found = |name: &&Arc<str>| !state.rules.hidden.contains(&***name);
            let look = |name| state.topics.get(name).map(|t| t.info(shown));
            Ok(names.iter().map(|name| Some(name).filter(found).and_then(look)).collect())
        })
    }

    fn topic_id(&self, name: Arc<str>) -> BoxFuture<'static, LogResult<Option<Arc<str>>>> {
        self.ask("look a topic up", move |state| {
            let hidden = state.rules.hidden.contains(&*name);
            Ok(state.topics.number(&name).filter(|_| !hidden).map(|n| n.to_string().into()))
        })
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> BoxFuture<'static, LogResult<()>> {
        self.ask("create topics", |state| {
            each(topics, |spec| {
                let name = Arc::clone(&spec.name);
                state.topics.create(spec)?;
                state.topic_changed(&name);
                Ok(())
            })
        })
    }

    fn delete_topics(&self, names: Vec<Arc<str>>) -> BoxFuture<'static, LogResult<()>> {
        self.ask("delete topics", |state| {
            each(names, |name| {
                let mut topic = state.topics.delete(&name)?;
                topic.partitions.iter_mut().for_each(|p| p.wake(&mut state.wake));
                for group in state.groups.values_mut() {
                    group.committed.retain(|of, _| of.topic != name);
                }
                state.topic_changed(&name);
                Ok(())
            })
        })
    }

    fn grow_topic(&self, name: Arc<str>, total: i32) -> BoxFuture<'static, LogResult<()>> {
        self.ask("grow a topic", |state| {
            state.topics.grow(&name, total)?;
            state.topic_changed(&name);
            Ok(())
        })
    }

    fn delete_records(&self, below: Offsets) -> BoxFuture<'static, LogResult<()>> {
        self.ask("delete records", |state| {
            each(below, |(of, offset)| {
                if !state.topics.named(&of.topic)?.can_delete() {
                    let what = format!("delete records of {of}");
                    return Err(LogError::Config { what, reason: "its cleanup.policy is compact only".to_owned() });
                }
                let partition = state.topics.partition(&of)?;
                let (start, end) = (partition.start, partition.next);
                if !(0..=end).contains(&offset) {
                    return Err(LogError::OffsetOutOfRange { partition: of, offset, start, end });
                }
                partition.delete_below(offset);
                Ok(())
            })
        })
    }

    fn offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> BoxFuture<'static, LogResult<Vec<i64>>> {
        self.ask("look offsets up", |state| {
            of.iter()
                .map(|(of, spec)| {
                    let partition = state.topics.partition(of)?;
                    Ok(match spec {
                        OffsetSpec::Earliest => partition.start,
                        OffsetSpec::Latest => partition.end(isolation),
                        OffsetSpec::Time(time) => partition.offset_at(*time, isolation),
                    })
                })
                .collect()
        })
    }

    fn group_offsets(
        &self,
        group: Arc<str>,
        of: Vec<TopicPartition>,
    ) -> BoxFuture<'static, LogResult<Vec<Option<i64>>>> {
        let what = "look a group's offsets up";
        self.ask(what, |state| {
            state.reach_coordinator(what)?;
            let committed = state.groups.get(&group).map(|g| &g.committed);
            Ok(of.iter().map(|of| committed.and_then(|c| c.get(of)).map(|p| p.offset)).collect())
        })
    }

    fn group_members(&self, group: Arc<str>) -> BoxFuture<'static, LogResult<Vec<GroupMember>>> {
        self.ask("list a group's members", |state| {
            let members = state.groups.get(&group).into_iter().flat_map(|g| &g.members);
            let describe = |(id, member): (&u64, &group::Membership)| GroupMember {
                member_id: member::member_id(*id),
                client_id: member.options.instance_id.as_ref().map_or("embedded", |i| i).to_owned(),
                topics: Some(member.topics()),
            };
            Ok(members.map(describe).collect())
        })
    }

    fn member(&self, options: MemberOptions) -> LogResult<Box<dyn Member>> {
        if options.group.is_empty() {
            return Err(LogError::Config {
                what: "join a group".to_owned(),
                reason: "the group has no name".to_owned(),
            });
        }
        Ok(Box::new(InMemoryMember::new(Arc::clone(&self.shared), options)))
    }

    fn producer(&self, options: ProducerOptions) -> BoxFuture<'static, LogResult<Arc<dyn Producer>>> {
        let made = InMemoryProducer::new(&self.shared, &options);
        ready(made.map(|p| Arc::new(p) as Arc<dyn Producer>))
    }

    fn reader(&self, isolation: Isolation) -> LogResult<Arc<dyn Reader>> {
        Ok(Arc::new(InMemoryReader::new(Arc::clone(&self.shared), isolation)))
    }
}
