//! The sink on the embedded log: what is written, what is waited for, what is put aside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, FutureExt, ready};
use orders::sink::{self, Rows, RowsError};
use orders::topics::{SINK, TopicNames};
use orders::{Accepted, Generator, Order};
use stream_core::codec::Json;
use stream_core::testing::Tester;

type Done = Result<(), Box<dyn std::error::Error>>;

const TABLE: &str = "order-router-table";

/// A database that can be away, and refuses what has a NUL in its city, as Postgres does.
#[derive(Default)]
struct FakeRows {
    rows: Mutex<BTreeMap<i32, Order>>,
    away: Mutex<bool>,
    statements: Mutex<Vec<usize>>,
}

impl Rows for FakeRows {
    fn upsert<'a>(&'a self, orders: &'a [&'a Order]) -> BoxFuture<'a, Result<(), RowsError>> {
        self.statements.lock().unwrap().push(orders.len());
        let result = if *self.away.lock().unwrap() {
            Err(RowsError::Later("away".into()))
        } else if orders.iter().any(|o| o.city().contains('\0')) {
            Err(RowsError::Refused("a NUL".into()))
        } else {
            self.rows.lock().unwrap().extend(orders.iter().map(|o| (o.order_id, (*o).clone())));
            Ok(())
        };
        ready(result).boxed()
    }
}

fn started(rows: &Arc<FakeRows>) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add(sink::define(&TopicNames::default(), Arc::clone(rows) as _, 100).build()?)?;
    Ok(tester)
}

fn orders(count: usize) -> Vec<Order> {
    let mut generator = Generator::new(1, 0);
    (0..count).map(|_| generator.next().0).collect()
}

fn push(tester: &Tester, orders: &[Order]) -> Done {
    let input = tester.input(TABLE, Json::<Accepted>::new());
    for order in orders {
        input.push(order.key(), Accepted { order: order.clone(), partition: 0, offset: 0 })?;
    }
    Ok(())
}

fn by_id(orders: &[Order]) -> BTreeMap<i32, Order> {
    orders.iter().map(|o| (o.order_id, o.clone())).collect()
}

#[test]
fn rows_are_as_the_table_is_even_if_it_is_read_again() -> Done {
    let rows = Arc::new(FakeRows::default());
    let tester = started(&rows)?;
    let orders = orders(50);
    tester.stop(SINK)?;
    push(&tester, &orders)?;
    // The same row twice in a batch.
    push(&tester, &orders[..10])?;
    tester.restart(SINK)?;
    tester.drain()?;
    assert_eq!(*rows.rows.lock().unwrap(), by_id(&orders));
    assert_eq!(*rows.statements.lock().unwrap(), [50], "one statement, no row twice in it");
    Ok(())
}

#[test]
fn a_database_that_is_away_is_waited_for_and_nothing_is_committed_meanwhile() -> Done {
    let rows = Arc::new(FakeRows::default());
    let tester = started(&rows)?;
    *rows.away.lock().unwrap() = true;
    let orders = orders(10);
    push(&tester, &orders)?;
    tester.wait_until("it has tried some times", || rows.statements.lock().unwrap().len() > 5)?;
    assert!(tester.committed(SINK, TABLE, 0)?.unwrap_or_default() == 0);
    *rows.away.lock().unwrap() = false;
    tester.drain()?;
    assert_eq!(*rows.rows.lock().unwrap(), by_id(&orders));
    assert_eq!(tester.committed(SINK, TABLE, 0)?, Some(10));
    Ok(())
}

#[test]
fn an_order_that_is_refused_is_put_aside_alone() -> Done {
    let rows = Arc::new(FakeRows::default());
    let tester = started(&rows)?;
    tester.stop(SINK)?;
    let mut orders = orders(10);
    orders[4].customer.address.city = "a\0b".into();
    push(&tester, &orders)?;
    tester.restart(SINK)?;
    tester.drain()?;
    let bad = orders.remove(4);
    assert_eq!(*rows.rows.lock().unwrap(), by_id(&orders));
    let dead = tester.output("order-sink-dlq", Json::<Accepted>::new()).read()?;
    assert_eq!((dead.len(), dead[0].value.as_ref().map(|a| &a.order)), (1, Some(&bad)));
    assert_eq!(dead[0].header("dead-letter-reason").unwrap(), "the database refuses it: a NUL");
    Ok(())
}
