//! Counts records by key, with stream-core or with a bare client loop, and says how fast and at what cost.
//!
//! ```text
//! bench --brokers HOST:PORT load                 # writes the input once
//! bench --brokers HOST:PORT run --engine group --store sled
//! bench --brokers HOST:PORT run --engine bare --store sled
//! bench --brokers HOST:PORT filter
//! bench --brokers HOST:PORT join --store sled --exactly-once
//! bench --brokers HOST:PORT --topic one --partitions 1 --keys 1000000 load
//! bench --brokers HOST:PORT --topic one --partitions 1 --keys 1000000 takeover --standbys
//! ```
//!
//! Every run reads the same input from its beginning, in a process of its own, and checks that each count is exact.
//! Compare runs made side by side, as ratios: the machine's other load moves all of them.

mod bare;
mod filter;
mod group;
mod join;
mod load;
mod takeover;

use std::error::Error;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use stream_core::processor::Processor;
use tokio::sync::Notify;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts records by key and measures it.
#[derive(Debug, Parser)]
struct Args {
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
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Writes the input.
    Load,
    /// Counts it.
    Run {
        /// What counts.
        #[arg(long)]
        engine: Engine,
        /// Where the counts are kept.
        #[arg(long, default_value = "memory")]
        store: StoreKind,
        /// In transactions; for the group.
        #[arg(long)]
        exactly_once: bool,
    },
    /// Lets every second record pass and measures it.
    Filter(filter::Filter),
    /// Kills an instance and measures until the other has taken over.
    Takeover(takeover::Takeover),
    /// Writes two topics of so many records each, joins them and measures it.
    Join(join::Join),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    /// stream-core.
    Group,
    /// A consumer, a producer and a map, without a library.
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    Memory,
    Sled,
}

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a run came to.
struct Measured {
    /// From the first record to everything committed.
    took: Duration,
    /// CPU seconds of the process until then.
    cpu: f64,
    /// Distinct keys, and the sum and extremes of their counts.
    counts: Counts,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    keys: u64,
    sum: u64,
    least: u64,
    most: u64,
}

impl Counts {
    fn of(counts: impl Iterator<Item = u64>) -> Self {
        let mut all = Self { least: u64::MAX, ..Self::default() };
        for n in counts {
            all.keys += 1;
            all.sum += n;
            all.least = all.least.min(n);
            all.most = all.most.max(n);
        }
        all
    }
}

fn main() -> Outcome<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let (engine, store, exactly_once) = match args.what {
        What::Load => return load::load(&args),
        What::Filter(how) => return filter::run(&args, how),
        What::Takeover(how) => return takeover::run(&args, how),
        What::Join(how) => return join::run(&args, how),
        What::Run { engine, store, exactly_once } => (engine, store, exactly_once),
    };
    let measured = match engine {
        Engine::Group => group::run(&args, store, exactly_once)?,
        Engine::Bare => bare::run(&args, store)?,
    };
    let each = args.records / args.keys;
    let right = Counts { keys: args.keys, sum: each * args.keys, least: each, most: each };
    if measured.counts != right {
        return Err(format!("wrong counts: {:?}, expected {right:?}", measured.counts).into());
    }
    let seconds = measured.took.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = args.records as f64 / seconds;
    println!(
        "engine={engine:?} store={store:?} exactly_once={exactly_once} records={} seconds={seconds:.2} records_per_second={rate:.0} cpu={:.2} \
         peak_mb={} counts=exact",
        args.records,
        measured.cpu,
        peak_mb()?
    );
    Ok(())
}

/// Runs a processor until everything has been seen, and ends it: once all is acknowledged, stored and committed.
async fn run_until(processor: Processor, all_seen: &Notify) -> Outcome<()> {
    let handle = processor.handle();
    let mut running = tokio::spawn(processor.run());
    tokio::select! {
        biased;
        ended = &mut running => return Err(format!("the processor ended early: {:?}", ended?).into()),
        () = all_seen.notified() => {}
    }
    handle.stop();
    Ok(running.await??)
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
