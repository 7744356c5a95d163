//! What is due has an error policy: fail, skip or put aside, after retries. Under skip, others go on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use stream_core::codec::{Bytes, Codec, CodecError, Text};
use stream_core::group::{
    BuildError, CallbackError, CallbackResult, ErrorPolicy, Group, GroupGraph, LeftOut, Side, dead_letter,
    session_topic, time_topic, window_topic,
};
use stream_core::log::{Log as _, TopicConfig, TopicSpec};
use stream_core::processor::{Guarantee, ProcessorError};
use stream_core::testing::{TestRecord, Tester};
use stream_core::window::{Batches, JoinWindows, Sessions, Windows};

use crate::support::{Done, Notes, Outcome, live_keys, ms, values, with_both};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    Timer,
    Wall,
    Window,
    Session,
    Batch,
    Null,
}

const ALL: [Due; 6] = [Due::Timer, Due::Wall, Due::Window, Due::Session, Due::Batch, Due::Null];

/// The keys for which a callback fails.
#[derive(Clone)]
struct Bad(Arc<Mutex<BTreeSet<&'static str>>>);

impl Bad {
    fn keys(keys: &[&'static str]) -> Self {
        Self(Arc::new(Mutex::new(keys.iter().copied().collect())))
    }

    fn none_is(&self) {
        self.0.lock().unwrap().clear();
    }

    fn judge(&self, key: Option<&[u8]>) -> CallbackResult {
        // A panic must not poison the lock.
        let bad = self.0.lock().unwrap().clone();
        match key.and_then(|key| std::str::from_utf8(key).ok()).filter(|key| bad.contains(key)) {
            Some("panic") => panic!("at the key"),
            Some(key) => Err(CallbackError::msg(format!("{key} is bad"))),
            None => Ok(()),
        }
    }
}

/// Does the same work by each kind of due work: what came for a key is emitted when it is due, unless the key is bad. What a
/// failed callback has emitted is never seen.
fn teller(due: Due, policy: ErrorPolicy, bad: &Bad, calls: &Notes<String>) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    let out = g.output("out", Text);
    let (bad, calls) = (bad.clone(), calls.clone());
    let emit = move |ctx: &mut stream_core::context::Ctx<'_, stream_core::group::NoTable>, text: &str| {
        calls.add(ctx.key_text()?.to_owned());
        ctx.emit(out, ctx.key(), text.to_owned())?;
        bad.judge(ctx.key())
    };
    match due {
        Due::Timer | Due::Wall => {
            let wall = due == Due::Wall;
            let timer = if wall { g.wall_timer("due", Text) } else { g.timer("due", Text) };
            g.input("in", Text, move |ctx, text: String| {
                let at = if wall { ctx.now_ms() + 50 } else { 100 };
                if text == "flush" { Ok(()) } else { ctx.set_timer(timer, at, &text) }
            });
            g.on_timer(timer, move |ctx, text| emit(ctx, &text));
            g.on_due_error(timer, policy);
        }
        Due::Window => {
            let window = g.window("due", Windows::tumbling(ms(100)), Text);
            g.input("in", Text, move |ctx, text: String| ctx.aggregate(window, |_| text.clone()).map(drop));
            g.on_close(window, move |ctx, (_, text)| emit(ctx, &text));
            g.on_due_error(window, policy);
        }
        Due::Session => {
            let session = g.session("due", Sessions::gap(ms(20)), Text);
            g.input("in", Text, move |ctx, text: String| ctx.aggregate_session(session, |_| text, |a, _| a).map(drop));
            g.on_close(session, move |ctx, (_, text)| emit(ctx, &text));
            g.on_due_error(session, policy);
        }
        Due::Batch => {
            let batch = g.batch("due", Batches::of(100).gap(ms(50)), Text);
            g.input("in", Text, move |ctx, text| ctx.collect(batch, text));
            g.on_close(batch, move |ctx, all| emit(ctx, &all.join("+")));
            g.on_due_error(batch, policy);
        }
        Due::Null => {
            let windows = JoinWindows::around(ms(10)).grace(ms(0));
            let (left, right) = (Side::topic("in", Text), Side::topic("other", Text));
            g.stream_join("due", windows, left, right).on_null_error(policy).left(move |ctx, text, _| emit(ctx, text));
        }
    }
    g.build().unwrap()
}

