//! Groups what one user writes to one chat.

use std::process::ExitCode;
use std::time::Duration;

use chat::aggregator;
use chat::open::Limits;
use chat::topics::TopicNames;
use clap::Parser;
use processors_common::{CommonArgs, Exit, GuaranteeArg, REGISTRY_FLAGS, parse, run};
use stream_core::processor::Guarantee;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Groups the messages of one user to one chat: so many, or those before a gap
///
/// A group closes by the clock, without a further message. Open groups survive a crash and move with their partition. With
/// --guarantee exactly-once each message is in exactly one group, whatever fails; else a crash may put some into a second
/// one, but never loses any. All instances need the same guarantee. What is no message is put aside with the reason.
#[derive(Parser, Debug)]
#[command(name = "chat-aggregator", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// A group closes once it has so many messages
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    max_messages: u16,

    /// A group closes so long after its last message
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = span)]
    gap: Duration,

    /// A group closes so long after its first message, even if its sender never pauses
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = span)]
    max_age: Duration,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  chat-aggregator --brokers localhost:9092 --guarantee exactly-once
  chat-aggregator --max-messages 20 --gap 5s        the brokers from $KAFKA_BROKERS";

fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if span.is_zero() { Err("must be longer than nothing".into()) } else { Ok(span) }
}

fn main() -> ExitCode {
    run(aggregate(parse(&[REGISTRY_FLAGS, &["history_topic", "chats_topic", "history_group"]])))
}

async fn aggregate(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("chat-aggregator")?;
    cli.names.prepare(&log, &cli.common).await?;
    let limits = Limits { max_messages: cli.max_messages.into(), gap: cli.gap, max_age: cli.max_age };
    let guarantee = match cli.common.processing.guarantee {
        GuaranteeArg::AtLeastOnce => Guarantee::AtLeastOnce,
        GuaranteeArg::ExactlyOnce => Guarantee::ExactlyOnce,
    };
    let graph = aggregator::define(&cli.names, limits, guarantee).build()?;
    cli.common.processor(graph, log).run_until_signal().await?;
    Ok(())
}
