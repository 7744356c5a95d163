//! The topic manager: what a group's topics must be, made so where they are missing, checked where they exist.
//!
//! It never changes a topic that exists, and never deletes one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::group::GroupGraph;
use crate::log::{Cleanup, LogError, LogHandle, TopicConfig, TopicInfo, TopicSpec};
use crate::processor::ProcessorError;
use crate::wait;

/// How missing topics are made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicOptions {
    /// Whether to make them at all (default); else a missing topic is an error.
    pub create: bool,
    /// Partitions of inputs and outputs that are missing; the existing inputs' count, else the broker's default.
    pub partitions: Option<i32>,
    /// Replicas of each partition; the broker's default if not set.
    pub replication: Option<i32>,
    /// `retention.ms` of outputs and dead letters that are made; the broker's default if not set.
    pub retention_ms: Option<i64>,
    /// How long to wait for joined and looked-up tables, which their own groups make.
    pub wait_for_tables: Duration,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            create: true,
            partitions: None,
            replication: None,
            retention_ms: None,
            wait_for_tables: Duration::from_secs(30),
        }
    }
}

/// What a group needs to know of its topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicFacts {
    /// Every topic of the group.
    pub(crate) topics: BTreeMap<Arc<str>, TopicInfo>,
    /// Topics whose partition count must not change while the group runs.
    pub(crate) fixed: BTreeMap<Arc<str>, i32>,
}

/// What Kafka itself adds to a record: the batch's header and the record's lengths.
const RECORD_OVERHEAD: i64 = 128;

impl TopicFacts {
    /// The largest record that a topic takes, in bytes of key, value and headers.
    pub(crate) fn limit(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(usize::MAX, record_limit)
    }

    pub(crate) fn tombstones(&self) -> BTreeMap<Arc<str>, i64> {
        self.topics.iter().filter_map(|(name, t)| Some((Arc::clone(name), t.config.delete_retention_ms?))).collect()
    }
}

/// How long it may take until all brokers know of a topic that was made.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);

/// When to look again at topics that were not to be seen.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The largest record that a topic takes, in bytes of key, value and headers.
pub(crate) fn record_limit(topic: &TopicInfo) -> usize {
    let bytes = topic.config.max_message_bytes;
    bytes.and_then(|b| usize::try_from(b - RECORD_OVERHEAD).ok()).unwrap_or(usize::MAX)
}

struct Manager<'a> {
    log: &'a LogHandle,
    graph: &'a GroupGraph,
    options: &'a TopicOptions,
}

/// Makes what is missing and checks what exists.
pub(crate) async fn ensure(
    log: &LogHandle,
    graph: &GroupGraph,
    options: &TopicOptions,
) -> Result<TopicFacts, ProcessorError> {
    Manager { log, graph, options }.ensure().await
}

