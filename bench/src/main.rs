//! The comparison of stream-core with its peers, and what is measured beside it.
//!
//! ```text
//! bench compare                                  # what `make bench` runs: bench/README.md
//! bench engine …                                 # one engine, as a process of the comparison
//! bench join --brokers HOST:PORT --store sled --exactly-once
//! bench load --brokers HOST:PORT --topic one --partitions 1 --keys 1000000
//! bench takeover --brokers HOST:PORT --topic one --partitions 1 --keys 1000000 --standbys
//! ```

mod compare;
mod engine;
mod single;

use std::error::Error;

use clap::{Parser, Subcommand};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures stream-core, beside its peers and alone.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Compares engines on a Kafka that it starts.
    Compare(compare::Compare),
    /// Is one engine of the comparison.
    Engine(engine::Job),
    /// Writes the input of a takeover.
    Load(single::Args),
    /// Kills an instance and measures until the other has taken over.
    Takeover {
        #[command(flatten)]
        args: single::Args,
        #[command(flatten)]
        how: single::Takeover,
    },
    /// Writes two topics of so many records each, joins them, and shows what the join keeps meanwhile.
    Join {
        #[command(flatten)]
        args: single::Args,
        #[command(flatten)]
        how: single::Join,
    },
}

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Args::parse().what {
        What::Compare(how) => compare::run(&how),
        What::Engine(job) => engine::run(&job),
        What::Load(args) => single::load(&args),
        What::Takeover { args, how } => single::takeover(&args, how),
        What::Join { args, how } => single::join(&args, how),
    }
}
