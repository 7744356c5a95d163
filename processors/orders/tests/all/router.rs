//! The router on the embedded log: what it lets through, once, and where to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orders::cities::CityTopics;
use orders::city::{OTHER, room, slug};
use orders::order::OrderJson;
use orders::topics::{CITY, EMAILS, ORDERS, ROUTER, TopicNames};
use orders::{Accepted, Cities, Generator, Order, Priority, router};
use stream_core::codec::Json;
use stream_core::group::GroupGraph;
use stream_core::log::{Log, LogError};
use stream_core::processor::Guarantee;
use stream_core::testing::{TestRecord, Tester};

type Done = Result<(), Box<dyn std::error::Error>>;

const GUARANTEES: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];

fn graph(tester: &Tester, max: usize) -> Arc<GroupGraph> {
    let (log, names) = (Arc::clone(tester.log()), TopicNames::default());
    let topics = CityTopics { max, ..CityTopics::default() };
    let cities = tester.block_on(Cities::open(log, &names, topics)).unwrap();
    router::define(&names, cities).build().unwrap()
}

fn started(guarantee: Guarantee, max: usize) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::with_partitions(3);
    tester.add_with(graph(&tester, max), move |p| p.guarantee(guarantee))?;
    Ok(tester)
}

fn order(order_id: i32, city: &str, priority: Priority) -> Order {
    let mut order = Generator::new(1, 0).next().0;
    order.customer.address.city = city.into();
    Order { order_id, priority, ..order }
}

fn push(tester: &Tester, orders: &[Order]) -> Done {
    let input = tester.input(ORDERS, OrderJson);
    for order in orders {
        input.push(order.key(), order.clone())?;
    }
    Ok(())
}

fn records(tester: &Tester, topic: &str) -> Vec<TestRecord<Order>> {
    tester.output(topic, OrderJson).read().unwrap()
}

fn ids(tester: &Tester, topic: &str) -> Vec<i32> {
    let mut ids: Vec<i32> = records(tester, topic).into_iter().map(|r| r.value.unwrap().order_id).collect();
    ids.sort_unstable();
    ids
}

fn exists(tester: &Tester, topic: &str) -> bool {
    tester.block_on(tester.log().topics(vec![topic.into()])).unwrap()[0].is_some()
}

fn city_topic(city: &str) -> String {
    format!("{CITY}{}", slug(city, room(CITY)))
}

/// Everything is as it should be after these, each once.
fn check(tester: &Tester, sent: &[Order]) {
    let by_id: BTreeMap<i32, &Order> = sent.iter().map(|o| (o.order_id, o)).collect();
    let table = tester.table(ROUTER, Json::<Accepted>::new()).all().unwrap();
    assert_eq!(table.len(), by_id.len());
    for accepted in table.values() {
        assert_eq!(&accepted.order, by_id[&accepted.order.order_id]);
    }
    let mut high: Vec<i32> = by_id.values().filter(|o| o.priority == Priority::High).map(|o| o.order_id).collect();
    high.sort_unstable();
    assert_eq!(ids(tester, EMAILS), high);
    let mut cities: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for order in by_id.values() {
        cities.entry(city_topic(order.city())).or_default().push(order.order_id);
    }
    for (topic, expected) in cities {
        assert_eq!(ids(tester, &topic), expected, "{topic}");
    }
}

#[test]
fn each_order_has_one_row_one_city_record_and_a_mail_if_it_is_high() -> Done {
    for guarantee in GUARANTEES {
        let tester = started(guarantee, 100)?;
        let mut generator = Generator::new(7, 5);
        let sent: Vec<Order> = (0..1000).map(|_| generator.next().0).collect();
        push(&tester, &sent)?;
        tester.drain()?;
        check(&tester, &sent);
        assert!(!exists(&tester, "product_orders-dlq") || records(&tester, "product_orders-dlq").is_empty());
    }
    Ok(())
}

#[test]
fn a_repeat_with_other_contents_changes_nothing_and_is_put_aside() -> Done {
    let tester = started(Guarantee::AtLeastOnce, 100)?;
    let first = order(1, "Oslo", Priority::Low);
    push(&tester, &[first.clone(), order(1, "Turin", Priority::High)])?;
    tester.drain()?;
    assert_eq!(tester.table(ROUTER, Json::<Accepted>::new()).get("1")?.unwrap().order, first);
    assert_eq!(ids(&tester, EMAILS), Vec::<i32>::new());
    assert!(!exists(&tester, "orders_city_turin"));
    let aside = tester.output("product_orders-dlq", OrderJson).read()?;
    let reasons: Vec<_> = aside.iter().map(|r| (r.key_text(), r.header("dead-letter-reason"))).collect();
    assert_eq!(reasons, [("1".into(), Some("the id 1 is another order's, which came first".to_owned()))]);
    Ok(())
}

#[test]
fn crashes_double_nothing_exactly_once() -> Done {
    let tester = started(Guarantee::ExactlyOnce, 100)?;
    let mut generator = Generator::new(3, 5);
    let mut sent = Vec::new();
    for _ in 0..5 {
        let some: Vec<Order> = (0..100).map(|_| generator.next().0).collect();
        push(&tester, &some)?;
        sent.extend(some);
        // Somewhere in the middle of them.
        let begun = tester.committed(ROUTER, ORDERS, 0)?;
        tester.wait_until("some of it is done", || tester.committed(ROUTER, ORDERS, 0).unwrap() > begun)?;
        tester.crash(ROUTER)?;
        tester.restart(ROUTER)?;
    }
    tester.drain()?;
    check(&tester, &sent);
    Ok(())
}

