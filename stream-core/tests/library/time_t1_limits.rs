//! T1: an event time too far ahead of the host's clock, or below zero, is an error of its record, and stream time stays.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Codec, EventTime, Int64, Text};
use stream_core::context::Emit;
use stream_core::group::{
    ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, LeftOut, NoTable, NullKey, Side, TableSide,
};
use stream_core::log::embedded::InMemory;
use stream_core::log::{Log as _, NewRecord, ProduceBatch, ProducerOptions, TopicConfig, TopicSpec};
use stream_core::processor::{Guarantee, Processor, ProcessorError};
use stream_core::store::MemoryStores;
use stream_core::testing::Tester;
use stream_core::window::{JoinWindows, Windows};

use crate::support::{Done, ms, values, with_both};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;

fn skipping() -> Input {
    Input::topic("in").on_error(ErrorPolicy::skip())
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sync,
    Async,
}

/// Emits stream time with each record, and counts in windows of 100 ms.
fn teller<C: Codec<i64>>(kind: Kind, input: Input, codec: C) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    let out = g.output("out", Int64);
    let windows = g.window("w", Windows::tumbling(ms(100)), Int64);
    match kind {
        Kind::Sync => g.input(input, codec, move |ctx, _| {
            ctx.aggregate(windows, |n| n.unwrap_or(0) + 1)?;
            ctx.emit(out, ctx.key(), ctx.stream_time().unwrap_or(-1))
        }),
        Kind::Async => g.input_async(input, codec, async move |ctx, _| {
            ctx.aggregate(windows, |n| n.unwrap_or(0) + 1)?;
            ctx.emit(out, ctx.key(), ctx.stream_time().unwrap_or(-1))
        }),
    };
    g.build().unwrap()
}

fn limited(graph: Arc<GroupGraph>, guarantee: Guarantee) -> Result<Tester, stream_core::testing::TesterError> {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee).max_ahead(HOUR))?;
    Ok(tester)
}

#[test]
fn a_time_too_far_ahead_is_an_error_of_its_record_and_later_ones_are_not_late() -> Done {
    with_both(|guarantee| {
        for kind in [Kind::Sync, Kind::Async] {
            let tester = limited(teller(kind, skipping(), Int64), guarantee)?;
            let (input, now) = (tester.input("in", Int64), tester.now_ms());
            for ahead in [now + 2 * HOUR_MS, now * 1000, i64::MAX] {
                input.send_at("k", 1, ahead)?;
            }
            for fine in [now, now + HOUR_MS, now + HOUR_MS] {
                input.send_at("k", 1, fine)?;
            }
            let out = tester.output("out", Int64);
            assert_eq!(values(&out), [now, now + HOUR_MS, now + HOUR_MS], "{kind:?}");
            assert_eq!((tester.left_out("g", LeftOut::Ahead)?, tester.late("g")?), (3, 0), "{kind:?}");
            // Nor after a restart; and what was ahead is not for ever.
            tester.crash("g")?;
            tester.start_instance("g", 0)?;
            tester.advance(2 * HOUR)?;
            input.send_at("k", 1, now + 3 * HOUR_MS)?;
            assert_eq!(values(&out), [now + 3 * HOUR_MS], "{kind:?}");
        }
        Ok(())
    })
}

#[test]
fn a_time_that_is_read_from_the_value_has_the_same_limits() -> Done {
    with_both(|guarantee| {
        for kind in [Kind::Sync, Kind::Async] {
            let tester = limited(teller(kind, skipping(), EventTime::by(Int64, |at: &i64| *at)), guarantee)?;
            let (input, now) = (tester.input("in", Int64), tester.now_ms());
            for at in [now * 1000, i64::MIN, -1, i64::MAX, now - 5] {
                input.send_at("k", at, now)?;
            }
            assert_eq!(values(&tester.output("out", Int64)), [now - 5], "{kind:?}");
            let counts = [LeftOut::Ahead, LeftOut::Negative].map(|reason| tester.left_out("g", reason).unwrap());
            assert_eq!(counts, [2, 2], "{kind:?}");
        }
        Ok(())
    })
}

