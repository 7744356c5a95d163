//! Re-keys and loops with names: records that come back to their group under other keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::codec::{EventTime, Int64, Json, Nullable, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input, LeftOut, NullKey, NullValue, Route};
use stream_core::key::BigEndian;
use stream_core::log::Partitioner;
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::Windows;

use crate::support::{Done, ms, pairs, passing, table, values, with_both};

/// Counts "user region page" by region, and writes down how each came.
fn by_region() -> Arc<GroupGraph> {
    let mut g = Group::define("regions").table(Int64);
    let out = g.output("seen", Text);
    let by_region = g.rekey(("views", Text), |_, view: &String| Ok(view.split(' ').nth(1).map(str::to_owned)));
    g.on_loop(by_region, move |ctx, view| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        let from = ctx.headers().get("from").map(|from| String::from_utf8_lossy(from).into_owned());
        let (at, topic) = (ctx.timestamp(), ctx.topic());
        ctx.emit(out, ctx.key(), format!("{view} at {at} from {} by {topic}", from.unwrap_or_default()))?;
        ctx.set(n)
    });
    g.build().unwrap()
}

#[test]
fn d16_records_come_back_under_their_new_keys_as_they_were() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(4);
        tester.add_with(by_region(), move |p| p.guarantee(guarantee))?;
        let views = tester.input("views", Text);
        for n in 0..20 {
            let text = format!("u{n} r{} p", n % 3);
            views.push_with_headers(format!("u{n}"), text, &[("from", b"me".as_slice())])?;
        }
        views.push_at(None::<&str>, Some(&"u9 r9 p".to_owned()), Some(7_000), Some(2))?;
        tester.drain()?;
        assert_eq!(table(&tester, "regions", Int64), pairs([("r0", 7), ("r1", 7), ("r2", 6), ("r9", 1)]));
        let seen = tester.output("seen", Text).read()?;
        for record in &seen {
            let value = record.value.clone().ok_or("a value")?;
            assert_eq!(value.split(' ').nth(1), Some(&*record.key_text()));
            assert!(value.ends_with("by regions-views-rekey"), "{value}");
        }
        assert!(seen.iter().any(|r| r.value.as_deref() == Some("u9 r9 p at 7000 from  by regions-views-rekey")));
        assert_eq!(seen.iter().filter(|r| r.value.as_ref().is_some_and(|v| v.contains(" from me "))).count(), 20);
        // Each is in the partition of its new key.
        let rekeyed = tester.output("regions-views-rekey", Text).read()?;
        assert_eq!(rekeyed.len(), 21);
        for record in rekeyed {
            let key = record.key.ok_or("a key")?;
            assert_eq!(record.partition, Partitioner::default().partition(&key, 4));
        }
        Ok(())
    })
}

#[test]
fn d16_a_chain_of_re_keys_is_gone_through() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("chain").table(Int64);
        let by_len = g.rekey(("in", Text), |_, text: &String| Ok(BigEndian(text.len() as u64)));
        let by_first = g.rekey(by_len, |ctx, text: &String| {
            let BigEndian(len) = ctx.key_as::<BigEndian<u64>>()?;
            Ok(format!("{}{len}", text.get(..1).unwrap_or_default()))
        });
        let by_both = g.rekey(by_first, |ctx, _: &String| Ok(format!("{}!", ctx.key_text()?)));
        g.on_loop(by_both, |ctx, _| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)
        });
        let tester = Tester::with_partitions(3);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for word in ["a", "ab", "ac", "b", "bb", "bab", "a"] {
            tester.input("in", Text).push(word, word)?;
        }
        tester.drain()?;
        let found = table(&tester, "chain", Int64);
        assert_eq!(found, pairs([("a1!", 2), ("a2!", 2), ("b1!", 1), ("b2!", 1), ("b3!", 1)]));
        assert_eq!(tester.output("chain-in-rekey-rekey-rekey", Text).read()?.len(), 7);
        Ok(())
    })
}