/// Four keys come, and all are due.
fn all_due(tester: &Tester, due: Due) -> Result<(), stream_core::testing::TesterError> {
    let input = tester.input("in", Text);
    for key in ["a", "bad", "panic", "z"] {
        input.push_at(key, Some(&format!("of {key}")), Some(50), None)?;
    }
    tester.drain()?;
    match due {
        Due::Wall | Due::Batch => tester.advance(ms(60)),
        _ => input.send_at("flush", "flush".to_owned(), 5000),
    }
}

/// How many entries of what fell due are left.
fn left(tester: &Tester, due: Due) -> usize {
    let topic = match due {
        Due::Timer | Due::Wall => "g-time".to_owned(),
        Due::Window => "g-window-due".to_owned(),
        Due::Session => "g-session-due".to_owned(),
        Due::Batch => "g-batch-due".to_owned(),
        Due::Null => "g-kept-due".to_owned(),
    };
    live_keys(tester, &topic)
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

#[test]
fn under_skip_one_that_fails_is_counted_and_the_others_go_on() -> Done {
    with_both(|guarantee| {
        for due in ALL {
            let (bad, calls) = (Bad::keys(&["bad", "panic"]), Notes::new());
            let tester = Tester::new();
            tester.add_with(teller(due, ErrorPolicy::skip(), &bad, &calls), move |p| p.guarantee(guarantee))?;
            all_due(&tester, due)?;
            assert_eq!(sorted(values(&tester.output("out", Text))), ["of a", "of z"], "{due:?}");
            assert_eq!(tester.left_out("g", LeftOut::Failed)?, 2, "{due:?}");
            // It is gone: it is not due again after a restart.
            bad.none_is();
            calls.take();
            tester.restart("g")?;
            tester.drain()?;
            assert_eq!(calls.len(), 0, "{due:?}");
            // What the flush itself has left open.
            let flush = match due {
                Due::Timer | Due::Wall | Due::Batch => 0,
                Due::Window | Due::Null => 1,
                Due::Session => 2,
            };
            let time = usize::from(matches!(due, Due::Timer | Due::Wall));
            assert_eq!(left(&tester, due), flush + time, "{due:?}");
        }
        Ok(())
    })
}

#[test]
fn by_default_one_that_fails_fails_the_instance_and_is_due_again() -> Done {
    with_both(|guarantee| {
        for due in ALL {
            let (bad, calls) = (Bad::keys(&["bad"]), Notes::new());
            let tester = Tester::new();
            tester.add_with(teller(due, ErrorPolicy::fail(), &bad, &calls), move |p| p.guarantee(guarantee))?;
            let error = format!("{:?}", all_due(&tester, due).unwrap_err());
            assert!(error.contains("key bad") && error.contains("bad is bad"), "{due:?}: {error}");
            bad.none_is();
            tester.start_instance("g", 0)?;
            tester.drain()?;
            tester.run_for(ms(100));
            let mut emitted = sorted(values(&tester.output("out", Text)));
            emitted.dedup();
            assert_eq!(emitted, ["of a", "of bad", "of panic", "of z"], "{due:?}");
        }
        Ok(())
    })
}

fn header(letter: &TestRecord<String>, name: &str) -> String {
    letter.header(name).unwrap_or_default()
}

#[test]
fn a_dead_letter_has_the_key_the_window_and_the_accumulator() -> Done {
    with_both(|guarantee| {
        for due in ALL {
            let (bad, calls) = (Bad::keys(&["bad"]), Notes::new());
            let tester = Tester::new();
            let graph = teller(due, ErrorPolicy::dead_letter("dead"), &bad, &calls);
            tester.add_with(graph, move |p| p.guarantee(guarantee))?;
            tester.input("in", Text).push_at("bad", Some(&"first".to_owned()), Some(40), None)?;
            let now = tester.now_ms();
            all_due(&tester, due)?;
            let letters = tester.output("dead", Text).read()?;
            let letter = &letters[0];
            assert_eq!(letter.key_text(), "bad", "{due:?}");
            assert_eq!(header(letter, dead_letter::NAME), "due");
            assert!(header(letter, dead_letter::REASON).contains("bad is bad"), "{due:?}");
            assert_eq!(letter.timestamp, tester.now_ms());
            let (what, topic, at, span) = match due {
                Due::Timer => ("timer", time_topic("g"), 100, ("", "")),
                Due::Wall => ("timer", time_topic("g"), now + 50, ("", "")),
                Due::Window => ("window", window_topic("g", "due"), 99, ("0", "100")),
                Due::Session => ("session", session_topic("g", "due"), 50, ("40", "50")),
                Due::Batch => ("batch", "in".into(), 50, ("", "")),
                Due::Null => ("left", stream_core::group::join_topic("g", "due"), 40, ("", "")),
            };
            assert_eq!(header(letter, dead_letter::DUE), what);
            assert_eq!(header(letter, dead_letter::TOPIC), *topic);
            assert_eq!(header(letter, dead_letter::TIMESTAMP), at.to_string(), "{due:?}");
            let found = (header(letter, dead_letter::WINDOW_START), header(letter, dead_letter::WINDOW_END));
            assert_eq!(found, (span.0.to_owned(), span.1.to_owned()), "{due:?}");
            let held: Vec<_> = letters.iter().filter_map(|r| r.value.clone()).collect();
            match due {
                // Each record of it, with its offset.
                Due::Batch => {
                    assert_eq!(held, ["first", "of bad"]);
                    assert_eq!(header(&letters[1], dead_letter::OFFSET), "2");
                }
                Due::Null => assert_eq!(held, ["first", "of bad"]),
                _ => assert_eq!(held, ["of bad"], "{due:?}"),
            }
        }
        Ok(())
    })
}

#[test]
fn a_retry_waits_and_nothing_overtakes_it() -> Done {
    with_both(|guarantee| {
        for due in ALL {
            let (bad, calls) = (Bad::keys(&["bad"]), Notes::new());
            let tester = Tester::new();
            let policy = ErrorPolicy::skip().retry(3, ms(1000));
            tester.add_with(teller(due, policy, &bad, &calls), move |p| p.guarantee(guarantee))?;
            let input = tester.input("in", Text);
            input.push_at("bad", Some(&"text".to_owned()), Some(50), None)?;
            tester.drain()?;
            match due {
                Due::Wall | Due::Batch => _ = tester.advance(ms(60)),
                _ => input.push_at("flush", Some(&"flush".to_owned()), Some(5000), None)?,
            }
            // The second attempt fails as well, the third goes well.
            tester.wait_until("it was tried twice", || calls.len() == 2)?;
            bad.none_is();
            assert!(values(&tester.output("out", Text)).is_empty(), "{due:?}");
            tester.run_for(ms(5000));
            assert_eq!(calls.all(), ["bad"; 3], "{due:?}");
            assert_eq!(values(&tester.output("out", Text)), ["text"], "{due:?}");
            assert_eq!(tester.left_out("g", LeftOut::Failed)?, 0);
        }
        Ok(())
    })
}

#[test]
fn an_accumulator_that_can_not_be_read_follows_the_policy_too() -> Done {
    /// Forgets how to read a word.
    struct Forgetful(Arc<Mutex<bool>>);
    impl Codec<String> for Forgetful {
        fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
            Text.encode(value, out)
        }
        fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
            match (*self.0.lock().unwrap(), bytes) {
                (true, b"odd") => Err(CodecError::invalid("odd indeed")),
                (_, bytes) => Text.decode(bytes),
            }
        }
    }
    with_both(|guarantee| {
        let forgot = Arc::new(Mutex::new(false));
        let mut g = Group::define("g");
        let out = g.output("out", Text);
        let window = g.window("due", Windows::tumbling(ms(100)), Forgetful(Arc::clone(&forgot)));
        g.input("in", Text, move |ctx, text: String| ctx.aggregate(window, |_| text.clone()).map(drop));
        g.on_close(window, move |ctx, (_, text)| ctx.emit(out, ctx.key(), &text));
        g.on_due_error(window, ErrorPolicy::dead_letter("dead"));
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for (key, text) in [("a", "odd"), ("b", "even")] {
            tester.input("in", Text).send_at(key, text.to_owned(), 50)?;
        }
        *forgot.lock().unwrap() = true;
        tester.input("in", Text).send_at("z", "z".to_owned(), 500)?;
        assert_eq!(values(&tester.output("out", Text)), ["even"]);
        assert_eq!(values(&tester.output("dead", Bytes)), [b"odd".to_vec()]);
        Ok(())
    })
}

