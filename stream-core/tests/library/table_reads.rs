//! D2: reads from outside see committed state only, of the partitions that the instance has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Bytes, Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::Partitioner;
use stream_core::processor::{Guarantee, Handle, ReadError, State, TablePage, TableRange};
use stream_core::testing::Tester;

use crate::support::{Done, ms, open_transaction, passing, with_both};

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    g.input("in", Text, |ctx, text: String| {
        if text == "gone" {
            return ctx.delete();
        }
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

/// Keeps what comes, whatever its key is.
fn keeper() -> Arc<GroupGraph> {
    let mut g = Group::define("keep").table(Bytes);
    g.input("in", Bytes, |ctx, value| ctx.set(value));
    g.build().unwrap()
}

fn add(tester: &Tester, graph: Arc<GroupGraph>, guarantee: Guarantee) -> Done {
    Ok(tester.add_with(graph, move |p| p.guarantee(guarantee))?)
}

fn get(tester: &Tester, handle: &Handle, key: &str) -> Result<Option<i64>, ReadError> {
    tester.block_on(handle.get(key))
}

#[test]
fn what_is_not_committed_is_not_seen() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        add(&tester, counter(), guarantee)?;
        let (input, handle) = (tester.input("in", Text), tester.handle("count", 0)?);
        assert_eq!(get(&tester, &handle, "k")?, None);
        input.send("k", "x".to_owned())?;
        assert_eq!(get(&tester, &handle, "k")?, Some(1));
        for (text, expected) in [("x", Some(2)), ("gone", None), ("x", Some(1))] {
            let before = get(&tester, &handle, "k")?;
            let hold = tester.log().faults().on(|r| r.topic == "count-table").hold_acks();
            for key in ["k", "new"] {
                input.push(key, text.to_owned())?;
                tester.run_for(ms(200));
            }
            assert!(hold.hits() > 0);
            assert_eq!(get(&tester, &handle, "k")?, before, "{text}: it may still be taken back");
            let page: TablePage<i64> = tester.block_on(handle.range(TableRange::all().prefix("k")))?;
            assert_eq!(page.rows.first().map(|row| row.value), before, "{text}");
            drop(hold);
            tester.drain()?;
            assert_eq!(get(&tester, &handle, "k")?, expected, "{text}: committed");
        }
        Ok(())
    })
}

#[test]
fn what_is_taken_back_was_never_seen() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        add(&tester, counter(), guarantee)?;
        let (input, handle) = (tester.input("in", Text), tester.handle("count", 0)?);
        input.send("k", "x".to_owned())?;
        let fault = tester.log().faults().on(|r| r.topic == "count-table").times(4).fail_after_write(passing());
        input.push("k", "x".to_owned())?;
        let mut seen = Vec::new();
        tester.wait_until("all four failures", || {
            seen.push(get(&tester, &handle, "k").unwrap());
            fault.hits() == 4
        })?;
        assert!(seen.iter().all(|n| *n == Some(1)), "{seen:?}");
        tester.drain()?;
        assert_eq!(get(&tester, &handle, "k")?, Some(2));
        Ok(())
    })
}

#[test]
fn a_key_of_a_partition_that_moved_is_not_here() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(4);
        add(&tester, counter(), guarantee)?;
        let input = tester.input("in", Text);
        let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
        for key in &keys {
            input.push(key, "x".to_owned())?;
        }
        tester.drain()?;
        let first = tester.handle("count", 0)?;
        for key in &keys {
            assert_eq!(get(&tester, &first, key)?, Some(1));
        }
        tester.add_instance("count")?;
        let second = tester.handle("count", 1)?;
        tester.wait_until("both have two partitions", || {
            [&first, &second].iter().all(|h| h.status().tasks.len() == 2 && h.status().state == State::Running)
        })?;
        for key in &keys {
            input.push(key, "x".to_owned())?;
        }
        tester.drain()?;
        let (mut here, mut there) = (0, 0);
        for key in &keys {
            let of = Partitioner::default().partition(key.as_bytes(), 4);
            let answers = [&first, &second].map(|handle| get(&tester, handle, key));
            let (answer, refusal) = match answers {
                [Ok(n), Err(error)] => {
                    here += 1;
                    (n, error)
                }
                [Err(error), Ok(n)] => {
                    there += 1;
                    (n, error)
                }
                both => panic!("one of them has {key}: {both:?}"),
            };
            assert_eq!(answer, Some(2), "{key}");
            let ReadError::NotHere { partition, held, .. } = refusal else { panic!("{refusal}") };
            assert!(partition == of && held.len() == 2 && !held.contains(&of), "{key}: {partition} of {held:?}");
        }
        assert!(here > 0 && there > 0);
        // Pages say what they cover.
        let mut covered = Vec::new();
        let mut rows = 0;
        for handle in [&first, &second] {
            let page: TablePage<i64> = tester.block_on(handle.range(TableRange::all()))?;
            assert_eq!(page.of, 4);
            rows += page.rows.len();
            assert!(page.rows.iter().all(|row| page.partitions.contains(&row.partition)));
            covered.extend(page.partitions);
        }
        covered.sort_unstable();
        assert_eq!((rows, covered), (40, vec![0, 1, 2, 3]));
        Ok(())
    })
}

