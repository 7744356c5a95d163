//! A group that counts what it reads, sends it round its loop under another key, and counts that, too; and what is found
//! of it afterwards by reading its topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::codec::{Json, Text};
use stream_core::group::{CallbackError, Group, GroupGraph};
use stream_core::log::LogHandle;

use crate::kafka_support::counting::Known;
use crate::kafka_support::{read, table};

pub const PARTITIONS: i32 = 6;
pub const KEYS: u64 = 48;
/// Keys that the loop gathers all others under.
const GATHERED: u64 = 6;
const INPUT: &str = "input";

/// What is known of a key: of the input, or of each key gathered under it.
type Sources = BTreeMap<String, Known>;

pub struct Names {
    pub group: String,
    pub input: Arc<str>,
    /// An output for each input.
    pub out: Arc<str>,
    /// An output for each record of the loop.
    pub gathered: Arc<str>,
}

pub fn graph(names: &Names) -> Arc<GroupGraph> {
    let mut g = Group::define(names.group.as_str()).table(Json::<Sources>::new());
    let out = g.output(Arc::clone(&names.out), Text);
    let gathered = g.output(Arc::clone(&names.gathered), Text);
    let around = g.loopback(Text);
    g.input(names.input.to_string(), Text, move |ctx, number| {
        let mut sources = ctx.value()?.unwrap_or_default();
        sources.entry(INPUT.to_owned()).or_default().saw(number.parse()?);
        let key = ctx.key_text()?;
        ctx.emit(out, key, &number)?;
        ctx.loopback(around, &under(key)?, format!("{key} {number}"))?;
        ctx.set(sources)
    });
    g.on_loop(around, move |ctx, text| {
        let (source, number) = text.split_once(' ').ok_or_else(|| CallbackError::msg("no source"))?;
        let mut sources = ctx.value()?.unwrap_or_default();
        sources.entry(source.to_owned()).or_default().saw(number.parse()?);
        ctx.emit(gathered, ctx.key(), &text)?;
        ctx.set(sources)
    });
    g.build().unwrap()
}

pub fn key(n: u64) -> String {
    format!("key-{n}")
}

fn under(key: &str) -> Result<String, CallbackError> {
    let n: u64 = key.trim_start_matches("key-").parse()?;
    Ok(format!("gathered-{}", n % GATHERED))
}

/// What is wrong with numbers that should be there once each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    pub lost: u64,
    pub again: u64,
}

impl Wrong {
    fn add(&mut self, what: &str, known: Option<&Known>, rounds: u64, say_again: bool) {
        let known = known.cloned().unwrap_or_default();
        assert!(known.next <= rounds, "{what}: never sent: {known:?}");
        assert_eq!(known.calls, known.next - known.gaps + known.again, "{what}: {known:?}");
        let lost = known.gaps + (rounds - known.next);
        if lost > 0 || (known.again > 0 && say_again) {
            println!("{what}: {rounds} sent: {known:?}");
        }
        self.lost += lost;
        self.again += known.again;
    }
}

/// Counts of the table, and records of the outputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub table: Wrong,
    pub output: Wrong,
}

/// Compares the table and both outputs with what was sent: `rounds` numbers for each key. In an output, a number that
/// comes after a larger one of its key is `again` if it was there before, and lost where the larger one overtook it.
pub async fn look(log: &LogHandle, names: &Names, rounds: u64, exactly: bool) -> Found {
    let table: BTreeMap<String, Sources> = table(log, &names.group, PARTITIONS)
        .await
        .into_iter()
        .map(|(key, value)| (key, serde_json::from_str(&value).unwrap()))
        .collect();
    let mut outs: BTreeMap<(String, String), Known> = BTreeMap::new();
    for record in read(log, &names.out, PARTITIONS).await {
        let (key, number) = (record.key.unwrap(), record.value.unwrap().parse().unwrap());
        outs.entry((key, INPUT.to_owned())).or_default().saw(number);
    }
    for record in read(log, &names.gathered, PARTITIONS).await {
        let (key, value) = (record.key.unwrap(), record.value.unwrap());
        let (source, number) = value.split_once(' ').unwrap();
        outs.entry((key, source.to_owned())).or_default().saw(number.parse().unwrap());
    }
    let mut found = Found::default();
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let all = keys.iter().flat_map(|k| [(k.clone(), INPUT.to_owned()), (under(k).unwrap(), k.clone())]);
    for (key, source) in all {
        let known = table.get(&key).and_then(|sources| sources.get(&source));
        found.table.add(&format!("the table's {key} of {source}"), known, rounds, exactly);
        found.output.add(&format!("the output's {key} of {source}"), outs.get(&(key, source)), rounds, exactly);
    }
    let places = 2 * usize::try_from(KEYS).unwrap();
    assert_eq!((table.values().map(BTreeMap::len).sum::<usize>(), outs.len()), (places, places), "none is made up");
    found
}
