//! The simulator: groups under every fault that a seed brings, and a check that nothing is lost and nothing doubled.
//!
//! Several instances of each group run on the embedded log, on one thread and on virtual time. One number, the seed,
//! decides what is written, what goes wrong and when: instances die at any await and come back with parts of their
//! stores, stand still past their session, partitions move at any moment, records are refused, late or doubled by the
//! log, commits fail, callbacks panic, the log is away. Then all faults end, everything is finished, and what is left is
//! compared with a run of the same seed without faults. The same seed is the same run, always: a failing one is a test.
//!
//! Three faults change what must be left: retention that deletes records nobody has processed, an input that is recreated, and
//! offsets that a tool sets back. They are drawn only where they are asked for ([`Faults::with`]), for groups that say how to
//! go on and whose check asks for the [`Outcome::fate`] of each record. Records of the groups' own topics are never deleted by
//! these faults: such topics have no retention, and a group whose own topic is deleted has lost its state.
//!
//! ```
//! use stream_core::prelude::*;
//! use stream_core::testing::simulator::{Faults, Simulation};
//!
//! fn graph() -> Result<std::sync::Arc<GroupGraph>, BuildError> {
//!     let mut g = Group::define("counter").table(Int64);
//!     let counts = g.output("counts", Int64);
//!     g.input("words", Text, move |ctx, _word| {
//!         let n = ctx.value()?.unwrap_or(0) + 1;
//!         ctx.emit(counts, ctx.key(), &n)?;
//!         ctx.set(n)
//!     });
//!     g.build()
//! }
//!
//! let report = Simulation::new(1)
//!     .guarantee(Guarantee::ExactlyOnce)
//!     .group(graph)
//!     .input("words", Text, 50, |random, n| (format!("key {}", random.below(5)), format!("word {n}")))
//!     .faults(Faults::all())
//!     .run()?;
//! println!("{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Callbacks must decide by what they are given only: no real time, no threads, no chance of their own.

mod audit;
mod broker;
mod check;
mod client;
mod client_fetch;
mod client_group;
mod client_producer;
mod director;
mod faults;
mod inputs;
mod kept;
mod life;
mod node;
mod outcome;
mod owners;
mod plan;
mod random;
mod report;
mod run;
mod trace;
mod workload;
mod world;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::check::{CheckResult, Comparison};
pub use self::faults::{Fault, Faults};
pub use self::outcome::{Contents, Emitted, Fate, Outcome};
use self::plan::{MakeGraph, Plan};
pub use self::random::Random;
pub use self::report::{SimulationError, SimulationReport};
use self::workload::Source;
use crate::codec::Codec;
use crate::group::{BuildError, GroupGraph};
use crate::log::TopicConfig;
use crate::processor::{Guarantee, Processor, ProcessorError};