/// Reads everything by pages, checking each.
fn all_pages(tester: &Tester, handle: &Handle, range: &TableRange, limit: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    let mut range = range.clone().limit(limit);
    loop {
        let page = tester.block_on(handle.range_bytes(range.clone())).unwrap();
        assert!(page.rows.len() <= limit);
        for row in page.rows {
            assert!(rows.last_key_value().is_none_or(|(last, _)| *last < row.key), "in order, none twice");
            rows.insert(row.key, row.value);
        }
        match page.next {
            Some(next) => range = range.after(next),
            None => return rows,
        }
    }
}

#[test]
fn pages_have_every_row_once_whatever_is_stored_and_what_is_not() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(3);
        tester.add_with(keeper(), move |p| p.guarantee(guarantee).checkpoint_interval(Duration::from_secs(5)))?;
        let (input, handle) = (tester.input("in", Bytes), tester.handle("keep", 0)?);
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for n in 0..1500_u32 {
            // Any bytes, in an order that is not theirs.
            let key = n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
            input.push(&key, b"old".to_vec())?;
            expected.insert(key, b"old".to_vec());
            if n == 700 {
                tester.drain()?;
                tester.run_for(Duration::from_secs(6));
            }
        }
        tester.drain()?;
        // Some of what is stored changes or goes.
        let keys: Vec<_> = expected.keys().cloned().collect();
        for key in keys.iter().step_by(3) {
            input.push(key, b"new".to_vec())?;
            expected.insert(key.clone(), b"new".to_vec());
        }
        tester.drain()?;
        // And what is not committed must not show in pages either.
        let hold = tester.log().faults().on(|r| r.topic == "keep-table").hold_acks();
        for key in keys.iter().step_by(5) {
            input.push(key, b"uncommitted".to_vec())?;
        }
        input.push(b"\xff\xff\xff\xff\xff", b"uncommitted".to_vec())?;
        tester.run_for(ms(500));
        assert!(hold.hits() > 0);

        for limit in [1000, 7, 1] {
            assert_eq!(all_pages(&tester, &handle, &TableRange::all(), limit), expected, "{limit} a page");
        }
        let (from, to) = (vec![0x20_u8], vec![0x90, 0, 0xff]);
        let within = |key: &[u8]| key >= from.as_slice() && key < to.as_slice();
        let range = TableRange::all().from(from.clone()).to(to.clone());
        let part: BTreeMap<_, _> = expected.clone().into_iter().filter(|(key, _)| within(key)).collect();
        assert!(part.len() > 100);
        assert_eq!(all_pages(&tester, &handle, &range, 13), part);
        for prefix in [vec![0xff_u8], vec![0x00], vec![0x41]] {
            let some: BTreeMap<_, _> = expected.clone().into_iter().filter(|(k, _)| k.starts_with(&prefix)).collect();
            assert!(!some.is_empty());
            assert_eq!(all_pages(&tester, &handle, &TableRange::all().prefix(prefix), 2), some);
        }
        assert!(all_pages(&tester, &handle, &TableRange::all().from(b"b".to_vec()).to(b"a".to_vec()), 5).is_empty());
        Ok(())
    })
}

#[test]
fn a_page_is_bounded_in_bytes() -> Done {
    let tester = Tester::new();
    tester.add(keeper())?;
    let (input, handle) = (tester.input("in", Bytes), tester.handle("keep", 0)?);
    for n in 0..30_u8 {
        input.push(&[n], vec![n; 100_000])?;
    }
    tester.drain()?;
    let page = tester.block_on(handle.range_bytes(TableRange::all().limit(1000)))?;
    assert!(page.rows.len() < 15 && page.next.is_some(), "{} rows", page.rows.len());
    assert_eq!(all_pages(&tester, &handle, &TableRange::all(), 1000).len(), 30);
    Ok(())
}

#[test]
fn after_a_crash_the_restored_state_is_read() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(2);
        add(&tester, counter(), guarantee)?;
        let input = tester.input("in", Text);
        for n in 0..50 {
            input.push(format!("k{}", n % 10), "x".to_owned())?;
        }
        tester.drain()?;
        tester.crash("count")?;
        let handle = tester.handle("count", 0)?;
        assert!(matches!(get(&tester, &handle, "k1"), Err(ReadError::NotRunning { .. })));
        tester.start_instance("count", 0)?;
        let handle = tester.handle("count", 0)?;
        for n in 0..10 {
            assert_eq!(get(&tester, &handle, &format!("k{n}"))?, Some(5));
        }
        Ok(())
    })
}

