//! All of the shop in one process, on the embedded log: nothing to install, nothing to start.

mod screen;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use processors_common::topics::compacted;
use processors_common::{Exit, Line, Prompt, run, say, start_logging};
use shop::rule::Rule;
use shop::rules::Rules;
use shop::sell::{Pace, SellError, Times, sell};
use shop::topics::TopicNames;
use shop::{Generator, codec, filter};
use stream_core::emitter::Emitter;
use stream_core::log::embedded::Embedded;
use stream_core::log::{Isolation, LogHandle, LogResult, OffsetSpec, TopicPartition, TopicSpec};
use stream_core::processor::{Processor, stop_signal};
use stream_core::store::MemoryStores;
use tokio::time::{sleep, timeout};

use self::screen::Screen;

const PARTITIONS: i32 = 2;

/// 30 a second, evenly.
const PACE: Pace = Pace { rate: 3, interval: Duration::from_millis(100), count: None };

/// Of 100 records, how many are products that were sent before, under another name.
const UPDATES: u8 = 5;

/// Shows the shop and its filter at work, in this process alone
#[derive(Parser, Debug)]
#[command(name = "demo", version)]
struct Cli {
    /// End after this time [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", env = "DEMO_FOR", value_parser = humantime::parse_duration)]
    for_: Option<Duration>,

    /// What to log on stderr
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "warn", hide_env_values = true)]
    log: String,
}

fn main() -> ExitCode {
    run(demo(Cli::parse()))
}

async fn demo(cli: Cli) -> Result<(), Exit> {
    start_logging(&cli.log)?;
    let names = TopicNames::default();
    let log: LogHandle = Embedded::new();
    let topics =
        vec![TopicSpec::new(names.product_topic.as_str()).partitions(PARTITIONS), compacted(&names.rules_topic, 1)];
    log.create_topics(topics).await?;
    let rules = Rules::open(&names.rules_topic, &log).await?;
    let screen = Screen::new();

    let mut group = filter::define(&names, codec::json());
    group.on_update({
        let screen = Arc::clone(&screen);
        move |_, key, product| screen.updated(&String::from_utf8_lossy(key), product)
    });
    let processor = Processor::new(group.build()?, Arc::clone(&log))
        .stores(Arc::new(MemoryStores::new()))
        .commit_interval(Duration::from_millis(200));
    let handle = processor.handle();
    let mut running = tokio::spawn(processor.run());

    screen.begin(&names, cli.for_);
    let shop = sell_here(&log, &names, &screen, cli.for_, rules);
    let products = tokio::select! {
        biased;
        ended = &mut running => {
            ended??;
            return Err(Exit::failed("the filter ended by itself"));
        }
        products = shop => products?,
    };
    // What was written last is still on its way through the filter.
    if timeout(Duration::from_secs(10), all_judged(&log, &names)).await.is_err() {
        tracing::warn!("the filter did not catch up with the shop");
    }
    handle.stop();
    running.await??;
    screen.end(products);
    Ok(())
}

/// Writes products until somebody ends it. Returns how many.
async fn sell_here(
    log: &LogHandle,
    names: &TopicNames,
    screen: &Screen,
    for_: Option<Duration>,
    rules: Rules,
) -> Result<u64, SellError> {
    let emitter = Emitter::new(names.product_topic.as_str(), codec::json(), Arc::clone(log)).await?;
    let clock = log.clock();
    let generator = Generator::new(clock.now_ms().unsigned_abs(), UPDATES);
    let ended = async {
        tokio::select! {
            biased;
            () = stop_signal() => {}
            () = time_is_up(for_) => {}
            () = type_rules(for_, &rules, screen) => {}
            () = screen.keep_telling() => {}
        }
    };
    let products = sell(&emitter, generator, PACE, Times::Clock(&*clock), ended, |n| screen.written(n)).await?;
    emitter.close().await?;
    Ok(products)
}

async fn time_is_up(for_: Option<Duration>) {
    match for_ {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Sets the rules that are typed or come by a pipe; if there is nobody to type any, one that shows what happens.
async fn type_rules(for_: Option<Duration>, rules: &Rules, screen: &Screen) {
    let mut prompt = Prompt::open(screen::PROMPT);
    let by_itself = for_.filter(|_| !prompt.interactive()).map(|time| time / 3);
    let line = tokio::select! {
        biased;
        line = typed(&mut prompt) => line,
        () = time_is_up(by_itself) => {
            say(format_args!("{}lamp    (there is no terminal here, so the demo types for you)", screen::PROMPT));
            Some("lamp".into())
        }
    };
    let mut next = line;
    while let Some(line) = next {
        screen.ruled(rules.set(Rule::typed(&line)).await);
        next = typed(&mut prompt).await;
    }
}

/// The next line; `None` if somebody at the terminal ends it. A pipe's end ends nothing, it only brings no more lines.
async fn typed(prompt: &mut Prompt) -> Option<String> {
    match prompt.next().await {
        Line::Text(line) => Some(line),
        Line::End if !prompt.interactive() => std::future::pending().await,
        Line::End | Line::Interrupt => None,
    }
}

/// Resolves when the filter has committed everything that the shop has written.
async fn all_judged(log: &LogHandle, names: &TopicNames) -> LogResult<()> {
    let of: Vec<_> = (0..PARTITIONS).map(|p| TopicPartition::new(names.product_topic.as_str(), p)).collect();
    let ends = of.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
    let ends = log.offsets(ends, Isolation::ReadCommitted).await?;
    loop {
        let done = log.group_offsets(names.filter_group.as_str().into(), of.clone()).await?;
        if done.iter().zip(&ends).all(|(done, end)| done.unwrap_or_default() >= *end) {
            return Ok(());
        }
        // Commits are not announced, so they are asked for.
        sleep(Duration::from_millis(20)).await;
    }
}
