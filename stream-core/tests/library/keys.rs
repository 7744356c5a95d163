//! Keys that are no text, and what callbacks do with keys, tables and headers in a word.

use stream_core::codec::{Int64, Text};
use stream_core::group::{ErrorPolicy, Group, Input, LeftOut};
use stream_core::key::{BigEndian, Key, Sorted};
use stream_core::testing::Tester;

use crate::support::{Done, Notes, pairs, table, with_both};

#[test]
fn integers_and_tuples_are_keys_from_end_to_end() -> Done {
    with_both(|guarantee| {
        let seen = Notes::new();
        let notes = seen.clone();
        let mut g = Group::define("g").table(Int64);
        let out = g.output("out", Text);
        g.input("orders", Text, move |ctx, text| {
            let BigEndian(id) = ctx.key_as::<BigEndian<i64>>()?;
            ctx.emit(out, Sorted((text.as_str(), id)), &text)?;
            ctx.emit(out, Some(BigEndian(7_u32)), &text)?;
            notes.add(id);
            ctx.update(|n| n.unwrap_or(0) + 1)
        });
        let tester = Tester::with_partitions(4);
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let input = tester.input("orders", Text);
        for (id, text) in [(-1_i64, "eu"), (300, "us"), (-1, "eu")] {
            input.send(BigEndian(id), text)?;
        }
        assert_eq!(seen.all(), [-1, 300, -1]);
        let table = tester.table("g", Int64);
        assert_eq!((table.get(BigEndian(-1_i64))?, table.get(BigEndian(300_i64))?), (Some(2), Some(1)));
        let found = tester.output("out", Text).read()?;
        let mut keys: Vec<_> = found.iter().filter_map(|r| r.key.clone()).filter(|key| key.len() > 4).collect();
        keys.sort();
        let key = |region: &str, id: i64| Sorted((region, id)).bytes().unwrap().to_vec();
        assert_eq!(keys, [key("eu", -1), key("eu", -1), key("us", 300)]);
        Ok(())
    })
}

#[test]
fn a_key_that_is_no_such_key_is_an_error_of_its_record() -> Done {
    let mut g = Group::define("g");
    g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), Text, move |ctx, _| {
        ctx.key_as::<BigEndian<i64>>()?;
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send("short", "x")?;
    tester.input("in", Text).send(None::<&str>, "y")?;
    let dead = tester.output("dead", Text).read()?;
    let reason = |i: usize| dead[i].header("dead-letter-reason").unwrap();
    assert!(reason(0).contains("the record's key can't be read: 8 bytes expected, not 5"), "{}", reason(0));
    assert!(reason(1).contains("key_as()"), "{}", reason(1));
    assert_eq!(tester.left_out("g", LeftOut::Failed)?, 2);
    Ok(())
}

#[test]
fn update_reads_what_the_callback_has_set_and_writes_once() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("g").table(Int64);
        g.input("in", Int64, |ctx, n| {
            ctx.update(|old| old.unwrap_or(100) + n)?;
            ctx.update(|old| old.unwrap_or(0) * 2)
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        tester.input("in", Int64).send("k", 1)?;
        tester.input("in", Int64).send("k", 3)?;
        assert_eq!(table(&tester, "g", Int64), pairs([("k", 410)]));
        assert_eq!(tester.output("g-table", Int64).read()?.len(), 2);
        Ok(())
    })
}

#[test]
fn records_of_a_batch_have_their_headers() -> Done {
    let seen = Notes::new();
    let notes = seen.clone();
    let mut g = Group::define("g");
    g.input_batch(Input::topic("in"), Text, async move |_ctx, records| {
        for r in records {
            notes.add((r.value.clone(), r.header("by").map(<[u8]>::to_vec), r.headers.len()));
        }
        Ok(())
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    input.push_with_headers("k", "a", &[("by", b"1"), ("x", b""), ("by", b"2")])?;
    input.push("k", "b")?;
    tester.drain()?;
    assert_eq!(seen.all(), [("a".to_owned(), Some(b"2".to_vec()), 3), ("b".to_owned(), None, 0)]);
    Ok(())
}
