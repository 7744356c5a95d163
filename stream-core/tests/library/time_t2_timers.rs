//! T2: timers of stream time and of the wall clock are state: set, moved and cancelled by key and name, they survive a
//! restart and a crash, and move with their partition.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::Text;
use stream_core::group::{BuildError, Group, GroupGraph};
use stream_core::processor::{Guarantee, ProcessorError};
use stream_core::testing::{TestOutput, Tester};

use crate::support::{Done, Outcome, live_keys, move_to_second, ms, passing, too_large, under_way, values, with_both};

/// `set T` and `wall T` set timers, `cancel` cancels the one, `ask` emits when it is due. What fires says what it was set by.
fn reminder() -> Arc<GroupGraph> {
    let mut g = Group::define("reminder");
    let out = g.output("out", Text);
    let (stream, wall) = (g.timer("remind", Text), g.wall_timer("alarm", Text));
    g.input("in", Text, move |ctx, text| {
        let at = text.split(' ').nth(1).and_then(|at| at.parse().ok()).unwrap_or_default();
        match text.split(' ').next().unwrap_or_default() {
            "set" => ctx.set_timer(stream, at, &text),
            "wall" => ctx.set_timer(wall, ctx.now_ms() + at, &text),
            "cancel" => ctx.cancel_timer(stream),
            "ask" => {
                let due = ctx.timer(stream)?;
                ctx.emit(out, ctx.key(), format!("{due:?}"))
            }
            _ => ctx.emit(out, ctx.key(), &text),
        }
    });
    g.on_timer(stream, move |ctx, text| {
        let (key, at) = (ctx.key_text()?, ctx.timestamp());
        ctx.emit(out, key, format!("{key} {text} fired at {at}"))
    });
    g.on_timer(wall, move |ctx, text| ctx.emit(out, ctx.key(), format!("{text} rang")));
    g.build().unwrap()
}

fn tester(guarantee: Guarantee, graph: Arc<GroupGraph>) -> Outcome<(Tester, TestOutput<String>)> {
    under_way(graph, guarantee, "out")
}

fn send(tester: &Tester, key: &str, text: &str, at: i64) -> Done {
    Ok(tester.input("in", Text).send_at(key, text.to_owned(), at)?)
}

#[test]
fn t2_a_timer_fires_when_stream_time_reaches_it_before_the_record_that_takes_it_there() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "k", "set 100", 10)?;
        send(&tester, "other", "early", 99)?;
        assert_eq!(values(&out), ["early"]);
        send(&tester, "other", "there", 100)?;
        assert_eq!(values(&out), ["k set 100 fired at 100", "there"]);
        send(&tester, "other", "later", 300)?;
        assert_eq!(values(&out), ["later"], "once only");
        assert_eq!(live_keys(&tester, "reminder-time"), 1, "nothing but stream time is left");
        Ok(())
    })
}

#[test]
fn t2_timers_fire_in_the_order_of_their_due_times() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        for (key, at) in [("c", 300), ("a", 100), ("d", 300), ("b", 200), ("e", 301)] {
            send(&tester, key, &format!("set {at}"), 1)?;
        }
        send(&tester, "k", "now", 300)?;
        let expected = [("a", 100), ("b", 200), ("c", 300), ("d", 300)];
        let mut expected: Vec<_> = expected.iter().map(|(k, t)| format!("{k} set {t} fired at {t}")).collect();
        expected.push("now".to_owned());
        assert_eq!(values(&out), expected);
        Ok(())
    })
}

#[test]
fn t2_a_timer_is_moved_and_cancelled_by_its_key_and_name() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "k", "set 100", 1)?;
        send(&tester, "k", "set 200", 1)?;
        send(&tester, "gone", "set 100", 1)?;
        send(&tester, "gone", "cancel", 1)?;
        send(&tester, "k", "ask", 1)?;
        send(&tester, "gone", "ask", 1)?;
        assert_eq!(values(&out), ["Some(200)", "None"]);
        send(&tester, "k", "at 150", 150)?;
        send(&tester, "k", "set 160", 150)?;
        send(&tester, "k", "at 500", 500)?;
        assert_eq!(values(&out), ["at 150", "k set 160 fired at 160", "at 500"]);
        assert_eq!(live_keys(&tester, "reminder-time"), 1);
        Ok(())
    })
}

