//! W5: a window of processing time, so many records or a gap, closes by the wall clock, without a further message: a table
//! and a timer of the wall clock.

use std::sync::Arc;

use stream_core::codec::{Json, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::processor::Guarantee;
use stream_core::testing::{TestOutput, Tester};

use crate::support::{Done, Outcome, live_keys, move_to_second, ms, under_way, values, with_both};

/// Joins the messages of a room: four of them, or those before a gap of 30 s.
fn joiner() -> Arc<GroupGraph> {
    let mut g = Group::define("chat").table(Json::<Vec<String>>::new());
    let out = g.output("joined", Text);
    let gap = g.wall_timer("gap", Text);
    g.input("messages", Text, move |ctx, message| {
        let mut all = ctx.value()?.unwrap_or_default();
        all.push(message);
        if all.len() == 4 {
            ctx.cancel_timer(gap)?;
            ctx.emit(out, ctx.key(), all.join(" "))?;
            return ctx.delete();
        }
        ctx.set_timer(gap, ctx.now_ms() + 30_000, String::new())?;
        ctx.set(all)
    });
    g.on_timer(gap, move |ctx, _| {
        let all = ctx.value()?.unwrap_or_default();
        ctx.emit(out, ctx.key(), all.join(" "))?;
        ctx.delete()
    });
    g.build().unwrap()
}

fn tester(guarantee: Guarantee) -> Outcome<(Tester, TestOutput<String>)> {
    under_way(joiner(), guarantee, "joined")
}

fn say(tester: &Tester, room: &str, messages: &str) -> Done {
    for message in messages.split(' ') {
        tester.input("messages", Text).send(room, message.to_owned())?;
    }
    Ok(())
}

#[test]
fn w5_it_closes_by_the_wall_clock_without_a_further_message() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee)?;
        say(&tester, "a", "one two")?;
        tester.advance(ms(29_999))?;
        assert_eq!(values(&out).len(), 0);
        // Each message begins the gap anew.
        say(&tester, "a", "three")?;
        tester.advance(ms(29_999))?;
        assert_eq!(values(&out).len(), 0);
        tester.advance(ms(1))?;
        assert_eq!(values(&out), ["one two three"]);
        assert_eq!(live_keys(&tester, "chat-table"), 0);
        Ok(())
    })
}

#[test]
fn w5_it_closes_by_count_and_its_gap_is_over_then() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee)?;
        say(&tester, "a", "1 2 3 4 5")?;
        assert_eq!(values(&out), ["1 2 3 4"]);
        tester.advance(ms(30_000))?;
        assert_eq!(values(&out), ["5"]);
        tester.advance(ms(60_000))?;
        assert_eq!(values(&out).len(), 0);
        Ok(())
    })
}

#[test]
fn w5_it_survives_a_crash_and_a_move_between_messages() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee)?;
        say(&tester, "a", "one")?;
        tester.crash("chat")?;
        tester.start_instance("chat", 0)?;
        say(&tester, "a", "two")?;
        move_to_second(&tester, "chat")?;
        // Due while nobody has it.
        tester.stop_instance("chat", 1)?;
        tester.advance(ms(40_000))?;
        tester.start_instance("chat", 0)?;
        tester.wait_until("it closed", || live_keys(&tester, "chat-table") == 0)?;
        assert_eq!(values(&out), ["one two"]);
        Ok(())
    })
}
