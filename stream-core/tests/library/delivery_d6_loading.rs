//! D6 for codecs that have to load something first, such as a schema.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use stream_core::codec::{Codec, CodecError, Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Group, Input};
use stream_core::testing::Tester;

use crate::support::{Done, Notes, ms, pairs, table, values};

/// Text behind a number that must be loaded once before it can be read.
#[derive(Clone, Default)]
struct Registered {
    loaded: Arc<Mutex<BTreeSet<u32>>>,
    loads: Arc<Mutex<Vec<u32>>>,
    /// How many loads are to fail yet.
    fail: Arc<Mutex<u32>>,
    /// How often the registry is to be away yet.
    away: Arc<Mutex<u32>>,
}

impl Codec<String> for Registered {
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        for id in text.chars().filter_map(|c| c.to_digit(10)) {
            if !self.loaded.lock().unwrap().contains(&id) {
                return Err(CodecError::NotLoaded(id));
            }
        }
        Ok(text)
    }
    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>> {
        Box::pin(async move {
            self.loads.lock().unwrap().push(id);
            tokio::time::sleep(ms(20)).await;
            assert_ne!(id, 9, "no such schema");
            let mut fail = self.fail.lock().unwrap();
            if *fail > 0 {
                *fail -= 1;
                return Err(CodecError::invalid("no such number"));
            }
            let mut away = self.away.lock().unwrap();
            if *away > 0 {
                *away -= 1;
                return Err(CodecError::Unavailable("the registry is away".to_owned()));
            }
            self.loaded.lock().unwrap().insert(id);
            Ok(())
        })
    }
}

impl Registered {
    fn loads(&self) -> Vec<u32> {
        std::mem::take(&mut self.loads.lock().unwrap())
    }
}

/// Copies what it can read, in one of three ways.
fn tester(kind: usize, codec: &Registered, policy: ErrorPolicy) -> Result<Tester, Box<dyn std::error::Error>> {
    let mut g = Group::define("copy");
    let out = g.output("out", Text);
    let input = Input::topic("in").on_error(policy);
    match kind {
        0 => g.input(input, codec.clone(), move |ctx, text: String| ctx.emit(out, ctx.key(), &text)),
        1 => g.input_async(input, codec.clone(), async move |ctx, text: String| ctx.emit(out, ctx.key(), &text)),
        _ => g.input_batch(input, codec.clone(), async move |ctx, records| {
            records.iter().try_for_each(|r| ctx.emit(out, "k", &r.value))
        }),
    };
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.stop("copy")?;
    Ok(tester)
}

fn push(tester: &Tester, texts: &[&str]) -> Done {
    let input = tester.input("in", Text);
    for (i, text) in texts.iter().enumerate() {
        input.push(format!("k{i}"), (*text).to_owned())?;
    }
    tester.restart("copy")?;
    Ok(())
}

#[test]
fn what_is_missing_is_loaded_once_and_the_record_read_again() -> Done {
    for kind in 0..3 {
        let codec = Registered::default();
        let tester = tester(kind, &codec, ErrorPolicy::fail())?;
        push(&tester, &["a", "b1", "c12", "d3", "e1"])?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), ["a", "b1", "c12", "d3", "e1"], "{kind}");
        let loads: BTreeSet<u32> = codec.loads().into_iter().collect();
        assert_eq!(loads, BTreeSet::from([1, 2, 3]));
        tester.input("in", Text).push("k", "again 123".to_owned())?;
        tester.drain()?;
        assert!(codec.loads().is_empty());
    }
    Ok(())
}

#[test]
fn what_cannot_be_loaded_follows_the_policy() -> Done {
    for kind in 0..3 {
        let codec = Registered::default();
        *codec.fail.lock().unwrap() = u32::MAX;
        let tester = tester(kind, &codec, ErrorPolicy::dead_letter("dead"))?;
        push(&tester, &["a", "b1", "c"])?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), ["a", "c"], "{kind}");
        let dead = tester.output("dead", Text).read()?;
        let reason = dead[0].header("dead-letter-reason").unwrap();
        assert!(reason.contains("no such number") && reason.contains("id 1"), "{reason}");
    }
    Ok(())
}

#[test]
fn each_retry_tries_to_load_again() -> Done {
    for kind in 0..3 {
        let codec = Registered::default();
        *codec.fail.lock().unwrap() = 12;
        let tester = tester(kind, &codec, ErrorPolicy::fail().retry(20, ms(10)))?;
        push(&tester, &["b1"])?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), ["b1"]);
        assert_eq!(codec.loads().len(), 13, "{kind}");
    }
    Ok(())
}

