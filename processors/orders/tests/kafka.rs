//! The binaries as processes on a real Kafka, killed at random, with a mail server in this process and, where
//! `STREAM_TEST_POSTGRES` is set, a real Postgres.
#![cfg(all(feature = "kafka", feature = "api", feature = "mailer", feature = "sink"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod fake_smtp;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fake_smtp::FakeSmtp;
use orders::city::{room, slug};
use orders::order::OrderJson;
use orders::{Generator, Order, Priority};
use stream_core::emitter::Emitter;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, RecordBatch, TopicPartition};

/// Against hanging only.
const PATIENCE: Duration = Duration::from_secs(240);

/// The system under names of its own.
struct System {
    brokers: String,
    prefix: String,
    state: tempfile::TempDir,
    log: LogHandle,
    guarantee: &'static str,
}

impl System {
    fn new(test: &str) -> Self {
        let brokers = std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA=HOST:PORT says where the Kafka is");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let log: LogHandle = Kafka::connect(KafkaOptions::new(brokers.as_str())).unwrap();
        let state = tempfile::tempdir().unwrap();
        Self { brokers, prefix: format!("{test}-{now}"), state, log, guarantee: "exactly-once" }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn command(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(args)
            .args(["--commit-interval", "100ms", "--guarantee", self.guarantee, "--log", "warn", "--state-dir"])
            .arg(self.state.path())
            .env("KAFKA_BROKERS", &self.brokers)
            .env("ORDER_TOPIC", self.name("product_orders"))
            .env("ORDER_ROUTER_GROUP", self.name("router"))
            .env("ORDER_CITY_PREFIX", self.name("city_"))
            .env("ORDER_EMAIL_TOPIC", self.name("order_emails"))
            .env("ORDER_MAILER_GROUP", self.name("mailer"))
            .env("ORDER_SINK_GROUP", self.name("sink"))
            .stdin(Stdio::null());
        command
    }

    /// The router: a name that stays lets it back in at once after a kill.
    fn router(&self) -> Process {
        let mut command = self.command(env!("CARGO_BIN_EXE_order-router"), &["--instance-id", "router"]);
        Process::start(command.args(["--max-city-topics", "8", "--city-partitions", "1"]))
    }

    /// Every committed record of a topic, by partition and in order.
    async fn records(&self, topic: &str) -> Vec<(String, Vec<u8>)> {
        let topic = Arc::<str>::from(topic);
        let Some(info) = self.log.topics(vec![Arc::clone(&topic)]).await.unwrap().remove(0) else { return Vec::new() };
        let reader = self.log.reader(Isolation::ReadCommitted).unwrap();
        let mut all = Vec::new();
        for partition in 0..info.partitions {
            let mut fetch = reader.read(TopicPartition::new(Arc::clone(&topic), partition), 0).await.unwrap();
            let mut batch = RecordBatch::new();
            loop {
                let got = std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await;
                if matches!(got.unwrap(), Fetched::End(_)) {
                    break;
                }
                let key = |key: Option<&[u8]>| String::from_utf8(key.unwrap().to_vec()).unwrap();
                all.extend(batch.iter().map(|r| (key(r.key), r.value.unwrap().to_vec())));
            }
        }
        all
    }

    async fn keys(&self, topic: &str) -> BTreeSet<String> {
        self.records(topic).await.into_iter().map(|(key, _)| key).collect()
    }

    async fn delete(&self, more: impl IntoIterator<Item = String>) {
        let mine =
            ["product_orders", "product_orders-dlq", "router-table", "router-cities", "order_emails", "city_other"];
        let others = ["order_emails-dlq", "mailer-table", "sink-dlq"];
        let names = mine.iter().chain(&others).map(|n| self.name(n)).chain(more).map(Into::into).collect();
        _ = processors_common::topics::delete_existing(&self.log, names).await;
    }
}

/// A process that ends with the test, however that ends.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }

