//! A group with a join and a lookup sees the right values, after a restart, too, and while a copy is being restored.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::Text;
use stream_core::emitter::Emitter;
use stream_core::group::{BuildError, ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, Table};
use stream_core::log::{Cleanup, Isolation, LogError, LogHandle, OffsetSpec, TopicPartition};
use stream_core::processor::{Handle, Processor, ProcessorError, ProcessorResult};
use stream_core::store::MemoryStores;
use stream_core::view::View;
use tokio::task::JoinHandle;

use crate::view_support::{Line, World, keys, until_has, within};

const CUSTOMERS: &str = "customers-table";
const PRODUCTS: &str = "products-table";

/// Each order (customer -> product) with the customer's name and the product's; into a table, by customer, so that a
/// view shows them.
fn bills(policy: ErrorPolicy) -> Arc<GroupGraph> {
    let mut g = Group::define("bills").table(Text);
    let customers = g.join(CUSTOMERS, Text);
    let products = g.lookup(PRODUCTS, Text);
    g.input(Input::topic("orders").on_error(policy), Text, move |ctx, product: String| {
        let customer = ctx.join(customers)?.unwrap_or_else(|| "nobody".into());
        let product = ctx.lookup(products, &product)?.unwrap_or_else(|| "nothing".into());
        ctx.set(format!("{customer} buys {product}"))
    });
    g.build().unwrap()
}

async fn world() -> World {
    let world = World::new(3).await;
    world.make(CUSTOMERS, 3, Some(Cleanup::Compact)).await;
    world.make(PRODUCTS, 2, Some(Cleanup::Compact)).await;
    world.make("orders", 3, None).await;
    world.put_to(CUSTOMERS, None, &[("c1", Some("Ann")), ("c2", Some("Bob")), ("c3", Some("Cid"))]).await;
    world.put_to(PRODUCTS, None, &[("p1", Some("pears")), ("p2", Some("plums")), ("p3", Some("peas"))]).await;
    world
}

fn start(log: LogHandle, dir: &Path, policy: ErrorPolicy) -> (Handle, JoinHandle<ProcessorResult<()>>) {
    let processor = Processor::new(bills(policy), log).state_dir(dir).workers(2);
    let processor = processor.max_task_idle(Duration::from_millis(10)).commit_interval(Duration::from_millis(20));
    let processor = processor.topic_check_interval(Duration::from_millis(20));
    (processor.handle(), tokio::spawn(processor.run()))
}

async fn stop(handle: &Handle, run: JoinHandle<ProcessorResult<()>>) {
    handle.stop();
    within(run).await.unwrap().unwrap();
}

async fn results(world: &World) -> View<String> {
    let stores = Arc::new(MemoryStores::new());
    let view = View::builder("bills-table", Text, Arc::clone(&world.log)).stores(stores);
    let view = within(view.open()).await.unwrap();
    within(view.wait_caught_up()).await.unwrap();
    view
}

