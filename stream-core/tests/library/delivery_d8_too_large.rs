//! D8: records that can't be produced.

use std::sync::Arc;

use stream_core::codec::{Codec, Int64, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input};
use stream_core::log::embedded::Fault;
use stream_core::log::{Log, LogError, TopicConfig, TopicSpec};
use stream_core::store::{StoreBackend, StoreId};
use stream_core::testing::Tester;

use crate::support::{Done, Notes, ms, pairs, table, too_large, values};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sync,
    Async,
    Batch,
}

impl Kind {
    /// How many are in a batch with the one that is refused, itself included.
    fn neighbours(self) -> usize {
        if self == Self::Async { 2 } else { 7 }
    }
}

const KINDS: [Kind; 3] = [Kind::Sync, Kind::Async, Kind::Batch];

/// Counts its keys and copies to `out`, if it is not a batch; a batch copies only.
fn group(kind: Kind, input: Input) -> Arc<GroupGraph> {
    let mut g = Group::define("work").table(Int64);
    let out = g.output("out", Text);
    match kind {
        Kind::Sync => g.input(input, Text, move |ctx, text: String| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)?;
            ctx.emit(out, &text, &text)
        }),
        Kind::Async => g.input_async(input, Text, async move |ctx, text: String| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            tokio::time::sleep(ms(5)).await;
            ctx.set(n)?;
            ctx.emit(out, &text, &text)
        }),
        Kind::Batch => g.input_batch(input, Text, async move |ctx, records| {
            records.iter().try_for_each(|r| ctx.emit(out, &r.value, &r.value))
        }),
    };
    g.build().unwrap()
}

/// Ten records of two keys, all there when the group starts.
fn ten(kind: Kind, policy: ErrorPolicy) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add(group(kind, Input::topic("in").on_error(policy)))?;
    tester.stop("work")?;
    let input = tester.input("in", Text);
    for i in 0..10 {
        input.push(["even", "odd"][i % 2], format!("r{i}"))?;
    }
    Ok(tester)
}

/// What the topic does once its limit is too small for some: they are refused, the first time with their neighbours, as
/// Kafka refuses a whole batch.
fn refuse(tester: &Tester, which: &'static [&'static str], with_neighbours: usize) -> Fault {
    let mut neighbours = with_neighbours;
    let mut refused = move |key: Option<&[u8]>| {
        neighbours = neighbours.saturating_sub(1);
        neighbours > 0 || which.iter().any(|w| key == Some(w.as_bytes()))
    };
    tester.log().faults().on(move |r| r.topic == "out" && refused(r.key)).fail(too_large("out"))
}

fn without(which: &[&str]) -> Vec<String> {
    (0..10).map(|i| format!("r{i}")).filter(|r| !which.contains(&&**r)).collect()
}

/// The output without what at least once repeats.
fn distinct(tester: &Tester) -> Vec<String> {
    let mut all = values(&tester.output("out", Text));
    all.sort();
    all.dedup();
    all
}

#[test]
fn one_that_is_known_to_be_too_large_is_an_error_of_its_callback() -> Done {
    let tester = Tester::new();
    let config = TopicConfig::new().max_message_bytes(2000);
    tester.block_on(tester.log().create_topics(vec![TopicSpec::new("out").config(config)]))?;
    tester.add(group(Kind::Sync, Input::topic("in").on_error(ErrorPolicy::dead_letter("dead"))))?;
    let input = tester.input("in", Text);
    for text in ["small".to_owned(), "x".repeat(3000), "small too".to_owned()] {
        input.push("k", text)?;
    }
    let fault = tester.log().faults().on(|r| r.value.is_some_and(|v| v.len() > 2000) && r.topic == "out").hold_acks();
    tester.drain()?;
    assert_eq!(fault.hits(), 0, "it is found before it is sent");
    assert_eq!(values(&tester.output("out", Text)), ["small", "small too"]);
    assert_eq!(table(&tester, "work", Int64), pairs([("k", 2)]));
    let dead = tester.output("dead", Text).read()?;
    let reason = dead[0].header("dead-letter-reason").unwrap();
    assert!(reason.contains("topic out is larger than its limit"), "{reason}");
    Ok(())
}

