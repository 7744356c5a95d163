//! Makes and deletes the chat's topics.

use std::process::ExitCode;

use chat::topics::TopicNames;
use clap::Parser;
use processors_common::topics::{Action, manage};
use processors_common::{CommonArgs, Exit, PROCESSING_FLAGS, REGISTRY_FLAGS, parse, run};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes or deletes the chat's topics
///
/// The processors make what they miss by themselves; this is for making them beforehand, or for starting afresh.
#[derive(Parser, Debug)]
#[command(name = "chat-topics", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// What to do
    action: Action,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  chat-topics create --brokers localhost:9092 --partitions 4
  chat-topics delete                                the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(topics(parse(&[PROCESSING_FLAGS, REGISTRY_FLAGS])))
}

async fn topics(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("chat-topics")?;
    let shared = cli.names.needed(&log, &cli.common).await?;
    Ok(manage(&log, cli.action, shared, cli.names.of_groups()).await?)
}
