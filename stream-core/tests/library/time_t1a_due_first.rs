//! T1a: what is due before a record fires before its callback, however records are delivered or awaited; a timer that is set
//! for a time which stream time has passed fires right after its callback.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackResult, Group, GroupBuilder, GroupGraph, Input};
use stream_core::prelude::{Ctx, NoTable};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{Sessions, Windows};

use crate::support::{Done, Gate, Notes, Outcome, ms, values, with_both};

/// How a callback ends its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sync,
    Async,
    Deferred,
}

const KINDS: [Kind; 3] = [Kind::Sync, Kind::Async, Kind::Deferred];

/// An input whose callback does this, and ends later than those of other keys that came after it.
fn input(
    g: &mut GroupBuilder<NoTable>,
    kind: Kind,
    work: impl Fn(&mut Ctx<'_, NoTable>, String) -> CallbackResult + Send + Sync + 'static,
) {
    let rest = |at: i64| ms(300 - at.unsigned_abs().min(300));
    let of = Input::topic("in").concurrency(8);
    match kind {
        Kind::Sync => g.input(of, Text, work),
        Kind::Async => g.input_async(of, Text, async move |ctx: &mut Ctx<'_, NoTable>, text| {
            tokio::time::sleep(rest(ctx.timestamp())).await;
            work(ctx, text)
        }),
        Kind::Deferred => g.input(of, Text, move |ctx, text| {
            work(ctx, text)?;
            let (deferred, rest) = (ctx.defer(), rest(ctx.timestamp()));
            tokio::task::spawn_local(async move {
                tokio::time::sleep(rest).await;
                deferred.done();
            });
            Ok(())
        }),
    };
}

/// What a group writes of these records, all of which are there before it begins.
fn at_once(graph: Arc<GroupGraph>, guarantee: Guarantee, records: &[(&str, &str, i64)]) -> Outcome<Vec<String>> {
    let (name, tester) = (graph.name().to_owned(), Tester::new());
    tester.add_with(graph, move |p| p.guarantee(guarantee))?;
    tester.stop(&name)?;
    for (key, text, at) in records {
        tester.input("in", Text).push_at(*key, Some(&(*text).to_owned()), Some(*at), None)?;
    }
    tester.restart(&name)?;
    tester.drain()?;
    Ok(values(&tester.output("out", Text)))
}

/// Copies each record once it is in its session.
fn sessions(kind: Kind) -> Arc<GroupGraph> {
    let mut g = Group::define("visits");
    let out = g.output("out", Text);
    let visits = g.session("visits", Sessions::gap(ms(5)), Text);
    input(&mut g, kind, move |ctx, text| {
        ctx.aggregate_session(visits, |a| a.unwrap_or_default() + &text, |a, b| a + &b)?;
        Ok(())
    });
    g.on_close(visits, move |ctx, (session, texts)| ctx.emit(out, ctx.key(), format!("{session} {texts}")));
    g.build().unwrap()
}

#[test]
fn t1a_a_session_closes_before_the_record_that_ends_it_though_both_were_fetched_together() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let records = [("k", "a", 7), ("k", "b", 14), ("k", "c", 12), ("k", "-", 100)];
            let emitted = at_once(sessions(kind), guarantee, &records)?;
            assert_eq!(emitted, ["[7, 7] a", "[12, 14] bc"], "{kind:?}");
        }
        Ok(())
    })
}

/// `set T` sets the key's timer, `cancel` cancels it.
fn timers(kind: Kind) -> Arc<GroupGraph> {
    let mut g = Group::define("timers");
    let out = g.output("out", Text);
    let timer = g.timer("timer", Text);
    input(&mut g, kind, move |ctx, text| {
        ctx.emit(out, ctx.key(), &text)?;
        match text.split_once(' ') {
            Some(("set", at)) => ctx.set_timer(timer, at.parse()?, &text),
            _ if text == "cancel" => ctx.cancel_timer(timer),
            _ => Ok(()),
        }
    });
    g.on_timer(timer, move |ctx, text| ctx.emit(out, ctx.key(), format!("{text} fired")));
    g.build().unwrap()
}

#[test]
fn t1a_a_timer_for_a_time_that_is_passed_fires_right_after_its_callback() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let records = [("k", "first", 100), ("k", "set 60", 50), ("k", "cancel", 55)];
            let emitted = at_once(timers(kind), guarantee, &records)?;
            assert_eq!(emitted, ["first", "set 60", "set 60 fired", "cancel"], "{kind:?}");
        }
        Ok(())
    })
}

#[test]
fn t1a_a_timer_fires_before_a_later_record_of_another_key() -> Done {
    with_both(|guarantee| {
        for kind in KINDS {
            let records = [("a", "set 60", 50), ("b", "later", 70), ("a", "cancel", 71)];
            let emitted = at_once(timers(kind), guarantee, &records)?;
            assert_eq!(emitted, ["set 60", "set 60 fired", "later", "cancel"], "{kind:?}");
        }
        Ok(())
    })
}

