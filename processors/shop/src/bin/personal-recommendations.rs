//! Joins the filtered products with the searches, keeps each user's newest recommendations, and serves them over HTTP.
#![allow(clippy::doc_markdown, reason = "the comments of flags are what --help shows")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use processors_common::http::listen;
use processors_common::{CommonArgs, Exit, parse, run, say, topics};
use shop::recommend::{self, Kind, Matching};
use shop::topics::TopicNames;
use shop::{Format, api};
use stream_core::processor::stop_signal;
use tokio::task::JoinSet;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Recommends products to users who searched for them
///
/// Products that passed the filter and searches are brought together where a product's name is what was searched for,
/// letter for letter, within an hour of each other, whichever came first. The pairs go to the topic personal_recom, keyed
/// by the name; each user's newest are in a table, which is read over HTTP: GET /recommendations/{user_id}. Of several
/// instances, the one that has the user answers; the others say 421 "not_here".
#[derive(Parser, Debug)]
#[command(name = "personal-recommendations", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// Which products are recommended
    #[arg(long, value_name = "KIND", default_value = "inner")]
    join: Kind,

    /// How far apart in time a product and a search may be
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    within: Duration,

    /// How far behind the others a record may come without missing a match: longer than any downtime. Everything is kept
    /// for this much longer
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    grace: Duration,

    /// How many recommendations of each user are kept, 200 at most: they are one record
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
    keep: u16,

    /// Where to listen; port 0 is a free one
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "RECOMMENDATIONS_HTTP",
        hide_env_values = true,
        default_value = "127.0.0.1:8083"
    )]
    http: SocketAddr,

    /// How products are written
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  personal-recommendations --brokers localhost:9092
  personal-recommendations --join left --http 127.0.0.1:0       the brokers from $KAFKA_BROKERS
  curl localhost:8083/recommendations/ann";

fn main() -> ExitCode {
    run(recommendations(parse(&[&["product_topic", "rules_topic"]])))
}

async fn recommendations(cli: Cli) -> Result<(), Exit> {
    let Cli { names, common, .. } = &cli;
    let log = common.connect("personal-recommendations")?;
    let how = Matching { kind: cli.join, within: cli.within, grace: cli.grace };
    let join = recommend::join(names, cli.format.codec(common)?, how)?;
    let users = recommend::users(names, cli.keep.into()).build()?;
    let listener = listen(cli.http, "--http").await?;
    // What others write and make as a rule; made here, it must be as they would make it.
    let needed = vec![names.filtered(common), names.searches(common), names.recommendations(common)];
    topics::create_missing(&log, needed).await?;

    let processors = [common.processor(join, Arc::clone(&log)), common.processor(users, log)];
    let handles = processors.each_ref().map(|p| p.handle());
    let [_, users] = &handles;
    say(format_args!("personal-recommendations: http://{}/recommendations/{{user_id}}", listener.local_addr()?));
    let server = tokio::spawn(axum::serve(listener, api::routes(users)).into_future());
    let mut running = JoinSet::new();
    for processor in processors {
        running.spawn(processor.run());
    }
    let first = tokio::select! {
        biased;
        () = stop_signal() => None,
        ended = running.join_next() => ended,
    };
    // One without the other is of no use.
    for handle in &handles {
        handle.stop();
    }
    let mut result = Ok(());
    let mut next = match first {
        Some(ended) => Some(ended),
        None => running.join_next().await,
    };
    while let Some(ended) = next {
        result = result.and(ended.map_err(Exit::from).and_then(|done| done.map_err(Exit::from)));
        next = running.join_next().await;
    }
    server.abort();
    result
}
