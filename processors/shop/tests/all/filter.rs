//! The filter group on the embedded log: what passes, what leaves, and which rule holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use processors_common::testing::{PATIENCE, Written, records};
use processors_common::topics::compacted;
use shop::filter::{LAST_GOOD_KEY, RULE_KEY};
use shop::rule::{Kind, Rule};
use shop::rules::Rules;
use shop::topics::TopicNames;
use shop::{Generator, Product, codec, filter};
use stream_core::emitter::Emitter;
use stream_core::group::table_topic;
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    Isolation, LogError, LogHandle, NewRecord, OffsetSpec, ProduceBatch, ProducerOptions, TopicPartition, TopicSpec,
};
use stream_core::processor::{Guarantee, Handle, Processor, ProcessorResult};
use stream_core::store::MemoryStores;
use tokio::task::JoinHandle;

const PARTITIONS: i32 = 2;

struct Shop {
    log: LogHandle,
    names: TopicNames,
    products: Emitter<Product>,
    rules: Rules,
    running: Option<(Handle, JoinHandle<ProcessorResult<()>>)>,
    embedded: Arc<InMemory>,
    guarantee: Guarantee,
}

impl Shop {
    async fn open() -> Self {
        let names = TopicNames::default();
        let embedded = InMemory::new();
        let log: LogHandle = Arc::clone(&embedded) as _;
        let products = TopicSpec::new(names.product_topic.as_str()).partitions(PARTITIONS);
        log.create_topics(vec![products, compacted(&names.rules_topic, 1)]).await.unwrap();
        let rules = Rules::open(&names.rules_topic, &log).await.unwrap();
        let products = Emitter::new(names.product_topic.as_str(), codec::json(), Arc::clone(&log)).await.unwrap();
        Self { log, names, products, rules, running: None, embedded, guarantee: Guarantee::AtLeastOnce }
    }

    /// Starts an instance with nothing on disk or in memory, as on a new machine.
    async fn start(&mut self) {
        let graph = filter::define(&self.names, codec::json()).build().unwrap();
        let processor = Processor::new(graph, Arc::clone(&self.log))
            .stores(Arc::new(MemoryStores::new()))
            .guarantee(self.guarantee)
            .commit_interval(Duration::from_millis(20))
            .workers(2);
        let handle = processor.handle();
        let task = tokio::spawn(processor.run());
        handle.running().await.unwrap();
        self.running = Some((handle, task));
    }

    async fn stop(&mut self) {
        let (handle, task) = self.running.take().unwrap();
        handle.stop();
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    }

    async fn send(&self, products: &[Product]) {
        for product in products {
            _ = self.products.emit(&product.product_id, product).await.unwrap();
        }
        self.products.flush().await.unwrap();
    }

