//! D14: dead letters are evidence: stamped when they are put aside, with one set of headers that names the first origin.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{
    BuildError, CallbackError, ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, NoTable, dead_letter, loop_topic,
};
use stream_core::testing::{TestRecord, Tester};

use crate::support::{Done, ms};

/// A group whose callback fails, and says which time it is.
fn failing(group: &str, input: &str, dead: &str) -> Arc<GroupGraph> {
    let mut g = Group::define(group);
    let name = group.to_owned();
    g.input(Input::topic(input).on_error(ErrorPolicy::dead_letter(dead)), Text, move |_ctx, text: String| {
        Err(CallbackError::msg(format!("{name} can't do {text}")))
    });
    g.build().unwrap()
}

/// The only dead letter there is since the last look.
fn only<M: Clone>(mut records: Vec<TestRecord<M>>) -> TestRecord<M> {
    assert_eq!(records.len(), 1);
    records.remove(0)
}

/// Writes a record to a topic as a tool would that feeds a dead letter back.
fn feed_back(tester: &Tester, topic: &str, letter: &TestRecord<String>) -> Done {
    let headers: Vec<(&str, &[u8])> =
        letter.headers.iter().map(|(n, v)| (n.as_str(), v.as_deref().unwrap_or_default())).collect();
    tester.input(topic, Text).push_with_headers("k", letter.value.clone().unwrap(), &headers)?;
    tester.drain()?;
    Ok(())
}

#[test]
fn a_dead_letter_has_the_time_at_which_it_was_put_aside() -> Done {
    let tester = Tester::new();
    tester.add(failing("work", "in", "dead"))?;
    tester.advance(ms(90_000))?;
    let old = tester.now_ms() - 30 * 24 * 3_600_000;
    tester.input("in", Text).send_at("k", "it".to_owned(), old)?;
    let letter = only(tester.output("dead", Text).read()?);
    assert_eq!(letter.timestamp, tester.now_ms());
    assert_eq!(letter.header(dead_letter::TIMESTAMP).unwrap(), old.to_string());
    Ok(())
}

#[test]
fn a_dead_letter_that_is_fed_back_keeps_its_first_origin_and_does_not_grow() -> Done {
    let tester = Tester::with_partitions(2);
    tester.add(failing("work", "in", "dead"))?;
    tester.add(failing("other", "again", "dead-again"))?;
    let dead = tester.output("dead", Text);
    tester.input("in", Text).push_at("k", Some(&"it".to_owned()), Some(5), Some(1))?;
    tester.drain()?;
    let mut letter = only(dead.read()?);
    let (first, size) = (letter.clone(), letter.headers.len());
    for round in 2..=5 {
        feed_back(&tester, "in", &letter)?;
        letter = only(dead.read()?);
        assert_eq!(letter.headers.len(), size, "round {round}");
        assert_eq!(letter.header(dead_letter::COUNT).unwrap(), round.to_string());
    }
    // Another group has other reasons; the origin stays.
    feed_back(&tester, "again", &letter)?;
    let letter = only(tester.output("dead-again", Text).read()?);
    assert_eq!(letter.headers.len(), size);
    for name in [
        dead_letter::TOPIC,
        dead_letter::PARTITION,
        dead_letter::OFFSET,
        dead_letter::TIMESTAMP,
        dead_letter::STREAMS_TOPIC,
        dead_letter::STREAMS_PARTITION,
        dead_letter::STREAMS_OFFSET,
    ] {
        assert_eq!(letter.header(name), first.header(name), "{name}");
    }
    let header = |name: &str| letter.header(name).unwrap();
    assert_eq!((header(dead_letter::TOPIC), header(dead_letter::PARTITION)), ("in".to_owned(), "1".to_owned()));
    assert_eq!((header(dead_letter::OFFSET), header(dead_letter::TIMESTAMP)), ("0".to_owned(), "5".to_owned()));
    assert_eq!((header(dead_letter::GROUP), header(dead_letter::COUNT)), ("other".to_owned(), "6".to_owned()));
    assert_eq!(header(dead_letter::REASON), "other can't do it");
    Ok(())
}

#[test]
fn a_dead_letter_has_the_names_of_kafka_streams_too() -> Done {
    let tester = Tester::new();
    tester.add(failing("work", "in", "dead"))?;
    tester.input("in", Text).send("k", "it".to_owned())?;
    tester.input("in", Text).push_bytes("k", Some(b"\xff"), None, None)?;
    tester.drain()?;
    let letters = tester.output("dead", crate::delivery_d6_policies::Raw).read()?;
    let header = |at: usize, name: &str| letters[at].header(name).unwrap();
    assert_eq!(header(0, "__streams.errors.exception"), "Failure::User");
    assert_eq!(header(1, "__streams.errors.exception"), "Failure::Decode");
    assert_eq!(header(0, "__streams.errors.message"), "work can't do it");
    assert_eq!(header(0, "__streams.errors.topic"), "in");
    assert_eq!(header(0, "__streams.errors.partition"), "0");
    assert_eq!(header(1, "__streams.errors.offset"), "1");
    Ok(())
}

