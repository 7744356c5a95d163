//! Records that are left out are counted by reason, logged now and then, and go where their input says; those of joins, too.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{
    BuildError, CallbackError, ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, LeftOut, NoTable, NullKey, Route,
    Side, dead_letter,
};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{JoinWindows, Sessions, Windows};

use crate::support::{Done, Notes, logged, ms, values, with_both};

const HOUR_MS: i64 = 3_600_000;
const NO_KEY: Option<&str> = None;

fn build(make: impl FnOnce(&mut GroupBuilder<NoTable>)) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    make(&mut g);
    g.build().unwrap()
}

/// Counts in hopping windows and in sessions; `bad` fails.
fn counter(input: Input) -> Arc<GroupGraph> {
    build(|g| {
        let windows = g.window("w", Windows::hopping(ms(60), ms(20)), Int64);
        let sessions = g.session("s", Sessions::gap(ms(20)), Int64);
        g.input(input, Text, move |ctx, text: String| {
            ctx.aggregate(windows, |n| n.unwrap_or(0) + 1)?;
            ctx.aggregate_session(sessions, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
            if text == "bad" { Err(CallbackError::msg("bad record")) } else { Ok(()) }
        });
    })
}

fn add(graph: Arc<GroupGraph>, guarantee: Guarantee) -> Result<Tester, stream_core::testing::TesterError> {
    let tester = Tester::new();
    tester.add_with(graph, move |p| p.guarantee(guarantee).max_ahead(ms(3_600_000)))?;
    Ok(tester)
}

/// One record for each reason; the late one is late for two windows and its session.
fn one_of_each(tester: &Tester) -> Done {
    let (input, now) = (tester.input("in", Text), tester.now_ms());
    input.push_at("k", Some(&"good".to_owned()), Some(185), None)?;
    input.push_at("late", Some(&"x".to_owned()), Some(159), None)?;
    input.push_at("ahead", Some(&"x".to_owned()), Some(now + 2 * HOUR_MS), None)?;
    input.push_at("negative", Some(&"x".to_owned()), Some(-5), None)?;
    input.push_at(NO_KEY, Some(&"x".to_owned()), Some(185), None)?;
    input.push_at("no value", None, Some(185), None)?;
    input.push_at("failed", Some(&"bad".to_owned()), Some(185), None)?;
    Ok(tester.drain()?)
}

const ALL: [LeftOut; 6] =
    [LeftOut::Late, LeftOut::Ahead, LeftOut::Negative, LeftOut::NullKey, LeftOut::NullValue, LeftOut::Failed];

#[test]
fn each_reason_is_counted_in_the_status_and_logged_with_an_example() -> Done {
    with_both(|guarantee| {
        let input = Input::topic("in").null_key(NullKey::Skip).on_error(ErrorPolicy::skip());
        let tester = add(counter(input), guarantee)?;
        let (done, logged) = logged(|| one_of_each(&tester));
        done?;
        let status = tester.handle("g", 0)?.status();
        let counts: Vec<_> = ALL.iter().map(|reason| status.left_out.get(reason).copied().unwrap_or(0)).collect();
        assert_eq!(counts, [3, 1, 1, 1, 1, 1], "late for two windows and a session");
        assert_eq!(logged.matches("a record is left out").count(), 6, "{logged}");
        for part in ["key=late", "key=ahead", "key=negative", "key=none", "key=no value", "key=failed"] {
            assert!(logged.contains(part), "{part}: {logged}");
        }
        assert!(logged.contains("offset=1") && logged.contains("stream_time=\"1970-01-01T00:00:00.185Z\""), "{logged}");
        Ok(())
    })
}

#[test]
fn an_example_is_logged_at_most_once_a_minute() -> Done {
    let tester = add(counter(Input::topic("in")), Guarantee::AtLeastOnce)?;
    let input = tester.input("in", Text);
    let (done, logged) = logged(|| -> Done {
        for _ in 0..5 {
            input.send_null("k")?;
        }
        tester.run_for(ms(61_000));
        for _ in 0..5 {
            input.send_null("k")?;
        }
        Ok(())
    });
    done?;
    assert_eq!(logged.matches("a record is left out").count(), 2, "{logged}");
    assert!(logged.contains("since=1\n") && logged.contains("since=5\n"), "{logged}");
    assert_eq!(tester.left_out("g", LeftOut::NullValue)?, 10);
    Ok(())
}

#[test]
fn a_route_has_them_counted_without_a_word_or_put_aside_or_shown() -> Done {
    with_both(|guarantee| {
        let dropped = ALL.iter().fold(Input::topic("in"), |input, reason| input.left_out(*reason, Route::drop()));
        let tester = add(counter(dropped), guarantee)?;
        let (done, logged) = logged(|| one_of_each(&tester));
        done?;
        assert!(!logged.contains("left out"), "{logged}");
        assert_eq!(ALL.map(|reason| tester.left_out("g", reason).unwrap()), [3, 1, 1, 1, 1, 1]);

        let aside = ALL.iter().fold(Input::topic("in"), |input, reason| {
            input.left_out(*reason, Route::dead_letter(format!("dead-{reason:?}")))
        });
        let tester = add(counter(aside), guarantee)?;
        one_of_each(&tester)?;
        for (reason, offset) in ALL.into_iter().zip(1..) {
            let letters = tester.output(&format!("dead-{reason:?}"), Text).read()?;
            assert_eq!(letters.len(), 1, "{reason:?}");
            assert_eq!(letters[0].header(dead_letter::OFFSET), Some(offset.to_string()), "{reason:?}");
            assert_eq!(letters[0].value.is_none(), reason == LeftOut::NullValue);
            assert!(letters[0].header(dead_letter::REASON).is_some_and(|text| !text.is_empty()));
        }
        assert_eq!(tester.committed("g", "in", 0)?, Some(7));

        let shown = Notes::new();
        let input = ALL.iter().fold(Input::topic("in"), |input, reason| {
            let noted = shown.clone();
            let call = move |record: &stream_core::group::LeftOutRecord<'_>| {
                noted.add((record.reason, record.offset, record.error.is_some(), record.stream_time));
                assert!(record.offset != 2, "a panic of it is its own");
            };
            input.left_out(*reason, Route::call(call))
        });
        let tester = add(counter(input), guarantee)?;
        one_of_each(&tester)?;
        let error = |reason| matches!(reason, LeftOut::Ahead | LeftOut::Negative | LeftOut::Failed);
        let expected: Vec<_> =
            ALL.into_iter().zip(1..).map(|(reason, n)| (reason, n, error(reason), Some(185))).collect();
        assert_eq!(shown.all(), expected);
        Ok(())
    })
}