type Check = Box<dyn Fn(&Comparison<'_>) -> CheckResult>;
type FailureCheck = Box<dyn Fn(&ProcessorError) -> CheckResult>;

/// A run of groups under faults, drawn from a seed. See [the module](self).
pub struct Simulation {
    seed: u64,
    groups: Vec<MakeGraph>,
    instances: usize,
    partitions: i32,
    guarantee: Guarantee,
    within: Duration,
    sources: Vec<Source>,
    topics: Vec<(Arc<str>, TopicConfig)>,
    faults: Faults,
    set: Rc<dyn Fn(Processor) -> Processor>,
    checks: Vec<Check>,
    failure: Option<FailureCheck>,
}

impl Simulation {
    /// A simulation of a seed: three instances of each group, four partitions, at-least-once delivery, all faults, 15 s
    /// of (virtual) time.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            groups: Vec::new(),
            instances: 3,
            partitions: 4,
            guarantee: Guarantee::default(),
            within: Duration::from_secs(15),
            sources: Vec::new(),
            topics: Vec::new(),
            faults: Faults::all(),
            set: Rc::new(|processor| processor),
            checks: Vec::new(),
            failure: None,
        }
    }

    /// Instances of each group at the beginning; they come and go.
    #[must_use]
    pub fn instances(mut self, n: usize) -> Self {
        self.instances = n.max(1);
        self
    }

    /// Partitions of every topic.
    #[must_use]
    pub fn partitions(mut self, n: i32) -> Self {
        self.partitions = n;
        self
    }

    /// The delivery guarantee of the groups.
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = guarantee;
        self
    }

    /// How long the inputs are written to and faults happen.
    #[must_use]
    pub fn time(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Adds a group, after those whose tables it joins or looks up. It is built again for each start of an instance, so
    /// that nothing which its callbacks keep in memory outlives a crash.
    #[must_use]
    pub fn group(mut self, make: impl Fn() -> Result<Arc<GroupGraph>, BuildError> + 'static) -> Self {
        self.groups.push(Rc::new(make));
        self
    }

    /// Writes so many records to a topic; `draw` gives the key and value of the n-th one.
    #[must_use]
    pub fn input<K: AsRef<[u8]>, M: 'static>(
        mut self,
        topic: &str,
        codec: impl Codec<M>,
        records: u64,
        draw: impl Fn(&mut Random, u64) -> (K, M) + 'static,
    ) -> Self {
        self.sources.push(Source::new(topic.into(), codec, records, draw));
        self
    }

    /// Makes a topic with these settings before the groups start.
    #[must_use]
    pub fn topic(mut self, name: &str, config: TopicConfig) -> Self {
        self.topics.push((name.into(), config));
        self
    }

    /// The kinds of faults to draw from.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Settings of the processors, over those that the simulation draws.
    #[must_use]
    pub fn processor(mut self, set: impl Fn(Processor) -> Processor + 'static) -> Self {
        self.set = Rc::new(set);
        self
    }

    /// Checks what is left at the end. Without any, it is [`Comparison::same`].
    #[must_use]
    pub fn check(mut self, check: impl Fn(&Comparison<'_>) -> CheckResult + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// The instances are to fail for good in place of coming to an end, and to say why: `check` gets the last error. Nothing
    /// else is checked.
    #[must_use]
    pub fn must_fail(mut self, check: impl Fn(&ProcessorError) -> CheckResult + 'static) -> Self {
        self.failure = Some(Box::new(check));
        self
    }

    /// Runs it, without faults and with them, and checks.
    ///
    /// # Errors
    /// A check that failed; see [`SimulationError`].
    pub fn run(self) -> Result<SimulationReport, SimulationError> {
        let workload = workload::draw(&self.sources, &mut Random::new(!self.seed), self.within)?;
        let plan = Rc::new(Plan {
            seed: self.seed,
            groups: self.groups,
            instances: self.instances,
            partitions: self.partitions,
            guarantee: self.guarantee,
            session: Duration::from_secs(6),
            within: self.within,
            workload,
            failures: if self.failure.is_some() { 2 } else { audit::FAILURES },
            topics: self.topics,
            set: self.set,
        });
        if let Some(check) = self.failure {
            let report =
                SimulationReport { seed: self.seed, faults: self.faults.clone(), ..SimulationReport::default() };
            let failed = |failure| SimulationError::Check { failure, report: Box::new(report.clone()) };
            return match run::run(&plan, self.faults) {
                Err(SimulationError::Failing(error)) => check(&error).map_err(failed).map(|()| report),
                Err(other) => Err(other),
                Ok(_) => Err(failed("nothing failed".to_owned())),
            };
        }
        let (expected, _) = run::run(&plan, Faults::none())?;
        let (actual, report) = run::run(&plan, self.faults)?;
        let zombies = report.zombies > 0 && report.stale_writes > 0;
        let comparison = Comparison { guarantee: self.guarantee, expected: &expected, actual: &actual, zombies };
        let failed = |failure| SimulationError::Check { failure, report: Box::new(report.clone()) };
        if self.checks.is_empty() {
            comparison.same().map_err(failed)?;
        }
        for check in &self.checks {
            check(&comparison).map_err(failed)?;
        }
        Ok(report)
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("groups", &self.groups.len())
            .finish_non_exhaustive()
    }
}
