//! Keeps the Postgres table `orders` as the router's table is.
#![allow(clippy::doc_markdown, reason = "the comments of flags are what --help shows")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use orders::postgres::Postgres;
use orders::sink;
use orders::topics::TopicNames;
use processors_common::postgres::config;
use processors_common::{CommonArgs, Exit, REGISTRY_FLAGS, parse, run};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Writes the orders that were routed to the Postgres table "orders", which is made if it is missing
///
/// Offsets are committed once the database has committed, and a row that is written again is written over itself. While the
/// database is away it waits. An order that the database refuses is put aside with the reason.
#[derive(Parser, Debug)]
#[command(name = "order-sink", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// The database, as postgres://USER@HOST:PORT/NAME. The password comes from $PGPASSWORD, or from this variable's URL
    #[arg(long, value_name = "URL", env = "DATABASE_DSN", hide_env_values = true)]
    database: Option<String>,

    /// Orders a statement, at most
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,

    /// How long the database may take to answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    patience: Duration,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  PGPASSWORD=... order-sink --brokers localhost:9092 --database postgres://orders@localhost/shop
  DATABASE_DSN=postgres://... order-sink            the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(write(parse(&[REGISTRY_FLAGS, &["city_prefix", "email_topic", "mailer_group"]])))
}

async fn write(cli: Cli) -> Result<(), Exit> {
    let database = cli.database.as_deref().map(str::trim).filter(|d| !d.is_empty());
    let database = database.ok_or_else(|| {
        Exit::usage("no database given: use --database postgres://USER@HOST/NAME, or set DATABASE_DSN")
    })?;
    let config = config(database, "order-sink", cli.patience)?;
    let log = cli.common.connect("order-sink")?;
    cli.names.prepare(&log, &cli.common).await?;
    let rows = Arc::new(Postgres::new(config, cli.patience));
    let graph = sink::define(&cli.names, rows, cli.batch.into()).build()?;
    cli.common.processor(graph, log).run_until_signal().await?;
    Ok(())
}
