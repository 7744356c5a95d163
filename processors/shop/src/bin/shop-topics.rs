//! Makes and deletes the shop's topics.

use std::process::ExitCode;

use clap::Parser;
use processors_common::topics::{Action, manage};
use processors_common::{CommonArgs, Exit, PROCESSING_FLAGS, REGISTRY_FLAGS, parse, run};
use shop::topics::TopicNames;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes or deletes the shop's topics
///
/// The processors make what they miss by themselves; this is for making them beforehand, or for starting afresh.
#[derive(Parser, Debug)]
#[command(name = "shop-topics", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// What to do
    action: Action,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  shop-topics create --brokers localhost:9092 --partitions 4
  shop-topics delete                                the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(topics(parse(&[PROCESSING_FLAGS, REGISTRY_FLAGS])))
}

async fn topics(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("shop-topics")?;
    Ok(manage(&log, cli.action, cli.names.all(&cli.common), cli.names.inner()).await?)
}
