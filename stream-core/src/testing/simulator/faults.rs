//! Faults of a simulation.

use std::collections::BTreeSet;
use std::fmt;

use super::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// An instance dies at any await, or in the middle of a store's write, and is started again. Its store keeps any
    /// part of what it wrote since its last checkpoint. What it handed to its producer may or may not arrive.
    Crash,
    /// A store is lost when the instance comes back.
    LostStore,
    /// An instance stands still for a while, often longer than its session, and then goes on as if nothing had been.
    Zombie,
    /// Partitions move between the instances.
    Rebalance,
    /// Instances stop in good order, and others come.
    Membership,
    /// The group takes an instance for dead that is not.
    Expiry,
    /// Records are refused, late, written and reported as failed, or acknowledged late.
    Delivery,
    /// Commits fail, before or after they take effect, or hang.
    Commit,
    /// The whole log is out of reach for a while.
    Outage,
    /// The groups' coordinators are: records flow, and nothing is committed.
    Coordinator,
    /// Callbacks fail or panic, before or after they did their work.
    Callback,
    /// The same of callbacks of what is due: timers, windows, sessions, batches and nulls of joins. Not among
    /// [`Faults::all`].
    DueCallback,
    /// Calls and answers are on their way for a while.
    Latency,
    /// Compacted topics are compacted.
    Compaction,
    /// Producers wait for more records of a partition, and hear of what became of a batch after others were sent.
    RoundTrip,
    /// The producers' links carry little.
    SlowLink,
    /// The brokers' quota lets little through.
    Quota,
    /// Some records are refused, and with each its whole batch.
    Refusal,
    /// A topic takes small batches only, though each record fits.
    SmallBatches,
    /// A topic has too few replicas in sync.
    Replicas,
    /// Transactional ids expire that are not in use.
    ExpiredId,
    /// The settings of topics are not shown.
    HiddenSettings,
    /// A group's committed offsets are forgotten. With exactly-once delivery this is drawn for groups with state only:
    /// without state a group knows nothing else, and begins again.
    ForgottenOffsets,
    /// The cluster's defaults of topics are others than Kafka's, as hostile as brokers allow, and topics are cleaned up by
    /// them. The inputs and outputs set what they need themselves.
    ClusterDefaults,
    /// Old records of an input are deleted, whether they were processed or not. Not among [`Faults::all`]: a group needs
    /// [`Processor::on_lost_position`](crate::processor::Processor::on_lost_position) to go on, and a check that asks for
    /// [`Outcome::fate`](super::Outcome::fate).
    Retention,
    /// An input is deleted and recreated under its name. Not among [`Faults::all`], as [`Retention`](Self::Retention).
    Recreation,
    /// All instances of a group end, and a tool sets its committed offsets back. Not among [`Faults::all`]: a group needs
    /// [`Processor::on_position_mismatch`](crate::processor::Processor::on_position_mismatch) to go on, and a check that
    /// asks for [`Outcome::fate`](super::Outcome::fate).
    Reset,
}

impl Fault {
    const ALL: [Self; 23] = [
        Self::Crash,
        Self::LostStore,
        Self::Zombie,
        Self::Rebalance,
        Self::Membership,
        Self::Expiry,
        Self::Delivery,
        Self::Commit,
        Self::Outage,
        Self::Coordinator,
        Self::Callback,
        Self::Latency,
        Self::Compaction,
        Self::RoundTrip,
        Self::SlowLink,
        Self::Quota,
        Self::Refusal,
        Self::SmallBatches,
        Self::Replicas,
        Self::ExpiredId,
        Self::HiddenSettings,
        Self::ForgottenOffsets,
        Self::ClusterDefaults,
    ];

    /// Those that a simulation draws only on request.
    const MORE: [Self; 4] = [Self::Retention, Self::Recreation, Self::Reset, Self::DueCallback];

    /// The fault of a name, as `Debug` writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::MORE).find(|fault| format!("{fault:?}") == name)
    }
}

/// The kinds of faults that a simulation may draw from. Each run draws some of them, and how often they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// Everything, but for what says otherwise.
    pub fn all() -> Self {
        Self(Fault::ALL.into_iter().collect())
    }

    /// Nothing.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// With this kind too.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.0.insert(fault);
        self
    }

    /// Without this kind.
    #[must_use]
    pub fn without(mut self, fault: Fault) -> Self {
        self.0.remove(&fault);
        self
    }

    /// Whether it has this kind.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// A part of them: a run with few kinds goes deeper into each than one where everything fails at once.
    pub(super) fn draw(&self, random: &mut Random) -> Self {
        let keep = 200 + random.below(800);
        // Zombies excuse much where records are processed at least once: half of all runs have none.
        let zombies = random.chance(500);
        let drawn = |f: &Fault| zombies || !matches!(f, Fault::Zombie | Fault::Expiry);
        Self(self.0.iter().copied().filter(|_| random.chance(keep)).filter(drawn).collect())
    }

    /// One of those that happen at a moment.
    pub(super) fn pick(&self, random: &mut Random) -> Option<Fault> {
        let moments: Vec<Fault> =
            self.0.iter().copied().filter(|f| !matches!(f, Fault::Latency | Fault::LostStore)).collect();
        random.pick(&moments).copied()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{fault:?}")?;
        }
        Ok(())
    }
}
