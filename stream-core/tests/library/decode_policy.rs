//! D6: a value that can't be decoded has its own policy, and is never tried again.

use std::sync::Arc;

use stream_core::codec::{Codec, CodecError, Json, Text};
use stream_core::group::{BuildError, ErrorPolicy, Group, GroupGraph, Input, LeftOut, Route, Side, dead_letter};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::JoinWindows;

use crate::support::{Done, Notes, ms, values, with_both};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sync,
    Async,
    Batch,
}

const KINDS: [Kind; 3] = [Kind::Sync, Kind::Async, Kind::Batch];

/// Numbers; the decoder panics at `panic`, and counts how often it was called.
#[derive(Clone)]
struct Counted(Notes<String>);

impl Codec<u32> for Counted {
    fn encode(&self, value: &u32, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Json::<u32>::new().encode(value, out)
    }
    fn decode(&self, bytes: &[u8]) -> Result<u32, CodecError> {
        self.0.add(String::from_utf8_lossy(bytes).into_owned());
        assert!(bytes != b"panic", "in the decoder");
        Json::<u32>::new().decode(bytes)
    }
}

/// Passes numbers on; the callback fails at 13.
fn group(kind: Kind, input: Input, decoded: &Notes<String>, calls: &Notes<u32>) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    let out = g.output("out", Json::<u32>::new());
    let (codec, calls) = (Counted(decoded.clone()), calls.clone());
    let judge = move |n: u32| {
        calls.add(n);
        if n == 13 { Err("thirteen") } else { Ok(n) }
    };
    match kind {
        Kind::Sync => g.input(input, codec, move |ctx, n| ctx.emit(out, "k", judge(n)?)),
        Kind::Async => g.input_async(input, codec, async move |ctx, n| ctx.emit(out, "k", judge(n)?)),
        Kind::Batch => g.input_batch(input, codec, async move |ctx, records| {
            records.iter().try_for_each(|r| ctx.emit(out, "k", judge(r.value)?))
        }),
    };
    g.build().unwrap()
}

fn tester(graph: Arc<GroupGraph>, guarantee: Guarantee, texts: &[&str]) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    tester.stop("g")?;
    let input = tester.input("in", Text);
    for text in texts {
        input.push("k", *text)?;
    }
    Ok(tester)
}

#[test]
fn what_can_not_be_decoded_goes_its_own_way_and_is_not_tried_again() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let (decoded, calls) = (Notes::new(), Notes::new());
            let input = Input::topic("in")
                .on_decode_error(ErrorPolicy::dead_letter("garbage"))
                .on_error(ErrorPolicy::dead_letter("failed").retry(2, ms(10)));
            let tester = tester(group(kind, input, &decoded, &calls), guarantee, &["1", "x", "2", "panic", "13", "3"])?;
            tester.restart("g")?;
            tester.drain()?;
            assert_eq!(values(&tester.output("out", Json::<u32>::new())), [1, 2, 3], "{kind:?}");
            let garbage = tester.output("garbage", Text).read()?;
            let texts: Vec<_> = garbage.iter().map(|r| r.value.clone().unwrap()).collect();
            assert_eq!(texts, ["x", "panic"], "{kind:?}");
            assert!(garbage[1].header(dead_letter::REASON).unwrap().contains("in the decoder"), "{garbage:?}");
            assert_eq!(values(&tester.output("failed", Text)), ["13"], "{kind:?}");
            let of = |reason| tester.left_out("g", reason);
            assert_eq!((of(LeftOut::Undecodable)?, of(LeftOut::Failed)?), (2, 1), "{kind:?}");
            assert_eq!(tester.committed("g", "in", 0)?, Some(6));
            if kind != Kind::Batch {
                // A batch decodes its records again when it is taken apart.
                assert_eq!(decoded.all().iter().filter(|text| *text == "x").count(), 1, "{kind:?}: once");
                assert_eq!(calls.all().iter().filter(|n| **n == 13).count(), 3, "{kind:?}: two retries");
            }
        }
        Ok(())
    })
}

