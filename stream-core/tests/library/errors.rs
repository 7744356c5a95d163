//! Errors: what `?` takes in a callback, the causes behind an error, and what a user learns of a failed start.

use std::error::Error;
use std::fmt;
use std::num::ParseIntError;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Int64, Text};
use stream_core::group::{CallbackError, ErrorPolicy, Failure, Group, GroupGraph, Input, LeftOut, Route};
use stream_core::log::LogError;
use stream_core::processor::{Processor, ProcessorError, State};
use stream_core::store::{MemoryStores, StoreError};
use stream_core::testing::{Tester, TesterError};
use stream_core::topics::TopicOptions;

use crate::support::{Done, Notes, logged};

/// An error of the user's, with a cause.
#[derive(Debug)]
struct OutOfStock(ParseIntError);

impl fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of stock")
    }
}

impl Error for OutOfStock {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn out_of_stock() -> OutOfStock {
    OutOfStock("x".parse::<i64>().unwrap_err())
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| Error::source(*error)).collect()
}

/// Fails in each way that `?` allows.
fn fails(how: &str) -> Result<i64, CallbackError> {
    match how {
        "error" => Ok(how.parse::<i64>()?),
        "boxed" => Err(Box::<dyn Error + Send + Sync>::from(out_of_stock()))?,
        "anyhow" => Err(anyhow::Error::new(out_of_stock()).context("on the way"))?,
        "text" => None.ok_or("in words")?,
        "string" => Err(format!("in {} words", 3))?,
        "into" => Err("in words".into()),
        _ => Err(CallbackError::msg(42)),
    }
}

#[test]
fn any_error_and_text_become_an_error_of_the_callback() {
    let text = |how| fails(how).unwrap_err().to_string();
    assert_eq!(text("error"), "invalid digit found in string");
    assert_eq!((text("boxed"), text("anyhow")), ("out of stock".to_owned(), "on the way".to_owned()));
    assert_eq!((text("text"), text("string")), ("in words".to_owned(), "in 3 words".to_owned()));
    assert_eq!((text("into"), text("msg")), ("in words".to_owned(), "42".to_owned()));
    assert!(fails("error").unwrap_err().downcast_ref::<ParseIntError>().is_some());
    for how in ["boxed", "anyhow"] {
        let error = fails(how).unwrap_err();
        assert!(error.downcast_ref::<OutOfStock>().is_some() && error.downcast_ref::<fmt::Error>().is_none(), "{how}");
        let whole = "out of stock: invalid digit found in string";
        assert!(format!("{error:?}").ends_with(whole) && format!("{error:#}").ends_with(whole), "{how}: {error:?}");
    }
}

fn graph(input: Input) -> Arc<GroupGraph> {
    let mut g = Group::define("stock").table(Int64);
    g.input(input, Text, |ctx, text| match &*text {
        "none" => Err(out_of_stock())?,
        "number" => ctx.set(text.parse::<i64>()?),
        _ => ctx.set(1),
    });
    g.build().unwrap()
}

#[test]
fn the_callbacks_own_error_comes_out_of_the_processor_by_its_type() -> Done {
    let tester = Tester::new();
    tester.add(graph(Input::topic("orders")))?;
    let error = tester.input("orders", Text).send("k", "none".to_owned()).unwrap_err();
    let TesterError::Processor(error) = error else { panic!("{error:?}") };
    assert_eq!(error.to_string(), "group stock: record orders[0]@0 (key k) failed");
    assert_eq!(format!("{error:?}"), format!("{error}: out of stock: invalid digit found in string"));
    assert!(error.downcast_ref::<OutOfStock>().is_some() && error.downcast_ref::<ParseIntError>().is_some());
    let causes = causes(&error);
    assert!(causes.len() == 3 && causes[1].is::<OutOfStock>(), "{causes:?}");
    Ok(())
}

#[test]
fn a_route_sees_the_callbacks_own_error() -> Done {
    let seen = Notes::new();
    let note = seen.clone();
    let routed = Route::call(move |record| {
        note.add(record.error.is_some_and(|error| error.downcast_ref::<OutOfStock>().is_some()));
    });
    let tester = Tester::new();
    let input = Input::topic("orders").on_error(ErrorPolicy::skip()).left_out(LeftOut::Failed, routed);
    tester.add(graph(input))?;
    tester.input("orders", Text).send("k", "none".to_owned())?;
    assert_eq!(seen.all(), [true]);
    Ok(())
}

