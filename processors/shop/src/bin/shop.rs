//! Writes made-up products to `shop_products`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use processors_common::{CommonArgs, Exit, PROCESSING_FLAGS, parse, run, say, topics};
use shop::sell::{Pace, Times, sell};
use shop::topics::{RECOM_FLAGS, TopicNames};
use shop::{Format, Generator};
use stream_core::emitter::Emitter;
use stream_core::processor::stop_signal;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Writes made-up products to Kafka, so many at a time
#[derive(Parser, Debug)]
#[command(name = "shop", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// How many products at a time
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// From one time to the next; 0s is as fast as possible
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,

    /// End after so many, once all of them are acknowledged [default: go on until Ctrl-C]
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Make the same products each time [default: others each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Of 100 records, how many are products sent before, under another name
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=100))]
    updates: u8,

    /// How products are written
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  shop --brokers localhost:9092                     30 products a second, until Ctrl-C
  shop --brokers localhost:9092 --count 1000 --seed 1 --interval 0s
                                                    the same 1000 products each time, at once
  shop --format avro --schema-registry http://localhost:8081
                                                    Avro; the brokers from $KAFKA_BROKERS";

fn main() -> ExitCode {
    run(shop(parse(&[PROCESSING_FLAGS, &["filter_group", "rules_topic", "find_topic"], RECOM_FLAGS])))
}

async fn shop(cli: Cli) -> Result<(), Exit> {
    let log = cli.common.connect("shop")?;
    let codec = cli.format.codec(&cli.common)?;
    let clock = log.clock();
    topics::create_missing(&log, vec![cli.names.products(&cli.common)]).await?;
    let emitter = Emitter::new(cli.names.product_topic.as_str(), codec, log).await?;
    let (seed, times) = match cli.seed {
        Some(seed) => (seed, Times::Seeded),
        None => (clock.now_ms().unsigned_abs(), Times::Clock(&*clock)),
    };
    let pace = Pace { rate: cli.rate, interval: cli.interval, count: cli.count };
    let written = sell(&emitter, Generator::new(seed, cli.updates), pace, times, stop_signal(), |_| {}).await?;
    emitter.close().await?;
    say(format_args!("{written} products written to {}", cli.names.product_topic));
    Ok(())
}
