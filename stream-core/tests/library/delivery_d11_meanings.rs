//! D11: a state says what it means, and is not read as anything else.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Bytes, Codec, Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::{
    Cleanup, Log, NewRecord, ProduceBatch, ProducerOptions, TopicConfig, TopicPartition, TopicSpec,
};
use stream_core::processor::{OnLostPosition, ProcessorError};
use stream_core::testing::Tester;
use stream_core::window::{Batches, Sessions, Windows};

use crate::support::{Done, Outcome, ms, pairs, table, values, with_both};

/// Counts each key's records by windows.
fn windowed(windows: Windows) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    let out = g.output("out", Text);
    let counts = g.window("w", windows, Int64);
    g.input("in", Text, move |ctx, _text: String| ctx.aggregate(counts, |n| n.unwrap_or(0) + 1).map(drop));
    g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{window}={n}")));
    g.build().unwrap()
}

fn sessions(sessions: Sessions) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    let counts = g.session("s", sessions, Int64);
    g.input("in", Text, move |ctx, _text: String| {
        ctx.aggregate_session(counts, |n| n.unwrap_or(0) + 1, |a, b| a + b).map(drop)
    });
    g.build().unwrap()
}

fn batches(batches: Batches) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    let batch = g.batch("b", batches, Text);
    g.input("in", Text, move |ctx, text: String| ctx.collect(batch, &text));
    g.on_close(batch, |_ctx, _texts| Ok(()));
    g.build().unwrap()
}

fn counted<V: 'static>(codec: impl Codec<V>, value: fn() -> V) -> Arc<GroupGraph> {
    let mut g = Group::define("g").table(codec);
    g.input("in", Text, move |ctx, _text: String| ctx.set(value()));
    g.build().unwrap()
}

/// What becomes of a group that is released again under another definition, on another machine.
fn released(before: Arc<GroupGraph>, after: Arc<GroupGraph>, until: i64) -> Outcome<Option<ProcessorError>> {
    let tester = Tester::new();
    tester.add(before)?;
    let input = tester.input("in", Text);
    input.send_at("k", "a".to_owned(), 10_000)?;
    input.send_at("k", "b".to_owned(), until)?;
    tester.stop("g")?;
    // A second tester's groups are others: the same log, and stores that have nothing yet.
    let refused = tester.add(after).is_err();
    let failure = tester.failure("g");
    assert_eq!(refused, failure.is_some());
    Ok(failure)
}

#[test]
fn other_windows_over_open_ones_are_refused_naming_old_and_new() -> Done {
    let (minute, half) = (windowed(Windows::tumbling(ms(60_000))), windowed(Windows::tumbling(ms(30_000))));
    let error = released(minute, half, 11_000)?.expect("it is refused").to_string();
    assert!(error.contains("g-window-w"), "{error}");
    assert!(error.contains("windows of 60000 ms each 60000 ms"), "{error}");
    assert!(error.contains("windows of 30000 ms each 30000 ms"), "{error}");
    Ok(())
}

#[test]
fn the_window_goes_on_under_its_own_definition_after_a_refusal() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        let minute = || windowed(Windows::tumbling(ms(60_000)));
        tester.add_with(minute(), move |p| p.guarantee(guarantee))?;
        tester.input("in", Text).send_at("k", "a".to_owned(), 10_000)?;
        tester.stop("g")?;
        assert!(tester.add_with(windowed(Windows::tumbling(ms(30_000))), move |p| p.guarantee(guarantee)).is_err());
        tester.add_with(minute(), move |p| p.guarantee(guarantee))?;
        tester.input("in", Text).send_at("k", "b".to_owned(), 70_000)?;
        assert_eq!(values(&tester.output("out", Text)), ["[0, 60000)=1"]);
        Ok(())
    })
}

#[test]
fn what_can_be_read_as_before_starts() -> Done {
    let minute = |grace| windowed(Windows::tumbling(ms(60_000)).grace(ms(grace)));
    assert!(released(minute(0), minute(5_000), 11_000)?.is_none(), "the grace is reckoned at each closing");
    let sessions_of = |gap| sessions(Sessions::gap(ms(gap)));
    assert!(released(sessions_of(100), sessions_of(100), 10_050)?.is_none());
    let most = |most| batches(Batches::of(most).gap(ms(1000)));
    assert!(released(most(10), most(20), 11_000)?.is_none());
    Ok(())
}

#[test]
fn a_state_that_is_empty_takes_any_definition() -> Done {
    // Nothing is ever kept: the input has no record yet.
    let tester = Tester::new();
    tester.add(windowed(Windows::tumbling(ms(60_000))))?;
    tester.run_for(ms(100));
    tester.stop("g")?;
    tester.add(windowed(Windows::tumbling(ms(30_000))))?;
    tester.input("in", Text).send_at("k", "a".to_owned(), 10_000)?;
    tester.input("in", Text).send_at("k", "b".to_owned(), 40_000)?;
    assert_eq!(values(&tester.output("out", Text)), ["[0, 30000)=1"]);
    Ok(())
}

