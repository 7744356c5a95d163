//! The rules of the windowed join of two topics, J1 to J8, with both guarantees: what the numbered cases leave open.

use std::sync::Arc;

use stream_core::codec::Text;
use stream_core::group::{GroupGraph, Side, repartition_topic};
use stream_core::log::{Isolation, Log as _, OffsetSpec, TopicPartition};
use stream_core::processor::{Guarantee, Standbys};
use stream_core::testing::{TestOutput, Tester};
use stream_core::window::{JoinWindows, Nulls};

use crate::join_support::{Case, Kind, Step, case, run, usual};
use crate::support::{Done, live_keys, move_to_second, ms, values, with_both};

type Made = Result<(Tester, TestOutput<String>), Box<dyn std::error::Error>>;

fn tester(graph: Arc<GroupGraph>, guarantee: Guarantee) -> Made {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee).standbys(Standbys::All))?;
    let out = tester.output("join-out", Text);
    Ok((tester, out))
}

fn joined(kind: Kind, windows: JoinWindows) -> Case {
    Case { name: "", kind, windows, nulls: Nulls::OnClose, script: &[] }
}

fn push(tester: &Tester, records: &[&str]) -> Done {
    for record in records {
        let step = Step::read(record);
        let input = tester.input(&format!("join-{}", step.side), Text);
        input.push_at(step.key.as_deref(), step.value.as_ref(), Some(step.at), Some(step.partition))?;
        tester.drain()?;
    }
    Ok(())
}

macro_rules! scripts {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() -> Done { with_both(|guarantee| run(case($name), guarantee).map(drop)) })*
    };
}

scripts! {
    j1_both_ends_of_the_window_belong_to_it: "j1-ends",
    j1_keys_are_equal_or_there_is_no_match: "j1-keys",
    j2_a_null_comes_once_when_its_side_is_over: "j2-once",
    j3_late_on_either_side: "j3-late",
    j4_by_time_then_right_before_left_then_key_then_arrival: "j4-order",
    j4_nulls_come_before_the_matches_of_the_record_that_made_them_due: "j4-before-the-matches",
    j5_a_null_value_advances_stream_time: "j5-stream-time",
    j6_a_record_is_kept_to_the_last_moment: "j6-kept",
    j6_a_record_is_kept_no_longer: "j6-no-longer",
    j8_eager_nulls_of_both_sides: "j8-outer",
}

#[test]
fn j5_nulls_of_either_side_are_counted_if_they_are_dropped() -> Done {
    with_both(|guarantee| {
        for (name, dropped) in [("j5-inner", 5), ("j5-left", 4), ("j5-outer", 3)] {
            let tester = run(case(name), guarantee)?;
            assert_eq!(tester.dropped("join")?, dropped, "{name}");
            if name == "j5-outer" {
                assert_eq!(live_keys(&tester, "join-kept-pairs"), 0, "nothing of them is kept");
            }
        }
        Ok(())
    })
}

/// Runs a script in one piece, then again with a crash, a restart and a move between its records: the same is emitted.
fn wherever_it_is_cut(case: &Case, records: &[&str]) -> Done {
    with_both(|guarantee| {
        let (whole, out) = tester(case.graph("join"), guarantee)?;
        push(&whole, records)?;
        let wanted = values(&out);
        assert!(!wanted.is_empty());
        for cut in 1..records.len() {
            let (tester, out) = tester(case.graph("join"), guarantee)?;
            push(&tester, &records[..cut])?;
            match cut % 3 {
                0 => tester.restart("join")?,
                1 => {
                    tester.crash("join")?;
                    tester.start_instance("join", 0)?;
                }
                _ => {
                    move_to_second(&tester, "join")?;
                }
            }
            push(&tester, &records[cut..])?;
            assert_eq!(values(&out), wanted, "{guarantee:?}, cut at {cut}");
        }
        Ok(())
    })
}

#[test]
fn j1_the_output_has_the_key_and_the_larger_time() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(joined(Kind::Inner, usual()).graph("join"), guarantee)?;
        push(&tester, &["L q:a@50", "R q:x@20", "R q:y@90"])?;
        let found: Vec<_> = out.read()?.iter().map(|r| (r.key_text(), r.timestamp)).collect();
        assert_eq!(found, [("q".to_owned(), 50), ("q".to_owned(), 90)]);
        Ok(())
    })
}