#[test]
fn d16_an_error_follows_the_policy_of_the_input() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("policy").table(Int64);
        let input = Input::topic("in").on_error(ErrorPolicy::dead_letter("aside"));
        let by = g.rekey((input, Int64), |_, n: &i64| match n {
            0 => Err("no key for it".into()),
            n => Ok(n.to_string()),
        });
        let again = g.rekey(by, |_, n: &i64| if *n == 1 { Err("not again".into()) } else { Ok(format!("k{n}")) });
        g.on_loop(again, |ctx, n| if n == 2 { Err("not this one".into()) } else { ctx.set(n) });
        let tester = Tester::with_partitions(2);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for n in 0..4 {
            tester.input("in", Int64).push("old", n)?;
        }
        tester.input("in", Int64).push_bytes("old", Some(b"none"), None, None)?;
        tester.drain()?;
        assert_eq!(table(&tester, "policy", Int64), pairs([("k3", 3)]));
        let aside: BTreeMap<_, _> = (tester.output("aside", stream_core::codec::Bytes).read()?.into_iter())
            .map(|r| (r.value.clone().unwrap_or_default(), r.key_text()))
            .collect();
        let encoded = |n: i64| n.to_string().into_bytes();
        let expected = [(encoded(0), "old"), (encoded(1), "1"), (encoded(2), "k2"), (b"none".to_vec(), "old")];
        assert_eq!(aside, expected.map(|(value, key)| (value, key.to_owned())).into_iter().collect());
        Ok(())
    })
}

#[test]
fn d16_no_key_and_nulls_are_left_out_and_counted() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("nulls").table(Text);
        let input = Input::topic("in").left_out(LeftOut::NullKey, Route::dead_letter("keyless"));
        let by = g.rekey((input, Text), |_, text: &String| Ok((text != "none").then(|| text.clone())));
        g.on_loop(by, |ctx, text| ctx.set(text));
        let tester = Tester::with_partitions(2);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let input = tester.input("in", Text);
        for text in ["a", "none", "b", ""] {
            input.push("old", text)?;
        }
        input.push_at("old", None, None, None)?;
        // The rule for null keys of the input holds for its own keys, too.
        input.push(None::<&str>, "c")?;
        tester.drain()?;
        assert_eq!(tester.left_out("nulls", LeftOut::NullKey)?, 2);
        assert_eq!(tester.left_out("nulls", LeftOut::NullValue)?, 1);
        let left: Vec<_> = ["", "a", "b"].map(|text| (text.to_owned(), text.to_owned())).into();
        assert_eq!(table(&tester, "nulls", Text), left.into_iter().collect());
        let mut aside = values(&tester.output("keyless", Text));
        aside.sort();
        assert_eq!(aside, ["c", "none"]);
        Ok(())
    })
}

#[test]
fn d16_nulls_pass_where_they_are_values() -> Done {
    for passed in [false, true] {
        let mut g = Group::define("passed").table(Int64);
        let input = Input::topic("in").null_key(NullKey::Pass);
        let count = |ctx: &mut stream_core::Ctx<'_, stream_core::Table<i64>>, null: bool| {
            assert_eq!(ctx.value_is_null(), null);
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)
        };
        if passed {
            let by = g.rekey((input.null_value(NullValue::Pass), Text), |ctx, _: &String| {
                Ok(ctx.value_is_null().to_string())
            });
            g.on_loop(by, move |ctx, text: String| count(ctx, text.is_empty()));
        } else {
            let by = g.rekey((input, Nullable::of(Text)), |_, text: &Option<String>| Ok(text.is_none().to_string()));
            let again = g.rekey(by, |ctx, _| Ok(ctx.key_text()?.to_owned()));
            g.on_loop(again, move |ctx, text: Option<String>| count(ctx, text.is_none()));
        }
        let tester = Tester::with_partitions(2);
        tester.add(g.build()?)?;
        for text in [None, Some("a"), None, None] {
            tester.input("in", Text).push_at("old", text.map(str::to_owned).as_ref(), None, None)?;
        }
        tester.drain()?;
        assert_eq!(table(&tester, "passed", Int64), pairs([("true", 3), ("false", 1)]), "{passed}");
    }
    Ok(())
}

/// What a sender has sent and a receiver has got, by two loops with other types.
fn letters() -> Arc<GroupGraph> {
    let mut g = Group::define("letters").table(Json::<(i64, i64)>::new());
    let sent = g.named_loop("sent", Text);
    let got = g.named_loop("got", Int64);
    let last = g.loopback(Text);
    g.input("letters", Text, move |ctx, letter| {
        let (from, to) = letter.split_once(' ').ok_or("no names")?;
        ctx.loopback(sent, from, to)?;
        ctx.loopback(got, to, 2)
    });
    g.on_loop(got, |ctx, n| {
        let (sent, got) = ctx.value()?.unwrap_or_default();
        ctx.set((sent, got + n))
    });
    g.on_loop(sent, move |ctx, to| {
        let (sent, got) = ctx.value()?.unwrap_or_default();
        ctx.loopback(last, format!("last {to}"), "")?;
        ctx.set((sent + 1, got))
    });
    g.on_loop(last, |ctx, _| ctx.set((7, 7)));
    g.build().unwrap()
}

