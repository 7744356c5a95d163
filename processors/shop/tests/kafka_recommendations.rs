//! The shop, the filter and the recommendations as processes on a real Kafka, with processes that are killed: what is told
//! equals a separate computation.
#![cfg(all(feature = "kafka", feature = "http"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod expected;
mod on_kafka;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use expected::{Pair, latest_of, pairs_of};
use on_kafka::{PATIENCE, Shop, end};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shop::{Find, Generator, Product, Recommendation};

const ROUNDS: u64 = 6;
const PRODUCTS: usize = 150;
const HOUR: i64 = 3_600_000;

struct Running {
    filter: Child,
    recommendations: Child,
}

/// Starts an instance of a name that stays, so that it gets its partitions back at once.
fn start_filter(shop: &Shop, guarantee: &str) -> Child {
    let args = ["--guarantee", guarantee, "--instance-id", "one", "--log", "warn"];
    shop.command(env!("CARGO_BIN_EXE_product-filter"), &args).stdout(Stdio::null()).spawn().unwrap()
}

fn start_recommendations(shop: &Shop, guarantee: &str) -> Child {
    let args =
        ["--guarantee", guarantee, "--instance-id", "one", "--log", "warn", "--http", "127.0.0.1:0", "--keep", "5"];
    shop.command(env!("CARGO_BIN_EXE_personal-recommendations"), &args).stdout(Stdio::piped()).spawn().unwrap()
}

/// Searches of a user: names of products of this round and of the next one, and some that nothing is called.
fn search(shop: &Shop, user: &str, round: u64, nth: usize) {
    let mut names: Vec<String> = Vec::new();
    for seed in [round, round + 1] {
        let mut generator = Generator::new(seed, 2);
        names.extend((0..PRODUCTS).map(|_| generator.next(0).name).skip(nth).step_by(12));
    }
    names.push("Nothing of the kind".to_owned());
    let mut command = shop.command(env!("CARGO_BIN_EXE_search-prompt"), &["--user", user]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The values of a topic with their times; deletions left out.
async fn values<T: DeserializeOwned>(shop: &Shop, topic: &str) -> Vec<(i64, T)> {
    let records = shop.timed_records(topic).await.into_iter();
    records.filter_map(|(at, _, value)| Some((at, serde_json::from_slice(&value?).unwrap()))).collect()
}

async fn told(shop: &Shop) -> Vec<Pair> {
    let told = values::<Recommendation>(shop, "recom").await;
    let mut told: Vec<Pair> = told.into_iter().map(|(at, one)| Pair::told(at, one)).collect();
    told.sort();
    told
}

/// Waits for a condition that nothing announces.
async fn until(what: &str, mut test: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !test().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "waited in vain: {what}");
}

async fn killed_now_and_then(guarantee: &str) {
    let shop = Shop::new("recommendations");
    let exactly = guarantee == "exactly-once";
    shop.run(env!("CARGO_BIN_EXE_shop-topics"), &["create", "--partitions", "3"]);
    let mut running =
        Running { filter: start_filter(&shop, guarantee), recommendations: start_recommendations(&shop, guarantee) };
    for round in 0..ROUNDS {
        let (count, seed) = (PRODUCTS.to_string(), round.to_string());
        let before = shop.records("recom").await.len();
        for (nth, user) in ["ann", "ben"].into_iter().enumerate() {
            search(&shop, user, round, nth * 5);
        }
        shop.run(
            env!("CARGO_BIN_EXE_shop"),
            &["--count", &count, "--interval", "0s", "--seed", &seed, "--updates", "2"],
        );
        // In the middle of it: something of the round is told, and more is under way.
        if round % 2 == 0 {
            until("something is told", async || shop.records("recom").await.len() > before).await;
        }
        if round != 2 {
            running.recommendations.kill().unwrap();
            running.recommendations.wait().unwrap();
            running.recommendations = start_recommendations(&shop, guarantee);
        }
        if round % 3 == 2 {
            running.filter.kill().unwrap();
            running.filter.wait().unwrap();
            running.filter = start_filter(&shop, guarantee);
        }
    }
    let products = usize::try_from(ROUNDS).unwrap() * PRODUCTS;
    let written = async || values::<Product>(&shop, "filtered-table").await;
    until("everything has passed the filter", async || written().await.len() >= products).await;
    let searched = values::<Find>(&shop, "find").await;
    let expected = pairs_of(&written().await, &searched, HOUR);
    assert!(expected.len() > 250, "{} pairs", expected.len());
    until("everything is told", async || told(&shop).await.len() >= expected.len()).await;
    until("everything is told, if some of it twice", async || {
        let mut told = told(&shop).await;
        told.dedup();
        let mut expected = pairs_of(&written().await, &searched, HOUR);
        expected.dedup();
        told == expected
    })
    .await;

    // Over HTTP, a moment after.
    let mut line = String::new();
    BufReader::new(running.recommendations.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let latest = latest_of(&pairs_of(&written().await, &searched, HOUR), 5);
    assert_eq!(latest.len(), 2);
    for (user, latest) in &latest {
        let latest = serde_json::to_value(&latest.recommendations).unwrap();
        until("the table has it", async || get(&at, &format!("/recommendations/{user}"))["recommendations"] == latest)
            .await;
    }
    assert_eq!(get(&at, "/recommendations/nobody")["code"], "no_recommendations");

    end(running.recommendations);
    end(running.filter);
    // Whatever was still under way has ended.
    let (mut told, written) = (told(&shop).await, written().await);
    let mut expected = pairs_of(&written, &searched, HOUR);
    if exactly {
        assert_eq!(written.len(), products, "the filter lets each through once");
    } else {
        told.dedup();
        expected.dedup();
    }
    assert!(told == expected, "{} told, {} expected", told.len(), expected.len());
    let users = shop.records("recommendations-users-table").await.into_iter();
    let users: BTreeMap<String, shop::Latest> =
        users.map(|(user, value)| (user, serde_json::from_slice(&value.unwrap()).unwrap())).collect();
    assert_eq!(users, latest_of(&expected, 5));
    let deleted = shop.run(env!("CARGO_BIN_EXE_shop-topics"), &["delete"]);
    assert!(!deleted.contains("is not there"), "{deleted}");
}

fn get(at: &str, path: &str) -> Value {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn killed_now_and_then_it_tells_each_pair_exactly_once() {
    killed_now_and_then("exactly-once").await;
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn killed_now_and_then_it_tells_each_pair_at_least_once_and_the_table_doubles_none() {
    killed_now_and_then("at-least-once").await;
}
