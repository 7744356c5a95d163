//! Lets each order through once: to its city's topic, to the mails, into its table.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use orders::cities::CityTopics;
use orders::topics::TopicNames;
use orders::{Cities, router};
use processors_common::{CommonArgs, Exit, REGISTRY_FLAGS, parse, run};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Routes orders: the urgent ones to the mails, each one to its city's topic, none of them twice
///
/// An order whose id is in the router's table is a repeat and has no effect. With --guarantee exactly-once each order has
/// exactly one record for its city, and one for the mails, whatever fails; else a crash may write some of them twice. What
/// is no order is put aside with the reason.
#[derive(Parser, Debug)]
#[command(name = "order-router", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// So many cities have a topic of their own; the others share one. The same for all instances
    #[arg(long, value_name = "N", env = "MAX_CITY_TOPICS", hide_env_values = true, default_value_t = 100)]
    max_city_topics: usize,

    /// Partitions of a city's topic
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..))]
    city_partitions: i32,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  order-router --brokers localhost:9092 --guarantee exactly-once
  order-router --max-city-topics 10                 the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(route(parse(&[REGISTRY_FLAGS, &["mailer_group", "sink_group"]])))
}

async fn route(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("order-router")?;
    cli.names.prepare(&log, &cli.common).await?;
    let replication = cli.common.topics.replication;
    let topics = CityTopics { max: cli.max_city_topics, partitions: cli.city_partitions, replication };
    let cities = Cities::open(Arc::clone(&log), &cli.names, topics).await?;
    let graph = router::define(&cli.names, cities).build()?;
    cli.common.processor(graph, log).run_until_signal().await?;
    Ok(())
}
