//! Makes and deletes the shop's topics.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use processors_common::{CommonArgs, Exit, PROCESSING_FLAGS, REGISTRY_FLAGS, parse, run, say, topics};
use shop::topics::TopicNames;

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

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Action {
    /// Make the topics that are missing
    Create,
    /// Delete the topics and all that is in them
    Delete,
}

const EXAMPLES: &str = "Examples:
  shop-topics create --brokers localhost:9092 --partitions 4
  shop-topics delete                                the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(manage(parse(&[PROCESSING_FLAGS, REGISTRY_FLAGS])))
}

async fn manage(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("shop-topics")?;
    let all = cli.names.all(&cli.common);
    let mut names: Vec<_> = all.iter().map(|spec| Arc::clone(&spec.name)).collect();
    let (touched, verb) = match cli.action {
        Action::Create => (topics::create_missing(&log, all).await?, "created"),
        Action::Delete => {
            names.extend(cli.names.inner());
            (topics::delete_existing(&log, names.clone()).await?, "deleted")
        }
    };
    for name in &names {
        let what = match (touched.contains(name), cli.action) {
            (true, _) => verb,
            (false, Action::Create) => "exists",
            (false, Action::Delete) => "is not there",
        };
        say(format_args!("{name}: {what}"));
    }
    Ok(())
}