#[test]
fn by_default_the_failure_names_the_record_that_made_it() -> Done {
    for kind in KINDS {
        let tester = ten(kind, ErrorPolicy::fail())?;
        let _fault = refuse(&tester, &["r4"], kind.neighbours());
        tester.restart("work")?;
        let error = format!("{:?}", tester.drain().unwrap_err());
        assert!(error.contains("in[0]@4") && error.contains("larger than its limit"), "{kind:?}: {error}");
        assert_eq!(tester.committed("work", "in", 0)?, Some(4), "{kind:?}: what is before it is done");
        let expected = if kind == Kind::Batch { pairs([]) } else { pairs([("even", 2), ("odd", 2)]) };
        assert_eq!(table(&tester, "work", Int64), expected, "nothing of it is in the table");
    }
    Ok(())
}

#[test]
fn its_policy_applies_to_it_and_not_to_its_neighbours() -> Done {
    for kind in KINDS {
        for bad in [&["r4"][..], &["r0"], &["r9"], &["r3", "r4", "r8"]] {
            for dead in [false, true] {
                let policy = if dead { ErrorPolicy::dead_letter("dead") } else { ErrorPolicy::skip() };
                let tester = ten(kind, policy.retry(2, ms(10)))?;
                // Leaked, so that it lasts: the tester ends with the loop's turn.
                let bad: &'static [&'static str] = Vec::leak(bad.to_vec());
                let _fault = refuse(&tester, bad, kind.neighbours());
                tester.restart("work")?;
                tester.drain()?;
                assert_eq!(tester.committed("work", "in", 0)?, Some(10), "{kind:?} {bad:?}");
                assert_eq!(distinct(&tester), without(bad));
                if dead {
                    let dead = tester.output("dead", Text).read()?;
                    let mut letters: Vec<_> = dead.iter().map(|r| r.value.clone().unwrap()).collect();
                    letters.dedup();
                    assert_eq!(letters, bad);
                    assert!(dead[0].header("dead-letter-reason").unwrap().contains("larger than its limit"));
                }
                let counts = || {
                    let counts = table(&tester, "work", Int64);
                    ["even", "odd"].map(|key| counts.get(key).copied().unwrap_or_default())
                };
                let left = without(bad);
                let of = |parity: usize| left.iter().filter(|r| r[1..].parse::<usize>().unwrap() % 2 == parity).count();
                let expected = [of(0), of(1)].map(|n| if kind == Kind::Batch { 0 } else { i64::try_from(n).unwrap() });
                assert_eq!(counts(), expected, "{kind:?} {bad:?}: the changelog keeps nothing of them");

                // Nor does a restart that has only the changelog.
                tester.stop("work")?;
                tester.stores("work", 0)?.destroy(&StoreId::new("work-table", 0))?;
                tester.restart("work")?;
                tester.input("in", Text).send("even", "more".to_owned())?;
                let more = i64::from(kind != Kind::Batch);
                assert_eq!(counts(), [expected[0] + more, expected[1]]);
            }
        }
    }
    Ok(())
}

/// The last value of a key was written by a record that is then skipped, and no other record of the key follows.
#[test]
fn what_a_skipped_record_had_written_does_not_come_back_by_a_restore() -> Done {
    let tester = ten(Kind::Sync, ErrorPolicy::skip())?;
    let input = tester.input("in", Text);
    input.push("alone", "r10".to_owned())?;
    input.push("last", "r11".to_owned())?;
    input.push("last", "r12".to_owned())?;
    let _fault = refuse(&tester, &["r10", "r12"], 0);
    tester.restart("work")?;
    tester.drain()?;
    assert_eq!(table(&tester, "work", Int64), pairs([("even", 5), ("odd", 5), ("last", 1)]));
    // An instance that has nothing takes over from the changelog.
    tester.add_instance("work")?;
    tester.stop_instance("work", 0)?;
    tester.run_for(ms(1000));
    for key in ["alone", "last"] {
        input.send(key, "again".to_owned())?;
    }
    assert_eq!(table(&tester, "work", Int64), pairs([("even", 5), ("odd", 5), ("alone", 1), ("last", 2)]));
    Ok(())
}