#[test]
fn t2_one_that_is_due_already_fires_right_after_its_callback() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "k", "set 50", 100)?;
        tester.wait_until("it fired", || live_keys(&tester, "reminder-time") == 1)?;
        assert_eq!(values(&out), ["k set 50 fired at 50"]);
        Ok(())
    })
}

#[test]
fn t2_a_wall_clock_timer_needs_no_further_record() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "k", "wall 5000", 10)?;
        tester.advance(ms(4999))?;
        assert_eq!(values(&out).len(), 0);
        tester.advance(ms(1))?;
        assert_eq!(values(&out), ["wall 5000 rang"]);
        tester.advance(Duration::from_secs(60))?;
        assert_eq!(values(&out).len(), 0, "once only");
        Ok(())
    })
}

#[test]
fn t2_timers_survive_a_restart_and_a_crash() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "a", "set 100", 1)?;
        send(&tester, "b", "wall 5000", 1)?;
        tester.restart("reminder")?;
        send(&tester, "c", "set 200", 2)?;
        tester.crash("reminder")?;
        // Due while nothing runs.
        tester.advance(ms(6000))?;
        tester.start_instance("reminder", 0)?;
        tester.wait_until("it rang", || live_keys(&tester, "reminder-time") == 5)?;
        assert_eq!(values(&out), ["wall 5000 rang"]);
        send(&tester, "k", "now", 300)?;
        assert_eq!(values(&out), ["a set 100 fired at 100", "c set 200 fired at 200", "now"]);
        Ok(())
    })
}

#[test]
fn t2_timers_move_with_their_partition() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "a", "set 100", 1)?;
        move_to_second(&tester, "reminder")?;
        send(&tester, "k", "now", 300)?;
        assert_eq!(values(&out), ["a set 100 fired at 100", "now"]);
        Ok(())
    })
}

#[test]
fn t2_a_timer_can_set_itself_again() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("ticker");
        let out = g.output("out", Text);
        let tick = g.timer("tick", Text);
        g.input("in", Text, move |ctx, text| {
            if ctx.timer(tick)?.is_none() { ctx.set_timer(tick, ctx.timestamp() + 10, &text) } else { Ok(()) }
        });
        g.on_timer(tick, move |ctx, text| {
            let at = ctx.timestamp();
            ctx.emit(out, ctx.key(), at.to_string())?;
            ctx.set_timer(tick, at + 10, &text)
        });
        let (tester, out) = tester(guarantee, g.build()?)?;
        send(&tester, "k", "go", 0)?;
        send(&tester, "k", "x", 35)?;
        tester.crash("ticker")?;
        tester.start_instance("ticker", 0)?;
        send(&tester, "k", "x", 50)?;
        assert_eq!(values(&out), ["10", "20", "30", "40", "50"]);
        assert_eq!(live_keys(&tester, "ticker-time"), 3);
        Ok(())
    })
}

#[test]
fn t2_a_timer_that_has_set_itself_again_fires_again_when_what_it_did_is_lost_in_a_crash() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("ticker");
        let out = g.output("out", Text);
        let tick = g.wall_timer("tick", Text);
        g.input("in", Text, move |ctx, text| ctx.set_timer(tick, ctx.now_ms() + 1000, &text));
        g.on_timer(tick, move |ctx, text| {
            ctx.emit(out, ctx.key(), &text)?;
            ctx.set_timer(tick, ctx.now_ms() + 1000, "again".to_owned())
        });
        let (tester, out) = tester(guarantee, g.build()?)?;
        send(&tester, "k", "first", 0)?;
        let fault = tester.log().faults().on(|r| r.topic == "out").fail(passing());
        tester.advance(ms(1000))?;
        tester.wait_until("it fired", || fault.hits() > 0)?;
        tester.crash("ticker")?;
        drop(fault);
        tester.start_instance("ticker", 0)?;
        tester.advance(ms(0))?;
        assert_eq!(values(&out), ["first"]);
        tester.advance(ms(1000))?;
        assert_eq!(values(&out), ["again"]);
        assert_eq!(live_keys(&tester, "ticker-time"), 3);
        Ok(())
    })
}