#[test]
fn every_error_has_its_cause() -> Done {
    // The codec's, behind the record.
    let tester = Tester::new();
    let mut g = Group::define("numbers").table(Int64);
    g.input("in", Int64, |ctx, n| ctx.set(n));
    tester.add(g.build()?)?;
    let error = tester.input("in", Text).send("k", "x".to_owned()).unwrap_err();
    let texts: Vec<String> = causes(&error).iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts[0].contains("in[0]@0") && texts[1] == "the value can't be decoded", "{texts:?}");
    let TesterError::Processor(ProcessorError::Record { error, .. }) = error else { panic!("{error:?}") };
    assert!(matches!(error.failure(), Failure::Decode(_)));

    // The log's, behind the processor.
    let log = LogError::Fatal { what: "write".into(), reason: "on purpose".into() };
    let error = ProcessorError::Log { group: "g".into(), doing: "do it".into(), error: log };
    assert_eq!(format!("{error} | {error:?}"), "group g: do it | group g: do it: write: on purpose");
    assert!(error.downcast_ref::<LogError>().is_some() && error.downcast_ref::<StoreError>().is_none());

    // As `main` prints what it returns.
    let main = || -> Result<(), Box<dyn Error>> { Err(error)? };
    assert_eq!(format!("Error: {:?}", main().unwrap_err()), "Error: group g: do it: write: on purpose");
    Ok(())
}

#[test]
fn a_failed_start_says_why_to_whoever_waits_for_it() -> Done {
    let tester = Tester::new();
    let mut g = Group::define("joined");
    g.lookup("nobody-table", Int64);
    g.input("in", Text, |_, _| Ok(()));
    let graph = g.build()?;
    let topics = TopicOptions::new().wait_for_tables(Duration::ZERO);
    let processor = Processor::new(graph, tester.log().clone());
    let processor = processor.stores(Arc::new(MemoryStores::new())).topics(topics);
    let handle = processor.handle();
    assert!(handle.failure().is_none());
    let (ended, running) = tester.block_on(async { tokio::join!(processor.run(), handle.running()) });
    let (ended, error) = (ended.unwrap_err(), running.unwrap_err());
    assert!(matches!(&error, ProcessorError::Topic { problem, .. } if problem.contains("nobody-table")), "{error:?}");
    assert_eq!((handle.status().state, format!("{error:?}")), (State::Failed, format!("{ended:?}")));
    assert_eq!(handle.failure().map(|e| format!("{e:?}")), Some(format!("{ended:?}")));
    Ok(())
}

/// Somebody listens, but never answers: the address of something else, or a broker that hangs.
#[cfg(feature = "kafka")]
#[test]
fn a_broker_that_does_not_answer_is_named_within_five_seconds() {
    use std::time::Instant;
    use stream_core::log::kafka::{Kafka, KafkaOptions};

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (status, lines) = logged(|| {
        runtime.block_on(async {
            let log = Kafka::connect(KafkaOptions::new(address.as_str())).unwrap();
            let mut g = Group::define("silent");
            g.input("in", Text, |_, _| Ok(()));
            let processor = Processor::new(g.build().unwrap(), log);
            let processor = processor.stores(Arc::new(MemoryStores::new()));
            let (handle, begin) = (processor.handle(), Instant::now());
            let waits = handle.wait_for(|s| s.state == State::Waiting);
            tokio::select! {
                ended = processor.run() => panic!("{ended:?}"),
                status = tokio::time::timeout(Duration::from_secs(5), waits) => {
                    assert!(begin.elapsed() < Duration::from_secs(5));
                    status.expect("in time").expect("it lives")
                }
            }
        })
    });
    let on = status.waiting.expect("it says for what").on;
    assert!(on.contains(&address) && on.contains("no answer"), "{on}");
    let warned = lines.lines().any(|line| line.contains("WARN") && line.contains("group silent waits: no answer from"));
    assert!(warned, "{lines}");
}