#[test]
fn j2_a_null_has_its_records_key_and_time_and_comes_once() -> Done {
    with_both(|guarantee| {
        let windows = JoinWindows::before(ms(30)).after(ms(60)).grace(ms(10));
        let (tester, out) = tester(joined(Kind::Outer, windows).graph("join"), guarantee)?;
        push(&tester, &["R x@0", "L q:a@0", "L w:c@40"])?;
        assert_eq!(values(&out).len(), 0, "not at 40");
        push(&tester, &["L w:d@41"])?;
        let nulls: Vec<_> = out.read()?.into_iter().map(|r| (r.key_text(), r.value, r.timestamp)).collect();
        assert_eq!(nulls, [("k".to_owned(), Some("[-,x]@0".to_owned()), 0)]);
        push(&tester, &["L w:e@70"])?;
        assert_eq!(values(&out).len(), 0, "a left record waits for `after`: not at 70");
        push(&tester, &["L w:f@71", "L w:g@72"])?;
        assert_eq!(values(&out), ["[a,-]@0"]);
        Ok(())
    })
}

#[test]
fn j2_nulls_wherever_it_is_cut() -> Done {
    let case = joined(Kind::Outer, usual());
    wherever_it_is_cut(&case, &["L a@0", "R q:x@10", "R x@30", "L w:b@35", "R q:y@81", "L q:c@82", "F"])
}

#[test]
fn j1_matches_wherever_it_is_cut() -> Done {
    let case = joined(Kind::Inner, usual());
    wherever_it_is_cut(&case, &["L a@0", "L b@10", "R x@20", "R y@5", "L c@70", "R z@75", "R w@130"])
}

#[test]
fn j3_late_is_late_on_either_side_and_after_a_crash() -> Done {
    with_both(|guarantee| {
        let windows = JoinWindows::before(ms(30)).after(ms(60)).grace(ms(10));
        let (tester, out) = tester(joined(Kind::Outer, windows).graph("join"), guarantee)?;
        push(&tester, &["L q:q@100", "L a@30", "R x@60"])?;
        assert_eq!(tester.late("join")?, 0, "just in time, both of them");
        assert_eq!(values(&out), ["[a,x]@60"]);
        push(&tester, &["L b@29", "R y@59"])?;
        assert_eq!(tester.late("join")?, 2);
        tester.crash("join")?;
        tester.start_instance("join", 0)?;
        push(&tester, &["L c@29", "R z@59", "L z:z@1000"])?;
        assert_eq!(values(&out), ["[q,-]@100"], "what was late has neither match nor null");
        Ok(())
    })
}

#[test]
fn j6_a_record_is_kept_to_the_last_moment_and_no_longer() -> Done {
    with_both(|guarantee| {
        for (flush, kept) in [("R q:q@70", true), ("R q:q@71", false)] {
            let (tester, out) = tester(joined(Kind::Inner, usual()).graph("join"), guarantee)?;
            push(&tester, &["L a@0", flush])?;
            // The left record and the flush.
            tester.wait_until("it is gone", || live_keys(&tester, "join-kept-pairs") == if kept { 2 } else { 1 })?;
            push(&tester, &["R x@1"])?;
            assert_eq!(values(&out).len(), usize::from(kept), "{flush}");
        }
        Ok(())
    })
}

#[test]
fn j6_what_is_kept_does_not_grow() -> Done {
    with_both(|guarantee| {
        let (tester, _) = tester(joined(Kind::Outer, usual()).graph("join"), guarantee)?;
        let (left, right) = (tester.input("join-left", Text), tester.input("join-right", Text));
        let mut most = 0;
        for round in 0..30 {
            for n in 0..20 {
                let (at, key) = (round * 100 + n * 5, format!("k{}", n % 7));
                left.push_at(&key, Some(&"l".to_owned()), Some(at), None)?;
                right.push_at(&key, Some(&"r".to_owned()), Some(at + 1), None)?;
            }
            tester.drain()?;
            most = most.max(live_keys(&tester, "join-kept-pairs"));
        }
        // 71 ms of records 5 ms apart on two sides; at least once, some more are about to be closed.
        assert!(most <= 75, "{most}");
        push(&tester, &["L z:z@100000"])?;
        tester.wait_until("all others are gone", || live_keys(&tester, "join-kept-pairs") == 1)?;
        Ok(())
    })
}

/// Both sides by what their values begin with.
fn re_keyed(kind: Kind) -> Arc<GroupGraph> {
    let side = |side: &str| {
        Side::topic(format!("join-{side}"), Text)
            .key_by(|text: &String| text.split_once('-').map_or("", |(key, _)| key).to_owned())
    };
    joined(kind, usual()).graph_of("join", side("left"), side("right"))
}

