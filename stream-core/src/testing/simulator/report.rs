//! The report of a simulation.

use std::fmt;

use super::faults::Faults;
use crate::codec::CodecError;
use crate::group::BuildError;
use crate::log::{LogError, TopicPartition};
use crate::processor::ProcessorError;
use crate::store::StoreError;

/// The report of a run with faults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names say it")]
pub struct SimulationReport {
    pub seed: u64,
    /// The kinds of faults that were drawn.
    pub faults: Faults,
    /// Records written to the inputs.
    pub records: usize,
    pub crashes: usize,
    pub lost_stores: usize,
    /// Instances that the group took for dead while they were not.
    pub zombies: usize,
    /// Batches for tables of partitions that another instance had by then, or was given while they were on their way; and
    /// batches with emits of an instance whose partitions others had, all of them.
    pub stale_writes: usize,
    pub rebalances: usize,
    /// Instances that stopped in good order.
    pub stops: usize,
    pub bad_deliveries: usize,
    pub bad_commits: usize,
    pub bad_callbacks: usize,
    pub outages: usize,
    /// Refusals by brokers, and what they do to a network.
    pub broker_faults: usize,
    /// Instances whose processor returned an error.
    pub failures: usize,
    /// Differs if anything visible happened differently.
    pub trace: u64,
}

impl Default for SimulationReport {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: Faults::none(),
            records: 0,
            crashes: 0,
            lost_stores: 0,
            zombies: 0,
            stale_writes: 0,
            rebalances: 0,
            stops: 0,
            bad_deliveries: 0,
            bad_commits: 0,
            bad_callbacks: 0,
            outages: 0,
            broker_faults: 0,
            failures: 0,
            trace: 0,
        }
    }
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.records, "records"),
            (self.crashes, "crashes"),
            (self.lost_stores, "lost stores"),
            (self.zombies, "zombies"),
            (self.stale_writes, "stale writes"),
            (self.rebalances, "rebalances"),
            (self.stops, "stops"),
            (self.bad_deliveries, "bad deliveries"),
            (self.bad_commits, "bad commits"),
            (self.bad_callbacks, "bad callbacks"),
            (self.outages, "outages"),
            (self.broker_faults, "broker faults"),
            (self.failures, "failures"),
        ];
        write!(f, "seed {} ({}):", self.seed, self.faults)?;
        for (n, what) in counts.iter().filter(|(n, _)| *n > 0) {
            write!(f, " {n} {what}")?;
        }
        write!(f, " trace {:016x}", self.trace)
    }
}

/// A check that failed, or the reason why a simulation could not be run.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum SimulationError {
    /// Something was lost, doubled or wrong.
    #[error("{failure}\n{report}")]
    Check { failure: String, report: Box<SimulationReport> },
    /// Work is left long after all faults have ended.
    #[error("group {group} is stuck: {partition} is done up to {done} of {end}, long after all faults have ended")]
    Stuck { group: String, partition: TopicPartition, done: i64, end: String },
    /// Instances fail again and again, long after all faults have ended.
    #[error("instances keep failing after all faults have ended")]
    Failing(#[source] ProcessorError),
    /// An instance does not stop.
    #[error("instance {instance} does not stop")]
    Unstoppable { instance: String },
    /// Somebody committed less than was committed before.
    #[error("group {group}: the committed offset of {partition} went back from {from} to {to}")]
    SetBack { group: String, partition: TopicPartition, from: i64, to: i64 },
    /// A store is no part of its changelog.
    #[error("the store of {partition} on {instance}: key {key} comes to {found}, the changelog says {expected}")]
    Store { instance: String, partition: TopicPartition, key: String, found: String, expected: String },
    /// A group makes no sense.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An input's value can't be encoded.
    #[error("topic {topic}: a value can't be encoded or decoded")]
    Codec {
        topic: String,
        #[source]
        error: CodecError,
    },
    /// The log failed where no fault was.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A group's topics are not as it needs them.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// A store failed where no fault was.
    #[error(transparent)]
    MemoryStore(#[from] StoreError),
    /// The system refuses a runtime.
    #[error("no runtime for the simulation: {0}")]
    Runtime(String),
}

crate::chain::debug_as_chain!(SimulationError);
