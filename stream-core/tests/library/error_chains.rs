//! Each public error shows its causes as `docs/guarantees.md` promises ("Errors have causes"): `{}` is the error alone, `{:?}` is
//! the error with all its causes in one line, and each cause is behind `source()`.
//!
//! The sources say which errors have causes, so that a new one is not forgotten here.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stream_core::codec::CodecError;
use stream_core::emitter::EmitError;
use stream_core::group::{BuildError, CallbackError, Failure};
use stream_core::log::LogError;
use stream_core::processor::{ProcessorError, ReadError};
use stream_core::store::StoreError;
use stream_core::testing::TesterError;
use stream_core::testing::simulator::SimulationError;
use stream_core::topics::EnsureTopicError;
use stream_core::view::ViewError;

/// An error whose text has that of its cause.
#[derive(Debug)]
struct Unreadable(ParseIntError);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unreadable: {}", self.0)
    }
}

impl Error for Unreadable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn codec() -> CodecError {
    CodecError::invalid("no number")
}

fn log() -> LogError {
    LogError::Fatal { what: "write".into(), reason: "no room".into() }
}

fn store() -> StoreError {
    StoreError::Failed { path: "state".into(), reason: "a bad block".into() }
}

fn processor() -> ProcessorError {
    ProcessorError::Log { group: "g".into(), doing: "commit".into(), error: log() }
}

fn thread() -> Arc<io::Error> {
    Arc::new(io::Error::other("too many threads"))
}

/// An error in an error in an error.
fn callback() -> CallbackError {
    CallbackError::from(Failure::Decode(codec()))
}

macro_rules! examples {
    ($($error:ident::$variant:ident $fields:tt)+) => {
        vec![$((concat!(stringify!($error), "::", stringify!($variant)), Box::new($error::$variant $fields))),+]
    };
}

/// An error of each kind that has a cause, or is another error.
fn examples() -> Vec<(&'static str, Box<dyn Error>)> {
    let text = || "x".to_owned();
    let topic = || Arc::<str>::from("t");
    examples! {
        ProcessorError::Record {
            group: text(), topic: text(), partition: 0, offset: 1, key: text(), error: callback()
        }
        ProcessorError::Codec { group: text(), topic: text(), error: codec() }
        ProcessorError::Log { group: text(), doing: text(), error: log() }
        ProcessorError::Transaction { group: text(), error: log() }
        ProcessorError::OwnRecord { group: text(), topic: text(), error: log() }
        ProcessorError::Store { group: text(), error: store() }
        ProcessorError::Worker { group: text(), error: thread() }
        ReadError::Decode { group: text(), key: text(), error: codec() }
        ReadError::Store { group: text(), error: store() }
        Failure::User(Box::new(Failure::Decode(codec())))
        Failure::Decode(codec())
        Failure::Load { id: 7, error: codec() }
        Failure::DecodeTable { table: text(), error: codec() }
        Failure::Encode { edge: text(), error: codec() }
        Failure::Emit(log())
        Failure::Store(store())
        Failure::Within { what: text(), error: callback() }
        EmitError::Codec { topic: topic(), error: codec() }
        EmitError::Open { topic: topic(), doing: "open it", error: log() }
        EmitError::Encode { topic: topic(), error: codec() }
        EmitError::Log { topic: topic(), error: log() }
        EmitError::Unacknowledged { topic: topic(), failed: 2, first: log() }
        ViewError::Log { topic: topic(), doing: "read it", error: log() }
        ViewError::Store { topic: topic(), error: store() }
        ViewError::Codec { topic: topic(), error: codec() }
        ViewError::Thread { topic: topic(), error: thread() }
        ViewError::Decode { topic: topic(), key: text(), error: codec() }
        TesterError::Processor(processor())
        TesterError::Log(log())
        TesterError::Codec { topic: text(), error: codec() }
        TesterError::Store(store())
        TesterError::View(ViewError::Store { topic: topic(), error: store() })
        EnsureTopicError::Log { topic: text(), doing: "can't be made", error: log() }
        SimulationError::Failing(processor())
        SimulationError::Build(BuildError::Built { group: text() })
        SimulationError::Codec { topic: text(), error: codec() }
        SimulationError::Log(log())
        SimulationError::Processor(processor())
        SimulationError::MemoryStore(store())
    }
}

