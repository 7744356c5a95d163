//! All of the orders in one process, on the embedded log: nothing to install, nothing to start. The mail server and the
//! database are made up, and fail now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use futures::future::{BoxFuture, FutureExt, ready};
use orders::cities::CityTopics;
use orders::mailer::{Pace, Post, PostError};
use orders::order::{Order, OrderJson};
use orders::sink::{Rows, RowsError};
use orders::topics::TopicNames;
use orders::{Cities, Generator, mailer, router, sink};
use processors_common::demo::{Lasts, Running};
use processors_common::topics::compacted;
use processors_common::{Exit, run, say, start_logging};
use stream_core::emitter::Emitter;
use stream_core::log::embedded::InMemory;
use stream_core::log::{Isolation, LogHandle, LogResult, OffsetSpec, TopicPartition, TopicSpec};
use stream_core::processor::Guarantee;
use tokio::time::{Instant, interval, sleep, timeout};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 2;

/// Ten orders a second.
const PACE: Duration = Duration::from_millis(100);

/// Of 100 orders, how many are sent again; more than in life, so that some are seen.
const REPEATS: u8 = 10;

/// So few, so that it is seen what becomes of the others.
const CITY_TOPICS: usize = 6;

/// From one line of counts to the next.
const PRINT_EVERY: Duration = Duration::from_secs(4);

/// Rows are shown no faster than one in this time; the others are only counted.
const BREATH: Duration = Duration::from_millis(500);

/// Shows orders, the router, the mailer and the sink at work, in this process alone
#[derive(Parser, Debug)]
#[command(name = "demo-orders", version)]
struct Cli {
    #[command(flatten)]
    lasts: Lasts,

    /// What to log on stderr
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "error", hide_env_values = true)]
    log: String,
}

fn main() -> ExitCode {
    run(demo(Cli::parse()))
}

async fn demo(cli: Cli) -> Result<(), Exit> {
    start_logging(&cli.log)?;
    let (names, world) = (TopicNames::default(), Arc::new(World::default()));
    let log: LogHandle = InMemory::new();
    let topic = |name: &str| TopicSpec::new(name).partitions(PARTITIONS);
    let topics = [topic(&names.order_topic), topic(&names.email_topic), compacted(&names.table(), PARTITIONS)];
    log.create_topics(topics.into()).await?;
    let cities = CityTopics { max: CITY_TOPICS, ..CityTopics::default() };
    let cities = Cities::open(Arc::clone(&log), &names, cities).await?;
    let exactly = Guarantee::ExactlyOnce;
    let pace = Pace { backoff: Duration::from_millis(300), ..Pace::default() };
    let groups = [
        Running::start(router::define(&names, Arc::clone(&cities)).build()?, exactly, &log),
        Running::start(mailer::define(&names, Arc::clone(&world) as _, pace).build()?, exactly, &log),
        Running::start(sink::define(&names, Arc::clone(&world) as _, 100).build()?, exactly, &log),
    ];
    begin(&names, cli.lasts);
    let sent = send(&log, &names, &world, cli.lasts).await?;
    // What was written last is still on its way.
    if timeout(Duration::from_secs(20), all_done(&log, &names, &world, &sent)).await.is_err() {
        return Err(Exit::failed("the groups did not catch up with the orders"));
    }
    for group in groups {
        group.end().await?;
    }
    let ids = world.counts().rows.values().map(|o| o.city().to_owned()).collect::<BTreeSet<_>>();
    let mut topics = BTreeSet::new();
    for city in &ids {
        topics.insert(cities.topic(city).await);
    }
    world.end(&sent, ids.len(), topics.len());
    Ok(())
}

fn begin(names: &TopicNames, lasts: Lasts) {
    say(format_args!(
        "Ten orders a second go to the topic {orders}, some of them twice. A router lets each through once: to a\n\
         topic of its city, of which there are {CITY_TOPICS} at most, and if it is urgent to {emails}, which a mailer reads.\n\
         A sink writes all of them to a database. All run in this process, on a log in memory; the mail server and the\n\
         database are made up, and fail now and then. {end}\n\
         \n\
         order: a row was written    mail: a mail went out    again: an order was sent again, nothing must come of it\n",
        orders = names.order_topic,
        emails = names.email_topic,
        end = lasts.in_words(),
    ));
}

/// What was sent.
#[derive(Default)]
struct Sent {
    orders: u64,
    repeats: u64,
    high: u64,
}

