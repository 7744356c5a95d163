//! D4: one order per partition over all its inputs.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{Cleanup, Log, NewRecord, ProduceBatch, ProducerOptions, TopicConfig, TopicSpec};
use stream_core::testing::Tester;

use crate::support::{Done, Notes, ms};

const HOUR: Duration = Duration::from_secs(3600);

/// Notes what comes, from three inputs.
fn group(seen: &Notes<String>) -> Arc<GroupGraph> {
    let mut g = Group::define("three").table(Text);
    for topic in ["first", "second", "third"] {
        let seen = seen.clone();
        g.input(topic, Text, move |_ctx, text: String| {
            seen.add(text);
            Ok(())
        });
    }
    g.build().unwrap()
}

/// A tester with the group stopped, so that everything can be there before it starts.
fn stopped(seen: &Notes<String>, idle: Duration) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add_with(group(seen), move |p| p.max_task_idle(idle))?;
    tester.stop("three")?;
    Ok(tester)
}

fn push(tester: &Tester, topic: &str, records: &[(&str, i64)]) -> Done {
    let input = tester.input(topic, Text);
    for (text, at) in records {
        input.push_at("k", Some(&(*text).to_owned()), Some(*at), None)?;
    }
    Ok(())
}

#[test]
fn the_record_with_the_smallest_time_is_next() -> Done {
    let seen = Notes::new();
    let tester = stopped(&seen, HOUR)?;
    push(&tester, "first", &[("a10", 10), ("a40", 40), ("a41", 41)])?;
    push(&tester, "second", &[("b5", 5), ("b20", 20), ("b50", 50)])?;
    push(&tester, "third", &[("c30", 30), ("c60", 60)])?;
    tester.restart("three")?;
    tester.drain()?;
    assert_eq!(seen.all(), ["b5", "a10", "b20", "c30", "a40", "a41", "b50", "c60"]);
    Ok(())
}

#[test]
fn equal_times_go_by_the_order_of_the_edges() -> Done {
    let seen = Notes::new();
    let tester = stopped(&seen, HOUR)?;
    push(&tester, "third", &[("c1", 1), ("c2", 2), ("c2'", 2)])?;
    push(&tester, "second", &[("b1", 1), ("b2", 2)])?;
    push(&tester, "first", &[("a2", 2), ("a2'", 2), ("a3", 3)])?;
    tester.restart("three")?;
    tester.drain()?;
    assert_eq!(seen.all(), ["b1", "c1", "a2", "a2'", "b2", "c2", "c2'", "a3"]);
    Ok(())
}

#[test]
fn each_topic_keeps_its_offset_order_whatever_the_times_say() -> Done {
    let seen = Notes::new();
    let tester = stopped(&seen, HOUR)?;
    push(&tester, "first", &[("a50", 50), ("a10", 10), ("a60", 60)])?;
    push(&tester, "second", &[("b20", 20), ("b55", 55)])?;
    tester.restart("three")?;
    tester.drain()?;
    assert_eq!(seen.all(), ["b20", "a50", "a10", "b55", "a60"]);
    Ok(())
}

#[test]
fn an_input_that_is_empty_and_not_caught_up_is_waited_for() -> Done {
    let seen = Notes::new();
    let tester = stopped(&seen, HOUR)?;
    push(&tester, "first", &[("a10", 10), ("a30", 30)])?;
    push(&tester, "second", &[("b5", 5), ("b20", 20)])?;
    let slow = tester.log().faults().hold_fetches("second");
    tester.restart("three")?;
    tester.run_for(Duration::from_secs(60));
    assert_eq!(seen.len(), 0);
    drop(slow);
    tester.drain()?;
    assert_eq!(seen.all(), ["b5", "a10", "b20", "a30"]);
    // A caught-up input is not waited for.
    push(&tester, "first", &[("a40", 40)])?;
    tester.run_for(ms(100));
    assert_eq!(seen.all().last().unwrap(), "a40");
    Ok(())
}

#[test]
fn the_wait_for_an_input_is_bounded() -> Done {
    let seen = Notes::new();
    let tester = stopped(&seen, Duration::from_secs(2))?;
    push(&tester, "first", &[("a10", 10), ("a30", 30)])?;
    push(&tester, "second", &[("b5", 5), ("b20", 20)])?;
    let slow = tester.log().faults().hold_fetches("second");
    tester.restart("three")?;
    tester.run_for(ms(1500));
    assert_eq!(seen.len(), 0);
    tester.run_for(ms(1000));
    assert_eq!(seen.all(), ["a10", "a30"]);
    assert_eq!(tester.committed("three", "first", 0)?, Some(2));
    drop(slow);
    tester.drain()?;
    assert_eq!(seen.all(), ["a10", "a30", "b5", "b20"]);
    Ok(())
}

#[test]
fn partitions_do_not_wait_for_each_other() -> Done {
    let seen = Notes::new();
    let tester = Tester::with_partitions(2);
    tester.add_with(group(&seen), |p| p.max_task_idle(HOUR))?;
    let (first, second) = (tester.input("first", Text), tester.input("second", Text));
    first.push_at("k", Some(&"p0 late".to_owned()), Some(1000), Some(0))?;
    tester.drain()?;
    second.push_at("k", Some(&"p1 early".to_owned()), Some(1), Some(1))?;
    tester.drain()?;
    assert_eq!(seen.all(), ["p0 late", "p1 early"]);
    Ok(())
}

/// While a joined table has much to read, records and the worker's other tasks have their turns.
#[test]
fn a_joined_table_with_a_backlog_holds_no_record_up() -> Done {
    let seen = Notes::new();
    let noted = seen.clone();
    let mut g = Group::define("work").table(Int64);
    let names = g.join("names-table", Text);
    g.input("in", Text, move |ctx, _text: String| {
        noted.add(ctx.join(names)?);
        Ok(())
    });
    let tester = Tester::new();
    let compacted = TopicConfig::new().cleanup(Cleanup::Compact);
    tester.block_on(tester.log().create_topics(vec![TopicSpec::new("names-table").partitions(1).config(compacted)]))?;
    tester.add(g.build()?)?;
    let (slow, behind) = (tester.log().faults().hold_fetches("in"), tester.log().faults().hold_fetches("names-table"));
    let producer = tester.block_on(tester.log().producer(ProducerOptions::default()))?;
    let mut batch = ProduceBatch::new();
    let topic = "names-table".into();
    for i in 0..100_000_u32 {
        let key = if i == 99_999 { b"last".to_vec() } else { i.to_be_bytes().to_vec() };
        let (key, value) = (Some(&*key), Some(&b"Ann"[..]));
        batch.push(NewRecord { topic: &topic, partition: Some(0), timestamp: None, key, value }, std::iter::empty());
    }
    assert!(tester.block_on(producer.send(Arc::new(batch))).failed.is_empty());
    tester.input("in", Text).push("last", "x".to_owned())?;
    drop((slow, behind));
    tester.drain()?;
    assert_eq!(seen.all(), [None], "the record did not wait for the backlog's end");
    tester.run_for(ms(1000));
    tester.input("in", Text).send("last", "x".to_owned())?;
    assert_eq!(seen.all(), [None, Some("Ann".to_owned())]);
    Ok(())
}
