//! The topic manager: what a group's topics must be, made so where they are missing, checked where they exist.
//!
//! It never changes a topic that exists, and never deletes one. What the group's own topics are made with is in `own`.

mod ensure;
mod error;
mod facts;
mod markers;
mod options;
mod own;
pub(crate) mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::ensure::{EnsureTopicError, ensure_topic};
pub(crate) use self::error::TopicsError;
pub(crate) use self::facts::{TopicFacts, check_growth, record_limit, tombstone_retention_ms};
pub(crate) use self::markers::take_markers;
pub use self::options::TopicOptions;
use self::own::{Faults, Use};
use crate::log::{
    Cleanup, Isolation, LogError, LogHandle, OffsetSpec, TopicConfig, TopicInfo, TopicPartition, TopicSpec,
};
use crate::topology::{Topology, earlier_join_topic};

/// Stands for the brokers' addresses in a command where the log has none.
const UNKNOWN_BROKERS: &str = "HOST:PORT";

/// How long it may take until all brokers know of a topic that was made.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);

struct Manager<'a> {
    log: &'a LogHandle,
    graph: &'a Topology,
    options: &'a TopicOptions,
    /// Is called with `true` when the log does not answer for long, and with `false` when it has answered.
    late: &'a (dyn Fn(bool) + Sync),
}

/// A topic that the group owns.
struct Own {
    topic: Arc<str>,
    of: Use,
    /// The `max.message.bytes` that it needs, where it holds records of inputs as they came.
    whole: Option<i64>,
}

/// Makes what is missing and checks what exists.
pub(crate) async fn ensure(
    log: &LogHandle,
    graph: &Topology,
    options: &TopicOptions,
    late: &(dyn Fn(bool) + Sync),
) -> Result<TopicFacts, TopicsError> {
    Manager { log, graph, options, late }.ensure().await
}

