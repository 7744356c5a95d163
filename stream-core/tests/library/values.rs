//! Values in each form in which a caller may have them: owned, borrowed, text and slices.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Bytes, Int64, Json, Text};
use stream_core::emitter::Emitter;
use stream_core::group::{BuildError, Group, GroupBuilder, Table, Timer};
use stream_core::testing::Tester;
use stream_core::window::Windows;

use crate::support::{Done, logged, table, values};

#[test]
#[allow(clippy::needless_borrows_for_generic_args, reason = "references are what is tested")]
fn callbacks_write_values_references_text_and_slices() -> Done {
    let mut g = Group::define("forms").table(Text);
    let (texts, bytes) = (g.output("texts", Text), g.output("bytes", Bytes));
    let (numbers, lists) = (g.output("numbers", Int64), g.output("lists", Json::<Vec<String>>::new()));
    g.input("in", Text, move |ctx, text| {
        ctx.emit(texts, "k", "text")?;
        ctx.emit(texts, "k", &text)?;
        ctx.emit(texts, "k", Cow::Borrowed(text.as_str()))?;
        ctx.emit(texts, "k", text.trim())?;
        ctx.emit(bytes, "k", b"bytes")?;
        ctx.emit(bytes, "k", text.as_bytes())?;
        ctx.emit(numbers, "k", 1)?;
        // The type of what is read comes from the output.
        ctx.emit(numbers, "k", &"2".parse()?)?;
        let list = Arc::new(vec!["a".to_owned()]);
        ctx.emit(lists, "k", &*list)?;
        ctx.emit(lists, "k", list)?;
        ctx.set("first")?;
        ctx.set(&text)?;
        ctx.set(text)
    });
    let tester = Tester::with_partitions(1);
    tester.add(g.build()?)?;
    tester.input("in", Text).send("a", "in ")?;
    assert_eq!(values(&tester.output("texts", Text)), ["text", "in ", "in ", "in"]);
    assert_eq!(values(&tester.output("bytes", Text)), ["bytes", "in "]);
    assert_eq!(values(&tester.output("numbers", Text)), ["1", "2"]);
    assert_eq!(values(&tester.output("lists", Text)), [r#"["a"]"#, r#"["a"]"#]);
    assert_eq!(table(&tester, "forms", Text), [("a".to_owned(), "in ".to_owned())].into());
    Ok(())
}

#[test]
#[allow(clippy::needless_borrows_for_generic_args, reason = "references are what is tested")]
fn emitters_take_text_too() -> Done {
    let tester = Tester::with_partitions(1);
    let log = tester.log().clone();
    tester.block_on(async {
        let words = Emitter::builder("words", Text, log).create(1).open().await?;
        words.emit_acknowledged("k", "text").await?;
        words.try_emit("k", String::from("owned"))?.await?;
        words.emit("k", &"borrowed".to_owned()).await?;
        words.close().await
    })?;
    assert_eq!(values(&tester.output("words", Text)), ["text", "owned", "borrowed"]);
    Ok(())
}

#[test]
fn a_definition_is_one_chain_and_is_built_once() -> Done {
    let graph = Group::define("chained").table(Int64).input("in", Int64, |ctx, n| ctx.set(n)).build()?;
    assert_eq!(graph.name(), "chained");

    let mut g = Group::define("twice");
    assert_eq!(g.build().unwrap_err(), BuildError::NoInput { group: "twice".into() });
    let g = g.input("in", Int64, |_, _| Ok(()));
    assert!(g.build()?.describe().contains("in"), "what was refused can be mended");
    assert_eq!(g.build().unwrap_err(), BuildError::Built { group: "twice".into() });
    Ok(())
}

#[test]
fn an_edge_that_comes_after_build_is_named_in_the_log() -> Done {
    type Late = GroupBuilder<Table<i64>>;
    let late: [(&str, fn(&mut Late, Timer<i64>)); 6] = [
        ("output", |g, _| _ = g.output("out", Int64)),
        ("listener", |g, _| _ = g.on_update(|_, _, _| {})),
        ("timer", |g, timer| _ = g.on_timer(timer, |_, _| Ok(()))),
        ("window", |g, _| _ = g.window("w", Windows::tumbling(Duration::from_secs(1)), Int64)),
        ("visitor", |g, _| _ = g.visitor("v", |_, &(), _| Ok(()))),
        ("input", |g, _| _ = g.input("more", Int64, |_, _| Ok(()))),
    ];
    for (what, add) in late {
        let mut g = Group::define("late").table(Int64);
        let timer = g.timer("t", Int64);
        let (built, before) =
            logged(|| g.on_timer(timer, |_, _| Ok(())).input("in", Int64, |ctx, n| ctx.set(n)).build());
        built?;
        assert_eq!(before, "");
        let lines = logged(|| add(&mut g, timer)).1;
        assert!(lines.contains("an edge was added after build()"), "{what}: {lines}");
        assert_eq!(logged(|| add(&mut g, timer)).1, "", "{what}: once is enough");
    }
    Ok(())
}