#[test]
fn gaps_sides_and_codecs_mean_something_too() -> Done {
    let refused = |before, after| -> Done {
        let error = released(before, after, 10_010)?.expect("it is refused");
        assert!(matches!(error, ProcessorError::Meaning { .. }), "{error}");
        Ok(())
    };
    let windows = |size, advance| windowed(Windows::hopping(ms(size), ms(advance)));
    refused(windows(60_000, 20_000), windows(60_000, 30_000))?;
    refused(sessions(Sessions::gap(ms(100))), sessions(Sessions::gap(ms(200))))?;
    refused(sessions(Sessions::gap(ms(100))), sessions(Sessions::gap(ms(100)).grace(ms(5))))?;
    refused(batches(Batches::of(9).gap(ms(100))), batches(Batches::of(9).gap(ms(200))))?;
    refused(counted(Int64, || 1), counted(Text, || "1".to_owned()))?;
    Ok(())
}

/// `<group>-table` and committed offsets as the versions before positions left them.
fn before_positions(offsets: bool) -> Outcome<Tester> {
    let tester = Tester::new();
    let compacted = TopicConfig::new().cleanup(Cleanup::Compact);
    let topics = vec![TopicSpec::new("in"), TopicSpec::new("g-table").config(compacted)];
    tester.block_on(tester.log().create_topics(topics))?;
    for text in ["a", "b", "c"] {
        tester.input("in", Text).push("k", text.to_owned())?;
    }
    let producer = tester.block_on(tester.log().producer(ProducerOptions::default()))?;
    let mut batch = ProduceBatch::new();
    let (topic, value) = ("g-table".into(), b"3");
    let (partition, timestamp) = (Some(0), Some(1));
    let new = NewRecord { topic: &topic, partition, timestamp, key: Some(b"k"), value: Some(value) };
    batch.push(new, std::iter::empty());
    assert!(tester.block_on(producer.send(Arc::new(batch))).failed.is_empty());
    if offsets {
        tester.log().faults().pending_offsets("g", vec![(TopicPartition::new("in", 0), 3)]).commit();
    }
    Ok(tester)
}

fn counter() -> Arc<GroupGraph> {
    let mut g = Group::define("g").table(Int64);
    g.input("in", Text, |ctx, _text: String| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    g.build().unwrap()
}

#[test]
fn a_state_without_positions_starts_at_the_committed_offsets() -> Done {
    with_both(|guarantee| {
        let tester = before_positions(true)?;
        tester.add_with(counter(), move |p| p.guarantee(guarantee))?;
        tester.input("in", Text).send("k", "d".to_owned())?;
        assert_eq!(table(&tester, "g", Int64), pairs([("k", 4)]));
        // From now on it has positions.
        tester.stop("g")?;
        tester.log().faults().forget_offsets("g", None);
        tester.restart("g")?;
        tester.drain()?;
        assert_eq!(table(&tester, "g", Int64), pairs([("k", 4)]));
        Ok(())
    })
}

#[test]
fn a_state_without_positions_whose_offsets_are_forgotten_is_refused_with_the_way_on() -> Done {
    with_both(|guarantee| {
        let tester = before_positions(false)?;
        let error = format!("{:?}", tester.add_with(counter(), move |p| p.guarantee(guarantee)).unwrap_err());
        assert!(error.contains("no committed offset") && error.contains("on_lost_position"), "{error}");
        tester.add_with(counter(), move |p| p.guarantee(guarantee).on_lost_position(OnLostPosition::Latest))?;
        tester.input("in", Text).send("k", "d".to_owned())?;
        assert_eq!(table(&tester, "g", Int64), pairs([("k", 4)]));
        Ok(())
    })
}

/// The keys and values of version 1 in the topic of positions.
#[test]
fn the_formats_of_positions_stay_as_they_are() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    tester.input("in", Text).send("k", "a".to_owned())?;
    tester.stop("g")?;
    let records = tester.output("g-positions", Bytes).read()?;
    let last = |key: &[u8]| {
        let found = records.iter().rev().find(|r| r.key.as_deref() == Some(key));
        found.and_then(|r| r.value.clone()).expect("a record of that key")
    };
    let position = last(b"\x04in");
    assert_eq!(position.get(..10), Some(&b"\x01\0\0\0\0\0\0\0\0\x01"[..]));
    assert!(position[10..].starts_with(b"stream-core/1 topic="));
    assert_eq!(last(b"\x05g-table"), [b"\x01codec ", Codec::<i64>::name(&Int64).as_bytes()].concat());
    tester.run_for(Duration::from_secs(1));
    Ok(())
}