/// Sends orders until somebody ends it, all of them acknowledged.
async fn send(log: &LogHandle, names: &TopicNames, world: &World, lasts: Lasts) -> Result<Sent, Exit> {
    let emitter = Emitter::new(names.order_topic.as_str(), OrderJson, Arc::clone(log)).await?;
    let mut generator = Generator::new(log.clock().now_ms().unsigned_abs(), REPEATS);
    let mut sent = Sent::default();
    let (mut tick, mut print) = (interval(PACE), interval(PRINT_EVERY));
    print.reset();
    let mut over = std::pin::pin!(lasts.over());
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            _ = print.tick() => world.print(&sent),
            _ = tick.tick() => {
                let (order, repeat) = generator.next();
                // Its acknowledgement is awaited by the close.
                _ = emitter.emit(&order.key(), &order).await?;
                if repeat {
                    sent.repeats += 1;
                    say(format_args!("again  {:>5}", order.order_id));
                } else {
                    sent.orders += 1;
                    sent.high += u64::from(order.priority == orders::Priority::High);
                }
            }
        }
    }
    emitter.close().await?;
    Ok(sent)
}

/// Resolves when the router has committed all that was sent, and as many rows and mails are there as must be.
async fn all_done(log: &LogHandle, names: &TopicNames, world: &World, sent: &Sent) -> LogResult<()> {
    let of: Vec<_> = (0..PARTITIONS).map(|p| TopicPartition::new(names.order_topic.as_str(), p)).collect();
    let ends = of.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
    let ends = log.offsets(ends, Isolation::ReadCommitted).await?;
    loop {
        let done = log.group_offsets(names.router_group.as_str().into(), of.clone()).await?;
        let routed = done.iter().zip(&ends).all(|(done, end)| done.unwrap_or_default() >= *end);
        let (rows, mails) = {
            let counts = world.counts();
            (counts.rows.len() as u64, counts.mails.len() as u64)
        };
        if routed && rows >= sent.orders && mails >= sent.high {
            return Ok(());
        }
        // Commits are not announced, so they are asked for.
        sleep(Duration::from_millis(20)).await;
    }
}

/// The made-up mail server and database, and what they have seen.
#[derive(Default)]
struct World {
    counts: Mutex<Counts>,
    calls: AtomicU64,
}

#[derive(Default)]
struct Counts {
    rows: BTreeMap<i32, Order>,
    mails: BTreeMap<i32, u64>,
    shown_at: Option<Instant>,
}

impl World {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every so often a call fails.
    fn fails(&self, every: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % every == every - 1
    }

    fn print(&self, sent: &Sent) {
        let counts = self.counts();
        say(format_args!(
            "  {} orders and {} repeats sent, {} rows, {} mails",
            sent.orders,
            sent.repeats,
            counts.rows.len(),
            counts.mails.len()
        ));
    }

    /// The summary. Its last line is for scripts.
    fn end(&self, sent: &Sent, cities: usize, topics: usize) {
        let counts = self.counts();
        let mails: u64 = counts.mails.values().sum();
        say(format_args!(
            "\n{} orders and {} repeats were sent; {} rows are in the database, {mails} mails went out for {} urgent orders, \
             and {cities} cities share {topics} topics.\n\
             The same on a real Kafka: make kafka-up; make order-router; make orders-api; make order-mailer; make order-sink\n\
             demo: orders={} repeats={} rows={} mails={mails} city-topics={topics}",
            sent.orders,
            sent.repeats,
            counts.rows.len(),
            sent.high,
            sent.orders,
            sent.repeats,
            counts.rows.len(),
        ));
    }
}

impl Post for World {
    fn send<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PostError>> {
        let (id, to) = (order.order_id, &order.customer.email);
        if self.fails(7) {
            say(format_args!("mail   {id:>5}  the mail server is busy; it is tried again"));
            return ready(Err(PostError::Server("busy".into()))).boxed();
        }
        *self.counts().mails.entry(id).or_default() += 1;
        say(format_args!("mail   {id:>5}  to {to}"));
        ready(Ok(())).boxed()
    }
}

impl Rows for World {
    fn upsert<'a>(&'a self, orders: &'a [&'a Order]) -> BoxFuture<'a, Result<(), RowsError>> {
        if self.fails(23) {
            say("  the database is away; the sink waits");
            return ready(Err(RowsError::Later("away".into()))).boxed();
        }
        let mut counts = self.counts();
        for order in orders {
            counts.rows.insert(order.order_id, (*order).clone());
        }
        let now = Instant::now();
        if counts.shown_at.is_none_or(|at| now >= at + BREATH)
            && let Some(order) = orders.last()
        {
            counts.shown_at = Some(now);
            say(row(order));
        }
        ready(Ok(())).boxed()
    }
}

fn row(order: &Order) -> String {
    let Order { order_id, product_name, quantity, priority, .. } = order;
    let mut city: String = order.city().chars().take(20).collect();
    if city.len() < order.city().len() {
        city.push('…');
    }
    format!("order  {order_id:>5}  {:<6}  {quantity} x {product_name}, {city:?}", priority.name())
}