/// A record whose callback is never called moves stream time, too.
#[test]
fn a_record_without_key_or_value_has_the_same_limits() -> Done {
    with_both(|guarantee| {
        for kind in [Kind::Sync, Kind::Async] {
            let tester = limited(teller(kind, skipping().null_key(NullKey::Skip), Int64), guarantee)?;
            let (input, now) = (tester.input("in", Int64), tester.now_ms());
            for at in [now + 2 * HOUR_MS, -7] {
                input.push_at("k", None, Some(at), None)?;
                input.push_at(None::<&str>, Some(&1), Some(at), None)?;
            }
            input.push_at("k", None, Some(now - 20), None)?;
            input.push_at(None::<&str>, Some(&1), Some(now - 10), None)?;
            input.send_at("k", 1, 5)?;
            assert_eq!(values(&tester.output("out", Int64)), [now - 10], "{kind:?}");
            let reasons = [LeftOut::Ahead, LeftOut::Negative, LeftOut::NullKey, LeftOut::NullValue];
            assert_eq!(reasons.map(|reason| tester.left_out("g", reason).unwrap()), [2, 2, 1, 1], "{kind:?}");
        }
        Ok(())
    })
}

/// Its timestamp says when it was written, which may be long after.
#[test]
fn a_null_has_no_event_time_where_times_are_read_from_values() -> Done {
    with_both(|guarantee| {
        for kind in [Kind::Sync, Kind::Async] {
            let input = Input::topic("in").null_key(NullKey::Skip);
            let tester = limited(teller(kind, input, EventTime::by(Int64, |at: &i64| *at)), guarantee)?;
            let (input, now) = (tester.input("in", Int64), tester.now_ms());
            input.send_at("k", 1000, now)?;
            input.push_at("k", None, Some(now), None)?;
            input.push_at(None::<&str>, Some(&1010), Some(now), None)?;
            input.send_at("k", 1005, now)?;
            assert_eq!(values(&tester.output("out", Int64)), [1000, 1010], "{kind:?}");
            assert_eq!(tester.late("g")?, 0);
        }
        Ok(())
    })
}

#[test]
fn a_time_below_zero_is_an_error_of_its_record() -> Done {
    with_both(|guarantee| {
        let tester = limited(teller(Kind::Sync, skipping(), Int64), guarantee)?;
        for at in [-250, -240, 500] {
            tester.input("in", Int64).send_at("k", 1, at)?;
        }
        assert_eq!(values(&tester.output("out", Int64)), [500]);
        assert_eq!(tester.left_out("g", LeftOut::Negative)?, 2);
        // By default it stops there, in a group without state, too.
        let mut g = Group::define("plain");
        let out = g.output("plain-out", Int64);
        g.input("plain-in", Int64, move |ctx, n| ctx.emit(out, ctx.key(), n));
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let error = format!("{:?}", tester.input("plain-in", Int64).send_at("k", 1, -1).unwrap_err());
        assert!(error.contains("plain-in[0]@0") && error.contains("it has no time (-1)"), "{error}");
        Ok(())
    })
}

