//! All of the shop in one process, on the embedded log: nothing to install, nothing to start.

mod live;
mod page;
mod screen;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use processors_common::demo::{Lasts, elapsed};
use processors_common::http::listen;
use processors_common::topics::compacted;
use processors_common::{Exit, Line, Prompt, run, say, start_logging};
use shop::recommend::{self, Matching};
use shop::rule::Rule;
use shop::rules::{Rules, SetRuleError};
use shop::sell::{Pace, SellError, Times, sell};
use shop::topics::TopicNames;
use shop::{Find, Generator, Recommendation, codec, filter};
use stream_core::codec::Json;
use stream_core::emitter::{EmitError, Emitter};
use stream_core::group::{BuildError, Group, GroupGraph, table_topic};
use stream_core::log::embedded::InMemory;
use stream_core::log::{LogHandle, TopicSpec};
use stream_core::processor::{Handle, Processor, ProcessorResult};
use stream_core::store::MemoryStores;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::screen::Screen;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 2;

/// 30 a second, evenly.
const PACE: Pace = Pace { rate: 3, interval: Duration::from_millis(100), count: None };

/// Of 100 records, how many are products that were sent before, under another name.
const UPDATES: u8 = 5;

/// Recommendations of each user that are kept.
const KEEP: usize = 10;

/// Who searches by itself, one after the other, for something that is in the shop.
const USERS: [&str; 4] = ["ann", "ben", "cleo", "dora"];
const SEARCH_EVERY: Duration = Duration::from_millis(900);

/// Whose searches are typed at the prompt.
const YOU: &str = "you";

/// Shows the shop, its filter and its recommendations at work, in this process alone
#[derive(Parser, Debug)]
#[command(name = "demo", version)]
struct Cli {
    #[command(flatten)]
    lasts: Lasts,

    /// Where the page is; port 0 is a free one
    #[arg(long, value_name = "HOST:PORT", env = "DEMO_HTTP", default_value = "127.0.0.1:0")]
    http: SocketAddr,

    /// What to log on stderr
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "warn", hide_env_values = true)]
    log: String,
}

/// What whoever watches can do.
struct Demo {
    screen: Arc<Screen>,
    rules: Rules,
    searches: Emitter<Find>,
}

impl Demo {
    async fn rule(&self, line: &str) -> Result<Rule, SetRuleError> {
        let outcome = self.rules.set(Rule::typed(line)).await;
        self.screen.ruled(&outcome);
        outcome
    }

    async fn search(&self, user: &str, text: &str) -> Result<(), EmitError> {
        let find = Find::new(user, text);
        // Seen before what comes of it.
        self.screen.searched(&find);
        self.searches.emit_acknowledged(&find.id, &find).await
    }
}

fn main() -> ExitCode {
    run(demo(Cli::parse()))
}

async fn demo(cli: Cli) -> Result<(), Exit> {
    start_logging(&cli.log)?;
    let names = TopicNames::default();
    let log: LogHandle = InMemory::new();
    let plain = |name: &str| TopicSpec::new(name).partitions(PARTITIONS);
    let filtered = compacted(&table_topic(&names.filter_group), PARTITIONS);
    let plain = [&names.product_topic, &names.find_topic, &names.recom_topic].map(|name| plain(name));
    log.create_topics([&plain[..], &[filtered, compacted(&names.rules_topic, 1)]].concat()).await?;
    let listener = listen(cli.http, "DEMO_HTTP").await?;
    let screen = Screen::new();
    let demo = Arc::new(Demo {
        screen: Arc::clone(&screen),
        rules: Rules::open(&names.rules_topic, &log).await?,
        searches: Emitter::new(names.find_topic.as_str(), Json::<Find>::new(), Arc::clone(&log)).await?,
    });

    let mut groups = Groups::default();
    let mut filter = filter::define(&names, codec::json());
    filter.on_update({
        let screen = Arc::clone(&screen);
        move |_, key, product| screen.updated(&String::from_utf8_lossy(key), product)
    });
    groups.start(filter.build()?, &log);
    // All of it is kept in memory, and nothing comes late.
    let how = Matching { grace: Duration::from_secs(60), ..Matching::default() };
    groups.start(recommend::join(&names, codec::json(), how)?, &log);
    let users = groups.start(recommend::users(&names, KEEP).build()?, &log);
    groups.start(watcher(&names, &screen)?, &log);

    screen.begin(&names, listener.local_addr()?, cli.lasts);
    let server = tokio::spawn(axum::serve(listener, page::routes(Arc::clone(&demo), &users)).into_future());
    let products = tokio::select! {
        biased;
        error = groups.failed() => return Err(error),
        products = sell_here(&log, &names, &demo, cli.lasts) => products?,
    };
    demo.searches.flush().await?;
    // What was written last is still on its way.
    let settled = timeout(Duration::from_secs(20), groups.settled()).await;
    settled.map_err(|_| Exit::failed("the groups did not catch up with the shop"))??;
    server.abort();
    groups.stop().await?;
    screen.end(products);
    Ok(())
}

