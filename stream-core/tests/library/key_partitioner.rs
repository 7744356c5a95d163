//! Keys of an input that another partitioner has put where they are: found out, said once, counted.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph, Input, KeyPartitioner, Side};
use stream_core::log::Partitioner;
use stream_core::processor::Processor;
use stream_core::testing::Tester;
use stream_core::window::JoinWindows;

use crate::support::{Done, Outcome, logged, ms};

/// Counts each key's records.
fn counting(input: Input) -> Arc<GroupGraph> {
    let mut g = Group::define("work").table(Int64);
    g.input(input, Text, |ctx, _| {
        let n = ctx.value()?.unwrap_or(0);
        ctx.set(n + 1)
    });
    g.build().unwrap()
}

/// librdkafka's default, for keys that are not empty.
fn crc32(key: &str, partitions: i32) -> i32 {
    i32::try_from(crc32fast::hash(key.as_bytes()) % u32::try_from(partitions).unwrap()).unwrap()
}

fn murmur2(key: &str, partitions: i32) -> i32 {
    Partitioner::Murmur2Random.partition(key.as_bytes(), partitions)
}

fn fnv1a(key: &str, partitions: i32) -> i32 {
    Partitioner::Fnv1aRandom.partition(key.as_bytes(), partitions)
}

/// Writes a record of each of these keys to the partition that a client chooses.
fn write(tester: &Tester, topic: &str, keys: std::ops::Range<u32>, place: impl Fn(u32, &str) -> i32) -> Done {
    for n in keys {
        let key = format!("key-{n}");
        tester.input(topic, Text).push_at(&*key, Some(&n.to_string()), None, Some(place(n, &key)))?;
    }
    tester.drain()?;
    Ok(())
}

/// A tester with the group, which reads the topic `in`.
fn tester(partitions: i32, graph: Arc<GroupGraph>, set: impl Fn(Processor) -> Processor + 'static) -> Outcome<Tester> {
    let tester = Tester::with_partitions(partitions);
    tester.add_with(graph, set)?;
    Ok(tester)
}

/// What is found among 200 keys that a client has written.
fn found(partitions: i32, input: Input, place: impl Fn(u32, &str) -> i32) -> Outcome<u64> {
    let tester = tester(partitions, counting(input), |p| p)?;
    write(&tester, "in", 0..200, place)?;
    Ok(tester.misplaced("work")?)
}

#[test]
fn keys_by_librdkafkas_default_are_said_once_and_counted() -> Done {
    for partitions in [2, 4, 12] {
        let tester = tester(partitions, counting(Input::topic("in")), |p| p)?;
        let (wrote, lines) = logged(|| {
            write(&tester, "in", 0..200, |_, key| crc32(key, partitions))?;
            write(&tester, "in", 0..200, |_, key| crc32(key, partitions))
        });
        wrote?;
        assert_eq!(lines.matches("WARN").count(), 1, "{lines}");
        assert!(lines.contains("CRC-32, librdkafka's default") && lines.contains("topic=\"in\""), "{lines}");
        // Most of 400 records; those that lie where both put them are no fault.
        assert!(tester.misplaced("work")? >= 100, "{partitions}: {}", tester.misplaced("work")?);
    }
    Ok(())
}

#[test]
fn few_keys_are_enough() -> Done {
    let tester = tester(4, counting(Input::topic("in")), |p| p)?;
    write(&tester, "in", 0..12, |_, key| crc32(key, 4))?;
    assert!(tester.misplaced("work")? >= 5);
    Ok(())
}

#[test]
fn keys_where_they_should_be_are_no_fault() -> Done {
    assert_eq!(found(4, Input::topic("in"), |_, key| murmur2(key, 4))?, 0);
    Ok(())
}

#[test]
fn partitions_that_were_chosen_by_hand_are_not_blamed() -> Done {
    for partitions in [2, 3, 4, 12] {
        let p = u32::try_from(partitions)?;
        let by_hand: [fn(u32, u32) -> u32; 3] = [|n, p| n % p, |_, _| 1, |n, p| n / 50 % p];
        for (which, choose) in by_hand.into_iter().enumerate() {
            let misplaced = found(partitions, Input::topic("in"), |n, _| i32::try_from(choose(n, p)).unwrap())?;
            assert_eq!(misplaced, 0, "{partitions} partitions, {which}");
        }
    }
    Ok(())
}

#[test]
fn one_of_several_clients_is_found_out() -> Done {
    let mixed = |n: u32, key: &str| if n.is_multiple_of(3) { crc32(key, 4) } else { murmur2(key, 4) };
    assert!(found(4, Input::topic("in"), mixed)? >= 5);
    Ok(())
}

#[test]
fn a_client_that_comes_later_is_found_by_the_sample() -> Done {
    let tester = tester(4, counting(Input::topic("in")), |p| p)?;
    write(&tester, "in", 0..1_000, |_, key| murmur2(key, 4))?;
    assert_eq!(tester.misplaced("work")?, 0);
    // One record of each fetch is looked at.
    for round in 0..40 {
        write(&tester, "in", 2_000 + round * 5..2_005 + round * 5, |_, key| crc32(key, 4))?;
    }
    assert!(tester.misplaced("work")? > 0);
    Ok(())
}

#[test]
fn the_groups_partitioner_is_what_counts() -> Done {
    for (place, expected) in [(fnv1a as fn(&str, i32) -> i32, false), (murmur2, true), (crc32, true)] {
        let tester = tester(4, counting(Input::topic("in")), |p| p.partitioner(Partitioner::Fnv1aRandom))?;
        write(&tester, "in", 0..200, |_, key| place(key, 4))?;
        assert_eq!(tester.misplaced("work")? > 0, expected);
    }
    Ok(())
}

#[test]
fn any_partitioner_is_an_option_and_so_is_an_error() -> Done {
    let input = |on| Input::topic("in").partitioner(on);
    assert_eq!(found(4, input(KeyPartitioner::Any), |_, key| crc32(key, 4))?, 0);
    let tester = tester(4, counting(input(KeyPartitioner::Refuse)), |p| p)?;
    assert!(write(&tester, "in", 0..200, |_, key| crc32(key, 4)).is_err());
    let error = format!("{:?}", tester.failure("work").unwrap());
    let says =
        "the keys of topic in are partitioned by CRC-32, librdkafka's default, not by murmur2, as Java clients do";
    assert!(error.contains(says) && error.contains("write"), "{error}");
    Ok(())
}

#[test]
fn where_no_state_goes_by_the_key_nobody_looks() -> Done {
    let place = |_: u32, key: &str| crc32(key, 4);
    // A group without state.
    let mut g = Group::define("work");
    g.input("in", Text, |_ctx, _text: String| Ok(()));
    let stateless = tester(4, g.build()?, |p| p)?;
    write(&stateless, "in", 0..200, place)?;
    assert_eq!(stateless.misplaced("work")?, 0);
    // A side of a join that has other keys there.
    let mut g = Group::define("work");
    let windows = JoinWindows::around(ms(60)).grace(ms(20_000));
    let left = Side::topic("in", Text).key_by(|text: &String| text.clone());
    g.stream_join("pairs", windows, left, Side::topic("right", Text)).inner(|_, _, _| Ok(()));
    let joined = tester(4, g.build()?, |p| p)?;
    write(&joined, "in", 0..200, place)?;
    assert_eq!(joined.misplaced("work")?, 0);
    write(&joined, "right", 0..200, place)?;
    assert!(joined.misplaced("work")? > 0, "the other side is joined by its records' keys");
    Ok(())
}