#[test]
fn a_table_write_that_is_refused_is_the_record_s_error_too() -> Done {
    let mut g = Group::define("work").table(Text);
    let out = g.output("out", Text);
    g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), Text, move |ctx, text: String| {
        ctx.emit(out, ctx.key(), &text)?;
        ctx.set(text)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.stop("work")?;
    let input = tester.input("in", Text);
    for text in ["1", "2", "bad", "3"] {
        input.push(text, text.to_owned())?;
    }
    let _fault = (tester.log().faults())
        .on(|r| r.topic == "work-table" && r.value == Some(b"bad"))
        .fail(LogError::Refused { topic: "work-table".into(), reason: "policy violation".into() });
    tester.restart("work")?;
    tester.drain()?;
    let all = pairs([("1", "1"), ("2", "2"), ("3", "3")].map(|(k, v)| (k, v.to_owned())));
    assert_eq!(table(&tester, "work", Text), all);
    assert_eq!(values(&tester.output("dead", Text)), ["bad"]);
    assert_eq!(tester.committed("work", "in", 0)?, Some(4));
    Ok(())
}

#[test]
fn a_dead_letter_that_is_refused_as_well_stops_the_group_and_does_not_loop() -> Done {
    for kind in KINDS {
        let tester = ten(kind, ErrorPolicy::dead_letter("dead"))?;
        let _out = refuse(&tester, &["r4"], kind.neighbours());
        let dead = tester.log().faults().on(|r| r.topic == "dead").fail(too_large("dead"));
        tester.restart("work")?;
        let error = format!("{:?}", tester.drain().unwrap_err());
        assert!(error.contains("in[0]@4") && error.contains("what its error policy wrote"), "{kind:?}: {error}");
        assert!(dead.hits() < 5, "{} times", dead.hits());
        assert_eq!(tester.committed("work", "in", 0)?, Some(4));
        // Once the dead letters can be written it goes on where it stopped.
        drop(dead);
        tester.restart("work")?;
        tester.drain()?;
        assert_eq!(values(&tester.output("dead", Text)), ["r4"]);
        assert_eq!(distinct(&tester), without(&["r4"]));
    }
    Ok(())
}

#[test]
fn a_dead_letter_of_another_error_that_is_refused_stops_the_group_too() -> Done {
    let tester = ten(Kind::Sync, ErrorPolicy::dead_letter("dead"))?;
    tester.fail_callbacks("in", 1000, "something else");
    let fault = tester.log().faults().on(|r| r.topic == "dead").fail(too_large("dead"));
    tester.restart("work")?;
    let error = format!("{:?}", tester.drain().unwrap_err());
    assert!(error.contains("in[0]@0") && error.contains("what its error policy wrote"), "{error}");
    // Ten at first, then the one alone, then what its policy wrote.
    assert_eq!(fault.hits(), 12);
    Ok(())
}