/// The texts of an error and its causes, the outermost first.
fn texts(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source())
        .map(ToString::to_string)
        .collect()
}

#[test]
fn each_error_shows_its_causes_in_one_line() {
    for (name, error) in examples() {
        let texts = texts(&*error);
        assert_eq!(format!("{error:?}"), texts.join(": "), "{name}");
        assert!(!texts.concat().contains('\n'), "{name}: {texts:?}");
        for pair in texts.windows(2) {
            assert!(!pair[0].contains(&pair[1]), "{name} has its cause's text in its own: {texts:?}");
        }
    }
    // The causes are there: two of the codec's, in the callback's, in the record's.
    let (_, record) = &examples()[0];
    assert_eq!(texts(&**record)[1..], ["the value can't be decoded", "no number"]);
}

#[test]
fn an_error_of_a_callback_shows_its_causes_in_both_long_forms() {
    let error = CallbackError::from(Unreadable("x".parse::<i64>().unwrap_err()));
    let whole = "unreadable: invalid digit found in string";
    assert_eq!(
        (error.to_string(), format!("{error:#}"), format!("{error:?}")),
        (whole.into(), whole.into(), whole.into())
    );
    let error = callback();
    let whole = "the value can't be decoded: no number";
    assert_eq!((format!("{error:#}"), format!("{error:?}")), (whole.into(), whole.into()));
}

#[test]
fn a_cause_is_shown_whatever_the_text_before_it_ends_with() {
    let (group, topic, key) = ("g".to_owned(), "in".to_owned(), "k".to_owned());
    let error = CallbackError::msg("failed");
    let error = ProcessorError::Record { group, topic, partition: 0, offset: 1, key, error };
    assert_eq!(format!("{error:?}"), "group g: record in[0]@1 (key k) failed: failed");
}

/// What the sources say: the public errors, and which of their kinds have a cause or are another error.
fn of_sources(folder: &Path, errors: &mut BTreeSet<String>, with_cause: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            of_sources(&path, errors, with_cause);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let (mut is_error, mut error, mut kind, mut transparent) = (false, None, String::new(), false);
        for line in source.lines() {
            if line.starts_with("#[derive(") {
                is_error = line.contains("thiserror::Error");
            } else if let Some(name) = line.strip_prefix("pub enum ").filter(|_| is_error) {
                let name = name.trim_end_matches(" {").to_owned();
                let shown = format!("debug_as_chain!({name})");
                assert!(source.contains(&shown), "{}: {name} has no `{shown}`", path.display());
                errors.insert(name.clone());
                error = Some(name);
            } else if line == "}" {
                (is_error, error) = (false, None);
            }
            let Some(error) = &error else { continue };
            if line.trim() == "#[error(transparent)]" {
                transparent = true;
            }
            if let Some(rest) =
                line.strip_prefix("    ").filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            {
                let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
                kind = format!("{error}::{name}");
                if std::mem::take(&mut transparent) {
                    with_cause.insert(kind.clone());
                }
            }
            if line.contains("#[source]") || line.contains("#[from]") {
                with_cause.insert(kind.clone());
            }
        }
    }
}

#[test]
fn no_public_error_is_forgotten() {
    let (mut errors, mut with_cause) = (BTreeSet::new(), BTreeSet::new());
    let sources: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    of_sources(&sources, &mut errors, &mut with_cause);
    let listed: BTreeSet<String> = examples().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(with_cause, listed, "the kinds that have a cause, and the examples");
    let others = ["BuildError", "CodecError", "LogError", "StoreError"].map(str::to_owned);
    let of_examples = listed.iter().filter_map(|name| Some(name.split_once("::")?.0.to_owned()));
    assert_eq!(errors, of_examples.chain(others).collect(), "the public errors");
}
