//! An engine as a process: what it is asked for, and what it says on the way.
//!
//! The peers in `bench/peers` take the same arguments and print the same lines:
//!
//! | line | meaning |
//! |---|---|
//! | `setting NAME=VALUE` | a setting that the run was made with |
//! | `ready` | every partition is assigned and restored |
//! | `first` | the first record has come |
//! | `at N` | so many records have come; each million |
//! | `seen` | the last of `--records` has come; of a join, the last match |
//! | `done` | all results are out, stored and committed, and the engine has left its group |
//!
//! A process ends when its standard input closes. After `done` it waits for that, so that its figures can be read.

mod bare;
mod ours;

pub(crate) use self::ours::Raw;

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use tokio::sync::Notify;

use crate::Outcome;

/// What an engine does with its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topology {
    /// Counts the records of each key. With an output, each record's value goes there; with a second input, the count of
    /// each of its keys does.
    Count,
    /// Lets each record with an even number as its value pass.
    Filter,
    /// Counts the records of each key and ten seconds; a count goes out when its window closes, as `START COUNT`.
    Window,
    /// Joins two inputs by key and time. Each left record goes out once: as its value + 1, negative if nothing matched.
    Join,
    /// Keeps the newest value of each key; the value of each key of the second input goes out.
    Table,
}

/// What happens when an engine fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Delivery {
    /// At least once.
    AtLeastOnce,
    /// Exactly once.
    ExactlyOnce,
}

/// Where an engine keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum StoreKind {
    /// stream-core's files.
    Sled,
    /// stream-core's files, log-structured.
    Fjall,
    /// The process's memory.
    Memory,
    /// The engine's own usual store.
    Default,
    /// Kafka Streams' transactional stores.
    Transactional,
}

/// Whether stream-core has the store [`StoreKind::Fjall`].
pub(crate) const HAS_FJALL: bool = false;

/// The arguments of an engine's process.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Job {
    /// The program: `ours` or `bare`.
    #[arg(long, default_value = "ours")]
    pub(crate) engine: String,
    /// Kafka's addresses.
    #[arg(long)]
    pub(crate) brokers: String,
    /// What it does.
    #[arg(long)]
    pub(crate) topology: Topology,
    /// The group's name; topics that it makes begin with it.
    #[arg(long)]
    pub(crate) group: String,
    /// The guarantee.
    #[arg(long, default_value = "at-least-once")]
    pub(crate) delivery: Delivery,
    /// The store.
    #[arg(long, default_value = "default")]
    pub(crate) store: StoreKind,
    /// The directory of its state.
    #[arg(long)]
    pub(crate) state: PathBuf,
    /// The input topics, with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub(crate) inputs: Vec<String>,
    /// The output topic.
    #[arg(long)]
    pub(crate) output: Option<String>,
    /// It ends after so many records; 0 for never. A join counts its matches as records.
    #[arg(long, default_value_t = 0)]
    pub(crate) records: u64,
    /// It ends after so many results, too; 0 where each record's result comes with it.
    #[arg(long, default_value_t = 0)]
    pub(crate) results: u64,
    /// Partitions of the inputs.
    #[arg(long, default_value_t = 4)]
    pub(crate) partitions: i32,
    /// The time between commits, in milliseconds.
    #[arg(long)]
    pub(crate) commit_ms: u64,
    /// How long a producer waits for a batch to fill, in milliseconds.
    #[arg(long)]
    pub(crate) linger_ms: u64,
    /// The memory for state, in MiB, for engines that can be bounded.
    #[arg(long)]
    pub(crate) memory_mb: u64,
}

/// Size of the windows of [`Topology::Window`], in milliseconds.
pub(crate) const WINDOW_MS: i64 = 10_000;
/// How far the two records of a pair may be apart, in milliseconds.
pub(crate) const WITHIN_MS: u64 = 5_000;
/// How long windows and joins wait for records that are out of order, in milliseconds.
pub(crate) const GRACE_MS: u64 = 1_000;
/// The value of a record that only moves time on: it is no record and has no result.
pub(crate) const MOVES_TIME: i64 = -1;
/// The key of such a record.
pub(crate) const MOVES_TIME_KEY: &str = "time";

/// Runs an engine until it has seen all, and then waits for its standard input to close.
pub(crate) fn run(job: &Job) -> Outcome<()> {
    std::thread::spawn(|| {
        // The process that started this has ended, or wants no more of it.
        _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    match job.engine.as_str() {
        "ours" => ours::run(job)?,
        "bare" => bare::run(job)?,
        other => return Err(format!("no engine {other:?}").into()),
    }
    say("done");
    loop {
        std::thread::park();
    }
}

/// Prints a line at once.
fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the thread that watches the standard input ends the process.
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Names a setting of the run.
fn setting(name: &str, value: impl Display) {
    say(format_args!("setting {name}={value}"));
}

/// How far a run has come.
#[derive(Debug)]
struct Progress {
    records: u64,
    results: u64,
    seen: AtomicU64,
    given: AtomicU64,
    /// Notified at the end.
    end: Notify,
}

impl Progress {
    fn new(job: &Job) -> Arc<Self> {
        let (seen, given) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { records: job.records, results: job.results, seen, given, end: Notify::new() })
    }

    /// Counts a record.
    fn record(&self) {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen == 1 {
            say("first");
        }
        if seen.is_multiple_of(1_000_000) {
            say(format_args!("at {seen}"));
        }
        if seen == self.records {
            say("seen");
            if self.given.load(Ordering::Relaxed) >= self.results {
                self.end.notify_one();
            }
        }
    }

    /// Counts a result.
    fn result(&self) {
        let given = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        if given == self.results && self.seen.load(Ordering::Relaxed) >= self.records {
            self.end.notify_one();
        }
    }
}
