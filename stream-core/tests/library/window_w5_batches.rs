//! W5: records of a key that are taken together close by their number or by the wall clock, without a further record.

use std::sync::Arc;

use stream_core::codec::{Bytes, Text};
use stream_core::group::{BuildError, CallbackError, ErrorPolicy, Group, GroupGraph, Input};
use stream_core::processor::{Guarantee, Standbys};
use stream_core::testing::{TestOutput, Tester};
use stream_core::window::Batches;

use crate::support::{Done, Outcome, live_keys, move_to_second, ms, passing, small_topic, values, with_both};

const BATCHES: &str = "chat-batch-lines";

fn batches() -> Batches {
    Batches::of(4).gap(ms(3000)).max_age(ms(10_000))
}

/// Joins the words of a room; a message is as many records as it has words.
fn joiner(batches: Batches) -> Arc<GroupGraph> {
    let mut g = Group::define("chat");
    let out = g.output("joined", Text);
    let lines = g.batch("lines", batches, Text);
    g.input(Input::topic("messages").on_error(ErrorPolicy::skip()), Text, move |ctx, message| {
        message.split(' ').try_for_each(|word| ctx.collect(lines, word.to_owned()))
    });
    g.on_close(lines, move |ctx, all| ctx.emit(out, ctx.key(), all.join(" ")));
    g.build().unwrap()
}

fn tester(guarantee: Guarantee, batches: Batches) -> Outcome<(Tester, TestOutput<String>)> {
    let tester = Tester::new();
    tester.add_with(joiner(batches), move |p| p.guarantee(guarantee).standbys(Standbys::All))?;
    let out = tester.output("joined", Text);
    Ok((tester, out))
}

fn say(tester: &Tester, room: &str, messages: &[&str]) -> Done {
    for message in messages {
        tester.input("messages", Text).push_at(room, Some(&(*message).to_owned()), Some(5), None)?;
    }
    Ok(tester.drain()?)
}

#[test]
fn w5_it_closes_a_gap_after_the_last_record() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, batches())?;
        say(&tester, "a", &["one"])?;
        tester.advance(ms(2000))?;
        say(&tester, "a", &["two"])?;
        tester.advance(ms(2999))?;
        assert_eq!(values(&out).len(), 0);
        tester.advance(ms(1))?;
        let closed = out.read()?;
        let emitted: Vec<_> = closed.iter().map(|r| (r.value.as_deref().unwrap_or_default(), r.timestamp)).collect();
        assert_eq!(emitted, [("one two", 5)], "its time is that of its records");
        assert_eq!(live_keys(&tester, BATCHES), 0);
        Ok(())
    })
}

#[test]
fn w5_it_closes_at_its_largest_age_however_busy_it_is() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, Batches::of(1000).gap(ms(3000)).max_age(ms(10_000)))?;
        for n in 0..10 {
            say(&tester, "a", &[&n.to_string()])?;
            tester.advance(ms(if n < 9 { 1000 } else { 999 }))?;
        }
        assert_eq!(values(&out).len(), 0);
        tester.advance(ms(1))?;
        assert_eq!(values(&out), ["0 1 2 3 4 5 6 7 8 9"]);
        assert_eq!(live_keys(&tester, BATCHES), 0);
        Ok(())
    })
}

#[test]
fn w5_it_closes_at_its_number_of_records_and_never_has_more() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, batches())?;
        // One record that brings two and a half batches, between such of another room.
        say(&tester, "b", &["x"])?;
        say(&tester, "a", &["1 2 3 4 5 6 7 8 9 10"])?;
        say(&tester, "b", &["y"])?;
        assert_eq!(values(&out), ["1 2 3 4", "5 6 7 8"]);
        say(&tester, "a", &["11", "12", "13"])?;
        assert_eq!(values(&out), ["9 10 11 12"]);
        tester.advance(ms(3000))?;
        assert_eq!(values(&out), ["13", "x y"]);
        tester.advance(ms(60_000))?;
        assert_eq!(values(&out).len(), 0);
        Ok(())
    })
}

#[test]
fn w5_it_survives_crashes_and_a_move_and_what_is_due_meanwhile_closes_then() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, batches())?;
        say(&tester, "a", &["one"])?;
        tester.crash("chat")?;
        tester.start_instance("chat", 0)?;
        say(&tester, "a", &["two"])?;
        move_to_second(&tester, "chat")?;
        say(&tester, "a", &["three"])?;
        // Due while nobody has it.
        tester.stop_instance("chat", 1)?;
        tester.advance(ms(40_000))?;
        tester.start_instance("chat", 0)?;
        tester.wait_until("it closed", || live_keys(&tester, BATCHES) == 0)?;
        assert_eq!(values(&out), ["one two three"]);
        Ok(())
    })
}

#[test]
fn w5_a_record_that_is_done_again_is_not_added_twice() -> Done {
    let tester = Tester::new();
    // What is acknowledged is not committed.
    tester.add_with(joiner(batches()), |p| p.guarantee(Guarantee::AtLeastOnce).commit_interval(ms(3_600_000)))?;
    let input = tester.input("messages", Text);
    for message in ["1 1", "2"] {
        input.push("a", message.to_owned())?;
    }
    let has = |n| live_keys(&tester, BATCHES) == n;
    tester.wait_until("they are acknowledged", || has(2))?;
    tester.crash("chat")?;
    tester.start_instance("chat", 0)?;
    assert_eq!(tester.committed("chat", "messages", 0)?, Some(0));
    input.push("a", "3".to_owned())?;
    tester.run_for(ms(1000));
    tester.run_for(ms(3000));
    tester.wait_until("it closed", || has(0))?;
    assert_eq!(values(&tester.output("joined", Text)), ["1 1 2 3"]);
    Ok(())
}

