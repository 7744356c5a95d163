//! D6 for batches: only what is bad in a batch is put aside.

use std::sync::Arc;

use stream_core::codec::Text;
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupGraph, Input};
use stream_core::testing::Tester;

use crate::support::{Done, Notes, ms, values};

/// Copies batches, all of it or nothing; fails on `bad`.
fn sink(input: Input, batches: &Notes<Vec<String>>) -> Arc<GroupGraph> {
    let mut g = Group::define("sink");
    let out = g.output("out", Text);
    let batches = batches.clone();
    g.input_batch(input, Text, async move |ctx, records| {
        batches.add(records.iter().map(|r| r.value.clone()).collect());
        tokio::time::sleep(ms(10)).await;
        for r in records {
            ctx.emit(out, "k", &r.value)?;
        }
        match records.iter().find(|r| r.value.starts_with("bad")) {
            Some(r) => Err(CallbackError::msg(format!("{} won't do", r.value))),
            None => Ok(()),
        }
    });
    g.build().unwrap()
}

fn tester(input: Input, batches: &Notes<Vec<String>>, records: &[&[u8]]) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add(sink(input, batches))?;
    tester.stop("sink")?;
    let input = tester.input("in", Text);
    for record in records {
        input.push_bytes("k", Some(record), None, None)?;
    }
    tester.restart("sink")?;
    Ok(tester)
}

#[test]
fn a_batch_without_errors_is_one_call() -> Done {
    let batches = Notes::new();
    let tester = tester(Input::topic("in").batch(3), &batches, &[b"1", b"2", b"3", b"4", b"5"])?;
    tester.drain()?;
    assert_eq!(batches.all(), [vec!["1", "2", "3"], vec!["4", "5"]]);
    assert_eq!(values(&tester.output("out", Text)), ["1", "2", "3", "4", "5"]);
    assert_eq!(tester.committed("sink", "in", 0)?, Some(5));
    Ok(())
}

#[test]
fn the_neighbours_of_bad_records_are_kept() -> Done {
    let records: [&[u8]; 6] = [b"1", b"bad one", b"\xff\xff", b"2", b"bad two", b"3"];
    for dead in [false, true] {
        let policy = if dead { ErrorPolicy::dead_letter("dead") } else { ErrorPolicy::skip() };
        let batches = Notes::new();
        let tester = tester(Input::topic("in").batch(5).on_error(policy), &batches, &records)?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), ["1", "2", "3"]);
        assert_eq!(tester.committed("sink", "in", 0)?, Some(6));
        assert_eq!(batches.all().last().unwrap(), &["3"], "what comes behind is a batch again");
        if dead {
            let dead = tester.output("dead", Bytes).read()?;
            let offsets: Vec<_> = dead.iter().map(|r| r.header("dead-letter-offset").unwrap()).collect();
            assert_eq!(offsets, ["1", "2", "4"]);
            assert_eq!(dead[0].header("dead-letter-reason").unwrap(), "bad one won't do");
        }
    }
    Ok(())
}

/// Bytes as they are.
struct Bytes;

impl stream_core::codec::Codec<Vec<u8>> for Bytes {
    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), stream_core::codec::CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, stream_core::codec::CodecError> {
        Ok(bytes.to_vec())
    }
}

#[test]
fn an_injected_failure_of_a_batch_loses_nothing_either() -> Done {
    let batches = Notes::new();
    let tester = Tester::new();
    tester.add(sink(Input::topic("in").on_error(ErrorPolicy::skip()), &batches))?;
    tester.stop("sink")?;
    let input = tester.input("in", Text);
    for record in ["1", "2", "3"] {
        input.push("k", record.to_owned())?;
    }
    // The batch of three fails, then each of them is tried.
    tester.fail_callbacks("in", 1, "not now");
    tester.restart("sink")?;
    tester.drain()?;
    assert_eq!(values(&tester.output("out", Text)), ["1", "2", "3"]);
    Ok(())
}

#[test]
fn a_batch_is_retried_as_a_whole_first() -> Done {
    let batches = Notes::new();
    let input = Input::topic("in").on_error(ErrorPolicy::skip().retry(1, ms(10)));
    let tester = tester(input, &batches, &[b"1", b"bad", b"2"])?;
    tester.drain()?;
    let whole = || vec!["1", "bad", "2"];
    assert_eq!(batches.all(), [whole(), whole(), vec!["1"], vec!["bad"], vec!["bad"], vec!["2"]]);
    assert_eq!(values(&tester.output("out", Text)), ["1", "2"]);
    Ok(())
}

#[test]
fn a_batch_that_fails_for_good_commits_what_is_before_it() -> Done {
    let batches = Notes::new();
    let tester = tester(Input::topic("in").batch(2), &batches, &[b"1", b"2", b"3", b"bad", b"5"])?;
    let error = format!("{:?}", tester.drain().unwrap_err());
    assert!(error.contains("in[0]@3") && error.contains("bad won't do"), "{error}");
    assert_eq!(tester.committed("sink", "in", 0)?, Some(2));
    assert_eq!(values(&tester.output("out", Text)), ["1", "2"]);
    Ok(())
}

#[test]
fn a_stop_while_a_batch_is_taken_apart_loses_nothing() -> Done {
    let batches = Notes::new();
    let input = Input::topic("in").on_error(ErrorPolicy::skip());
    let tester = tester(input, &batches, &[b"1", b"2", b"bad", b"3", b"4"])?;
    tester.wait_until("some of it is done", || (2..5).contains(&batches.len()))?;
    tester.restart("sink")?;
    tester.drain()?;
    assert_eq!(values(&tester.output("out", Text)), ["1", "2", "3", "4"]);
    assert_eq!(tester.committed("sink", "in", 0)?, Some(5));
    Ok(())
}
