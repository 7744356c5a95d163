//! Writes what somebody searches for to `analytic_products_find`.

use std::process::ExitCode;

use clap::Parser;
use processors_common::{CommonArgs, Exit, Line, PROCESSING_FLAGS, Prompt, REGISTRY_FLAGS, parse, run, say, topics};
use shop::Find;
use shop::topics::TopicNames;
use stream_core::codec::Json;
use stream_core::emitter::Emitter;
use stream_core::processor::stop_signal;

/// Writes what a user searches for to Kafka: a line is one search, typed or from a pipe
#[derive(Parser, Debug)]
#[command(name = "search-prompt", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// Who searches
    #[arg(long = "user", value_name = "NAME", env = "USER", hide_env_values = true)]
    user: String,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  search-prompt --brokers localhost:9092 --user ann            type; Ctrl-D ends it
  echo 'Bright brass desk lamp' | search-prompt --user ann     the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(search(parse(&[PROCESSING_FLAGS, REGISTRY_FLAGS, &["filter_group", "rules_topic", "product_topic"]])))
}

async fn search(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("search-prompt")?;
    topics::create_missing(&log, vec![cli.names.searches(&cli.common)]).await?;
    let emitter = Emitter::new(cli.names.find_topic.as_str(), Json::<Find>::new(), log).await?;
    let mut prompt = Prompt::open("Find product: ");
    let mut stop = std::pin::pin!(stop_signal());
    let mut written = 0_u64;
    loop {
        let line = tokio::select! {
            biased;
            () = &mut stop => break,
            line = prompt.next() => line,
        };
        let Line::Text(text) = line else { break };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let find = Find::new(&cli.user, text);
        if prompt.interactive() {
            emitter.emit_acknowledged(&find.id, &find).await?;
        } else {
            // A pipe is long: all acknowledgements are awaited at its end.
            _ = emitter.emit(&find.id, &find).await?;
        }
        written += 1;
    }
    emitter.close().await?;
    say(format_args!("{written} searches written to {}", cli.names.find_topic));
    Ok(())
}