impl Manager<'_> {
    async fn ensure(&self) -> Result<TopicFacts, ProcessorError> {
        let graph = self.graph;
        let inputs: Vec<_> = graph.inputs.iter().filter(|e| !e.own).map(|e| Arc::clone(&e.input.topic)).collect();
        let tables: Vec<_> = graph.joins.iter().chain(&graph.lookups).map(|e| Arc::clone(&e.topic)).collect();
        let mut known = self.look_up(&inputs).await?;
        self.wait_for_tables(&tables, &mut known).await?;

        // The inputs first: what the group owns takes its partition count from them.
        let count = inputs.iter().filter_map(|t| known.get(t)).map(|t| t.partitions).max();
        let count = count.or(self.options.partitions);
        self.make(inputs.iter().map(|t| self.spec(t, count, None)).collect(), &mut known).await?;
        let lead = graph.lead();
        let count = inputs.iter().filter_map(|t| known.get(t)).map(|t| t.partitions).max().or(count);
        let mut own: Vec<TopicSpec> = Vec::new();
        for table in graph.tables() {
            own.push(self.spec(&table.topic, count, Some(compacted())));
        }
        if let Some(positions) = graph.positions().filter(|p| graph.tables().all(|t| t.topic != *p)) {
            own.push(self.spec(&positions, count, Some(soon_compacted())));
        }
        for edge in graph.inputs.iter().filter(|e| e.own) {
            let keep = TopicConfig { retention_ms: Some(-1), ..TopicConfig::default() };
            own.push(self.spec(&edge.input.topic, count, Some(keep)));
        }
        if let Some(lead) = lead.as_ref().filter(|l| graph.table.as_ref().is_none_or(|t| t.topic != **l)) {
            own.push(self.spec(lead, count, None));
        }
        let written = TopicConfig { retention_ms: self.options.retention_ms, ..TopicConfig::default() };
        let others = graph.outputs.iter().map(|e| &e.topic).chain(graph.dead_letters());
        for topic in others {
            if !own.iter().any(|s| s.name == *topic) {
                own.push(self.spec(topic, self.options.partitions.or(count), Some(written.clone())));
            }
        }
        self.make(own, &mut known).await?;
        let fixed = self.check(&known, lead.as_ref())?;
        Ok(TopicFacts { topics: known, fixed })
    }

    fn spec(&self, name: &Arc<str>, partitions: Option<i32>, config: Option<TopicConfig>) -> TopicSpec {
        let mut spec = TopicSpec::new(Arc::clone(name)).config(config.unwrap_or_default());
        spec.partitions = partitions;
        spec.replication = self.options.replication;
        spec
    }

    async fn look_up(&self, names: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, TopicInfo>, ProcessorError> {
        let found = self.log.topics(names.to_vec()).await.map_err(|e| self.log_error("look topics up", e))?;
        Ok(names.iter().zip(found).filter_map(|(name, info)| Some((Arc::clone(name), info?))).collect())
    }

    async fn wait_for_tables(
        &self,
        tables: &[Arc<str>],
        known: &mut BTreeMap<Arc<str>, TopicInfo>,
    ) -> Result<(), ProcessorError> {
        let who = format!("group {}", self.graph.name());
        let found = wait::for_topics(self.log, tables, self.options.wait_for_tables, &who).await;
        match found.map_err(|e| self.log_error("look topics up", e))? {
            Ok(found) => known.extend(found.into_iter().map(|info| (Arc::clone(&info.name), info))),
            Err(missing) => {
                let problem = format!("table topic {missing} does not exist");
                return Err(self.error(problem, "start the group that owns it first, or create the topic"));
            }
        }
        Ok(())
    }

    /// Makes the topics that do not exist, and learns what all of them are.
    async fn make(
        &self,
        specs: Vec<TopicSpec>,
        known: &mut BTreeMap<Arc<str>, TopicInfo>,
    ) -> Result<(), ProcessorError> {
        let names: Vec<_> = specs.iter().map(|s| Arc::clone(&s.name)).collect();
        known.append(&mut self.look_up(&names).await?);
        let mut missing: Vec<TopicSpec> = specs.into_iter().filter(|s| !known.contains_key(&s.name)).collect();
        missing.dedup_by(|a, b| a.name == b.name);
        if missing.is_empty() {
            return Ok(());
        }
        let list = missing.iter().map(|s| s.name.to_string()).collect::<Vec<_>>().join(", ");
        if !self.options.create {
            return Err(
                self.error(format!("missing topics: {list}"), "create them, or let the group create its topics")
            );
        }
        tracing::info!(group = self.graph.name(), topics = list, "creating topics");
        match self.log.create_topics(missing).await {
            // Another instance was faster.
            Ok(()) | Err(LogError::TopicExists { .. }) => {}
            Err(error) => return Err(self.log_error(format!("create topics {list}"), error)),
        }
        // Whoever made them, the broker that is asked next may not know of them for a moment.
        let until = Instant::now() + SHOWN_WITHIN;
        loop {
            known.append(&mut self.look_up(&names).await?);
            let Some(name) = names.iter().find(|n| !known.contains_key(*n)) else { return Ok(()) };
            if Instant::now() >= until {
                return Err(self.log_error("create topics", LogError::UnknownTopic { topic: name.to_string() }));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Checks partition counts and cleanup policies; returns the counts that must stay.
    fn check(
        &self,
        known: &BTreeMap<Arc<str>, TopicInfo>,
        lead: Option<&Arc<str>>,
    ) -> Result<BTreeMap<Arc<str>, i32>, ProcessorError> {
        let graph = self.graph;
        let positions = graph.positions();
        let tables = graph.tables().chain(&graph.joins).chain(&graph.lookups).map(|edge| &edge.topic);
        for topic in tables.chain(&positions) {
            let Some(info) = known.get(topic) else { continue };
            if let Some((problem, remedy)) = expires(info) {
                return Err(self.error(problem, &remedy));
            }
        }
        let inputs = graph.inputs.iter().map(|e| &e.input.topic);
        let mut fixed: BTreeMap<Arc<str>, i32> = BTreeMap::new();
        let together: BTreeSet<&Arc<str>> = match lead {
            None => {
                fixed.extend(inputs.filter_map(|t| Some((Arc::clone(t), known.get(t)?.partitions))));
                return Ok(fixed);
            }
            Some(lead) => {
                let tables = graph.tables().chain(&graph.joins).map(|e| &e.topic);
                inputs.chain(tables).chain([lead]).chain(&positions).collect()
            }
        };
        fixed.extend(together.into_iter().filter_map(|t| Some((Arc::clone(t), known.get(t)?.partitions))));
        let counts: BTreeSet<i32> = fixed.values().copied().collect();
        if counts.len() > 1 {
            let list = fixed.iter().map(|(t, n)| format!("{t} has {n}")).collect::<Vec<_>>().join(", ");
            return Err(self.error(
                format!("its inputs, table and joins must have the same number of partitions, but {list}"),
                "grow the smaller ones (kafka-topics.sh --alter --topic NAME --partitions N; keys move, so only while \
                 a topic is empty), or write the odd one to a topic of the right count first",
            ));
        }
        Ok(fixed)
    }

    fn error(&self, problem: String, remedy: &str) -> ProcessorError {
        ProcessorError::Topic { group: self.graph.name().to_owned(), problem, remedy: remedy.to_owned() }
    }

    fn log_error(&self, doing: impl Into<String>, error: LogError) -> ProcessorError {
        ProcessorError::log(self.graph.name(), doing, error)
    }
}

/// Whether values of a table topic would expire: what is wrong, and the remedy.
pub(crate) fn expires(table: &TopicInfo) -> Option<(String, String)> {
    let policy = match table.config.cleanup? {
        Cleanup::Compact => return None,
        Cleanup::Delete => "delete",
        Cleanup::CompactDelete => "compact,delete",
    };
    let topic = &table.name;
    let problem = format!("table topic {topic} has cleanup.policy={policy}, so its values would expire");
    let remedy = format!(
        "set it by: kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config \
         cleanup.policy=compact"
    );
    Some((problem, remedy))
}

fn compacted() -> TopicConfig {
    TopicConfig { cleanup: Some(Cleanup::Compact), ..TopicConfig::default() }
}

/// The topic of positions is written at each commit and read at each start: what is not the newest must go soon, markers of
/// transactions included.
fn soon_compacted() -> TopicConfig {
    let other = [("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.1")];
    TopicConfig {
        delete_retention_ms: Some(60_000),
        other: other.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..compacted()
    }
}

/// Says so when a topic has grown since the group started, or is gone.
pub(crate) async fn check_growth(
    log: &LogHandle,
    graph: &GroupGraph,
    facts: &TopicFacts,
) -> Result<(), ProcessorError> {
    let names: Vec<_> = facts.fixed.keys().cloned().collect();
    let mut again = true;
    loop {
        let found = match log.topics(names.clone()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(group = graph.name(), %error, "could not look at the topics' partition counts");
                return Ok(());
            }
        };
        if !std::mem::take(&mut again) || found.iter().all(Option::is_some) {
            return compare(graph, facts, found);
        }
        // A broker that has just started may not know a topic yet.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn compare(graph: &GroupGraph, facts: &TopicFacts, found: Vec<Option<TopicInfo>>) -> Result<(), ProcessorError> {
    for ((topic, was), info) in facts.fixed.iter().zip(found) {
        let now = info.map_or(0, |i| i.partitions);
        if now != *was {
            let problem = if now == 0 {
                format!("topic {topic} was deleted while the group ran")
            } else {
                format!("topic {topic} changed from {was} to {now} partitions while the group ran")
            };
            return Err(ProcessorError::Topic {
                group: graph.name().to_owned(),
                problem,
                remedy: "keys have moved between partitions, so the table no longer fits: give all co-partitioned \
                         topics the same count and start the group under a new name"
                    .to_owned(),
            });
        }
    }
    Ok(())
}