#[test]
fn what_a_visitor_wrote_is_not_blamed_on_a_record() -> Done {
    let visits = Notes::new();
    let mut g = Group::define("work").table(Int64);
    let out = g.output("out", Text);
    g.input(Input::topic("in").on_error(ErrorPolicy::skip()), Text, move |ctx, text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)?;
        ctx.emit(out, &text, &text)
    });
    let noted = visits.clone();
    let visitor = g.visitor("all", move |ctx, which: &String, n| {
        noted.add(ctx.key_text()?.to_owned());
        ctx.set(n + 100)?;
        ctx.emit(out, which, which)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for i in 0..3 {
        input.push("k", format!("r{i}"))?;
    }
    tester.drain()?;
    let fault = tester.log().faults().on(|r| r.topic == "out" && r.key == Some(b"huge")).fail(too_large("out"));
    let handle = tester.handle("work", 0)?;
    // Records and a visit at the same time, again and again: the visit fails, each record is counted once.
    for i in 3..9 {
        input.push("k", format!("r{i}"))?;
        let error = format!("{:?}", tester.block_on(handle.visit(visitor, "huge".to_owned())).unwrap_err());
        assert!(error.contains("larger than its limit") && error.contains("visit"), "{error}");
    }
    tester.drain()?;
    assert_eq!(fault.hits(), 6);
    assert_eq!(table(&tester, "work", Int64), pairs([("k", 9)]), "nothing of the visits stays");
    assert_eq!(tester.visit("work", visitor, "fine".to_owned())?, 1);
    assert_eq!(table(&tester, "work", Int64), pairs([("k", 109)]));
    tester.restart("work")?;
    input.send("k", "last".to_owned())?;
    assert_eq!(table(&tester, "work", Int64), pairs([("k", 110)]));
    Ok(())
}

/// A value that has no bytes is found in the callback, and discards what the record did before.
#[test]
fn a_value_that_can_t_be_encoded_is_an_error_of_its_callback() -> Done {
    struct Positive;
    impl Codec<i64> for Positive {
        fn encode(&self, value: &i64, out: &mut Vec<u8>) -> Result<(), stream_core::codec::CodecError> {
            out.extend_from_slice(b"half");
            if *value < 0 {
                return Err(stream_core::codec::CodecError::invalid("below zero"));
            }
            Ok(())
        }
        fn decode(&self, _: &[u8]) -> Result<i64, stream_core::codec::CodecError> {
            Ok(0)
        }
    }
    let mut g = Group::define("work").table(Text);
    let (out, numbers) = (g.output("out", Text), g.output("numbers", Positive));
    g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), Int64, move |ctx, n: i64| {
        ctx.set(n.to_string())?;
        ctx.emit(out, ctx.key(), n.to_string())?;
        ctx.emit(numbers, ctx.key(), n)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Int64);
    for (key, n) in [("a", 1), ("b", -2), ("c", 3)] {
        input.push(key, n)?;
    }
    tester.drain()?;
    assert_eq!(values(&tester.output("out", Text)), ["1", "3"]);
    assert_eq!(tester.output("numbers", Positive).read()?.len(), 2);
    assert_eq!(table(&tester, "work", Text).len(), 2);
    let dead = tester.output("dead", Int64).read()?;
    assert_eq!(dead[0].value, Some(-2));
    assert!(dead[0].header("dead-letter-reason").unwrap().contains("below zero"));
    Ok(())
}

/// Who can't write anything, or not to this topic, answers every record with an error: leaving the records out one by
/// one would lose them all.
#[test]
fn a_producer_that_is_dead_and_a_topic_that_is_closed_are_no_record_s_fault() -> Done {
    let errors = [
        LogError::Fatal { what: "produce".into(), reason: "the producer is dead".into() },
        LogError::Auth { what: "write".into(), reason: "no right to write to this topic".into() },
        LogError::UnknownTopic { topic: "out".into() },
        LogError::Config { what: "write".into(), reason: "no transaction is open".into() },
    ];
    for (kind, error) in KINDS.iter().flat_map(|k| errors.iter().map(move |e| (*k, e))) {
        let tester = ten(kind, ErrorPolicy::skip())?;
        let fault = tester.log().faults().on(|r| r.topic == "out").fail(error.clone());
        tester.restart("work")?;
        let failure = format!("{:?}", tester.drain().unwrap_err());
        assert!(failure.contains(&error.to_string()), "{kind:?}: {failure}");
        assert_eq!(tester.committed("work", "in", 0)?, Some(0), "{kind:?}: {error}");
        drop(fault);
        tester.restart("work")?;
        tester.drain()?;
        assert_eq!(distinct(&tester), without(&[]), "{kind:?}: {error}");
    }
    Ok(())
}