impl Manager<'_> {
    async fn ensure(&self) -> Result<TopicFacts, TopicsError> {
        let graph = self.graph;
        let inputs: Vec<_> = graph.inputs.iter().filter(|e| !e.own).map(|e| Arc::clone(&e.input.topic)).collect();
        let tables: Vec<_> = graph.joins.iter().chain(&graph.lookups).map(|e| Arc::clone(&e.topic)).collect();
        let mut known = self.look_up(&inputs).await?;
        self.wait_for_tables(&tables, &mut known).await?;

        // The inputs first: what the group owns takes its partition count from them.
        let count = inputs.iter().filter_map(|t| known.get(t)).map(|t| t.partitions).max();
        let count = count.or(self.options.partitions);
        self.make(inputs.iter().map(|t| self.spec(t, count, None)).collect(), &mut known).await?;
        let lead = graph.co_partition_topic();
        let count = inputs.iter().filter_map(|t| known.get(t)).map(|t| t.partitions).max().or(count);
        let own = self.own_topics(&known, lead.as_ref());
        let mut specs: Vec<TopicSpec> = Vec::new();
        for Own { topic, of, whole } in &own {
            let partitions = if matches!(of, Use::DeadLetters(_)) { self.options.partitions.or(count) } else { count };
            specs.push(self.spec(topic, partitions, Some(of.settings(*whole))));
        }
        let written = TopicConfig { retention_ms: self.options.retention_ms, ..TopicConfig::default() };
        for topic in graph.outputs.iter().map(|e| &e.topic) {
            if !specs.iter().any(|s| s.name == *topic) {
                specs.push(self.spec(topic, self.options.partitions.or(count), Some(written.clone())));
            }
        }
        self.make(specs, &mut known).await?;
        self.check_own(&own, &known)?;
        self.check_earlier().await?;
        let fixed = self.check(&known, lead.as_ref())?;
        Ok(TopicFacts { topics: known, fixed })
    }

    /// The topics that the group owns, each once.
    fn own_topics(&self, known: &BTreeMap<Arc<str>, TopicInfo>, lead: Option<&Arc<str>>) -> Vec<Own> {
        let graph = self.graph;
        let inputs = || graph.inputs.iter().filter(|e| !e.own);
        let whole = Some(own::whole(inputs().filter_map(|e| known.get(&e.input.topic))));
        let mut own: Vec<Own> = Vec::new();
        let mut add = |topic: &Arc<str>, of: Use, whole: Option<i64>| {
            if !own.iter().any(|o| o.topic == *topic) {
                own.push(Own { topic: Arc::clone(topic), of, whole });
            }
        };
        for (id, table) in graph.tables.with_ids() {
            let of = if table.layout.is_some() { Use::Kept } else { Use::Table };
            add(&table.topic, of, whole.filter(|_| graph.keeps_inputs(id)));
        }
        if let Some(positions) = graph.positions() {
            add(&positions, Use::Positions, None);
        }
        for edge in graph.inputs.iter().filter(|e| e.own) {
            add(&edge.input.topic, Use::Passage, whole.filter(|_| graph.is_repartition(&edge.input.topic)));
        }
        if let Some(lead) = lead {
            add(lead, Use::Lead, None);
        }
        for topic in graph.dead_letters() {
            add(topic, Use::DeadLetters(self.options.dead_letter_retention_ms), whole);
        }
        own
    }

    /// Compares the group's own topics with what results depend on: an error where one would change results, one warning of
    /// all other differences.
    fn check_own(&self, own: &[Own], known: &BTreeMap<Arc<str>, TopicInfo>) -> Result<(), TopicsError> {
        let brokers = self.log.brokers().unwrap_or_else(|| UNKNOWN_BROKERS.to_owned());
        let (mut refused, mut doubtful) = (Vec::new(), Vec::new());
        for Own { topic, of, whole } in own {
            let Some(info) = known.get(topic) else { continue };
            let faults = Faults::of(info, *of, *whole);
            for (list, faults) in [(&mut refused, faults.refused), (&mut doubtful, faults.doubtful)] {
                if !faults.is_empty() {
                    list.push(own::describe(of.name(), topic, &brokers, &faults));
                }
            }
        }
        let joined = |list: Vec<(String, String)>| {
            let (what, lines): (Vec<_>, Vec<_>) = list.into_iter().unzip();
            (what.join("; "), lines.join("; "))
        };
        if !doubtful.is_empty() {
            let (what, lines) = joined(doubtful);
            tracing::warn!(group = self.graph.name(), "{what}; to change it: {lines}");
        }
        if refused.is_empty() {
            return Ok(());
        }
        let (what, lines) = joined(refused);
        Err(self.error(what, &format!("set it by: {lines}")))
    }

    /// Refuses to start beside what an earlier version has kept of a join: its format is not read any more.
    async fn check_earlier(&self) -> Result<(), TopicsError> {
        let graph = self.graph;
        let names = graph.stream_joins.iter().map(|join| earlier_join_topic(graph.name(), &join.name));
        let names: Vec<_> =
            names.filter(|name| !graph.input_topics().chain(graph.written()).any(|t| t == name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let who = format!("group {}", graph.name());
        for info in self.look_up(&names).await?.values() {
            let partitions = (0..info.partitions).map(|p| TopicPartition::new(Arc::clone(&info.name), p));
            let both = partitions.flat_map(|p| [(p.clone(), OffsetSpec::Earliest), (p, OffsetSpec::Latest)]).collect();
            let found =
                wait::answer(self.log, &who, self.late, self.log.offsets(both, Isolation::ReadUncommitted)).await;
            let found = found.map_err(|e| self.log_error(format!("look at {}", info.name), e))?;
            if found.chunks(2).any(|bounds| matches!(bounds, [start, end] if start < end)) {
                let topic = &info.name;
                let brokers = self.log.brokers().unwrap_or_else(|| UNKNOWN_BROKERS.to_owned());
                let remedy = format!(
                    "run the earlier version until all that it keeps is closed (records with later times close it), or do \
                     without the matches of that; then delete it: kafka-topics.sh --bootstrap-server {brokers} --delete \
                     --topic {topic}"
                );
                return Err(self.error(format!("topic {topic} has what an earlier version kept of a join"), &remedy));
            }
        }
        Ok(())
    }

    fn spec(&self, name: &Arc<str>, partitions: Option<i32>, config: Option<TopicConfig>) -> TopicSpec {
        let mut spec = TopicSpec::new(Arc::clone(name)).config(config.unwrap_or_default());
        spec.partitions = partitions;
        spec.replication = self.options.replication;
        spec
    }

    async fn look_up(&self, names: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, TopicInfo>, TopicsError> {
        let who = format!("group {}", self.graph.name());
        let found = wait::answer(self.log, &who, self.late, self.log.topics(names.to_vec())).await;
        let found = found.map_err(|e| self.log_error("look topics up", e))?;
        Ok(names.iter().zip(found).filter_map(|(name, info)| Some((Arc::clone(name), info?))).collect())
    }

    async fn wait_for_tables(
        &self,
        tables: &[Arc<str>],
        known: &mut BTreeMap<Arc<str>, TopicInfo>,
    ) -> Result<(), TopicsError> {
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
    async fn make(&self, specs: Vec<TopicSpec>, known: &mut BTreeMap<Arc<str>, TopicInfo>) -> Result<(), TopicsError> {
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
        self.create(missing).await?;
        // No matter who made them, the broker that is asked next may not know of them for a moment.
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

    /// Creates topics, without what a broker refuses: that it takes them matters more, and what results depend on is
    /// checked afterwards.
    async fn create(&self, mut missing: Vec<TopicSpec>) -> Result<(), TopicsError> {
        let list = missing.iter().map(|s| s.name.to_string()).collect::<Vec<_>>().join(", ");
        let mut without: Vec<&str> = Vec::new();
        for round in 0.. {
            let error = match self.log.create_topics(missing.clone()).await {
                // One that exists: another instance was faster.
                Ok(()) | Err(LogError::TopicExists { .. }) => break,
                Err(error) => error,
            };
            let names: Vec<_> = missing.iter().map(|s| Arc::clone(&s.name)).collect();
            if matches!(error, LogError::Config { .. })
                && let Some(properties) = own::give_up(&mut missing, round)
            {
                let made = self.look_up(&names).await?;
                missing.retain(|s| !made.contains_key(&s.name));
                without.extend(properties);
                continue;
            }
            return Err(self.log_error(format!("create topics {list}"), error));
        }
        if !without.is_empty() {
            let (topics, without) =
                (missing.iter().map(|s| &*s.name).collect::<Vec<_>>().join(", "), without.join(", "));
            tracing::warn!(
                group = self.graph.name(),
                "the broker refuses a property of topics {topics}: they are made without {without}"
            );
        }
        Ok(())
    }

    /// Checks partition counts, and the cleanup policies of other groups' tables; returns the counts that must stay.
    fn check(
        &self,
        known: &BTreeMap<Arc<str>, TopicInfo>,
        lead: Option<&Arc<str>>,
    ) -> Result<BTreeMap<Arc<str>, i32>, TopicsError> {
        let graph = self.graph;
        let positions = graph.positions();
        for edge in graph.joins.iter().chain(&graph.lookups) {
            let Some(info) = known.get(&edge.topic) else { continue };
            if let Some((problem, remedy)) = expires(info, self.log.brokers()) {
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
                let tables = graph.tables.iter().chain(&graph.joins).map(|e| &e.topic);
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

    fn error(&self, problem: String, remedy: &str) -> TopicsError {
        TopicsError::Topic { group: self.graph.name().to_owned(), problem, remedy: remedy.to_owned() }
    }

    fn log_error(&self, doing: impl Into<String>, error: LogError) -> TopicsError {
        TopicsError::Log { group: self.graph.name().to_owned(), doing: doing.into(), error }
    }
}

/// Whether values of a table topic would expire: what is wrong, and the remedy. `brokers` are those of the log.
pub(crate) fn expires(table: &TopicInfo, brokers: Option<String>) -> Option<(String, String)> {
    let policy = table.config.cleanup.filter(|cleanup| *cleanup != Cleanup::Compact)?.as_str();
    let topic = &table.name;
    let problem = format!("table topic {topic} has cleanup.policy={policy}, so its values would expire");
    let brokers = brokers.unwrap_or_else(|| UNKNOWN_BROKERS.to_owned());
    Some((problem, format!("set it by: {}", own::alter(topic, &brokers, "cleanup.policy=compact"))))
}