#[test]
fn t2_a_timer_has_its_keys_value() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("count").table(stream_core::codec::Int64);
        let out = g.output("out", Text);
        let later = g.timer("later", Text);
        g.input("in", Text, move |ctx, text| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set_timer(later, 100, &text)?;
            ctx.set(n)
        });
        g.on_timer(later, move |ctx, _| {
            let n = ctx.value()?.unwrap_or(0);
            ctx.emit(out, ctx.key(), format!("{n}"))?;
            ctx.delete()
        });
        let (tester, out) = tester(guarantee, g.build()?)?;
        for at in [1, 2, 3] {
            send(&tester, "k", "x", at)?;
        }
        send(&tester, "other", "x", 101)?;
        assert_eq!(values(&out).first().map(String::as_str), Some("3"));
        assert_eq!(tester.table("count", stream_core::codec::Int64).get("k")?, None);
        Ok(())
    })
}

#[test]
fn t2_a_timer_that_fails_fires_again_after_a_restart() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "k", "set 100", 1)?;
        tester.fail_callbacks("reminder-time", 1, "on purpose");
        tester.input("in", Text).push_at("k", Some(&"now".to_owned()), Some(200), None)?;
        let failed = format!("{:?}", tester.drain().expect_err("the timer fails"));
        assert!(failed.contains("timer") && failed.contains("on purpose"), "{failed}");
        assert!(matches!(tester.failure("reminder"), Some(ProcessorError::Record { .. })));
        assert_eq!(values(&out).len(), 0);
        tester.start_instance("reminder", 0)?;
        tester.drain()?;
        assert_eq!(values(&out), ["k set 100 fired at 100", "now"]);
        Ok(())
    })
}

#[test]
fn t2_a_timer_fires_again_when_what_it_did_is_not_delivered() -> Done {
    with_both(|guarantee| {
        let (tester, out) = tester(guarantee, reminder())?;
        send(&tester, "k", "set 100", 1)?;
        let _fault = tester.log().faults().on(|r| r.topic == "out").times(1).fail(passing());
        send(&tester, "k", "now", 200)?;
        let all = values(&out);
        assert_eq!(all.iter().filter(|v| v.contains("fired")).count(), 1, "{all:?}");
        assert_eq!(all.last().map(String::as_str), Some("now"));
        assert_eq!(live_keys(&tester, "reminder-time"), 1);
        Ok(())
    })
}

#[test]
fn t2_a_timer_whose_record_is_refused_ends_the_instance() -> Done {
    // It must not loop for ever.
    with_both(|guarantee| {
        let (tester, _) = tester(guarantee, reminder())?;
        send(&tester, "k", "set 100", 1)?;
        let _fault = tester.log().faults().on(|r| r.topic == "out").fail(too_large("out"));
        tester.input("in", Text).push_at("k", Some(&"set 900".to_owned()), Some(200), None)?;
        assert!(tester.drain().is_err());
        assert!(matches!(tester.failure("reminder"), Some(ProcessorError::Record { .. })));
        Ok(())
    })
}

#[test]
fn t2_definitions_that_make_no_sense_are_refused() {
    let mut g = Group::define("g");
    g.input("in", Text, |_, _| Ok(()));
    let _unread = g.timer("t", Text);
    assert!(matches!(g.build(), Err(BuildError::TimerUnread { .. })));
    let mut g = Group::define("g");
    g.input("in", Text, |_, _| Ok(()));
    for _ in 0..2 {
        let timer = g.timer("t", Text);
        g.on_timer(timer, |_, _| Ok(()));
    }
    assert!(matches!(g.build(), Err(BuildError::TwoOfAName { .. })));
}
