//! The filter on products in Avro, with a schema registry of the test's own.

use std::sync::Arc;
use std::time::Duration;

use crate::fake_registry::FakeRegistry;
use clap::Parser;
use processors_common::CommonArgs;
use processors_common::topics::compacted;
use shop::rule::Rule;
use shop::rules::Rules;
use shop::topics::TopicNames;
use shop::{Format, Generator, filter};
use stream_core::emitter::Emitter;
use stream_core::log::embedded::InMemory;
use stream_core::log::{LogHandle, TopicSpec};
use stream_core::processor::Processor;
use stream_core::store::MemoryStores;
use tokio::sync::mpsc;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
}

#[tokio::test]
async fn products_go_through_the_filter_as_avro() {
    let registry = FakeRegistry::start();
    let common = Cli::parse_from(["test", "--schema-registry", &registry.url]).common;
    let names = TopicNames::default();
    let log: LogHandle = InMemory::new();
    let products = TopicSpec::new(names.product_topic.as_str()).partitions(2);
    log.create_topics(vec![products, compacted(&names.rules_topic, 1)]).await.unwrap();
    Rules::open(&names.rules_topic, &log).await.unwrap().set(Rule::typed("lamp")).await.unwrap();

    // A codec for each side, as in two processes.
    let mut group = filter::define(&names, Format::Avro.codec(&common).unwrap());
    let (passed, mut arrived) = mpsc::unbounded_channel();
    group.on_update(move |_, _, product| passed.send(product.cloned().unwrap()).unwrap());
    let processor = Processor::new(group.build().unwrap(), Arc::clone(&log)).stores(Arc::new(MemoryStores::new()));
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    let emitter = Emitter::new(names.product_topic.as_str(), Format::Avro.codec(&common).unwrap(), Arc::clone(&log));
    let emitter = emitter.await.unwrap();
    let mut generator = Generator::new(11, 0);
    let mut expected = Vec::new();
    for n in 0..200 {
        let product = generator.next(n);
        _ = emitter.emit(&product.product_id, &product).await.unwrap();
        expected.extend(product.name.contains("lamp").then_some(product));
    }
    emitter.flush().await.unwrap();

    assert!(!expected.is_empty());
    let mut got = Vec::new();
    while got.len() < expected.len() {
        // Against hanging only.
        let next = tokio::time::timeout(Duration::from_secs(60), arrived.recv()).await;
        got.push(next.unwrap().unwrap());
    }
    handle.stop();
    running.await.unwrap().unwrap();
    assert!(arrived.try_recv().is_err(), "nothing else passes");
    for products in [&mut got, &mut expected] {
        products.sort_by(|a, b| a.product_id.cmp(&b.product_id));
    }
    assert_eq!(got, expected);

    let asked = registry.requests();
    for subject in ["shop_products-value", "analytic_products_filtered-table-value"] {
        assert!(asked.contains(&format!("POST /subjects/{subject}/versions")), "{subject}: {asked:?}");
    }
}