#[test]
fn without_a_policy_of_its_own_it_ends_as_a_callback_that_fails() -> Done {
    for kind in KINDS {
        let (decoded, calls) = (Notes::new(), Notes::new());
        let input = Input::topic("in").on_error(ErrorPolicy::skip().retry(1000, ms(1000)));
        let tester = tester(group(kind, input, &decoded, &calls), Guarantee::AtLeastOnce, &["1", "x", "2"])?;
        tester.restart("g")?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Json::<u32>::new())), [1, 2], "{kind:?}");
        assert_eq!(tester.left_out("g", LeftOut::Undecodable)?, 1);
    }
    Ok(())
}

#[test]
fn it_may_stop_the_group_while_callbacks_that_fail_are_left_out() -> Done {
    for kind in KINDS {
        let (decoded, calls) = (Notes::new(), Notes::new());
        let input = Input::topic("in").on_error(ErrorPolicy::skip()).on_decode_error(ErrorPolicy::fail());
        let tester = tester(group(kind, input, &decoded, &calls), Guarantee::AtLeastOnce, &["13", "1", "x", "2"])?;
        // It may fail before it is seen to run.
        let ended = tester.restart("g").and_then(|()| tester.drain());
        let error = format!("{:?}", ended.unwrap_err());
        assert!(error.contains("in[0]@2") && error.contains("can't be decoded"), "{kind:?}: {error}");
        assert_eq!(tester.committed("g", "in", 0)?, Some(2), "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_route_for_it_comes_before_its_policy() -> Done {
    for kind in KINDS {
        let (decoded, calls, shown) = (Notes::new(), Notes::new(), Notes::new());
        let show = shown.clone();
        let route = Route::call(move |record| show.add((record.reason, record.offset)));
        let input = Input::topic("in").left_out(LeftOut::Undecodable, route);
        let tester = tester(group(kind, input, &decoded, &calls), Guarantee::AtLeastOnce, &["1", "x", "2"])?;
        tester.restart("g")?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Json::<u32>::new())), [1, 2], "{kind:?}");
        assert_eq!(shown.all(), [(LeftOut::Undecodable, 1)]);
    }
    Ok(())
}

#[test]
fn sides_of_a_join_have_it_too() -> Done {
    with_both(|guarantee| {
        let side = |topic: &str| {
            let input = Input::topic(topic).on_decode_error(ErrorPolicy::dead_letter("garbage"));
            Side::topic(input, Json::<u32>::new())
        };
        let mut g = Group::define("g");
        let out = g.output("out", Json::<u32>::new());
        let left = side("left").key_by(|n: &u32| if *n > 0 { "k" } else { "" });
        g.stream_join("j", JoinWindows::around(ms(10)).grace(ms(10)), left, side("right"))
            .inner(move |ctx, l, r| ctx.emit(out, "k", l + r));
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for (topic, text) in [("left", "x"), ("left", "1"), ("right", "y"), ("right", "2")] {
            tester.input(topic, Text).send_at("k", text, 100)?;
        }
        assert_eq!(values(&tester.output("out", Json::<u32>::new())), [3]);
        assert_eq!(values(&tester.output("garbage", Text)), ["x", "y"]);
        Ok(())
    })
}

#[test]
fn retries_of_it_are_refused_and_its_dead_letters_lead_nowhere_back() {
    let build = |policy: ErrorPolicy| {
        let mut g = Group::define("g").table(Text);
        g.input(Input::topic("in").on_decode_error(policy), Text, |ctx, text| ctx.set(text));
        g.build().map(|_| ())
    };
    let refused = build(ErrorPolicy::skip().retry(3, ms(1)));
    assert!(matches!(&refused, Err(BuildError::DecodeRetry { edge }) if edge.contains("in")), "{refused:?}");
    assert!(matches!(build(ErrorPolicy::dead_letter("g-table")), Err(BuildError::DeadLetterBack { .. })));
    assert!(build(ErrorPolicy::dead_letter("elsewhere")).is_ok());
}
