//! What can't be read back never becomes state: it is an encode error of the record that it came with.

use std::sync::Arc;

use stream_core::codec::{Codec, CodecError, Json, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input, LeftOut};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{Batches, Sessions, Windows};

use crate::support::{Done, ms, pairs, table, values, with_both};

/// Writes a number above 9 as something that it does not read.
#[derive(Clone, Copy)]
struct OneDigit;

impl Codec<f64> for OneDigit {
    fn encode(&self, value: &f64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(if *value < 10.0 { format!("{value}") } else { "many".to_owned() }.as_bytes());
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<f64, CodecError> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        text.parse().map_err(|_| CodecError::invalid(format!("{text:?} is no digit")))
    }
}

const STATES: [&str; 6] = ["table", "window", "session", "batch", "timer", "loop"];

/// Puts the number of each record into a state of this kind, and emits the number if that went well.
fn keeper(state: &'static str, codec: impl Codec<f64> + Copy) -> Arc<GroupGraph> {
    let mut g = Group::define("g").table(codec);
    let out = g.output("out", Text);
    let window = g.window("w", Windows::tumbling(ms(100)), codec);
    let session = g.session("s", Sessions::gap(ms(100)), codec);
    let batch = g.batch("b", Batches::of(100).gap(ms(1_000_000)), codec);
    g.on_close(batch, |_, _| Ok(()));
    let timer = g.timer("t", codec);
    g.on_timer(timer, |_, _| Ok(()));
    let again = g.loopback(codec);
    g.on_loop(again, |_, _| Ok(()));
    g.input(Input::topic("in").on_error(ErrorPolicy::skip()), Text, move |ctx, text: String| {
        let n: f64 = text.parse()?;
        match state {
            "table" => ctx.set(n)?,
            "window" => _ = ctx.aggregate(window, |_| n)?,
            "session" => _ = ctx.aggregate_session(session, |_| n, |a, _| a)?,
            "batch" => ctx.collect(batch, n)?,
            "timer" => ctx.set_timer(timer, ctx.timestamp() + 10, n)?,
            _ => ctx.loopback(again, "k", n)?,
        }
        ctx.emit(out, ctx.key(), &text)
    });
    g.build().unwrap()
}

fn emitted(
    state: &'static str,
    codec: impl Codec<f64> + Copy,
    bad: &str,
    guarantee: Guarantee,
) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add_with(keeper(state, codec), move |p| p.guarantee(guarantee))?;
    for text in ["1", bad, "2"] {
        tester.input("in", Text).send_at("k", text.to_owned(), 50)?;
    }
    assert_eq!(values(&tester.output("out", Text)), ["1", "2"], "{state}");
    assert_eq!(tester.left_out("g", LeftOut::Failed)?, 1, "{state}");
    // What fell due could be read.
    tester.input("in", Text).send_at("z", "3".to_owned(), 5000)?;
    Ok(tester)
}

#[test]
fn a_float_that_is_no_number_never_becomes_json_state() -> Done {
    with_both(|guarantee| {
        for state in STATES {
            for bad in ["NaN", "inf", "-inf"] {
                let tester = emitted(state, Json::<f64>::new(), bad, guarantee)?;
                if state == "table" {
                    assert_eq!(table(&tester, "g", Json::<f64>::new()), pairs([("k", 2.0), ("z", 3.0)]));
                }
            }
        }
        Ok(())
    })
}

#[test]
fn what_a_codec_can_not_read_back_never_becomes_state() -> Done {
    with_both(|guarantee| {
        for state in STATES {
            emitted(state, OneDigit, "10", guarantee)?;
        }
        Ok(())
    })
}

#[test]
fn the_error_says_what_can_not_be_read_back() -> Done {
    let mut g = Group::define("g").table(OneDigit);
    g.input("in", Text, |ctx, text: String| ctx.set(text.parse::<f64>()?));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let error = format!("{:?}", tester.input("in", Text).send("k", "10".to_owned()).unwrap_err());
    assert!(error.contains("can't be read back") && error.contains("\"many\" is no digit"), "{error}");
    // Nor does a float that JSON has no text for leave the group.
    let mut g = Group::define("emits");
    let out = g.output("numbers", Json::<Vec<Option<f64>>>::new());
    g.input("texts", Text, move |ctx, text: String| ctx.emit(out, ctx.key(), vec![None, Some(text.parse::<f64>()?)]));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("texts", Text).send("k", "1.5".to_owned())?;
    let error = format!("{:?}", tester.input("texts", Text).send("k", "NaN".to_owned()).unwrap_err());
    assert!(error.contains("numbers") && error.contains("NaN"), "{error}");
    Ok(())
}
