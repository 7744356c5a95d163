//! Writes what somebody searches for to `analytic_products_find`.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use processors_common::{CommonArgs, Exit, Line, PROCESSING_FLAGS, Prompt, REGISTRY_FLAGS, parse, run, say, topics};
use shop::Find;
use shop::topics::{RECOM_FLAGS, TopicNames};
use stream_core::codec::Json;
use stream_core::emitter::{EmitError, Emitter};
use stream_core::processor::stop_signal;
use tokio::time::timeout;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    run(search(parse(&[
        PROCESSING_FLAGS,
        REGISTRY_FLAGS,
        &["filter_group", "rules_topic", "product_topic"],
        RECOM_FLAGS,
    ])))
}

async fn search(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("search-prompt")?;
    topics::create_missing(&log, vec![cli.names.searches(&cli.common)]).await?;
    let emitter = Emitter::new(cli.names.find_topic.as_str(), Json::<Find>::new(), log).await?;
    let mut prompt = Prompt::open("Find product: ");
    let mut stop = std::pin::pin!(stop_signal());
    let mut written = 0_u64;
    let mut ahead = VecDeque::new();
    let stopped = loop {
        let line = tokio::select! {
            biased;
            () = &mut stop => break true,
            line = next(&mut ahead, &mut prompt) => line,
        };
        let Line::Text(text) = line else { break line == Line::Interrupt };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let find = Find::new(&cli.user, text);
        let interactive = prompt.interactive();
        let sent = tokio::select! {
            biased;
            () = &mut stop => break true,
            () = interrupted(&mut ahead, &mut prompt) => break true,
            sent = send(&emitter, &find, interactive) => sent,
        };
        match sent {
            Ok(()) => written += 1,
            Err(error) if interactive => say(format_args!("not written: {error:?}")),
            Err(error) => return Err(error.into()),
        }
    };
    if !stopped {
        emitter.close().await?;
    } else if let Ok(closed) = timeout(GRACE, emitter.close()).await {
        closed?;
    } else {
        return Err(Exit::failed("stopped; the broker does not answer, so the last searches may not be written"));
    }
    say(format_args!("{written} searches written to {}", cli.names.find_topic));
    Ok(())
}

/// How long acknowledgements are awaited once it is to stop.
const GRACE: Duration = Duration::from_secs(3);

async fn send(emitter: &Emitter<Find>, find: &Find, interactive: bool) -> Result<(), EmitError> {
    if interactive {
        return emitter.emit_acknowledged(&find.id, find).await;
    }
    // A pipe is long: all acknowledgements are awaited at its end.
    emitter.emit(&find.id, find).await.map(drop)
}

/// The next line, of those that were read ahead first.
async fn next(ahead: &mut VecDeque<Line>, prompt: &mut Prompt) -> Line {
    match ahead.pop_front() {
        Some(line) => line,
        None => prompt.next().await,
    }
}

/// Resolves on Ctrl-C at the prompt, which is no signal there; what else is typed is kept.
async fn interrupted(ahead: &mut VecDeque<Line>, prompt: &mut Prompt) {
    while prompt.interactive() && ahead.back() != Some(&Line::End) {
        match prompt.next().await {
            Line::Interrupt => return,
            line => ahead.push_back(line),
        }
    }
    std::future::pending::<()>().await;
}