#[tokio::test]
async fn joins_and_lookups_see_what_the_tables_hold() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (handle, run) = start(Arc::clone(&world.log), dir.path(), ErrorPolicy::fail());
    within(handle.running()).await.unwrap();
    let bills = results(&world).await;
    let orders = Emitter::new("orders", Text, Arc::clone(&world.log)).await.unwrap();
    for (customer, product) in [("c1", "p1"), ("c2", "p2"), ("c3", "none"), ("c4", "p3")] {
        within(orders.emit_acknowledged(customer, &product.to_owned())).await.unwrap();
    }
    until_has(&bills, "c1", Some("Ann buys pears")).await;
    until_has(&bills, "c2", Some("Bob buys plums")).await;
    until_has(&bills, "c3", Some("Cid buys nothing")).await;
    until_has(&bills, "c4", Some("nobody buys peas")).await;

    // Changes of the tables while the group runs.
    world.put_to(CUSTOMERS, None, &[("c1", Some("Anne")), ("c2", None)]).await;
    world.put_to(PRODUCTS, None, &[("p1", None), ("p2", Some("prunes"))]).await;
    let order_until = async |customer: &str, product: &str, result: &str| {
        let seen = async {
            // A table's change and an order are in no order to each other, so the order is repeated.
            while bills.get(customer).unwrap().as_deref() != Some(result) {
                orders.emit_acknowledged(customer, &product.to_owned()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        within(seen).await;
    };
    order_until("c1", "p1", "Anne buys nothing").await;
    order_until("c2", "p2", "nobody buys prunes").await;
    stop(&handle, run).await;

    // Changes while it is away, which a restart must read.
    world.put_to(CUSTOMERS, None, &[("c3", Some("Cedric"))]).await;
    world.put_to(PRODUCTS, None, &[("p3", Some("parsnips"))]).await;
    drop(orders.emit("c3", &"p3".to_owned()).await.unwrap());
    drop(orders.emit("c1", &"p2".to_owned()).await.unwrap());
    within(orders.flush()).await.unwrap();
    let line = Line::to(&world.log);
    let (handle, run) = start(line.clone(), dir.path(), ErrorPolicy::fail());
    until_has(&bills, "c3", Some("Cedric buys parsnips")).await;
    until_has(&bills, "c1", Some("Anne buys prunes")).await;
    stop(&handle, run).await;
    assert_eq!(keys(bills.iter()), ["c1", "c2", "c3", "c4"]);
    for topic in [CUSTOMERS, PRODUCTS] {
        let tails: Vec<_> = line.begun().into_iter().filter(|(p, _)| &*p.topic == topic).collect();
        assert!(
            !tails.is_empty() && tails.iter().any(|(_, from)| *from > 0),
            "all of {topic} was read anew: {tails:?}"
        );
    }
}

#[tokio::test]
async fn a_record_waits_for_a_lookup_that_is_being_restored_whatever_its_policy() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let line = Line::to(&world.log);
    let (handle, run) = start(line.clone(), dir.path(), ErrorPolicy::skip());
    within(handle.running()).await.unwrap();
    let bills = results(&world).await;
    // Both partitions of the lookup are emptied, and can't be read for now.
    let reads = || line.begun().iter().filter(|(p, from)| &*p.topic == PRODUCTS && *from == 0).count();
    let before = reads();
    for partition in 0..2 {
        let partition = TopicPartition::new(PRODUCTS, partition);
        line.fail_fetch(PRODUCTS, LogError::OffsetOutOfRange { partition, offset: 1, start: 2, end: 3 });
    }
    let emptied = async {
        while reads() < before + 2 {
            tokio::task::yield_now().await;
        }
    };
    line.hold(Some(PRODUCTS));
    within(emptied).await;
    let orders = Emitter::new("orders", Text, Arc::clone(&world.log)).await.unwrap();
    within(orders.emit_acknowledged("c1", &"p1".to_owned())).await.unwrap();
    within(orders.emit_acknowledged("c1", &"p2".to_owned())).await.unwrap();
    let partition = TopicPartition::new("orders", stream_core::log::Partitioner::default().partition(b"c1", 3));
    assert_eq!(bills.get("c1").unwrap(), None);
    line.hold(None);
    until_has(&bills, "c1", Some("Ann buys plums")).await;
    stop(&handle, run).await;
    let end = world.log.offsets(vec![(partition.clone(), OffsetSpec::Latest)], Isolation::ReadCommitted).await.unwrap();
    let done = world.log.group_offsets("bills".into(), vec![partition]).await.unwrap();
    assert_eq!((done[0], end[0]), (Some(2), 2));
}

#[tokio::test]
async fn a_lookup_that_can_not_be_read_stops_the_start_with_its_name() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let line = Line::to(&world.log);
    line.fail_fetch(PRODUCTS, LogError::Auth { what: "read".into(), reason: "not allowed".into() });
    let (_, run) = start(line, dir.path(), ErrorPolicy::fail());
    let error = within(run).await.unwrap().unwrap_err();
    assert!(matches!(error, ProcessorError::Lookup { .. }));
    assert!(format!("{error:?}").contains("lookup products-table: read: not authorised: not allowed"), "{error}");
    // Everything is released, so that a second start has its turn.
    let (handle, run) = start(Arc::clone(&world.log), dir.path(), ErrorPolicy::fail());
    within(handle.running()).await.unwrap();
    stop(&handle, run).await;
}

#[tokio::test]
async fn a_grown_lookup_stops_the_group_at_the_next_read_whatever_its_policy() {
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let (handle, run) = start(Arc::clone(&world.log), dir.path(), ErrorPolicy::skip());
    within(handle.running()).await.unwrap();
    world.log.grow_topic(PRODUCTS.into(), 5).await.unwrap();
    let orders = Emitter::new("orders", Text, Arc::clone(&world.log)).await.unwrap();
    let failing = async {
        while !run.is_finished() {
            orders.emit_acknowledged("c1", &"p1".to_owned()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(failing).await;
    let error = run.await.unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("has changed from 2 to 5 partitions"), "{error}");
}

#[test]
fn the_own_table_is_no_lookup_join_or_input() {
    let edges: [fn(&mut GroupBuilder<Table<String>>); 3] = [
        |g| _ = g.lookup::<String>("own-table", Text),
        |g| _ = g.join::<String>("own-table", Text),
        |g| _ = g.input("own-table", Text, |_, _: String| Ok(())),
    ];
    for edge in edges {
        let mut g = Group::define("own").table(Text);
        g.input("in", Text, |_, _: String| Ok(()));
        edge(&mut g);
        let error = g.build().unwrap_err();
        assert!(matches!(error, BuildError::OwnTopic { .. }), "{error}");
        assert!(format!("{error:?}").contains("is the group's own table: use ctx.value()"), "{error}");
    }
}