/// It is no fault of the record's, so its policy has no say.
#[test]
fn a_registry_that_is_away_is_waited_for() -> Done {
    for kind in 0..3 {
        let codec = Registered::default();
        *codec.away.lock().unwrap() = 20;
        let tester = tester(kind, &codec, ErrorPolicy::skip())?;
        push(&tester, &["a", "b1", "c"])?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), ["a", "b1", "c"]);
        assert_eq!(codec.loads().len(), 21);
        // Nor does a stop wait for it.
        *codec.away.lock().unwrap() = u32::MAX;
        tester.input("in", Text).push("k", "d2".to_owned())?;
        tester.run_for(std::time::Duration::from_secs(5));
        tester.stop("copy")?;
        *codec.away.lock().unwrap() = 0;
        tester.restart("copy")?;
        tester.drain()?;
        assert_eq!(values(&tester.output("out", Text)), ["a", "b1", "c", "d2"]);
    }
    Ok(())
}

#[test]
fn loads_are_no_attempts_of_the_callback() -> Done {
    let (codec, calls) = (Registered::default(), Notes::new());
    let mut g = Group::define("copy");
    let noted = calls.clone();
    let input = Input::topic("in").on_error(ErrorPolicy::skip().retry(2, ms(10)));
    g.input(input, codec.clone(), move |_ctx, text: String| {
        noted.add(text);
        Err(CallbackError::msg("never"))
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    tester.input("in", Text).send("k", "123".to_owned())?;
    assert_eq!((codec.loads(), calls.len()), (vec![1, 2, 3], 3));
    Ok(())
}

#[test]
fn a_load_that_panics_is_an_error_of_the_record() -> Done {
    let codec = Registered::default();
    let tester = tester(0, &codec, ErrorPolicy::dead_letter("dead"))?;
    push(&tester, &["a", "b9", "c"])?;
    tester.drain()?;
    assert_eq!(values(&tester.output("out", Text)), ["a", "c"]);
    assert!(tester.output("dead", Text).read()?[0].header("dead-letter-reason").unwrap().contains("no such schema"));
    Ok(())
}

#[test]
fn a_table_s_value_may_have_to_be_loaded_too() -> Done {
    let codec = Registered::default();
    let mut g = Group::define("table").table(codec.clone());
    g.input("in", Text, |ctx, text: String| {
        let old = ctx.value()?.unwrap_or_default();
        ctx.set(format!("{old}{text}"))
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for text in ["a1", "b2", "c"] {
        input.push("k", text.to_owned())?;
    }
    tester.drain()?;
    assert_eq!(table(&tester, "table", Text), pairs([("k", "a1b2c".to_owned())]));
    assert_eq!(codec.loads(), [1, 2]);
    Ok(())
}

#[test]
fn a_join_s_value_may_have_to_be_loaded_too() -> Done {
    let codec = Registered::default();
    let mut owner = Group::define("owner").table(Text);
    owner.input("names", Text, |ctx, text: String| ctx.set(text));
    let mut g = Group::define("joins").table(Int64);
    let names = g.join("owner-table", codec.clone());
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, _text: String| {
        let name = ctx.join(names)?.unwrap_or_default();
        ctx.emit(out, ctx.key(), &name)
    });
    let tester = Tester::new();
    tester.add(owner.build()?)?;
    tester.add(g.build()?)?;
    tester.input("names", Text).send("k", "n7".to_owned())?;
    tester.run_for(ms(100));
    tester.input("in", Text).send("k", "x".to_owned())?;
    assert_eq!(values(&tester.output("out", Text)), ["n7"]);
    assert_eq!(codec.loads(), [7]);
    Ok(())
}

#[test]
fn a_visitor_waits_for_what_its_values_need_and_holds_no_record_up() -> Done {
    let codec = Registered::default();
    let mut g = Group::define("copy").table(codec.clone());
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| {
        ctx.emit(out, ctx.key(), &text)?;
        ctx.set(text)
    });
    let visitor = g.visitor("shout", move |ctx, (): &(), text: String| ctx.set(text.to_uppercase()));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for (key, text) in [("a", "x"), ("b", "y12"), ("c", "z3")] {
        input.send(key, text.to_owned())?;
    }
    *codec.away.lock().unwrap() = 3;
    let handle = tester.handle("copy", 0)?;
    #[allow(clippy::async_yields_async, reason = "it is to go on beside what follows")]
    let visit = tester.block_on(async { tokio::task::spawn_local(async move { handle.visit(visitor, ()).await }) });
    input.send("e", "while it waits".to_owned())?;
    assert!(!visit.is_finished(), "the registry is away");
    let visited = tester.block_on(visit)??;
    assert_eq!(visited, 4);
    assert!(codec.loads().len() > 3, "the registry was away at first");
    let upper = [("a", "X"), ("b", "Y12"), ("c", "Z3"), ("e", "WHILE IT WAITS")].map(|(k, v)| (k, v.to_owned()));
    assert_eq!(table(&tester, "copy", Text), pairs(upper));
    // What can't be loaded ends the visit, and nothing else.
    *codec.fail.lock().unwrap() = 1;
    input.send("d", "w4".to_owned())?;
    let error = format!("{:?}", tester.visit("copy", visitor, ()).unwrap_err());
    assert!(error.contains("copy-table") && error.contains("key d") && error.contains("no such number"), "{error}");
    assert_eq!(tester.visit("copy", visitor, ())?, 5);
    Ok(())
}
