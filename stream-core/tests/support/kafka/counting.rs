//! A group that counts and knows what it has seen before, and the checks of what it came to.
//!
//! Each key's records are numbered from 0. So it can be seen, from the table and the output alone, whether a record was
//! lost, done again, or left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stream_core::codec::{Json, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::LogHandle;
use stream_core::processor::Guarantee;

use super::{Feed, read, table};

pub const PARTITIONS: i32 = 4;
pub const KEYS: u64 = 50;

/// What the table knows of a key. Numbers come in order, so what is below `next` was there before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// One more than the largest number seen, and the number seen last.
    pub next: u64,
    pub last: u64,
    /// Calls, and those of them for a number that was there before.
    pub calls: u64,
    pub again: u64,
    /// Numbers left out.
    pub gaps: u64,
}

impl Known {
    /// Takes a number in.
    pub fn saw(&mut self, number: u64) {
        self.calls += 1;
        if number < self.next {
            self.again += 1;
        } else {
            self.gaps += number - self.next;
            self.next = number + 1;
        }
        self.last = number;
    }
}

pub fn graph(group: &str, input: &str, out: &str) -> Arc<GroupGraph> {
    graph_with(group, input, out, || {})
}

/// The same, with something to do at each call.
pub fn graph_with(group: &str, input: &str, out: &str, each: impl Fn() + Send + Sync + 'static) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Json::<Known>::new());
    let out = g.output(out, Text);
    g.input(input, Text, move |ctx, number| {
        each();
        let number: u64 = number.parse().unwrap();
        let mut known = ctx.value()?.unwrap_or_default();
        known.saw(number);
        ctx.emit(out, ctx.key(), number.to_string())?;
        ctx.set(known)
    });
    g.build().unwrap()
}

/// Sends rounds of numbers, as far as asked.
pub async fn feed(feed: &mut Feed, input: &Arc<str>, rounds: std::ops::Range<u64>) {
    let keys: Vec<String> = (0..KEYS).map(|k| format!("key-{k}")).collect();
    for round in rounds {
        let number = round.to_string();
        let records: Vec<_> = keys.iter().map(|k| (input, None, k.as_str(), number.as_str())).collect();
        feed.send(&records).await;
    }
    feed.finish().await;
}

/// How much was done more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Calls for a number that the table had before.
    pub table: u64,
    /// Records of the output beyond the first of their number.
    pub output: u64,
}

impl Again {
    /// Exactly once, nothing is.
    pub fn suits(self, guarantee: Guarantee) {
        if guarantee == Guarantee::ExactlyOnce {
            assert_eq!(self, Self::default(), "something was doubled");
        }
    }
}

/// Nothing is lost: the table and the output have every number of every key, first seen in order.
pub async fn check(log: &LogHandle, group: &str, out: &str, rounds: u64) -> Again {
    let mut again = Again::default();
    let table = table(log, group, PARTITIONS).await;
    assert_eq!(table.len() as u64, KEYS);
    for (key, value) in &table {
        let known: Known = serde_json::from_str(value).unwrap();
        assert_eq!((known.next, known.last, known.gaps), (rounds, rounds - 1, 0), "{key}: {known:?}");
        assert_eq!(known.calls, rounds + known.again, "{key}: too many only by what was done again: {known:?}");
        again.table += known.again;
    }
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for record in read(log, out, PARTITIONS).await {
        let (key, number) = (record.key.unwrap(), record.value.unwrap().parse::<u64>().unwrap());
        let next = next.entry(key.clone()).or_default();
        match number.cmp(next) {
            std::cmp::Ordering::Less => again.output += 1,
            std::cmp::Ordering::Equal => *next += 1,
            std::cmp::Ordering::Greater => panic!("{key}: {number} comes before {next}"),
        }
    }
    assert_eq!(next.len() as u64, KEYS);
    assert!(next.values().all(|n| *n == rounds), "{rounds} rounds: {next:?}");
    again
}
