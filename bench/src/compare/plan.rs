//! What is run: the engines, the workloads, and which engine runs which workload.

use super::load::Kind;
use crate::engine::{Delivery, StoreKind};

/// A program that engines are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ours,
    OursSystemAllocator,
    Bare,
    KafkaStreams,
    Goka,
}

/// A program with a guarantee and a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Engine {
    /// Its name in the results.
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    pub(crate) delivery: Delivery,
    pub(crate) store: StoreKind,
}

const fn engine(name: &'static str, program: Program, delivery: Delivery, store: StoreKind) -> Engine {
    Engine { name, program, delivery, store }
}

/// Every engine, in the order in which the tables show them. `ours` is stream-core with sled.
pub(crate) const ENGINES: [Engine; 13] = {
    use Delivery::{AtLeastOnce, ExactlyOnce};
    use Program::{Bare, Goka, KafkaStreams, Ours, OursSystemAllocator};
    use StoreKind::{Default, Fjall, Memory, Sled, Transactional};
    [
        engine("ours", Ours, AtLeastOnce, Sled),
        engine("ours-eos", Ours, ExactlyOnce, Sled),
        engine("ours-fjall", Ours, AtLeastOnce, Fjall),
        engine("ours-fjall-eos", Ours, ExactlyOnce, Fjall),
        engine("ours-memory", Ours, AtLeastOnce, Memory),
        engine("ours-memory-eos", Ours, ExactlyOnce, Memory),
        engine("ours-system-allocator", OursSystemAllocator, AtLeastOnce, Sled),
        engine("bare", Bare, AtLeastOnce, Default),
        engine("kafka-streams", KafkaStreams, AtLeastOnce, Default),
        engine("kafka-streams-eos", KafkaStreams, ExactlyOnce, Default),
        engine("kafka-streams-tx", KafkaStreams, AtLeastOnce, Transactional),
        engine("kafka-streams-tx-eos", KafkaStreams, ExactlyOnce, Transactional),
        engine("goka", Goka, AtLeastOnce, Default),
    ]
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Count,
    CountWide,
    Filter,
    Window,
    Join,
    Restore,
    Big,
    Latency,
    Idle,
}

impl Workload {
    pub(crate) const ALL: [Self; 9] = [
        Self::Count,
        Self::CountWide,
        Self::Filter,
        Self::Window,
        Self::Join,
        Self::Restore,
        Self::Big,
        Self::Latency,
        Self::Idle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::CountWide => "count-wide",
            Self::Filter => "filter",
            Self::Window => "window",
            Self::Join => "join",
            Self::Restore => "restore",
            Self::Big => "big",
            Self::Latency => "latency",
            Self::Idle => "idle",
        }
    }

    /// The names under which its results are shown.
    pub(crate) fn shown_as(self) -> &'static [&'static str] {
        match self {
            Self::Big => &["big-ingest", "big-restart", "big-restore"],
            Self::Latency => &["latency-5000", "latency-50000"],
            Self::Idle => &["idle-4", "idle-100"],
            Self::Count => &["count"],
            Self::CountWide => &["count-wide"],
            Self::Filter => &["filter"],
            Self::Window => &["window"],
            Self::Join => &["join"],
            Self::Restore => &["restore"],
        }
    }

    /// The load that it reads; none if it writes its own.
    pub(crate) fn load(self) -> Option<Kind> {
        match self {
            Self::Count | Self::Filter => Some(Kind::Count),
            Self::CountWide | Self::Restore => Some(Kind::Wide),
            Self::Window => Some(Kind::Window),
            Self::Join => Some(Kind::Join),
            Self::Big => Some(Kind::Big),
            Self::Latency | Self::Idle => None,
        }
    }

    /// How often each engine runs it, where `ROUNDS` does not say so.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Self::Big | Self::Idle => 1,
            _ => 3,
        }
    }

    /// The engines of the fixed list.
    fn usual(self) -> &'static [&'static str] {
        match self {
            Self::Count => {
                &["ours", "ours-eos", "ours-system-allocator", "bare", "kafka-streams", "kafka-streams-eos", "goka"]
            }
            Self::CountWide | Self::Idle => &["ours", "kafka-streams", "goka"],
            Self::Filter | Self::Window | Self::Join | Self::Latency => {
                &["ours", "ours-eos", "kafka-streams", "kafka-streams-eos"]
            }
            Self::Restore => &[
                "ours",
                "ours-fjall",
                "ours-memory",
                "ours-system-allocator",
                "kafka-streams",
                "kafka-streams-tx",
                "goka",
            ],
            Self::Big => {
                &["ours", "ours-fjall", "ours-memory", "ours-system-allocator", "kafka-streams", "kafka-streams-tx"]
            }
        }
    }

    /// Whether an engine can do it at all.
    fn possible(self, engine: &Engine) -> bool {
        match engine.program {
            Program::Ours | Program::OursSystemAllocator | Program::KafkaStreams => true,
            Program::Bare => matches!(self, Self::Count | Self::CountWide),
            // It has neither windows nor joins of two topics by time.
            Program::Goka => !matches!(self, Self::Window | Self::Join),
        }
    }

    /// The engines that run it: of the fixed list, or all that can.
    pub(crate) fn engines(self, all: bool) -> Vec<Engine> {
        let asked = |e: &&Engine| if all { self.possible(e) } else { self.usual().contains(&e.name) };
        ENGINES.iter().filter(asked).copied().collect()
    }
}

/// The workloads that `BENCH` names, and whether every engine runs them.
pub(crate) fn parse(bench: &str) -> Result<(Vec<Workload>, bool), String> {
    let (mut chosen, mut all) = (Vec::new(), false);
    for word in bench.split([',', ' ']).filter(|w| !w.is_empty()) {
        if word == "all" {
            all = true;
            continue;
        }
        let known = || Workload::ALL.map(Workload::name).join(", ");
        let found = Workload::ALL.into_iter().find(|w| w.name() == word);
        chosen.push(found.ok_or_else(|| format!("no workload {word:?}: BENCH takes all and {}", known()))?);
    }
    if chosen.is_empty() {
        chosen = Workload::ALL.into();
    }
    Ok((chosen, all))
}