    /// Everything that is written is judged and committed.
    async fn judged(&self) {
        let of: Vec<_> = (0..PARTITIONS).map(|p| TopicPartition::new(self.names.product_topic.as_str(), p)).collect();
        let ends = of.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
        let ends = self.log.offsets(ends, Isolation::ReadCommitted).await.unwrap();
        let caught_up = async {
            loop {
                let group = self.names.filter_group.as_str().into();
                let done = self.log.group_offsets(group, of.clone()).await.unwrap();
                if done.iter().zip(&ends).all(|(done, end)| done.unwrap_or_default() == *end) {
                    return;
                }
                assert!(!self.running.as_ref().unwrap().1.is_finished(), "the filter ended");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, caught_up).await.unwrap();
    }

    /// Sets a rule, and waits until the instance's copy of the rules has it.
    async fn rule(&self, typed: &str) {
        let rule = self.rules.set(Rule::typed(typed)).await.unwrap();
        self.seen(|kept| kept == Some(&rule)).await;
    }

    /// Sends products that pass no rule until the filter has kept a rule as its last good one.
    async fn seen(&self, test: impl Fn(Option<&Rule>) -> bool) {
        let seen = async {
            loop {
                self.send(&[named("9780000000000", ""), named("9780000000001", "")]).await;
                self.judged().await;
                if test(self.last_good().await.as_ref()) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }

    async fn last_good(&self) -> Option<Rule> {
        let rules = self.contents(&self.names.rules_topic).await;
        rules.get(LAST_GOOD_KEY).map(|bytes| serde_json::from_slice(bytes).unwrap())
    }

    /// The rules topic as some other client writes it.
    async fn write_rule(&self, value: Option<&str>) {
        let topic: Arc<str> = self.names.rules_topic.as_str().into();
        let producer = self.log.producer(ProducerOptions::default()).await.unwrap();
        let mut batch = ProduceBatch::new();
        let (key, value) = (Some(RULE_KEY.as_bytes()), value.map(str::as_bytes));
        batch.push(NewRecord { topic: &topic, partition: None, timestamp: None, key, value }, std::iter::empty());
        let delivery = producer.send(Arc::new(batch)).await;
        assert!(delivery.failed.is_empty(), "{delivery:?}");
    }

    async fn contents(&self, topic: &str) -> BTreeMap<String, Vec<u8>> {
        let mut contents = BTreeMap::new();
        for Written { key, value, .. } in records(&self.log, topic).await {
            match value {
                Some(value) => contents.insert(key, value),
                None => contents.remove(&key),
            };
        }
        contents
    }

    /// Names in the filter's table, by the table's topic.
    async fn table(&self) -> Vec<String> {
        let table = self.contents(&table_topic(&self.names.filter_group)).await;
        let name = |bytes: &Vec<u8>| serde_json::from_slice::<Product>(bytes).unwrap().name;
        table.values().map(name).filter(|name| !name.is_empty()).collect()
    }
}

fn named(id: &str, name: &str) -> Product {
    let product = Generator::new(0, 0).next(0);
    Product { product_id: id.into(), name: name.into(), ..product }
}

fn lamps_and_more() -> Vec<Product> {
    vec![named("1", "Brass desk lamp"), named("2", "Oak shelf"), named("3", "Paper lampshade"), named("4", "Lamp")]
}

#[tokio::test]
async fn without_a_rule_everything_passes_unchanged() {
    let mut shop = Shop::open().await;
    let mut generator = Generator::new(5, 0);
    let products: Vec<_> = (0..300).map(|n| generator.next(n)).collect();
    shop.send(&products).await;
    shop.start().await;
    shop.judged().await;
    let table = shop.contents(&table_topic(&shop.names.filter_group)).await;
    assert_eq!(table.len(), products.len());
    for product in &products {
        assert_eq!(&serde_json::from_slice::<Product>(&table[&product.product_id]).unwrap(), product);
    }
    shop.stop().await;
}

#[tokio::test]
async fn only_what_matches_gets_into_the_table() {
    let mut shop = Shop::open().await;
    shop.rules.set(Rule::typed("lamp")).await.unwrap();
    shop.send(&lamps_and_more()).await;
    shop.start().await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Brass desk lamp", "Paper lampshade"]);
    shop.stop().await;
}

#[tokio::test]
async fn an_update_that_no_longer_matches_leaves_the_table() {
    let mut shop = Shop::open().await;
    shop.rules.set(Rule::typed("lamp")).await.unwrap();
    shop.start().await;
    shop.send(&lamps_and_more()).await;
    shop.send(&[named("1", "Brass desk"), named("2", "Oak shelf with a lamp"), named("4", "Lantern")]).await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Oak shelf with a lamp", "Paper lampshade"]);
    let records = records(&shop.log, &table_topic(&shop.names.filter_group)).await;
    let removed: Vec<_> = records.into_iter().filter(|r| r.value.is_none()).map(|r| r.key).collect();
    assert_eq!(removed, ["1"], "only what was in the table needs one");
    shop.stop().await;
}

#[tokio::test]
async fn a_changed_rule_holds_for_later_products_only() {
    let mut shop = Shop::open().await;
    shop.rules.set(Rule::typed("shelf")).await.unwrap();
    shop.start().await;
    shop.send(&lamps_and_more()).await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Oak shelf"]);
    shop.rule("/^Brass|^Lamp$/").await;
    assert_eq!(shop.table().await, ["Oak shelf"], "nothing is judged again");
    shop.send(&lamps_and_more()).await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Brass desk lamp", "Lamp"], "and now all were, by the new rule");
    shop.rule("").await;
    shop.send(&[named("5", "Anything")]).await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Brass desk lamp", "Lamp", "Anything"]);
    shop.stop().await;
}

#[tokio::test]
async fn a_rule_survives_a_restart_with_nothing_kept_here() {
    let mut shop = Shop::open().await;
    shop.start().await;
    shop.rule("/lamp$/").await;
    shop.stop().await;
    shop.start().await;
    shop.send(&lamps_and_more()).await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Brass desk lamp"]);
    shop.stop().await;
}

#[tokio::test]
async fn a_bad_rule_is_refused_and_the_old_one_stays() {
    let shop = Shop::open().await;
    shop.rules.set(Rule::typed("lamp")).await.unwrap();
    let error = shop.rules.set(Rule::typed("/lamp(/")).await.unwrap_err().to_string();
    assert!(error.contains("unclosed group"), "{error}");
    let rules = shop.contents(&shop.names.rules_topic).await;
    let rule: Rule = serde_json::from_slice(&rules[RULE_KEY]).unwrap();
    assert_eq!((rule.kind, rule.text.as_str()), (Kind::Contains, "lamp"));
    assert!(!rule.set_at.is_empty() && !rule.set_by.is_empty(), "{rule:?}");
}

/// A pattern that does not compile, a kind that does not exist, and no JSON at all.
const BAD: [&str; 3] = [r#"{"kind":"regex","text":"lamp("}"#, r#"{"kind":"starts","text":"x"}"#, "lamp"];

#[tokio::test]
async fn a_bad_rule_from_outside_leaves_the_last_good_one() {
    let mut shop = Shop::open().await;
    shop.start().await;
    shop.rule("lamp").await;
    for (n, bad) in BAD.into_iter().enumerate() {
        shop.write_rule(Some(bad)).await;
        // Whether the copy of the rules has it by now or not, the outcome is the same; after a restart it has.
        for restarted in [false, true] {
            if restarted {
                shop.stop().await;
                shop.start().await;
            }
            let id = |kind: &str| format!("{kind}{n}{restarted}");
            shop.send(&[named(&id("lamp"), "A lamp"), named(&id("vase"), "A vase")]).await;
            shop.judged().await;
            let table = shop.contents(&table_topic(&shop.names.filter_group)).await;
            assert!(table.contains_key(&id("lamp")) && !table.contains_key(&id("vase")), "{bad}: {:?}", table.keys());
        }
    }
    shop.rule("vase").await;
    shop.send(&[named("8", "A vase"), named("9", "A lamp")]).await;
    shop.judged().await;
    let table = shop.contents(&table_topic(&shop.names.filter_group)).await;
    assert!(table.contains_key("8") && !table.contains_key("9"), "a good rule holds again");
    shop.stop().await;
}

#[tokio::test]
async fn a_bad_rule_with_none_before_lets_everything_pass() {
    let mut shop = Shop::open().await;
    shop.write_rule(Some(BAD[0])).await;
    shop.start().await;
    shop.send(&[named("1", "A vase")]).await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["A vase"]);
    shop.stop().await;
}

#[tokio::test]
async fn a_foreign_rule_holds_and_a_tombstone_ends_it() {
    let mut shop = Shop::open().await;
    shop.start().await;
    shop.write_rule(Some(r#"{"kind":"contains","text":"shelf"}"#)).await;
    shop.seen(|kept| kept.is_some_and(|r| r.text == "shelf")).await;
    shop.send(&lamps_and_more()).await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Oak shelf"]);
    shop.write_rule(None).await;
    shop.seen(|kept| kept.is_none()).await;
    shop.send(&lamps_and_more()).await;
    shop.judged().await;
    assert_eq!(shop.table().await.len(), 4);
    shop.stop().await;
}

#[tokio::test]
async fn a_good_rule_is_kept_even_if_its_transaction_is_aborted() {
    let mut shop = Shop::open().await;
    shop.guarantee = Guarantee::ExactlyOnce;
    let rule = shop.rules.set(Rule::typed("lamp")).await.unwrap();
    shop.send(&lamps_and_more()).await;
    let error = LogError::Abortable { what: "committing".into(), reason: "on purpose".into() };
    shop.embedded.faults().fail_commit(error);
    shop.start().await;
    shop.judged().await;
    assert_eq!(shop.table().await, ["Brass desk lamp", "Paper lampshade"]);
    assert_eq!(shop.last_good().await, Some(rule));
    shop.stop().await;
}
