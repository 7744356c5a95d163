//! The binaries as processes on a real Kafka, all the way: topics, products, rules, the table, searches, the end.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use crate::on_kafka::shop;
use processors_common::testing::{Process, System, Written, until};
use shop::{Find, Generator, Product};

/// Starts the filter, with a pipe to type rules into.
fn start_filter(shop: &System, args: &[&str]) -> Process {
    let mut command = shop.command(env!("CARGO_BIN_EXE_product-filter"), args);
    Process::start(command.arg("--prompt").stdin(Stdio::piped()).stdout(Stdio::piped()))
}

/// The names in the filter's table, once they are as expected.
async fn table_becomes(shop: &System, expected: &BTreeMap<String, String>) {
    until(&format!("the table has the {} names that are expected", expected.len()), async || {
        let mut seen = BTreeMap::new();
        for Written { key, value, .. } in shop.records("filtered-table").await {
            match value {
                Some(value) => seen.insert(key, serde_json::from_slice::<Product>(&value).unwrap().name),
                None => seen.remove(&key),
            };
        }
        seen == *expected
    })
    .await;
}

/// What the filter should have after judging these by one rule.
fn judge(table: &mut BTreeMap<String, String>, products: &[Product], passes: impl Fn(&str) -> bool) {
    for product in products {
        if passes(&product.name) {
            table.insert(product.product_id.clone(), product.name.clone());
        } else {
            table.remove(&product.product_id);
        }
    }
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn the_shop_all_the_way() {
    all_the_way(&[]).await;
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn the_shop_all_the_way_exactly_once() {
    all_the_way(&["--guarantee", "exactly-once"]).await;
}

async fn all_the_way(guarantee: &[&str]) {
    let shop = shop("all-the-way");
    let sell = |args: &[&str]| shop.run(env!("CARGO_BIN_EXE_shop"), args);
    let created = shop.run(env!("CARGO_BIN_EXE_shop-topics"), &["create", "--partitions", "3"]);
    assert_eq!(created.matches(": created").count(), 6, "{created}");

    // A rule from the start, and products of which some are renamed.
    let many = ["--count", "400", "--interval", "0s", "--updates", "20"];
    let said = sell(&[&many[..], &["--seed", "1"]].concat());
    assert!(said.starts_with("400 products written"), "{said}");
    let made = |seed| {
        let mut generator = Generator::new(seed, 20);
        (0..400).map(|n| generator.next(1_735_689_600_000 + n * 33)).collect::<Vec<_>>()
    };
    let mut table = BTreeMap::new();
    judge(&mut table, &made(1), |name| name.contains("lamp"));
    let filter = start_filter(&shop, &[guarantee, &["--contains", "lamp"]].concat());
    table_becomes(&shop, &table).await;
    filter.end();

    // Started again without a flag it keeps its rule; a bad one and then a good one are typed.
    let mut filter = start_filter(&shop, guarantee);
    sell(&[&many[..], &["--seed", "2"]].concat());
    judge(&mut table, &made(2), |name| name.contains("lamp"));
    table_becomes(&shop, &table).await;
    let mut typing = filter.input();
    typing.write_all(b"/wall(/\n/wall.*k$/\n").unwrap();
    until("the last rule is written", async || {
        shop.records("rules")
            .await
            .iter()
            .filter_map(|r| r.value.as_deref())
            .any(|v| v.ends_with(b"}") && { serde_json::from_slice::<shop::Rule>(v).unwrap().text == "wall.*k$" })
    })
    .await;
    filter.end();
    let filter = start_filter(&shop, guarantee);
    sell(&[&many[..], &["--seed", "1"]].concat());
    judge(&mut table, &made(1), |name| name.ends_with("wall clock"));
    table_becomes(&shop, &table).await;
    filter.end();
    let rules = shop.records("rules").await;
    assert!(rules.iter().all(|r| !String::from_utf8_lossy(r.value.as_ref().unwrap()).contains("wall(")), "{rules:?}");

    // The same seed wrote the same, byte for byte.
    let products = shop.records("products").await;
    assert_eq!(products.len(), 1200);
    let mut written: Vec<Vec<u8>> = products.into_iter().map(|r| r.value.unwrap()).collect();
    let mut expected: Vec<Vec<u8>> =
        [1, 2, 1].into_iter().flat_map(made).map(|p| serde_json::to_vec(&p).unwrap()).collect();
    written.sort_unstable();
    expected.sort_unstable();
    assert_eq!(written, expected);

    let deleted = shop.run(env!("CARGO_BIN_EXE_shop-topics"), &["delete"]);
    assert_eq!(deleted.matches(": deleted").count(), 6, "{deleted}");
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn a_line_of_a_pipe_is_a_search() {
    let shop = shop("searches");
    let mut command = shop.command(env!("CARGO_BIN_EXE_search-prompt"), &["--user", "ann"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Brass desk lamp\n\n  vase \nlast without an end").unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let mut finds = Vec::new();
    for Written { key, value, .. } in shop.records("find").await {
        let find: Find = serde_json::from_slice(&value.unwrap()).unwrap();
        assert_eq!((find.id.as_str(), find.user_id.as_str(), key.len()), (key.as_str(), "ann", 36));
        finds.push(find.find);
    }
    finds.sort_unstable();
    assert_eq!(finds, ["Brass desk lamp", "last without an end", "vase"]);
    shop.run(env!("CARGO_BIN_EXE_shop-topics"), &["delete"]);
}

#[cfg(feature = "tls")]
#[test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
fn flags_and_environment_lead_to_a_user_over_tls() {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name}: from TLS=1 docker/kafka.sh env"));
    let shop = shop("tls");
    for mechanism in ["scram-sha-256", "scram-sha-512", "plain"] {
        for (action, done) in [("create", ": created"), ("delete", ": deleted")] {
            let mut command = shop.command(env!("CARGO_BIN_EXE_shop-topics"), &[action, "--sasl-mechanism", mechanism]);
            command.env("KAFKA_BROKERS", variable("STREAM_TEST_KAFKA_SASL_SSL"));
            command.arg("--tls-ca").arg(variable("STREAM_TEST_KAFKA_CA"));
            command.arg("--sasl-user").arg(variable("STREAM_TEST_KAFKA_USER"));
            command.env("KAFKA_SASL_PASSWORD", variable("STREAM_TEST_KAFKA_PASSWORD"));
            let ended = command.output().unwrap();
            let said = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success() && said.matches(done).count() == 6, "{mechanism} {action}: {ended:?}");
        }
    }
}
