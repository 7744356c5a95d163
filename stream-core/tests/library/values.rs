//! Values in each form in which a caller may have them: owned, borrowed, text and slices.

use std::borrow::Cow;
use std::sync::Arc;

use stream_core::codec::{Bytes, Int64, Json, Text};
use stream_core::emitter::Emitter;
use stream_core::group::{BuildError, Group};
use stream_core::testing::Tester;

use crate::support::{Done, table, values};

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
