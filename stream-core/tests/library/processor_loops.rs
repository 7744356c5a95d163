//! Loops: a group that sends records to itself under other keys.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{Isolation, Log, OffsetSpec, TopicPartition};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;

use crate::support::{Done, ms, pairs, table};

/// Moves money: takes it from the record's key, and by the loop gives it to the one named.
fn bank() -> Arc<GroupGraph> {
    let mut g = Group::define("bank").table(Int64);
    let give = g.loopback(Int64);
    g.input("transfers", Text, move |ctx, text: String| {
        let (to, amount) = text.split_once(' ').ok_or("no amount").map_err(stream_core::group::CallbackError::msg)?;
        let amount: i64 = amount.parse()?;
        let left = ctx.value()?.unwrap_or(100) - amount;
        ctx.loopback(give, to, amount)?;
        ctx.set(left)
    });
    g.on_loop(give, |ctx, amount| {
        let now = ctx.value()?.unwrap_or(100) + amount;
        ctx.set(now)
    });
    g.build().unwrap()
}

#[test]
fn what_goes_round_the_loop_arrives_once() -> Done {
    let tester = Tester::with_partitions(3);
    tester.add(bank())?;
    let input = tester.input("transfers", Text);
    for i in 0..60 {
        input.push(format!("k{}", i % 7), format!("k{} {}", (i * 3 + 1) % 7, i))?;
    }
    tester.drain()?;
    let sums = table(&tester, "bank", Int64);
    assert_eq!((sums.len(), sums.values().sum::<i64>()), (7, 700));
    Ok(())
}

#[test]
fn the_loop_survives_stops_faults_and_moves() -> Done {
    let tester = Tester::with_partitions(3);
    tester.add(bank())?;
    tester.add_instance("bank")?;
    let fault = tester.log().faults().on(|r| r.topic == "bank-loop").times(3).fail(crate::support::passing());
    let input = tester.input("transfers", Text);
    for i in 0..60 {
        input.push(format!("k{}", i % 7), format!("k{} {}", (i * 3 + 1) % 7, i))?;
        match i {
            10 | 30 => tester.restart("bank")?,
            20 => tester.log().faults().rebalance("bank"),
            40 => tester.stop_instance("bank", 0)?,
            _ => tester.run_for(ms(1)),
        }
    }
    tester.drain()?;
    assert_eq!(fault.hits(), 3);
    let sums = table(&tester, "bank", Int64);
    assert_eq!((sums.len(), sums.values().sum::<i64>()), (7, 700), "{sums:?}");
    Ok(())
}

#[test]
fn a_loop_may_go_round_many_times() -> Done {
    let mut g = Group::define("down").table(Int64);
    let next = g.loopback(Int64);
    let step = move |ctx: &mut stream_core::context::Ctx<'_, stream_core::group::Table<i64>>, n: i64| {
        ctx.set(n)?;
        if n > 0 { ctx.loopback(next, format!("k{}", n % 3), n - 1) } else { Ok(()) }
    };
    g.input("in", Int64, move |ctx, n: i64| step(ctx, n));
    g.on_loop(next, move |ctx, n: i64| step(ctx, n));
    let tester = Tester::with_partitions(2);
    tester.add(g.build()?)?;
    tester.input("in", Int64).send("k0", 30)?;
    assert_eq!(table(&tester, "down", Int64), pairs([("k0", 2), ("k1", 0), ("k2", 1)]));
    Ok(())
}

/// The first offset that the loop's partition has, and its end.
fn bounds(tester: &Tester, partition: i32) -> (i64, i64) {
    let of = TopicPartition::new("bank-loop", partition);
    let both = vec![(of.clone(), OffsetSpec::Earliest), (of, OffsetSpec::Latest)];
    let offsets = tester.block_on(tester.log().offsets(both, Isolation::ReadUncommitted)).unwrap();
    (offsets[0], offsets[1])
}

/// T3: a loop has no retention, so what is processed is deleted, and nothing else.
#[test]
fn processed_records_of_the_loop_are_deleted() -> Done {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let tester = Tester::with_partitions(2);
        tester.add_with(bank(), move |p| p.guarantee(guarantee))?;
        let input = tester.input("transfers", Text);
        for round in 0..3 {
            for i in 0..20 {
                input.push(format!("k{}", i % 7), format!("k{} {}", (i * 3 + 1) % 7, i))?;
            }
            tester.drain()?;
            tester.run_for(Duration::from_secs(61));
            for partition in 0..2 {
                let committed = tester.committed("bank", "bank-loop", partition)?.unwrap();
                let (start, end) = bounds(&tester, partition);
                assert!(start == committed && committed > 10 * round, "{guarantee:?}: {start} of {committed}, {end}");
            }
        }
        // What waits to be processed stays.
        tester.fail_callbacks("bank-loop", 1000, "on purpose");
        input.push("k1", "k2 1".to_owned())?;
        tester.run_for(Duration::from_secs(61));
        let left: i64 = (0..2).map(|p| bounds(&tester, p)).map(|(start, end)| end - start).sum();
        assert!(left > 0);
        tester.restart("bank").unwrap_err();
        let sums = table(&tester, "bank", Int64);
        assert_eq!(sums.values().sum::<i64>(), 699, "{sums:?}");
    }
    Ok(())
}