#[test]
fn what_kafka_streams_put_aside_keeps_its_origin() -> Done {
    let tester = Tester::new();
    tester.add(failing("work", "in", "dead"))?;
    let headers: [(&str, &[u8]); 7] = [
        ("trace", b"1"),
        ("__streams.errors.exception", b"java.lang.RuntimeException: no"),
        ("__streams.errors.message", b"no"),
        ("__streams.errors.stacktrace", b"at A.b"),
        ("__streams.errors.topic", b"source"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"99"),
    ];
    tester.input("in", Text).push_with_headers("k", "it".to_owned(), &headers)?;
    tester.drain()?;
    let letter = only(tester.output("dead", Text).read()?);
    let header = |name: &str| letter.header(name).unwrap();
    assert_eq!(header("trace"), "1");
    let origin = (header(dead_letter::TOPIC), header(dead_letter::PARTITION), header(dead_letter::OFFSET));
    assert_eq!(origin, ("source".to_owned(), "3".to_owned(), "99".to_owned()));
    assert_eq!(header("__streams.errors.message"), "work can't do it");
    assert_eq!(letter.header("__streams.errors.stacktrace"), None, "it is not this error's");
    assert_eq!(header(dead_letter::COUNT), "2");
    Ok(())
}

#[test]
fn the_sets_of_earlier_releases_become_one() -> Done {
    // They had no count, and added a set with each round.
    let tester = Tester::new();
    tester.add(failing("work", "in", "dead"))?;
    let set = |topic: &'static [u8], offset: &'static [u8]| -> [(&'static str, &'static [u8]); 6] {
        [
            ("dead-letter-reason", b"no"),
            ("dead-letter-group", b"work"),
            ("dead-letter-topic", topic),
            ("dead-letter-partition", b"0"),
            ("dead-letter-offset", offset),
            ("dead-letter-timestamp", b"7"),
        ]
    };
    let headers = [set(b"first", b"1"), set(b"in", b"2"), set(b"in", b"3")].concat();
    tester.input("in", Text).push_with_headers("k", "it".to_owned(), &headers)?;
    tester.drain()?;
    let letter = only(tester.output("dead", Text).read()?);
    let header = |name: &str| letter.header(name).unwrap();
    assert_eq!((header(dead_letter::TOPIC), header(dead_letter::OFFSET)), ("first".to_owned(), "1".to_owned()));
    assert_eq!((header(dead_letter::TIMESTAMP), header(dead_letter::COUNT)), ("7".to_owned(), "4".to_owned()));
    assert_eq!(letter.headers.iter().filter(|(name, _)| name == "dead-letter-topic").count(), 1);
    Ok(())
}

#[test]
fn a_reason_without_end_does_not_make_a_dead_letter_too_large() -> Done {
    let mut g = Group::define("work");
    g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), Text, |_ctx, text: String| {
        Err(CallbackError::msg(format!("no good: é{text}")))
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    // Its reason alone would be as large as the record, which just fits its topic.
    tester.input("in", Text).send("k", "é".repeat(500_000))?;
    let letter = only(tester.output("dead", Text).read()?);
    let reason = letter.header(dead_letter::REASON).unwrap();
    assert!(reason.starts_with("no good: éé") && reason.len() <= 8192 && reason.len() > 8180, "{}", reason.len());
    assert_eq!(letter.value.map(|v| v.len()), Some(1_000_000));
    Ok(())
}

#[test]
fn what_leads_back_into_the_group_is_no_dead_letter_topic() {
    let built = |dead: &str, define: &dyn Fn(&mut GroupBuilder<NoTable>)| {
        let mut g = Group::define("work");
        g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter(dead)), Text, |_ctx, _text: String| Ok(()));
        define(&mut g);
        g.build().map(drop)
    };
    let refused = |result: Result<(), BuildError>, topic: &str, other: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, BuildError::DeadLetterBack { edge, topic: t, other: o, .. }
                if edge == "input \"in\"" && t == topic && o.contains(other)),
            "{error}"
        );
        assert!(format!("{error:?}").contains("name another topic"), "{error}");
    };
    refused(built("in", &|_| {}), "in", "input \"in\"");
    let reads = |g: &mut GroupBuilder<NoTable>| _ = g.input("dead", Text, |_ctx, _text: String| Ok(()));
    refused(built("dead", &reads), "dead", "input \"dead\"");
    let joins = |g: &mut GroupBuilder<NoTable>| _ = g.join("names-table", Int64);
    refused(built("names-table", &joins), "names-table", "join \"names-table\"");
    let loops = |g: &mut GroupBuilder<NoTable>| {
        let looped = g.loopback(Text);
        g.on_loop(looped, |_ctx, _text: String| Ok(()));
    };
    let looped = loop_topic("work");
    refused(built(&looped, &loops), "work-loop", "loop");
    refused(built("work-table", &|_| {}), "work-table", "its own table");
    refused(built("work-lead", &joins), "work-lead", "its own lead");
    built("dead", &|_| {}).unwrap();
    // An output may hold dead letters: nobody of the group reads it.
    built("out", &|g| _ = g.output("out", Text)).unwrap();
}
