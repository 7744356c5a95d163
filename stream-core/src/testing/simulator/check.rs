//! Compares what a run with faults left behind with what the run without them did.

use std::collections::BTreeMap;

use super::outcome::{Emitted, Outcome};
use crate::processor::Guarantee;

/// The two runs that a check compares.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Comparison<'a> {
    /// The delivery guarantee of the groups.
    pub guarantee: Guarantee,
    /// The outcome of the run without faults.
    pub expected: &'a Outcome,
    /// The outcome of the run with faults.
    pub actual: &'a Outcome,
    /// An instance that the group took for dead wrote to tables of partitions that another had by then. With at-least-once
    /// delivery it may have overwritten newer values (semantics D2), so that tables hold for exactly-once only, and so does
    /// what is emitted from them.
    pub zombies: bool,
}

/// The result of a check: a failure in words.
pub type CheckResult = Result<(), String>;

impl Comparison<'_> {
    /// Whether nothing may be doubled.
    pub fn exactly_once(&self) -> bool {
        self.guarantee == Guarantee::ExactlyOnce
    }

    /// Whether tables can be relied on.
    pub fn tables_hold(&self) -> bool {
        self.exactly_once() || !self.zombies
    }

    /// For groups whose outputs and tables do not depend on the order across partitions, nor on how often a record is
    /// processed: every output has the expected records (exactly once: no others), and every table is as expected.
    ///
    /// # Errors
    /// The first difference.
    pub fn same(&self) -> CheckResult {
        for topic in self.expected.outputs.keys() {
            self.same_output(topic)?;
        }
        for table in self.expected.tables.keys() {
            self.same_table(table)?;
        }
        Ok(())
    }

    /// An output has the expected records and no others, each as often as expected (with at-least-once delivery: or
    /// more often), in any order.
    ///
    /// # Errors
    /// The first difference.
    pub fn same_output(&self, topic: &str) -> CheckResult {
        let (expected, actual) = (counted(self.expected.output(topic)), counted(self.actual.output(topic)));
        for (record, wanted) in &expected {
            let found = actual.get(record).copied().unwrap_or_default();
            if found < *wanted {
                return Err(format!("output {topic}: {} is there {found} times, not {wanted}", show(record)));
            }
        }
        for (record, found) in &actual {
            let wanted = expected.get(record).copied().unwrap_or_default();
            if *found > wanted && (self.exactly_once() || wanted == 0) {
                return Err(format!("output {topic}: {} is there {found} times, not {wanted}", show(record)));
            }
        }
        Ok(())
    }

    /// The records of each key are as expected, in the same order. With at-least-once delivery, repeated
    /// records may come in between.
    ///
    /// # Errors
    /// The first difference.
    pub fn same_output_in_order(&self, topic: &str) -> CheckResult {
        let (expected, actual) = (by_key(self.expected.output(topic)), by_key(self.actual.output(topic)));
        for (key, wanted) in &expected {
            let found = actual.get(key).map_or(&[][..], Vec::as_slice);
            let holds = if self.exactly_once() {
                found == wanted.as_slice()
            } else {
                let mut found = found.iter();
                wanted.iter().all(|w| found.any(|f| f == w))
            };
            if !holds {
                let key = String::from_utf8_lossy(key);
                let (wanted, found) = (list(wanted), list(found));
                return Err(format!("output {topic}: key {key} has {found}\ninstead of {wanted}"));
            }
        }
        self.same_output(topic)
    }

    /// A table is as expected, if [tables can be relied on](Self::tables_hold).
    ///
    /// # Errors
    /// The first difference.
    pub fn same_table(&self, topic: &str) -> CheckResult {
        if !self.tables_hold() {
            return Ok(());
        }
        let empty = BTreeMap::new();
        let expected = self.expected.tables.get(topic).unwrap_or(&empty);
        let actual = self.actual.tables.get(topic).unwrap_or(&empty);
        let differs = expected.keys().chain(actual.keys()).find(|key| expected.get(*key) != actual.get(*key));
        let Some(key) = differs else { return Ok(()) };
        let shown = |table: &BTreeMap<Vec<u8>, Vec<u8>>| {
            table.get(key).map_or("nothing".to_owned(), |v| String::from_utf8_lossy(v).into_owned())
        };
        let (wanted, found) = (shown(expected), shown(actual));
        Err(format!("table {topic}: {} is {found}, not {wanted}", String::from_utf8_lossy(key)))
    }
}

fn counted(records: &[Emitted]) -> BTreeMap<&Emitted, usize> {
    let mut counted = BTreeMap::new();
    for record in records {
        *counted.entry(record).or_default() += 1;
    }
    counted
}

fn by_key(records: &[Emitted]) -> BTreeMap<&[u8], Vec<Option<&[u8]>>> {
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        by_key.entry(record.key.as_slice()).or_default().push(record.value.as_deref());
    }
    by_key
}

fn list(values: &[Option<&[u8]>]) -> String {
    let shown: Vec<_> = values.iter().map(|v| v.map_or("null".into(), String::from_utf8_lossy)).collect();
    shown.join(" ")
}

fn show(record: &Emitted) -> String {
    let value = record.value.as_deref().map_or("null".into(), String::from_utf8_lossy);
    format!("{}={value}", record.key_text())
}