#[test]
fn at_least_once_a_crash_between_the_table_and_the_rest_loses_no_mail() -> Done {
    for lost in [EMAILS, "orders_city_oslo"] {
        let tester = started(Guarantee::AtLeastOnce, 100)?;
        // So that the city's topic is there, and the fault below is the only trouble.
        push(&tester, &[order(1, "Oslo", Priority::High)])?;
        tester.drain()?;
        let fault = tester
            .log()
            .faults()
            .on(move |r| r.topic == lost)
            .fail(LogError::Retriable { what: "a write".into(), reason: "cut".into() });
        push(&tester, &[order(2, "Oslo", Priority::High)])?;
        tester.run_for(Duration::from_secs(5));
        assert!(fault.hits() > 0);
        let table = tester.output("order-router-table", Json::<Accepted>::new()).read()?;
        assert!(table.iter().any(|r| r.key_text() == "2"), "the table has it, {lost} has not");
        assert_eq!(ids(&tester, lost), [1]);
        tester.crash(ROUTER)?;
        drop(fault);
        tester.restart(ROUTER)?;
        tester.drain()?;
        for topic in [EMAILS, "orders_city_oslo"] {
            let seen: BTreeSet<i32> = ids(&tester, topic).into_iter().collect();
            assert_eq!(seen, BTreeSet::from([1, 2]), "{topic}");
        }
    }
    Ok(())
}

#[test]
fn hostile_city_names_do_no_harm() -> Done {
    let tester = started(Guarantee::ExactlyOnce, 100)?;
    let cities = [
        "product_orders",
        "order_emails",
        "order-router-table",
        "../../etc/passwd",
        "a b/c\\d",
        "東京",
        "",
        "__consumer_offsets",
        ".",
        "..",
        "city'; DROP TABLE orders; --",
        "{}",
        "other",
        "unknown",
    ];
    let mut sent: Vec<Order> = (1..).zip(cities).map(|(id, city)| order(id, city, Priority::High)).collect();
    sent.push(order(100, &"x".repeat(10_000), Priority::High));
    sent.push(order(101, &"é/ ".repeat(3_000), Priority::High));
    push(&tester, &sent)?;
    tester.drain()?;
    check(&tester, &sent);
    assert_eq!(records(&tester, ORDERS).len(), sent.len(), "nothing but what was sent is in the input");
    assert!(exists(&tester, "orders_city_product-orders"));
    assert_eq!(ids(&tester, "orders_city_unknown"), [6, 7, 9, 10, 12, 14, 101]);
    Ok(())
}

#[test]
fn cities_beyond_the_limit_share_a_topic() -> Done {
    let tester = started(Guarantee::ExactlyOnce, 3)?;
    let sent: Vec<Order> = (0..60).map(|n| order(n + 1, &format!("City {}", n % 6), Priority::Low)).collect();
    push(&tester, &sent[..30])?;
    tester.drain()?;
    let own = |n: &i32| format!("{CITY}city-{n}");
    let with_topic: Vec<i32> = (0..6).filter(|n| exists(&tester, &own(n))).collect();
    assert_eq!(with_topic.len(), 3);
    tester.restart(ROUTER)?;
    push(&tester, &sent[30..])?;
    tester.drain()?;
    let mut seen = ids(&tester, &format!("{CITY}{OTHER}"));
    assert_eq!(seen.len(), 30);
    for n in 0..6 {
        assert_eq!(exists(&tester, &own(&n)), with_topic.contains(&n));
        if with_topic.contains(&n) {
            let here = ids(&tester, &own(&n));
            assert_eq!(here.len(), 10);
            seen.extend(here);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn what_is_no_order_is_put_aside_with_the_reason() -> Done {
    let tester = started(Guarantee::AtLeastOnce, 100)?;
    let input = tester.input(ORDERS, OrderJson);
    input.push_bytes("1", Some(b"__import__('os').system('true')"), None, None)?;
    input.push_bytes("2", Some(br#"{"order_id": 2, "customer": 5}"#), None, None)?;
    input.push_bytes("3", None, None, None)?;
    // Postgres would refuse it, in the middle of a batch.
    input.push("5", order(5, "Os\0lo", Priority::Low))?;
    push(&tester, &[order(4, "Oslo", Priority::Low)])?;
    tester.drain()?;
    let dead = tester.output("product_orders-dlq", stream_core::codec::Bytes).read()?;
    let mut reasons: Vec<_> = dead.iter().map(|r| (r.key_text(), r.header("dead-letter-reason").unwrap())).collect();
    reasons.sort();
    assert_eq!(reasons.len(), 4);
    assert!(reasons[3].1.contains("customer.address.city: must not have control characters"), "{reasons:?}");
    assert!(reasons[0].1.contains("body: is not JSON"), "{reasons:?}");
    assert!(reasons[1].1.contains("customer: must be an object"), "{reasons:?}");
    assert!(reasons[2].1.contains("body: is not JSON"), "{reasons:?}");
    assert_eq!(ids(&tester, "orders_city_oslo"), [4]);
    Ok(())
}

#[test]
fn an_order_without_its_own_key_gets_it_and_is_still_one() -> Done {
    let tester = started(Guarantee::ExactlyOnce, 100)?;
    let one = order(1, "Oslo", Priority::High);
    let input = tester.input(ORDERS, OrderJson);
    input.push(None::<&str>, one.clone())?;
    input.push("some key", one.clone())?;
    input.push("1", one.clone())?;
    tester.drain()?;
    check(&tester, &[one]);
    Ok(())
}