/// A window of four keys, one of which emits more than the topic takes, which nobody knows before.
fn refused(
    policy: ErrorPolicy,
    guarantee: Guarantee,
) -> Outcome<(Tester, Result<(), stream_core::testing::TesterError>)> {
    let mut g = Group::define("g");
    let out = g.output("unused", Text);
    let narrow: Arc<str> = "narrow".into();
    let window = g.window("due", Windows::tumbling(ms(100)), Text);
    g.input("in", Text, move |ctx, text: String| ctx.aggregate(window, |_| text.clone()).map(drop));
    g.on_close(window, move |ctx, (_, text)| {
        let size = if text == "large" { 5000 } else { 10 };
        ctx.emit_to_topic(out, &narrow, ctx.key(), "x".repeat(size))
    });
    g.on_due_error(window, policy);
    let tester = Tester::new();
    let config = TopicConfig::new().max_message_bytes(1000);
    tester.block_on(tester.log().create_topics(vec![TopicSpec::new("narrow").partitions(1).config(config)]))?;
    tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
    for (key, text) in [("a", "small"), ("b", "large"), ("c", "small"), ("d", "small")] {
        tester.input("in", Text).push_at(key, Some(&text.to_owned()), Some(50), None)?;
    }
    tester.drain()?;
    tester.input("in", Text).push_at("z", Some(&"small".to_owned()), Some(500), None)?;
    let drained = tester.drain();
    Ok((tester, drained))
}

