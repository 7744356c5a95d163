//! What is measured of stream-core alone, on a Kafka that runs already.

mod join;
mod load;
mod takeover;

use clap::ValueEnum;

pub(crate) use self::join::{Join, run as join};
pub(crate) use self::load::load;
pub(crate) use self::takeover::{Takeover, run as takeover};
use crate::Outcome;

/// The Kafka and the input.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Kafka's addresses.
    #[arg(long, env = "KAFKA_BROKERS")]
    brokers: String,
    /// The input's topic.
    #[arg(long, default_value = "bench-count")]
    topic: String,
    /// Partitions of the input.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Records.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Keys; each gets the same number of records.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    Memory,
    Sled,
}

/// CPU seconds of this process so far, user and system.
fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// The most memory this process has had.
fn peak_mb() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default();
    Ok(line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() / 1024)
}