#[test]
fn j7_a_side_is_joined_by_what_is_in_its_values() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(5);
        tester.add_with(re_keyed(Kind::Inner), move |p| p.guarantee(guarantee))?;
        let (left, right) = (tester.input("join-left", Text), tester.input("join-right", Text));
        for n in 0..40 {
            // The records' own keys, and so their partitions, have nothing to do with each other.
            left.push_at(format!("l{n}"), Some(&format!("{n}-a")), Some(1000 + n), None)?;
            right.push_at(format!("r{}", n * 7), Some(&format!("{n}-x")), Some(1030 + n), None)?;
        }
        tester.drain()?;
        let mut found: Vec<_> = tester.output("join-out", Text).read()?.into_iter().collect();
        found.sort_by_key(|r| r.timestamp);
        let emitted: Vec<_> = found.iter().map(|r| (r.key_text(), r.value.clone().unwrap_or_default())).collect();
        let wanted: Vec<_> = (0..40).map(|n| (n.to_string(), format!("[{n}-a,{n}-x]@{}", 1030 + n))).collect();
        assert_eq!(emitted, wanted);
        for side in ["left", "right"] {
            let topic = repartition_topic("join", "pairs", side);
            let info = tester.block_on(tester.log().topics(vec![topic]))?.remove(0).ok_or("no such topic")?;
            assert_eq!((info.partitions, info.config.retention_ms), (5, Some(-1)));
        }
        Ok(())
    })
}

#[test]
fn j7_a_side_without_a_key_and_how_far_its_topic_is_change_nothing() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(re_keyed(Kind::Left), guarantee)?;
        // No key, no value; a right record without a key is dropped before it gets to stream time.
        push(&tester, &["L q:k-a@0", "L q:none@1", "R q:none@5000", "R q:-@5000", "L q:-@5000", "R w:k-x@60"])?;
        assert_eq!(values(&out), ["[none,-]@1", "[k-a,k-x]@60"]);
        assert_eq!((tester.dropped("join")?, tester.late("join")?), (3, 0));
        Ok(())
    })
}

#[test]
fn j7_what_is_processed_of_a_repartition_topic_is_deleted() -> Done {
    with_both(|guarantee| {
        let (tester, _) = tester(re_keyed(Kind::Inner), guarantee)?;
        push(&tester, &["L k-a@0", "R k-x@0"])?;
        for side in ["left", "right"] {
            let partition = TopicPartition::new(repartition_topic("join", "pairs", side), 0);
            let first = || {
                let of = vec![(partition.clone(), OffsetSpec::Earliest)];
                tester.block_on(tester.log().offsets(of, Isolation::ReadCommitted)).unwrap()[0]
            };
            tester.wait_until("it is deleted", || first() > 0)?;
        }
        Ok(())
    })
}

#[test]
fn j8_an_eager_null_wherever_it_is_cut() -> Done {
    let case = Case { nulls: Nulls::Eager, kind: Kind::Outer, ..case("12") };
    wherever_it_is_cut(&case, &["L a@0", "R x@30", "L b@30", "R q:y@40", "L -:c@40", "R y@200", "L q:q@41"])
}

/// J4 for keys of any bytes: one that another begins with comes before it, and of one key what arrived first.
#[test]
fn j4_nulls_are_emitted_in_the_order_of_keys_whatever_their_bytes_are() -> Done {
    with_both(|guarantee| {
        let case = Case { name: "", kind: Kind::Left, windows: usual(), nulls: Nulls::OnClose, script: &[] };
        let (tester, mut expected) = (Tester::new(), Vec::new());
        tester.add_with(case.graph("join"), move |p| p.guarantee(guarantee))?;
        let left = tester.input("join-left", Text);
        let bytes: [&[u8]; 4] = [b"", b"\0", b"\x01", b"\xff"];
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..3 {
            let longer = keys.iter().flat_map(|key| bytes.map(|more| [key, more].concat()));
            keys = longer.collect();
        }
        // The last first, and some twice.
        keys.sort();
        for (n, key) in keys.iter().rev().enumerate() {
            let value = n.to_string();
            left.push_at(&**key, Some(&value), Some(5), None)?;
            expected.push((key.clone(), n));
        }
        expected.sort();
        tester.drain()?;
        tester.input("join-right", Text).send_at("z", "z".to_owned(), 1000)?;
        let found: Vec<_> = tester.output("join-out", Text).read()?;
        let found: Vec<_> =
            found.into_iter().map(|r| (r.key.unwrap_or_default(), r.value.unwrap_or_default())).collect();
        let expected: Vec<_> = expected.into_iter().map(|(key, n)| (key, format!("[{n},-]@5"))).collect();
        assert_eq!(found, expected);
        Ok(())
    })
}