#[test]
fn nothing_is_emitted_and_no_timer_is_set_below_zero() -> Done {
    let mut g = Group::define("g");
    let out = g.output("out", Text);
    let timer = g.timer("t", Text);
    g.on_timer(timer, |_, _| Ok(()));
    g.input("in", Text, move |ctx, text: String| {
        let emitted = ctx.emit_with(out, "k", &text, Emit::new().timestamp(-1));
        let set = ctx.set_timer(timer, -1, &text);
        let errors = format!("{} {}", emitted.unwrap_err(), set.unwrap_err());
        assert_eq!(ctx.timer(timer)?, None);
        ctx.emit(out, "k", &errors)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send("k", "text".to_owned())?;
    let errors = values(&tester.output("out", Text));
    assert_eq!(errors.len(), 1);
    assert!(!errors[0].contains("text"), "{errors:?}");
    Ok(())
}

type Made = (Arc<GroupGraph>, &'static [&'static str]);

/// Groups whose inputs come in other ways, and those inputs.
fn others() -> Vec<Made> {
    let input = |topic: &str| Input::topic(topic).on_error(ErrorPolicy::skip());
    let build = |make: &dyn Fn(&mut GroupBuilder<NoTable>)| {
        let mut g = Group::define("g");
        make(&mut g);
        g.build().unwrap()
    };
    let windows = JoinWindows::around(ms(100)).grace(ms(10));
    let joined = build(&|g| {
        let out = g.output("out", Text);
        let (left, right) = (Side::topic(input("left"), Text), Side::topic(input("right"), Text));
        g.stream_join("j", windows, left, right).inner(move |ctx, l, r| ctx.emit(out, ctx.key(), format!("{l}{r}")));
    });
    let re_keyed = build(&|g| {
        let out = g.output("out", Text);
        let left = Side::topic(input("left"), Text).key_by(|_: &String| "k");
        let right = Side::topic(input("right"), Text).key_by(|_: &String| "k");
        g.stream_join("j", windows, left, right).inner(move |ctx, l, r| ctx.emit(out, ctx.key(), format!("{l}{r}")));
    });
    let batches = build(&|g| {
        let out = g.output("out", Text);
        let unused = g.timer("unused", Text);
        g.on_timer(unused, |_, _| Ok(()));
        for topic in ["left", "right"] {
            g.input_batch(input(topic), Text, async move |ctx, records| {
                records.iter().try_for_each(|r| ctx.emit(out, "k", &r.value))
            });
        }
    });
    let mut g = Group::define("g").table(Text);
    let out = g.output("out", Text);
    let (left, right) = (TableSide::topic(input("left"), Text), TableSide::topic(input("right"), Text));
    g.table_join("t", left, right).inner(|l, r| format!("{l}{r}"));
    g.visitor("unused", move |ctx, (): &(), text| ctx.emit(out, "k", &text));
    vec![(joined, &["ab"]), (re_keyed, &["ab"]), (batches, &["a", "b"]), (g.build().unwrap(), &[])]
}

#[test]
fn sides_of_joins_and_batches_have_the_same_limits() -> Done {
    with_both(|guarantee| {
        for (case, (graph, expected)) in others().into_iter().enumerate() {
            let tester = limited(graph, guarantee)?;
            let (left, right, now) = (tester.input("left", Text), tester.input("right", Text), tester.now_ms());
            for at in [now + 2 * HOUR_MS, -3] {
                for value in [None, Some(&"x".to_owned())] {
                    left.push_at("k", value, Some(at), None)?;
                    right.push_at("k", value, Some(at), None)?;
                }
            }
            tester.drain()?;
            left.send_at("k", "a".to_owned(), now)?;
            right.send_at("k", "b".to_owned(), now)?;
            assert_eq!(values(&tester.output("out", Text)), expected, "case {case}");
            let counts = [LeftOut::Ahead, LeftOut::Negative, LeftOut::Late].map(|r| tester.left_out("g", r).unwrap());
            assert_eq!(counts, [4, 4, 0], "case {case}");
        }
        Ok(())
    })
}

#[test]
fn the_error_names_both_times_and_the_unit_that_it_may_be_in() -> Done {
    let tester = limited(teller(Kind::Sync, Input::topic("in"), Int64), Guarantee::AtLeastOnce)?;
    let now = tester.now_ms();
    let error = format!("{:?}", tester.input("in", Int64).send_at("k", 1, now * 1000).unwrap_err());
    for part in ["g", "in[0]@0", "microseconds", "this host's clock", "2024-01-01T00:00:00.000Z", "60 min"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("partitions are ahead"), "one record says nothing of the clock: {error}");
    assert_eq!(tester.committed("g", "in", 0)?, Some(0));
    Ok(())
}

#[test]
fn the_clock_is_blamed_when_most_records_of_several_partitions_are_ahead() -> Done {
    for (ahead, blamed) in [(3, true), (1, false)] {
        let tester = Tester::with_partitions(4);
        tester.add_with(teller(Kind::Sync, Input::topic("in"), Int64), |p| p.max_ahead(HOUR))?;
        tester.stop("g")?;
        let (input, now) = (tester.input("in", Int64), tester.now_ms());
        for partition in 0..4 {
            let at = if partition < ahead { now + 3 * HOUR_MS } else { now };
            for _ in 0..20 {
                input.push_at("k", Some(&1), Some(at), Some(partition))?;
            }
        }
        _ = tester.restart("g");
        let error = format!("{:?}", tester.drain().unwrap_err());
        assert!(error.contains("ahead of this host's clock"), "{error}");
        assert_eq!(
            error.contains("of 4 partitions are ahead, so this host's clock is probably behind"),
            blamed,
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn the_clock_is_blamed_while_records_are_left_out_too() -> Done {
    let tester = Tester::with_partitions(4);
    tester.add_with(teller(Kind::Sync, skipping(), Int64), |p| p.max_ahead(HOUR))?;
    let (input, at) = (tester.input("in", Int64), tester.now_ms() + 3 * HOUR_MS);
    let (done, logged) = crate::support::logged(|| -> Done {
        for _ in 0..5 {
            for partition in 0..4 {
                input.push_at("k", Some(&1), Some(at), Some(partition))?;
            }
            tester.drain()?;
        }
        Ok(())
    });
    done?;
    let blame = "the newest records of 4 of 4 partitions are ahead, so this host's clock is probably behind";
    assert!(logged.contains(blame), "{logged}");
    assert_eq!(logged.matches("this host's clock is probably behind").count(), 1, "{logged}");
    Ok(())
}

#[test]
fn a_record_that_is_ahead_for_a_moment_goes_well_when_it_is_tried_again() -> Done {
    with_both(|guarantee| {
        for kind in [Kind::Sync, Kind::Async] {
            let input = Input::topic("in").on_error(ErrorPolicy::fail().retry(50, ms(1000)));
            let tester = limited(teller(kind, input, Int64), guarantee)?;
            let (input, now) = (tester.input("in", Int64), tester.now_ms());
            input.push_at("k", Some(&1), Some(now + HOUR_MS + 500), None)?;
            tester.run_for(ms(100));
            assert_eq!(tester.committed("g", "in", 0)?, Some(0), "{kind:?}");
            tester.advance(ms(600))?;
            input.send_at("k", 1, now)?;
            let reached = now + HOUR_MS + 500;
            assert_eq!(values(&tester.output("out", Int64)), [reached, reached], "{kind:?}");
            assert_eq!((tester.late("g")?, tester.left_out("g", LeftOut::Ahead)?), (1, 0), "{kind:?}");
        }
        Ok(())
    })
}

#[test]
fn stream_time_that_was_restored_from_far_ahead_is_warned_of() -> Done {
    let limit: Rc<Cell<Option<Duration>>> = Rc::default();
    let set = Rc::clone(&limit);
    let tester = Tester::new();
    tester.add_with(teller(Kind::Sync, Input::topic("in"), Int64), move |p| p.max_ahead(set.get()))?;
    tester.input("in", Int64).send_at("k", 1, tester.now_ms() * 1000)?;
    limit.set(Some(HOUR));
    let (done, logged) = crate::support::logged(|| tester.restart("g"));
    done?;
    assert!(logged.contains("stream time that was restored lies ahead") && logged.contains("2024-01-01"), "{logged}");
    Ok(())
}

/// Runs a group on a log that takes any time, with a processor's own defaults.
fn run_with_defaults(at: i64) -> Result<(), ProcessorError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let log = InMemory::new();
        log.set_topic_defaults(&TopicConfig::new().timestamp_after_max_ms(i64::MAX));
        log.create_topics(vec![TopicSpec::new("in").partitions(1)]).await.unwrap();
        let mut batch = ProduceBatch::new();
        let new = NewRecord {
            topic: &"in".into(),
            partition: Some(0),
            timestamp: Some(at),
            key: Some(b"k"),
            value: Some(b"1"),
        };
        batch.push(new, std::iter::empty());
        let producer = log.producer(ProducerOptions::default()).await.unwrap();
        assert!(producer.send(Arc::new(batch)).await.failed.is_empty());
        let graph = teller(Kind::Sync, Input::topic("in"), Int64);
        let processor = Processor::new(graph, log).stores(Arc::new(MemoryStores::new()));
        let handle = processor.handle();
        let stop = async move {
            // It fails, or is done.
            _ = handle.caught_up().await;
        };
        processor.run_until(stop).await
    })
}

#[test]
fn a_processor_takes_an_hour_by_default() {
    use stream_core::clock::{Clock, SystemClock};
    run_with_defaults(SystemClock.now_ms() + HOUR_MS / 2).unwrap();
    let error = format!("{:?}", run_with_defaults(SystemClock.now_ms() + 2 * HOUR_MS).unwrap_err());
    assert!(error.contains("and 60 min is the most that is allowed"), "{error}");
}
