//! Faults of brokers towards producers: refusals, limits, missing replicas, quotas, and forgotten producers.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHasher;

use super::faults::Fault;
use super::world::World;
use crate::group::GroupGraph;
use crate::log::TopicConfig;
use crate::log::embedded::{Denial, Fault as Rule, Network, ReplicaLoss};
use crate::processor::Guarantee;

/// A fault of a broker that lasts; to be ended by [`World::end_broker_fault`], and dropped.
pub(super) enum BrokerFault {
    Network,
    Refusal(#[allow(dead_code, reason = "only its drop matters")] Rule),
    Small(String, Option<i64>),
    Replicas(#[allow(dead_code, reason = "only its drop matters")] ReplicaLoss),
    Hidden(#[allow(dead_code, reason = "only its drop matters")] Denial),
}

impl World {
    /// Makes it, and says how long it lasts if it does.
    pub(super) fn broker_fault(&mut self, fault: Fault) -> Option<(Duration, BrokerFault)> {
        self.report.broker_faults += 1;
        // Longer than the library tries to write its own records.
        let long = fault == Fault::Refusal && self.random.chance(100);
        let lasts = self.ms(if long { 40_000 } else { 3000 });
        Some((
            lasts,
            match fault {
                Fault::RoundTrip => {
                    let (linger, round_trip) = (self.ms(40), self.ms(200));
                    self.network(|n| (n.linger, n.round_trip) = (linger, round_trip))
                }
                Fault::SlowLink => {
                    let rate = 500 + self.random.below(20_000);
                    self.network(|n| n.bytes_per_second = Some(rate))
                }
                Fault::Quota => {
                    let rate = 500 + self.random.below(20_000);
                    self.network(|n| n.quota = Some(rate))
                }
                Fault::Refusal => self.refusal(),
                Fault::SmallBatches => {
                    let topic = self.written()?;
                    // What another fault of this kind has set is not what it had.
                    let now = self.embedded.topic_config(&topic)?.max_message_bytes;
                    let known = *self.limits.entry(topic.clone()).or_insert(now);
                    let bytes = 250 + i64::try_from(self.random.below(600)).unwrap_or_default();
                    self.limit(&topic, Some(bytes));
                    BrokerFault::Small(topic, known)
                }
                Fault::Replicas => {
                    let topic = self.written()?;
                    let lasts = if self.random.chance(100) { self.ms(70_000) } else { lasts };
                    self.trace.note("log", format_args!("{topic} has too few replicas for {lasts:?}"));
                    return Some((lasts, BrokerFault::Replicas(self.embedded.faults().lose_replicas(&topic))));
                }
                Fault::HiddenSettings => BrokerFault::Hidden(self.embedded.faults().deny_describe_configs()),
                Fault::ExpiredId => {
                    let ids = self.embedded.faults().transactional_ids();
                    if let Some(id) = self.random.pick(&ids) {
                        self.embedded.faults().expire_transactional_id(id);
                    }
                    return None;
                }
                Fault::ForgottenOffsets => {
                    let exactly_once = self.plan.guarantee == Guarantee::ExactlyOnce;
                    let group = self.random.index(self.graphs.len());
                    if let Some(graph) = self.graphs.get(group).filter(|g| !exactly_once || g.positions().is_some()) {
                        self.embedded.faults().forget_offsets(graph.name(), None);
                    }
                    return None;
                }
                _ => return None,
            },
        ))
    }

    pub(super) fn end_broker_fault(&mut self, fault: &BrokerFault) {
        match fault {
            BrokerFault::Network => self.embedded.faults().set_network(Network::default()),
            BrokerFault::Small(topic, before) => self.limit(topic, *before),
            BrokerFault::Refusal(_) | BrokerFault::Replicas(_) | BrokerFault::Hidden(_) => {}
        }
    }

    fn network(&mut self, set: impl FnOnce(&mut Network)) -> BrokerFault {
        let mut network = Network::default();
        set(&mut network);
        self.embedded.faults().set_network(network);
        BrokerFault::Network
    }

    fn limit(&mut self, topic: &str, bytes: Option<i64>) {
        let change = TopicConfig { max_message_bytes: bytes, ..TopicConfig::default() };
        if let Err(error) = self.embedded.alter_topic(topic, &change) {
            tracing::error!(?error, "a topic's limit can't be set");
        }
    }

    /// A topic that a group writes to, drawn.
    fn written(&mut self) -> Option<String> {
        let written = self.written_topics();
        self.random.pick(&written).map(ToString::to_string)
    }

    /// The topics that groups write to.
    pub(super) fn written_topics(&self) -> Vec<Arc<str>> {
        // The positions may be in a table, which is there already.
        let positions = |g: &Arc<GroupGraph>| g.positions().filter(|topic| !g.written().any(|t| t == topic));
        self.graphs.iter().flat_map(|g| g.written().cloned().chain(positions(g))).collect()
    }

    /// Some records of one topic are refused each time that they come, and no others.
    fn refusal(&mut self) -> BrokerFault {
        let topic = self.written().unwrap_or_default();
        let (salt, one_of) = (self.random.next(), 2 + self.random.below(20));
        let on = self.embedded.faults().on(move |record| {
            let mut hash = FxHasher::default();
            (salt, record.key, record.value).hash(&mut hash);
            record.topic == topic && hash.finish().is_multiple_of(one_of)
        });
        BrokerFault::Refusal(on.refuse())
    }
}