#[test]
fn d16_loops_with_names_are_apart() -> Done {
    with_both(|guarantee| {
        let tester = Tester::with_partitions(3);
        tester.add_with(letters(), move |p| p.guarantee(guarantee))?;
        for letter in ["ann bob", "bob ann", "ann cy", "ann bob"] {
            tester.input("letters", Text).push("k", letter)?;
        }
        tester.drain()?;
        let found = table(&tester, "letters", Json::<(i64, i64)>::new());
        let last = [("last ann", (7, 7)), ("last bob", (7, 7)), ("last cy", (7, 7))];
        let all = [("ann", (3, 2)), ("bob", (1, 4)), ("cy", (0, 2))];
        assert_eq!(found, pairs(all.into_iter().chain(last)));
        for topic in ["letters-sent-loop", "letters-got-loop", "letters-loop"] {
            assert_eq!(tester.output(topic, Text).read()?.len(), 4, "{topic}");
        }
        Ok(())
    })
}

/// Of the source, only the topic of the new keys knows the times: a record that is ahead in another partition closes nothing.
#[test]
fn d16_a_source_moves_no_stream_time() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("time");
        let out = g.output("finals", Int64);
        let counts = g.window("counts", Windows::tumbling(ms(1_000)).grace(ms(0)), Int64);
        let at = EventTime::by(Int64, |n: &i64| *n);
        let by =
            g.rekey((Input::topic("in"), at), |_, n: &i64| Ok(if *n < 50_000 { "early" } else { "late" }.to_owned()));
        g.on_loop(by, move |ctx, _| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            Ok(())
        });
        g.on_close(counts, move |ctx, (_, n)| ctx.emit(out, ctx.key(), n));
        let tester = Tester::with_partitions(8);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let partition = |key: &str| Partitioner::default().partition(key.as_bytes(), 8);
        assert_ne!(partition("early"), partition("late"));
        // All in the partition that the early ones come back to. Nulls have no time.
        let here = Some(partition("early"));
        tester.input("in", Int64).push_at("k", Some(&500), None, here)?;
        tester.input("in", Int64).push_at("k", Some(&70_000), None, here)?;
        tester.input("in", Int64).push_at("k", None, Some(90_000), here)?;
        tester.input("in", Int64).push_at("k", Some(&600), None, here)?;
        tester.drain()?;
        tester.input("in", Int64).push_at("k", Some(&700), None, here)?;
        tester.drain()?;
        assert_eq!(tester.late("time")?, 0);
        assert_eq!(values(&tester.output("finals", Int64)), Vec::<i64>::new());
        tester.input("in", Int64).push_at("k", Some(&2_000), None, here)?;
        tester.drain()?;
        assert_eq!(values(&tester.output("finals", Int64)), [3]);
        Ok(())
    })
}

fn survives(guarantee: Guarantee) -> Done {
    let mut g = Group::define("long").table(Int64);
    let out = g.output("out", Text);
    let by_half = g.rekey(("in", Text), |_, text: &String| Ok(text.get(..1).map(str::to_owned)));
    let by_all = g.rekey(by_half, |_, text: &String| Ok(text.clone()));
    g.on_loop(by_all, move |ctx, text| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.emit(out, ctx.key(), &text)?;
        ctx.set(n)
    });
    let tester = Tester::with_partitions(3);
    tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
    tester.add_instance("long")?;
    let fault = tester.log().faults().on(|r| r.topic.ends_with("rekey-rekey")).times(3).fail(passing());
    for n in 0..60 {
        tester.input("in", Text).push(format!("k{}", n % 7), format!("{n}"))?;
        match n {
            10 => tester.restart("long")?,
            20 => tester.log().faults().rebalance("long"),
            30 => {
                tester.crash("long")?;
                tester.restart("long")?;
            }
            40 => tester.stop_instance("long", 0)?,
            _ => tester.run_for(ms(1)),
        }
    }
    tester.drain()?;
    assert_eq!(fault.hits(), 3);
    let counts = table(&tester, "long", Int64);
    let exact = |n: &i64| if guarantee == Guarantee::ExactlyOnce { *n == 1 } else { *n >= 1 };
    assert!(counts.len() == 60 && counts.values().all(exact), "{guarantee:?}: {counts:?}");
    Ok(())
}

#[test]
fn d16_re_keys_survive_stops_faults_and_moves() -> Done {
    with_both(survives)
}
