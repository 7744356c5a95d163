//! Testing a group: in memory, on virtual time, with as many partitions as you like, and with things going wrong.
//!
//! `cargo test -p examples with_the_tester`

use std::sync::Arc;
use std::time::Duration;

use stream_core::Input;
use stream_core::prelude::*;
use stream_core::testing::Tester;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What a program would have in its library: the group, without where it runs.
fn word_count() -> Result<Arc<GroupGraph>, BuildError> {
    let mut g = Group::define("word-count").table(Int64);
    let tens = g.output("tens", Text);
    let words = Input::topic("words").on_error(ErrorPolicy::dead_letter("words-dead").retry(2, Duration::from_secs(1)));
    g.input(words, Text, move |ctx, word| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        if n % 10 == 0 {
            ctx.emit(tens, ctx.key(), &word)?;
        }
        ctx.set(n)
    });
    g.build()
}

#[test]
fn it_counts() -> Outcome {
    let tester = Tester::with_partitions(4);
    tester.add(word_count()?)?;
    let words = tester.input("words", Text);
    for i in 0..10 {
        words.send("apple", format!("word {i}"))?;
    }
    words.send("pear", "word".to_owned())?;
    let counts = tester.table("word-count", Int64);
    assert_eq!((counts.get("apple")?, counts.get("pear")?), (Some(10), Some(1)));
    assert_eq!(tester.output("tens", Text).read_pairs()?, [("apple".to_owned(), Some("word 9".to_owned()))]);
    Ok(())
}

#[test]
fn it_goes_on_where_it_was_after_a_crash() -> Outcome {
    let tester = Tester::new();
    tester.add(word_count()?)?;
    let words = tester.input("words", Text);
    words.send("apple", "red".to_owned())?;
    tester.crash("word-count")?;
    words.push("apple", "green".to_owned())?;
    tester.restart("word-count")?;
    tester.drain()?;
    assert_eq!(tester.table("word-count", Int64).get("apple")?, Some(2));
    Ok(())
}

#[test]
fn a_word_that_fails_for_good_is_put_aside() -> Outcome {
    let tester = Tester::new();
    tester.add(word_count()?)?;
    tester.fail_callbacks("words", 3, "the dictionary is away");
    tester.input("words", Text).send("apple", "red".to_owned())?;
    assert_eq!(tester.table("word-count", Int64).get("apple")?, None);
    let dead = tester.output("words-dead", Text).read()?;
    let reasons: Vec<_> = dead.iter().filter_map(|r| r.header("dead-letter-reason")).collect();
    assert_eq!(reasons, ["the dictionary is away"]);
    Ok(())
}