#[test]
fn what_is_being_restored_is_not_known_yet() -> Done {
    let tester = Tester::with_partitions(2);
    tester.add(counter())?;
    let input = tester.input("in", Text);
    for n in 0..10 {
        input.send(format!("k{n}"), "x".to_owned())?;
    }
    tester.stop("count")?;
    // An open transaction holds up the restore of one partition.
    let held_up = Partitioner::default().partition(b"k1", 2);
    let foreign = open_transaction(&tester, "count-table", held_up, (b"k1", b"7"))?;
    let handle = tester.spawn_instance("count", 0)?;
    tester.run_for(Duration::from_secs(1));
    assert_eq!(handle.status().state, State::Restoring);
    let restoring = get(&tester, &handle, "k1");
    assert!(matches!(restoring, Err(ReadError::Restoring { partition, .. }) if partition == held_up), "{restoring:?}");
    // The other one is there, and a page says that it is of that one only.
    let page: TablePage<i64> = tester.block_on(handle.range(TableRange::all()))?;
    assert_eq!((page.partitions, page.of), (vec![1 - held_up], 2));
    assert!(page.rows.iter().all(|row| row.partition != held_up));
    tester.block_on(foreign.commit_transaction(Vec::new(), None))?;
    tester.block_on(handle.running())?;
    assert_eq!(get(&tester, &handle, "k1")?, Some(7));
    let page: TablePage<i64> = tester.block_on(handle.range(TableRange::all()))?;
    assert_eq!((page.rows.len(), page.partitions), (10, vec![0, 1]));
    Ok(())
}

#[test]
fn what_was_seen_once_never_goes_back_whatever_fails() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(counter(), move |p| p.guarantee(guarantee).checkpoint_interval(ms(300)))?;
        let (input, mut seen, mut reads) = (tester.input("in", Text), 0, 0);
        let look = |seen: &mut i64, reads: &mut u32| {
            // While it starts there is no answer.
            if let Ok(value) = get(&tester, &tester.handle("count", 0).unwrap(), "k") {
                let value = value.unwrap_or_default();
                assert!(value >= *seen, "{guarantee:?}: {value} after {seen}");
                *seen = value;
                *reads += 1;
            }
        };
        for step in 0..120 {
            input.push("k", "x".to_owned())?;
            // A delivery fails after it was written, or before; or the process dies in the middle.
            let fails = tester.log().faults().on(|r| r.topic == "count-table").times(1);
            let fault = match step % 7 {
                2 => Some(fails.fail_after_write(passing())),
                4 => Some(fails.fail(passing())),
                _ => None,
            };
            for _ in 0..5 {
                tester.run_for(ms(7));
                look(&mut seen, &mut reads);
            }
            if step % 20 == 11 {
                input.push("k", "x".to_owned())?;
                tester.run_for(ms(3));
                look(&mut seen, &mut reads);
                tester.crash("count")?;
                tester.start_instance("count", 0)?;
                look(&mut seen, &mut reads);
            }
            drop(fault);
        }
        tester.drain()?;
        look(&mut seen, &mut reads);
        assert!(reads > 500, "{reads} reads were answered");
        match guarantee {
            Guarantee::ExactlyOnce => assert_eq!(seen, 126),
            _ => assert!(seen >= 126, "{seen}"),
        }
        Ok(())
    })
}

#[test]
fn reads_that_can_t_be_answered_say_why() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let handle = tester.handle("count", 0)?;
    let other = tester.block_on(handle.get::<String>("k"));
    assert!(matches!(other, Err(ReadError::OtherType { .. })), "{other:?}");
    tester.stop("count")?;
    let stopped = get(&tester, &handle, "k");
    assert!(matches!(stopped, Err(ReadError::NotRunning { .. })), "{stopped:?}");

    let mut g = Group::define("plain");
    g.input("in", Text, |_, _| Ok(()));
    tester.add(g.build()?)?;
    let none = tester.block_on(tester.handle("plain", 0)?.get_bytes("k"));
    assert!(matches!(none, Err(ReadError::NoTable { .. })), "{none:?}");
    Ok(())
}

#[test]
fn reads_and_records_do_not_starve_each_other() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let (input, handle) = (tester.input("in", Text), tester.handle("count", 0)?);
    for n in 0..5000 {
        input.push(format!("k{}", n % 100), "x".to_owned())?;
    }
    let asking = async {
        // As many at once as there can be, for as long as records come.
        let mut asked = 0_u32;
        while handle.get::<i64>("k99").await.unwrap() != Some(50) {
            let reads = (0..64).map(|_| handle.range::<i64>(TableRange::all()));
            for page in futures::future::join_all(reads).await {
                assert!(page.unwrap().rows.len() <= 100);
                asked += 1;
            }
        }
        asked
    };
    let bounded = async { tokio::time::timeout(Duration::from_secs(600), asking).await };
    assert!(tester.block_on(bounded).is_ok(), "records go on while reads are answered");
    tester.drain()?;
    Ok(())
}