#[test]
fn what_kafka_refuses_of_a_due_callback_follows_the_policy_too() -> Done {
    with_both(|guarantee| {
        let (tester, drained) = refused(ErrorPolicy::dead_letter("dead"), guarantee)?;
        drained?;
        let mut keys: Vec<_> = tester.output("narrow", Text).read()?.into_iter().map(|r| r.key_text()).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys, ["a", "c", "d"]);
        let mut dead: Vec<_> =
            tester.output("dead", Text).read()?.into_iter().map(|r| (r.key_text(), r.value)).collect();
        dead.dedup();
        assert_eq!(dead, [("b".to_owned(), Some("large".to_owned()))]);
        let (tester, drained) = refused(ErrorPolicy::fail(), guarantee)?;
        let error = format!("{:?}", drained.unwrap_err());
        assert!(error.contains("key b") && error.contains("g-window-due"), "{error}");
        assert!(matches!(tester.failure("g"), Some(ProcessorError::Record { .. })));
        Ok(())
    })
}

#[test]
fn dead_letters_of_due_work_do_not_lead_back_and_their_topic_is_made() -> Done {
    let mut g = Group::define("g");
    let timer = g.timer("due", Text);
    g.on_timer(timer, |_, _| Ok(()));
    g.on_due_error(timer, ErrorPolicy::dead_letter("in"));
    g.input("in", Text, |_, _| Ok(()));
    assert!(matches!(g.build(), Err(BuildError::DeadLetterBack { edge, .. }) if edge == "timer \"due\""));
    let tester = Tester::new();
    let graph = teller(Due::Window, ErrorPolicy::dead_letter("dead"), &Bad::keys(&[]), &Notes::new());
    assert!(graph.describe().contains("grace 0 ms, on error dead letter to dead"), "{}", graph.describe());
    assert!(graph.mermaid().contains("aside0(\"dead\")"), "{}", graph.mermaid());
    tester.add(graph)?;
    let found = tester.block_on(tester.log().topics(vec!["dead".into()]))?;
    assert!(found[0].is_some());
    let mut other = Group::define("other");
    let foreign = other.timer("t", Text);
    let mut g = Group::define("g");
    g.input("in", Text, |_, _| Ok(()));
    g.on_due_error(foreign, ErrorPolicy::skip());
    assert!(matches!(g.build(), Err(BuildError::ForeignHandle { .. })));
    Ok(())
}