/// Shows the recommendations as they come.
fn watcher(names: &TopicNames, screen: &Arc<Screen>) -> Result<Arc<GroupGraph>, BuildError> {
    let mut g = Group::define("demo-screen");
    let screen = Arc::clone(screen);
    g.input(names.recom_topic.as_str(), Json::<Recommendation>::new(), move |_, recommendation: Recommendation| {
        screen.recommended(&recommendation);
        Ok(())
    });
    g.build()
}

/// The groups at work, in the order of the data's way.
#[derive(Default)]
struct Groups {
    handles: Vec<Handle>,
    running: JoinSet<ProcessorResult<()>>,
}

impl Groups {
    fn start(&mut self, graph: Arc<GroupGraph>, log: &LogHandle) -> Handle {
        let processor = Processor::new(graph, Arc::clone(log))
            .stores(Arc::new(MemoryStores::new()))
            .commit_interval(Duration::from_millis(200))
            .workers(1);
        let handle = processor.handle();
        self.running.spawn(processor.run());
        self.handles.push(handle.clone());
        handle
    }

    /// Resolves when one has ended, which none should.
    async fn failed(&mut self) -> Exit {
        match self.running.join_next().await {
            Some(Ok(Err(error))) => error.into(),
            Some(Err(panic)) => panic.into(),
            Some(Ok(Ok(()))) | None => Exit::failed("a group ended by itself"),
        }
    }

    /// Resolves when everything that was written is done, by each group what the one before wrote.
    async fn settled(&self) -> ProcessorResult<()> {
        for handle in &self.handles {
            // Once for what it reads, once more for what it has sent to itself.
            handle.caught_up().await?;
            handle.caught_up().await?;
        }
        Ok(())
    }

    async fn stop(mut self) -> Result<(), Exit> {
        for handle in &self.handles {
            handle.stop();
        }
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Writes products until somebody ends it. Returns how many.
async fn sell_here(log: &LogHandle, names: &TopicNames, demo: &Demo, lasts: Lasts) -> Result<u64, SellError> {
    let emitter = Emitter::new(names.product_topic.as_str(), codec::json(), Arc::clone(log)).await?;
    let clock = log.clock();
    let generator = Generator::new(clock.now_ms().unsigned_abs(), UPDATES);
    let ended = async {
        tokio::select! {
            biased;
            () = lasts.over() => {}
            () = type_lines(lasts.for_, demo) => {}
            () = keep_searching(demo) => {}
            () = demo.screen.keep_printing() => {}
        }
    };
    let written = |n| demo.screen.live.written(n);
    let products = sell(&emitter, generator, PACE, Times::Clock(&*clock), ended, written).await?;
    emitter.close().await?;
    Ok(products)
}

/// Users search for names of products that have passed the filter, for ever.
async fn keep_searching(demo: &Demo) {
    let mut ticks = interval(SEARCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0_u64;
    for user in USERS.iter().cycle() {
        ticks.tick().await;
        number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let Some(name) = demo.screen.live.some_name(number >> 20) else { continue };
        if let Err(error) = demo.search(user, &name).await {
            tracing::warn!(?error, "a search was not written");
        }
    }
}

/// Does what is typed or comes by a pipe: sets rules, or searches; if there is nobody to type any, shows a rule that
/// changes what happens.
async fn type_lines(for_: Option<Duration>, demo: &Demo) {
    let mut prompt = Prompt::open(screen::PROMPT);
    let by_itself = for_.filter(|_| !prompt.interactive()).map(|time| time / 3);
    let line = tokio::select! {
        biased;
        line = typed(&mut prompt) => line,
        () = elapsed(by_itself) => {
            say(format_args!("{}lamp    (there is no terminal here, so the demo types for you)", screen::PROMPT));
            Some("lamp".into())
        }
    };
    let mut next = line;
    while let Some(line) = next {
        match line.trim().strip_prefix('?').map(str::trim) {
            // A rule that is refused was reported.
            None => _ = demo.rule(&line).await,
            Some("") => say("  what for? As in: ?Quiet oak desk"),
            Some(text) => match demo.search(YOU, text).await {
                Ok(()) => say(format_args!("  {YOU} searched for {text:?}")),
                Err(error) => say(format_args!("  not searched: {error:?}")),
            },
        }
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
