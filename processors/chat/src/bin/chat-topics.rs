//! Makes and deletes the chat's topics.

use std::process::ExitCode;
use std::sync::Arc;

use chat::topics::TopicNames;
use clap::{Parser, ValueEnum};
use processors_common::{CommonArgs, Exit, PROCESSING_FLAGS, REGISTRY_FLAGS, parse, run, say, topics};

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

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Action {
    /// Make the topics that are missing
    Create,
    /// Delete the topics, those of the groups as well, and all that is in them
    Delete,
}

const EXAMPLES: &str = "Examples:
  chat-topics create --brokers localhost:9092 --partitions 4
  chat-topics delete                                the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(manage(parse(&[PROCESSING_FLAGS, REGISTRY_FLAGS])))
}

async fn manage(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("chat-topics")?;
    let mut names: Vec<Arc<str>> = cli.names.shared(1, None).into_iter().map(|spec| spec.name).collect();
    let (touched, verb) = match cli.action {
        Action::Create => (cli.names.prepare(&log, &cli.common).await?, "created"),
        Action::Delete => {
            names.extend(cli.names.of_groups());
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