#[test]
fn w5_a_batch_that_is_not_delivered_comes_again_whole() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, batches())?;
        say(&tester, "a", &["1", "2", "3"])?;
        let fault = tester.log().faults().on(|r| r.topic == "joined").times(2).fail(passing());
        say(&tester, "a", &["4", "5"])?;
        tester.wait_until("it was delivered", || fault.hits() == 2 && live_keys(&tester, BATCHES) == 2)?;
        tester.advance(ms(3000))?;
        assert_eq!(values(&out), ["1 2 3 4", "5"]);
        assert_eq!(live_keys(&tester, BATCHES), 0);
        Ok(())
    })
}

#[test]
fn w5_a_closed_batch_is_there_until_its_result_is() -> Done {
    // While a batch is on its way the next one of its key begins. The positions of its records may be committed by then.
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, batches())?;
        say(&tester, "a", &["1", "2"])?;
        let slow = tester.log().faults().on(|r| r.topic == "joined").delay(ms(3_600_000));
        let input = tester.input("messages", Text);
        input.push("a", "3 4".to_owned())?;
        tester.wait_until("it is on its way", || slow.hits() > 0)?;
        input.push("a", "5".to_owned())?;
        let has_5 = || values(&tester.output(BATCHES, Bytes)).iter().any(|batch| batch.ends_with(b"5"));
        let next = || guarantee == Guarantee::ExactlyOnce || has_5();
        tester.wait_until("the next has begun", next)?;
        tester.crash("chat")?;
        drop(slow);
        assert_eq!(values(&out).len(), 0);
        tester.start_instance("chat", 0)?;
        tester.drain()?;
        tester.advance(ms(3000))?;
        let emitted = values(&out);
        if guarantee == Guarantee::ExactlyOnce {
            assert_eq!(emitted, ["1 2 3 4", "5"]);
        }
        for word in ["1", "2", "3", "4", "5"] {
            assert!(emitted.iter().any(|t| t.split(' ').any(|w| w == word)), "{word} is lost: {emitted:?}");
        }
        assert_eq!(live_keys(&tester, BATCHES), 0);
        Ok(())
    })
}

#[test]
fn w5_a_batch_that_would_get_too_large_for_its_topic_closes_earlier() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        small_topic(&tester, BATCHES, 1000)?;
        tester.add_with(joiner(Batches::of(1000).gap(ms(3000))), move |p| p.guarantee(guarantee))?;
        let out = tester.output("joined", Text);
        let word = |n: usize| format!("{n}-{}", "x".repeat(200));
        for n in 0..10 {
            say(&tester, "a", &[&word(n)])?;
        }
        // One that no batch can take follows the input's policy.
        say(&tester, "a", &[&"y".repeat(2000)])?;
        tester.advance(ms(3000))?;
        let emitted = values(&out);
        assert!(emitted.len() > 1 && emitted.iter().all(|t| t.len() < 1000), "{emitted:?}");
        let words: Vec<_> = emitted.iter().flat_map(|t| t.split(' ')).map(str::to_owned).collect();
        assert_eq!(words, (0..10).map(word).collect::<Vec<_>>());
        assert_eq!(live_keys(&tester, BATCHES), 0);
        Ok(())
    })
}

#[test]
fn w5_a_value_that_is_too_large_leaves_the_batch_as_it_was() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        small_topic(&tester, BATCHES, 1000)?;
        let mut g = Group::define("chat");
        let out = g.output("joined", Text);
        let lines = g.batch("lines", batches(), Text);
        // It goes on after the error.
        g.input("messages", Text, move |ctx, word| match ctx.collect(lines, "x".repeat(5000)) {
            Ok(()) => Err(CallbackError::msg("it was taken")),
            Err(_) => ctx.collect(lines, word),
        });
        g.on_close(lines, move |ctx, all| ctx.emit(out, ctx.key(), all.join(" ")));
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        say(&tester, "a", &["1", "2", "3"])?;
        assert_eq!(values(&tester.output("joined", Text)).len(), 0);
        tester.advance(ms(3000))?;
        assert_eq!(values(&tester.output("joined", Text)), ["1 2 3"]);
        assert_eq!(live_keys(&tester, BATCHES), 0);
        Ok(())
    })
}

#[test]
fn w5_a_callback_that_fails_is_called_again_after_a_restart() -> Done {
    let (tester, out) = tester(Guarantee::ExactlyOnce, batches())?;
    tester.fail_callbacks(BATCHES, 1, "on purpose");
    say(&tester, "a", &["1"])?;
    assert!(tester.advance(ms(3000)).is_err());
    tester.start_instance("chat", 0)?;
    tester.wait_until("it closed", || live_keys(&tester, BATCHES) == 0)?;
    assert_eq!(values(&out), ["1"]);
    Ok(())
}

#[test]
fn w5_batches_that_make_no_sense_are_refused() {
    let build = |batches, call| {
        let mut g = Group::define("g");
        g.input("in", Text, |_, _: String| Ok(()));
        let lines = g.batch("b", batches, Text);
        if call {
            g.on_close(lines, |_, _: Vec<String>| Ok(()));
        }
        g.build().map(|_| ())
    };
    assert_eq!(build(Batches::of(1).gap(ms(1)), true), Ok(()));
    for batches in [Batches::of(0).gap(ms(1)), Batches::of(5)] {
        assert!(matches!(build(batches, true), Err(BuildError::Windows { .. })), "{batches:?}");
    }
    assert!(matches!(build(Batches::of(1).gap(ms(1)), false), Err(BuildError::BatchUnread { .. })));
}
