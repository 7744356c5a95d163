//! D6: what follows an error of a callback, a codec or a panic, for all kinds of inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::codec::{Int64, Json, Text};
use stream_core::group::{CallbackError, CallbackResult, ErrorPolicy, Group, GroupGraph, Input};
use stream_core::testing::{Tester, TesterError};

use crate::support::{Done, Notes, ms, table, values};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sync,
    Async,
    AsyncLate,
    Batch,
}

const KINDS: [Kind; 4] = [Kind::Sync, Kind::Async, Kind::AsyncLate, Kind::Batch];

/// Fails as the record says, if the switch is on.
fn judge(text: &str, calls: &Notes<String>) -> CallbackResult {
    calls.add(text.to_owned());
    match text {
        "bad" => Err(CallbackError::msg("bad record")),
        "panic" => panic!("at the record"),
        _ => Ok(()),
    }
}

/// Sets and emits first, then fails or not. A batch has no table: it only emits.
fn group(kind: Kind, input: Input, calls: &Notes<String>) -> Arc<GroupGraph> {
    let mut g = Group::define("work").table(Int64);
    let out = g.output("out", Json::<u32>::new());
    let out_text = g.output("texts", Text);
    let calls = calls.clone();
    match kind {
        Kind::Sync => g.input(input, Text, move |ctx, text: String| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)?;
            ctx.emit(out, ctx.key(), 1)?;
            ctx.emit(out_text, ctx.key(), &text)?;
            judge(&text, &calls)
        }),
        Kind::Async | Kind::AsyncLate => g.input_async(input, Text, async move |ctx, text: String| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)?;
            ctx.emit(out, ctx.key(), 1)?;
            ctx.emit(out_text, ctx.key(), &text)?;
            if kind == Kind::AsyncLate {
                tokio::time::sleep(ms(30)).await;
            }
            judge(&text, &calls)
        }),
        Kind::Batch => g.input_batch(input, Text, async move |ctx, records| {
            for r in records {
                ctx.emit(out, &*r.key.clone().unwrap_or_default(), 1)?;
                ctx.emit(out_text, &*r.key.clone().unwrap_or_default(), &r.value)?;
                judge(&r.value, &calls)?;
            }
            Ok(())
        }),
    };
    g.build().unwrap()
}

/// Four records, of which the third is what is asked for; all there before the group starts.
fn four(
    kind: Kind,
    input: Input,
    third: &[u8],
) -> Result<(Tester, Result<(), TesterError>, Notes<String>), TesterError> {
    let calls = Notes::new();
    let tester = Tester::new();
    tester.add(group(kind, input, &calls))?;
    tester.stop("work")?;
    let input = tester.input("in", Text);
    input.push("a", "1".to_owned())?;
    input.push("b", "2".to_owned())?;
    input.push_bytes("a", Some(third), Some(77), None)?;
    input.push("a", "4".to_owned())?;
    // It may fail before it is seen to run.
    let drained = tester.restart("work").and_then(|()| tester.drain());
    Ok((tester, drained, calls))
}

fn counts(kind: Kind, a: i64, b: i64) -> BTreeMap<String, i64> {
    let counts = [("a", a), ("b", b)];
    counts.into_iter().filter(|(_, n)| kind != Kind::Batch && *n > 0).map(|(k, n)| (k.to_owned(), n)).collect()
}

/// What is wrong with the third record, and how its error reads.
const THIRDS: [(&[u8], &str); 3] =
    [(b"bad", "bad record"), (b"panic", "the callback panicked: at the record"), (b"\xff\xfe", "utf-8")];

#[test]
fn by_default_the_group_stops_at_the_record_and_its_offset_stays() -> Done {
    for kind in KINDS {
        for (third, reason) in THIRDS {
            let input = Input::topic("in").batch(1);
            let (tester, drained, _) = four(kind, input, third)?;
            let error = format!("{:?}", drained.unwrap_err());
            assert!(error.contains("in[0]@2") && error.to_lowercase().contains(reason), "{kind:?}: {error}");
            assert!(kind == Kind::Batch || reason == "utf-8" || error.contains("key a"), "{error}");
            assert_eq!(tester.committed("work", "in", 0)?, Some(2), "{kind:?} {reason}: what is before it is done");
            assert_eq!(table(&tester, "work", Int64), counts(kind, 1, 1));
            assert_eq!(values(&tester.output("texts", Text)), ["1", "2"]);

            // It is the same after a restart: nothing is done twice, nothing is left out.
            // It may fail before it is seen to run.
            _ = tester.restart("work");
            assert!(tester.drain().is_err());
            assert_eq!(tester.committed("work", "in", 0)?, Some(2));
            assert_eq!(table(&tester, "work", Int64), counts(kind, 1, 1));
        }
    }
    Ok(())
}

#[test]
fn a_skipped_record_leaves_no_trace() -> Done {
    for kind in KINDS {
        for (third, reason) in THIRDS {
            let (tester, drained, _) = four(kind, Input::topic("in").on_error(ErrorPolicy::skip()), third)?;
            drained?;
            assert_eq!(tester.committed("work", "in", 0)?, Some(4), "{kind:?} {reason}");
            assert_eq!(table(&tester, "work", Int64), counts(kind, 2, 1));
            assert_eq!(values(&tester.output("texts", Text)), ["1", "2", "4"], "{kind:?} {reason}");
        }
    }
    Ok(())
}

