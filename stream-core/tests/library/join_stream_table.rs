//! Stream-table joins, by `g.join`: a record is joined with what the table has for its key; inner or left is what the callback
//! makes of nothing. The table is caught up before the first record, and a tombstone in it is a value no more.

use std::sync::Arc;

use stream_core::codec::Text;
use stream_core::group::{Group, GroupGraph};
use stream_core::processor::{Guarantee, Standbys};
use stream_core::testing::Tester;

use crate::support::{Done, values, with_both};

/// Orders with their customers: `left` emits every order, `inner` those whose customer is known.
fn orders() -> Arc<GroupGraph> {
    let mut g = Group::define("orders");
    let (inner, left) = (g.output("inner", Text), g.output("left", Text));
    let customers = g.join("customers-table", Text);
    g.input("orders", Text, move |ctx, order| {
        let customer = ctx.join(customers)?;
        if let Some(customer) = &customer {
            ctx.emit(inner, ctx.key(), format!("{customer} {order}"))?;
        }
        ctx.emit(left, ctx.key(), format!("{} {order}", customer.unwrap_or_else(|| "nobody".to_owned())))
    });
    g.build().unwrap()
}

/// The other group: it owns the table, and deletes a customer whose name is empty.
fn customers() -> Arc<GroupGraph> {
    let mut g = Group::define("customers").table(Text);
    g.input("names", Text, |ctx, name| if name.is_empty() { ctx.delete() } else { ctx.set(name) });
    g.build().unwrap()
}

fn tester(guarantee: Guarantee, partitions: i32) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::with_partitions(partitions);
    tester.add_with(customers(), move |p| p.guarantee(guarantee))?;
    tester.add_with(orders(), move |p| p.guarantee(guarantee).standbys(Standbys::All))?;
    Ok(tester)
}

fn put(tester: &Tester, topic: &str, records: &[(&str, &str)]) -> Done {
    for (key, value) in records {
        tester.input(topic, Text).push(*key, (*value).to_owned())?;
    }
    Ok(())
}

/// A change of the table and an order are in no order to each other while both groups run: with the orders' group away,
/// what it finds at its start is certain.
fn after(tester: &Tester, names: &[(&str, &str)], orders: &[(&str, &str)]) -> Done {
    tester.stop("orders")?;
    put(tester, "names", names)?;
    tester.drain()?;
    put(tester, "orders", orders)?;
    tester.start_instance("orders", 0)?;
    Ok(tester.drain()?)
}

fn sorted(tester: &Tester, topic: &str) -> Vec<String> {
    let mut all = values(&tester.output(topic, Text));
    all.sort_unstable();
    all
}

#[test]
fn inner_and_left_are_what_the_callback_makes_of_nothing() -> Done {
    with_both(|guarantee| {
        let tester = tester(guarantee, 3)?;
        after(&tester, &[("c1", "Ann"), ("c2", "Bob")], &[("c1", "1"), ("c2", "2"), ("c3", "3"), ("c1", "4")])?;
        assert_eq!(sorted(&tester, "inner"), ["Ann 1", "Ann 4", "Bob 2"]);
        assert_eq!(sorted(&tester, "left"), ["Ann 1", "Ann 4", "Bob 2", "nobody 3"]);
        Ok(())
    })
}

#[test]
fn a_change_of_the_table_counts_from_then_on_and_emits_nothing_itself() -> Done {
    with_both(|guarantee| {
        let tester = tester(guarantee, 1)?;
        after(&tester, &[("c1", "Ann")], &[("c1", "1")])?;
        after(&tester, &[("c1", "Anne"), ("c2", "Bob")], &[])?;
        assert_eq!(sorted(&tester, "left"), ["Ann 1"]);
        after(&tester, &[], &[("c1", "2"), ("c2", "3")])?;
        assert_eq!(sorted(&tester, "left"), ["Ann 1", "Anne 2", "Bob 3"]);
        Ok(())
    })
}

#[test]
fn a_tombstone_in_the_table_is_a_value_no_more() -> Done {
    with_both(|guarantee| {
        let tester = tester(guarantee, 1)?;
        after(&tester, &[("c1", "Ann"), ("c2", "Bob")], &[("c1", "1")])?;
        after(&tester, &[("c1", "")], &[("c1", "2"), ("c2", "3")])?;
        after(&tester, &[("c1", "Zoe")], &[("c1", "4")])?;
        assert_eq!(sorted(&tester, "inner"), ["Ann 1", "Bob 3", "Zoe 4"]);
        assert_eq!(sorted(&tester, "left"), ["Ann 1", "Bob 3", "Zoe 4", "nobody 2"]);
        Ok(())
    })
}

#[test]
fn a_change_is_seen_while_it_runs() -> Done {
    with_both(|guarantee| {
        let tester = tester(guarantee, 1)?;
        let last = |order: &str| -> Result<String, Box<dyn std::error::Error>> {
            put(&tester, "orders", &[("c1", order)])?;
            tester.drain()?;
            Ok(values(&tester.output("left", Text)).pop().unwrap_or_default())
        };
        for (name, seen) in [("Ann", "Ann"), ("", "nobody")] {
            put(&tester, "names", &[("c1", name)])?;
            let mut n = 0;
            while last(&n.to_string())? != format!("{seen} {n}") {
                n += 1;
                assert!(n < 1000, "{name:?} is never seen");
            }
        }
        Ok(())
    })
}

#[test]
fn an_instance_that_takes_over_has_the_table_before_its_first_record() -> Done {
    with_both(|guarantee| {
        let tester = tester(guarantee, 1)?;
        after(&tester, &[("c1", "Ann")], &[("c1", "1")])?;
        tester.add_instance("orders")?;
        tester.crash_instance("orders", 0)?;
        put(&tester, "orders", &[("c1", "2")])?;
        tester.drain()?;
        assert_eq!(sorted(&tester, "inner"), ["Ann 1", "Ann 2"]);
        Ok(())
    })
}