#[test]
fn t1a_a_timer_of_the_wall_clock_for_a_time_that_is_passed_fires_right_after_its_callback() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("alarms");
        let out = g.output("out", Text);
        let alarm = g.wall_timer("alarm", Text);
        g.input("in", Text, move |ctx, text| {
            ctx.emit(out, ctx.key(), &text)?;
            if text == "set" { ctx.set_timer(alarm, ctx.now_ms(), &text) } else { ctx.cancel_timer(alarm) }
        });
        g.on_timer(alarm, move |ctx, _| ctx.emit(out, ctx.key(), "rang".to_owned()));
        let emitted = at_once(g.build()?, guarantee, &[("k", "set", 1), ("k", "cancel", 2)])?;
        assert_eq!(emitted, ["set", "rang", "cancel"]);
        Ok(())
    })
}

/// Windows of 60 whose callback waits at a gate.
fn gated(gate: &Gate, begun: &Notes<String>) -> Arc<GroupGraph> {
    let mut g = Group::define("counts");
    let out = g.output("out", Text);
    let counts = g.window("counts", Windows::tumbling(ms(60)), Int64);
    let (gate, begun) = (gate.clone(), begun.clone());
    g.input_async(Input::topic("in").concurrency(8), Text, async move |ctx: &mut Ctx<'_, NoTable>, text: String| {
        begun.add(text.clone());
        gate.pass(&text).await;
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{window} {n}")));
    g.build().unwrap()
}

/// Records wait for those under way only where these may set something that is due before them.
#[test]
fn t1a_callbacks_await_together_until_a_window_may_close() -> Done {
    with_both(|guarantee| {
        let (gate, begun) = (Gate::new(), Notes::new());
        let tester = Tester::new();
        tester.add_with(gated(&gate, &begun), move |p| p.guarantee(guarantee))?;
        for (n, at) in [1, 20, 59, 60, 61].into_iter().enumerate() {
            tester.input("in", Text).push_at(&*format!("k{n}"), Some(&n.to_string()), Some(at), None)?;
        }
        tester.wait_until("those of the first window begin", || begun.len() == 3)?;
        tester.run_for(ms(1_000));
        assert_eq!(begun.all(), ["0", "1", "2"], "60 closes the window that they are still to be counted in");
        gate.open_all();
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), ["[0, 60) 1"; 3]);
        assert_eq!(tester.late("counts")?, 0);
        Ok(())
    })
}

/// Text whose words with a number need that to be loaded once.
#[derive(Clone, Default)]
struct Registered(Arc<std::sync::Mutex<Vec<u32>>>);

impl stream_core::codec::Codec<String> for Registered {
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), stream_core::codec::CodecError> {
        Text.encode(value, out)
    }
    fn decode(&self, bytes: &[u8]) -> Result<String, stream_core::codec::CodecError> {
        let text: String = Text.decode(bytes)?;
        match text.chars().find_map(|c| c.to_digit(10)) {
            Some(id) if !self.0.lock().unwrap().contains(&id) => Err(stream_core::codec::CodecError::NotLoaded(id)),
            _ => Ok(text),
        }
    }
    fn load(&self, id: u32) -> futures::future::BoxFuture<'_, Result<(), stream_core::codec::CodecError>> {
        Box::pin(async move {
            tokio::time::sleep(ms(20)).await;
            self.0.lock().unwrap().push(id);
            Ok(())
        })
    }
}

/// A record whose codec has to load something first moves stream time as any other, and what is due before it comes first.
#[test]
fn t1a_a_record_that_waits_for_its_codec_comes_behind_what_is_due_before_it() -> Done {
    with_both(|guarantee| {
        for awaits in [false, true] {
            let mut g = Group::define("counts");
            let out = g.output("out", Text);
            let counts = g.window("counts", Windows::tumbling(ms(60)), Int64);
            let work = move |ctx: &mut Ctx<'_, NoTable>, text: String| -> CallbackResult {
                let n = ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?.len();
                ctx.emit(out, ctx.key(), format!("{text} at {} in {n}", ctx.stream_time().unwrap_or(-1)))
            };
            let codec = Registered::default();
            if awaits {
                g.input_async("in", codec, async move |ctx: &mut Ctx<'_, NoTable>, text| work(ctx, text));
            } else {
                g.input("in", codec, work);
            }
            g.on_close(counts, move |ctx, (window, n)| ctx.emit(out, ctx.key(), format!("{window} {n}")));
            let records = [("a", "x", 1), ("b", "y1", 70), ("c", "z", 50), ("d", "w12", 130)];
            let emitted = at_once(g.build()?, guarantee, &records)?;
            let expected =
                ["x at 1 in 1", "[0, 60) 1", "y1 at 70 in 1", "z at 70 in 0", "[60, 120) 1", "w12 at 130 in 1"];
            assert_eq!(emitted, expected, "awaits: {awaits}");
        }
        Ok(())
    })
}