    /// Asks it to end, and waits for that.
    fn end(mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let ended = self.0.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited for {PATIENCE:?}: {what}"))
}

fn ids(records: &[(String, Vec<u8>)]) -> Vec<i32> {
    let mut ids: Vec<i32> = records.iter().map(|(_, v)| Order::parse(v).unwrap().order_id).collect();
    ids.sort_unstable();
    ids
}

/// Rows of the sink, in a schema of the test's own; `None` where there is no Postgres.
struct Database {
    url: String,
    client: tokio_postgres::Client,
}

impl Database {
    async fn open(system: &System) -> Option<Self> {
        let Ok(url) = std::env::var("STREAM_TEST_POSTGRES") else {
            eprintln!("NOT RUN: the sink's part of this test (it needs STREAM_TEST_POSTGRES=URL)");
            return None;
        };
        let schema = system.prefix.replace('-', "_");
        let url = format!("{url}?options=-csearch_path%3D{schema}");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
        Some(Self { url, client })
    }

    async fn ids(&self) -> Vec<i32> {
        let rows = self.client.query("SELECT order_id FROM orders ORDER BY order_id", &[]).await;
        rows.unwrap_or_default().iter().map(|r| r.get(0)).collect()
    }
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_router_that_is_killed_loses_and_doubles_nothing() {
    killed("exactly-once", 10_000, 20).await;
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_router_that_is_killed_loses_nothing_at_least_once() {
    killed("at-least-once", 2_500, 5).await;
}

/// Orders with 5 % repeats and cities of all kinds are sent while the router is killed again and again, and the sink now
/// and then. At least once, a record for a city or a mail may come twice; a row and a mail never.
async fn killed(guarantee: &'static str, orders: usize, kills: usize) {
    let mut system = System::new("orders-kills");
    system.guarantee = guarantee;
    let (smtp, database) = (FakeSmtp::start().await, Database::open(&system).await);
    let mut router = system.router();
    let port = smtp.port().to_string();
    let mut mailer = system.command(env!("CARGO_BIN_EXE_order-mailer"), &["--smtp-port", &port]);
    let mailer = Process::start(&mut mailer);
    let sink = || {
        let url = &database.as_ref()?.url;
        Some(Process::start(&mut system.command(env!("CARGO_BIN_EXE_order-sink"), &["--database", url])))
    };
    let mut sinking = sink();

    let mut generator = Generator::new(1, 5);
    let sent: Vec<Order> = (0..orders).map(|_| generator.next().0).collect();
    let emitter = Emitter::builder(system.name("product_orders"), OrderJson, Arc::clone(&system.log));
    let emitter = emitter.open().await.unwrap();
    let router_table = system.name("router-table");
    let mut random = 7_u64;
    for (n, part) in sent.chunks(orders / kills).enumerate() {
        let before = system.records(&router_table).await.len();
        // Over two seconds, so that the kill falls among them.
        let sending = async {
            for some in part.chunks(part.len().div_ceil(100)) {
                for order in some {
                    _ = emitter.emit(&order.key(), order).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            emitter.flush().await.unwrap();
        };
        let killing = async {
            // At work again after the last kill.
            within("the router goes on", async {
                while system.records(&router_table).await.len() == before {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(random >> 56)).await;
            router.kill();
            router = system.router();
            if let Some(running) = sinking.as_mut().filter(|_| n % 5 == 0) {
                running.kill();
                sinking = sink();
            }
        };
        futures::join!(sending, killing);
    }
    let by_id: BTreeMap<i32, &Order> = sent.iter().map(|o| (o.order_id, o)).collect();
    let as_promised = |mut ids: Vec<i32>| {
        if guarantee == "at-least-once" {
            ids.dedup();
        }
        ids
    };
    let all: Vec<i32> = by_id.keys().copied().collect();
    let high: Vec<i32> = by_id.values().filter(|o| o.priority == Priority::High).map(|o| o.order_id).collect();
    within("all orders are routed", async {
        while system.keys(&router_table).await.len() < all.len() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let mails = |mails: &FakeSmtp| {
        let id = |m: &fake_smtp::Mail| m.to.trim_start_matches("customer").split('@').next().unwrap().parse().unwrap();
        let mut ids: Vec<i32> = mails.mails().iter().map(id).collect();
        ids.sort_unstable();
        ids
    };
    within("all mails are out", async {
        while mails(&smtp).len() < high.len() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    if let Some(database) = &database {
        within("all rows are written", async {
            while database.ids().await.len() < all.len() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert_eq!(database.ids().await, all);
    }
    assert_eq!(mails(&smtp), high);
    assert_eq!(as_promised(ids(&system.records(&system.name("order_emails")).await)), high);
    assert_eq!(system.keys(&router_table).await.len(), all.len());
    if guarantee == "exactly-once" {
        assert_eq!(system.records(&router_table).await.len(), all.len(), "written once each");
    }
    assert!(system.records(&system.name("product_orders-dlq")).await.is_empty());

    let own = check_cities(&system, by_id.values().copied(), as_promised).await;
    emitter.close().await.unwrap();
    drop((router, mailer, sinking));
    system.delete(own).await;
}

/// Each order is in the topic of its city, or in the shared one if the city has none. Returns the topics of cities.
async fn check_cities(
    system: &System,
    orders: impl Iterator<Item = &Order>,
    as_promised: impl Fn(Vec<i32>) -> Vec<i32>,
) -> Vec<String> {
    let prefix = system.name("city_");
    let mut cities: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for order in orders {
        cities.entry(slug(order.city(), room(&prefix))).or_default().push(order.order_id);
    }
    let (mut own, mut shared) = (Vec::new(), Vec::new());
    for (city, expected) in cities {
        let topic = format!("{prefix}{city}");
        let info = system.log.topics(vec![topic.as_str().into()]).await.unwrap().remove(0);
        if info.is_none() {
            shared.extend(expected);
            continue;
        }
        assert_eq!(as_promised(ids(&system.records(&topic).await)), expected, "{topic}");
        own.push(topic);
    }
    shared.sort_unstable();
    assert_eq!(own.len(), 8);
    assert_eq!(as_promised(ids(&system.records(&format!("{prefix}other")).await)), shared);
    own
}

/// Answers of the API: status and body.
fn ask(address: &str, request: &str, body: &str) -> (u16, serde_json::Value) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn an_order_all_the_way_from_http_to_a_mail() {
    let system = System::new("orders-way");
    let (smtp, database) = (FakeSmtp::start().await, Database::open(&system).await);
    let mut api = system.command(env!("CARGO_BIN_EXE_orders-api"), &["--http", "127.0.0.1:0"]);
    let mut api = Process::start(api.stdout(Stdio::piped()));
    let mut said = String::new();
    BufReader::new(api.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim().strip_prefix("orders-api: http://").unwrap().trim_end_matches('/').to_owned();
    let router = system.router();
    let port = smtp.port().to_string();
    let mailer = Process::start(&mut system.command(env!("CARGO_BIN_EXE_order-mailer"), &["--smtp-port", &port]));
    let sink = database
        .as_ref()
        .map(|d| Process::start(&mut system.command(env!("CARGO_BIN_EXE_order-sink"), &["--database", &d.url])));
    let mut order = Generator::new(1, 0).next().0;
    (order.priority, order.order_id) = (Priority::High, 90_123);
    "product_orders".clone_into(&mut order.customer.address.city);
    let json = serde_json::to_string(&order).unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&address, "POST /orders", &json).0, 202);
    }
    within("it is routed", async {
        while ask(&address, "GET /orders/90123", "").0 != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let (_, shown) = ask(&address, "GET /orders?city=product_orders&priority=high", "");
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["order_id"], 90_123);
    within("its mail is out", async {
        while smtp.mails().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    if let Some(database) = &database {
        within("its row is written", async {
            while database.ids().await != [90_123] {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
    let own = system.name("city_product-orders");
    assert_eq!(ids(&system.records(&own).await), [90_123]);
    for process in [api, router, mailer].into_iter().chain(sink) {
        process.end();
    }
    assert_eq!(smtp.mails().len(), 1);
    system.delete([own]).await;
}