/// What is put aside is released in the order of the offsets, whatever is awaited.
#[test]
fn awaiting_inputs_and_batches_have_routes_too() -> Done {
    with_both(|guarantee| {
        for batch in [false, true] {
            let input = Input::topic("in")
                .left_out(LeftOut::NullKey, Route::dead_letter("dead"))
                .left_out(LeftOut::NullValue, Route::dead_letter("dead"))
                .left_out(LeftOut::Negative, Route::dead_letter("dead"))
                .left_out(LeftOut::Failed, Route::dead_letter("dead"));
            let graph = build(|g| {
                let out = g.output("out", Text);
                let unused = g.timer("unused", Text);
                g.on_timer(unused, |_, _| Ok(()));
                let fails = |text: &str| if text == "bad" { Err(CallbackError::msg("bad")) } else { Ok(()) };
                if batch {
                    g.input_batch(input, Text, async move |ctx, records| {
                        for r in records {
                            fails(&r.value)?;
                            ctx.emit(out, "k", &r.value)?;
                        }
                        Ok(())
                    });
                } else {
                    g.input_async(input, Text, async move |ctx, text: String| {
                        tokio::time::sleep(ms(5)).await;
                        fails(&text)?;
                        ctx.emit(out, "k", &text)
                    });
                }
            });
            let tester = add(graph, guarantee)?;
            tester.stop("g")?;
            let input = tester.input("in", Text);
            let records: [(Option<&str>, Option<&str>, i64); 8] = [
                (None, Some("0"), 5),
                (Some("a"), Some("1"), 5),
                (Some("b"), None, 5),
                (Some("c"), Some("bad"), 5),
                (None, Some("4"), 5),
                (Some("d"), Some("5"), -9),
                (Some("e"), Some("6"), 5),
                (Some("f"), None, 5),
            ];
            for (key, value, at) in records {
                input.push_at(key, value.map(str::to_owned).as_ref(), Some(at), None)?;
            }
            tester.restart("g")?;
            tester.drain()?;
            let dead = tester.output("dead", Text).read()?;
            let offsets: Vec<_> = dead.iter().filter_map(|r| r.header(dead_letter::OFFSET)).collect();
            assert_eq!(offsets, ["0", "2", "3", "4", "5", "7"], "batch {batch}");
            assert_eq!(values(&tester.output("out", Text)), ["1", "6"], "batch {batch}");
            assert_eq!(tester.committed("g", "in", 0)?, Some(8));
        }
        Ok(())
    })
}

#[test]
fn the_sides_of_joins_have_them_too() -> Done {
    with_both(|guarantee| {
        for re_keyed in [false, true] {
            let side = |topic: &str| {
                let input = Input::topic(topic)
                    .left_out(LeftOut::Late, Route::dead_letter("late"))
                    .left_out(LeftOut::NullKey, Route::dead_letter("keyless"));
                let side = Side::topic(input, Text);
                if re_keyed { side.key_by(|text: &String| text.trim().to_owned()) } else { side }
            };
            let (left, right) = (side("left"), side("right"));
            let windows = JoinWindows::around(ms(10)).grace(ms(10));
            let graph = build(|g| _ = g.stream_join("j", windows, left, right).inner(|_, _, _| Ok(())));
            let tester = add(graph, guarantee)?;
            let (left, right) = (tester.input("left", Text), tester.input("right", Text));
            left.send_at("k", "k".to_owned(), 100)?;
            right.send_at("k", "k".to_owned(), 79)?;
            right.send_at(NO_KEY, " ".to_owned(), 100)?;
            left.push_at("k", None, Some(100), None)?;
            tester.drain()?;
            let status = tester.handle("g", 0)?.status();
            let counts =
                [LeftOut::Late, LeftOut::NullKey, LeftOut::NullValue].map(|r| status.left_out.get(&r).copied());
            assert_eq!(counts, [Some(1); 3], "re-keyed {re_keyed}");
            let late = tester.output("late", Text).read()?;
            assert_eq!((late.len(), late[0].value.as_deref()), (1, Some("k")));
            assert_eq!(values(&tester.output("keyless", Text)), [" "]);
        }
        Ok(())
    })
}

#[test]
fn a_route_does_not_lead_back_into_the_group() {
    let mut g = Group::define("g");
    g.input(Input::topic("in").left_out(LeftOut::Late, Route::dead_letter("in")), Text, |_, _: String| Ok(()));
    assert!(matches!(g.build(), Err(BuildError::DeadLetterBack { .. })));
}