#[test]
fn a_dead_letter_is_the_record_as_it_came_and_says_why() -> Done {
    for kind in KINDS {
        for (third, reason) in THIRDS {
            let policy = ErrorPolicy::dead_letter("dead");
            let (tester, drained, _) = four(kind, Input::topic("in").on_error(policy), third)?;
            drained?;
            assert_eq!(values(&tester.output("texts", Text)), ["1", "2", "4"], "{kind:?} {reason}");
            assert_eq!(table(&tester, "work", Int64), counts(kind, 2, 1));
            let dead = tester.output("dead", Raw).read()?;
            assert_eq!(dead.len(), 1, "{kind:?} {reason}");
            let dead = &dead[0];
            let now = tester.now_ms();
            assert_eq!((dead.key_text(), dead.value.as_deref(), dead.timestamp), ("a".to_owned(), Some(third), now));
            let header = |name: &str| dead.header(name).unwrap();
            assert!(header("dead-letter-reason").to_lowercase().contains(reason), "{}", header("dead-letter-reason"));
            assert_eq!(header("dead-letter-group"), "work");
            assert_eq!(header("dead-letter-topic"), "in");
            assert_eq!(header("dead-letter-partition"), "0");
            assert_eq!(header("dead-letter-offset"), "2");
            assert_eq!(header("dead-letter-timestamp"), "77");
        }
    }
    Ok(())
}

/// Bytes as they are.
pub(crate) struct Raw;

impl stream_core::codec::Codec<Vec<u8>> for Raw {
    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), stream_core::codec::CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, stream_core::codec::CodecError> {
        Ok(bytes.to_vec())
    }
}

#[test]
fn a_dead_letter_keeps_the_headers_of_its_record() -> Done {
    for kind in KINDS {
        let tester = Tester::new();
        tester.add(group(kind, Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), &Notes::new()))?;
        let headers: [(&str, &[u8]); 3] = [("trace", b"1"), ("trace", b"2"), ("empty", b"")];
        tester.input("in", Text).push_with_headers("a", "bad".to_owned(), &headers)?;
        tester.drain()?;
        let dead = tester.output("dead", Text).read()?;
        let kept: Vec<_> = dead[0].headers.iter().take(3).cloned().collect();
        let expected: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), Some(v.to_vec()))).collect();
        assert_eq!(kept, expected, "{kind:?}");
        assert_eq!(dead[0].headers.len(), 3 + 12);
    }
    Ok(())
}

#[test]
fn retries_come_first_with_a_wait_that_doubles() -> Done {
    for kind in KINDS {
        for then in [ErrorPolicy::skip(), ErrorPolicy::dead_letter("dead"), ErrorPolicy::fail()] {
            let input = Input::topic("in").batch(1).on_error(then.clone().retry(3, ms(100)));
            let (tester, drained, calls) = four(kind, input, b"bad")?;
            assert_eq!(drained.is_err(), then == ErrorPolicy::fail());
            assert_eq!(calls.all().iter().filter(|c| *c == "bad").count(), 4, "{kind:?}: once, and three times more");
            let kept = if then == ErrorPolicy::fail() { 1 } else { 2 };
            assert_eq!(table(&tester, "work", Int64), counts(kind, kept, 1));
        }
    }
    Ok(())
}

#[test]
fn a_record_that_succeeds_in_the_end_is_done_once() -> Done {
    for kind in KINDS {
        let policy = ErrorPolicy::fail().retry(5, ms(100));
        let tester = Tester::new();
        tester.add(group(kind, Input::topic("in").on_error(policy), &Notes::new()))?;
        tester.fail_callbacks("in", 4, "not yet");
        let input = tester.input("in", Text);
        for key in ["a", "b", "a"] {
            input.push(key, "x".to_owned())?;
        }
        tester.drain()?;
        assert_eq!(table(&tester, "work", Int64), counts(kind, 2, 1), "{kind:?}");
        assert_eq!(values(&tester.output("texts", Text)).len(), 3, "{kind:?}");
        assert_eq!(tester.committed("work", "in", 0)?, Some(3));
    }
    Ok(())
}

#[test]
fn the_partition_waits_for_a_retry_and_others_do_not() -> Done {
    let (times, seen) = (Notes::new(), Notes::new());
    let mut g = Group::define("work").table(Int64);
    let (at, noted) = (times.clone(), seen.clone());
    let input = Input::topic("in").on_error(ErrorPolicy::skip().retry(3, ms(100)));
    g.input(input, Text, move |ctx, text: String| {
        noted.add(format!("{}:{text}", ctx.partition()));
        if text == "bad" {
            at.add(tokio::time::Instant::now());
            return Err(CallbackError::msg("bad record"));
        }
        Ok(())
    });
    let tester = Tester::with_partitions(2);
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    input.push_at("a", Some(&"bad".to_owned()), None, Some(0))?;
    input.push_at("b", Some(&"next".to_owned()), None, Some(0))?;
    tester.run_for(ms(50));
    input.push_at("c", Some(&"other".to_owned()), None, Some(1))?;
    tester.drain()?;
    assert_eq!(seen.all(), ["0:bad", "1:other", "0:bad", "0:bad", "0:bad", "0:next"]);
    let waits: Vec<_> = times.all().windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(waits.len(), 3);
    // Virtual time: exact to the timer's resolution.
    for (wait, least) in waits.iter().zip([100, 200, 400]) {
        assert!(*wait >= ms(least) && *wait < ms(least + 50), "{waits:?}");
    }
    Ok(())
}
