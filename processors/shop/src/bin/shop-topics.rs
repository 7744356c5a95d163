//! Makes and deletes the shop's topics.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use processors_common::{CommonArgs, Exit, Group, parse, run, say, topics};
use shop::topics::TopicNames;

/// Makes or deletes the shop's topics
///
/// The processors make what they miss by themselves; this is for making them beforehand, or for starting afresh.
#[derive(Parser, Debug)]
#[command(name = "shop-topics", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum Action {
    /// Make the topics that are missing
    Create,
    /// Delete the topics and all that is in them
    Delete,
}

const EXAMPLES: &str = "Examples:
  shop-topics --brokers localhost:9092 --partitions 4 create
  shop-topics --brokers localhost:9092 delete";

fn main() -> ExitCode {
    run(manage(parse(&[Group::Processing, Group::Values])))
}

async fn manage(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("shop-topics")?;
    let all = cli.names.all(&cli.common);
    let names: Vec<_> = all.iter().map(|spec| Arc::clone(&spec.name)).collect();
    let (touched, verb) = match cli.action {
        Action::Create => (topics::create_missing(&log, all).await?, "created"),
        Action::Delete => (topics::delete_existing(&log, names.clone()).await?, "deleted"),
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
