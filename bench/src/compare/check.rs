//! Whether what came out is exactly what the load says, read from the topics by a client of its own.

use std::collections::HashMap;

use super::kafka::Kafka;
use super::load::{ALONE, Kind, Load, PARTITIONS, big_value};
use super::plan::{Engine, Program};
use crate::Outcome;
use crate::engine::{MOVES_TIME, MOVES_TIME_KEY, Topology, WINDOW_MS};

/// The topic that has an engine's table.
pub(super) fn table_of(engine: &Engine, group: &str) -> String {
    match engine.program {
        Program::KafkaStreams => format!("{group}-table-changelog"),
        _ => format!("{group}-table"),
    }
}

/// Checks what a group has written.
pub(super) fn results(kafka: &Kafka, engine: &Engine, topology: Topology, load: &Load, group: &str) -> Outcome<()> {
    let output = format!("{group}-out");
    match topology {
        Topology::Count => counts(kafka, engine, load, &table_of(engine, group)),
        Topology::Table => values(kafka, load, &table_of(engine, group)),
        Topology::Filter => filtered(kafka, load, &output),
        Topology::Window => windows(kafka, load, &output),
        Topology::Join => pairs(kafka, load, &output),
    }
}

fn number(bytes: &[u8]) -> Outcome<i64> {
    let text = std::str::from_utf8(bytes)?;
    Ok(text.parse().map_err(|_| format!("{text:?} is no number"))?)
}

/// The number in a key.
fn key_number(key: &[u8]) -> Outcome<u64> {
    let text = std::str::from_utf8(key)?;
    let digits = text.strip_prefix("key-").ok_or_else(|| format!("{text:?} is no key of the load"))?;
    Ok(digits.parse()?)
}

/// A place for each key.
fn place<T>(of: &mut [T], key: u64) -> Outcome<&mut T> {
    Ok(of.get_mut(usize::try_from(key)?).ok_or_else(|| format!("key-{key} is not of the load"))?)
}

/// How often the load has each key.
fn expected(load: &Load) -> Outcome<Vec<i64>> {
    let mut expected = vec![0; usize::try_from(load.keys)?];
    for n in 0..load.records {
        *place(&mut expected, load.row(n).key)? += 1;
    }
    Ok(expected)
}

fn counts(kafka: &Kafka, engine: &Engine, load: &Load, table: &str) -> Outcome<()> {
    let expected = expected(load)?;
    let mut found = vec![0; expected.len()];
    kafka.read(table, PARTITIONS, |key, value| {
        let value = value.unwrap_or_default();
        *place(&mut found, key_number(key)?)? = match engine.program {
            // Kafka Streams' own form of a number.
            Program::KafkaStreams => i64::from_be_bytes(value.try_into()?),
            _ => number(value)?,
        };
        Ok(())
    })?;
    match expected.iter().zip(&found).position(|(e, f)| e != f) {
        None => Ok(()),
        Some(key) => {
            let (e, f) = (expected.get(key), found.get(key));
            Err(format!("key-{key} is counted {} times instead of {}", f.unwrap_or(&0), e.unwrap_or(&0)).into())
        }
    }
}

fn values(kafka: &Kafka, load: &Load, table: &str) -> Outcome<()> {
    let (mut found, mut right) = (vec![false; usize::try_from(load.keys)?], Vec::new());
    kafka.read(table, PARTITIONS, |key, value| {
        let key = key_number(key)?;
        right.clear();
        big_value(key, &mut right);
        if value != Some(right.as_slice()) {
            return Err(format!("key-{key} has another value than the load").into());
        }
        *place(&mut found, key)? = true;
        Ok(())
    })?;
    complete(&found, "key")
}

fn complete(found: &[bool], what: &str) -> Outcome<()> {
    match found.iter().position(|found| !found) {
        Some(lost) => Err(format!("{what} {lost} is lost").into()),
        None => Ok(()),
    }
}

/// Marks what is to come once.
fn once(found: &mut [bool], n: u64, what: &str) -> Outcome<()> {
    let place = found.get_mut(usize::try_from(n)?).ok_or_else(|| format!("{what} {n} is not of the load"))?;
    if std::mem::replace(place, true) { Err(format!("{what} {n} came out twice").into()) } else { Ok(()) }
}

fn filtered(kafka: &Kafka, load: &Load, output: &str) -> Outcome<()> {
    let mut found = vec![false; usize::try_from(load.records)?];
    kafka.read(output, PARTITIONS, |_, value| {
        let n = u64::try_from(number(value.unwrap_or_default())?)?;
        if n.is_multiple_of(2) { once(&mut found, n, "record") } else { Err(format!("record {n} passed").into()) }
    })?;
    let even: Vec<bool> = found.into_iter().step_by(2).collect();
    complete(&even, "every second record: number")
}

fn windows(kafka: &Kafka, load: &Load, output: &str) -> Outcome<()> {
    let mut expected = windows_of(load);
    kafka.read(output, PARTITIONS, |key, value| {
        if key == MOVES_TIME_KEY.as_bytes() {
            return Ok(());
        }
        let text = std::str::from_utf8(value.unwrap_or_default())?;
        let (start, count) = text.split_once(' ').ok_or("a result without a count")?;
        let of = (key_number(key)?, start.parse::<i64>()?);
        match expected.remove(&of) {
            Some(right) if right == count.parse::<u64>()? => Ok(()),
            Some(right) => Err(format!("window {of:?} has the count {count} instead of {right}").into()),
            None => Err(format!("window {of:?} came out twice, or is not of the load").into()),
        }
    })?;
    match expected.keys().next() {
        Some(lost) => Err(format!("window {lost:?} is lost, and {} others", expected.len() - 1).into()),
        None => Ok(()),
    }
}

/// The count of each key and window, by its start.
pub(super) fn windows_of(load: &Load) -> HashMap<(u64, i64), u64> {
    let mut all = HashMap::new();
    for n in 0..load.records {
        let row = load.row(n);
        let time = row.time.unwrap_or_default();
        *all.entry((row.key, time - time.rem_euclid(WINDOW_MS))).or_default() += 1;
    }
    all
}

/// Each left record has come out once: with its match, or without if it has none.
fn pairs(kafka: &Kafka, load: &Load, output: &str) -> Outcome<()> {
    let mut found = vec![false; usize::try_from(load.records)?];
    kafka.read(output, PARTITIONS, |key, value| {
        if key == MOVES_TIME_KEY.as_bytes() {
            return Ok(());
        }
        let out = number(value.unwrap_or_default())?;
        let n = out.unsigned_abs().checked_sub(1).ok_or_else(|| format!("a result {MOVES_TIME} of no record"))?;
        if (out > 0) == n.is_multiple_of(ALONE) {
            return Err(format!("left record {n} has a match that it must not have, or none").into());
        }
        once(&mut found, n, "left record")
    })?;
    complete(&found, "left record")
}

/// The keys that a restored table is asked for.
pub(super) fn probes(load: &Load) -> impl Iterator<Item = u64> {
    let keys = load.keys;
    let asked = keys.min(10_000);
    (0..asked).map(move |n| n * (keys / asked))
}

/// Checks what a restored table has answered.
pub(super) fn answers(kafka: &Kafka, engine: &Engine, load: &Load, output: &str) -> Outcome<()> {
    let counts = if load.kind == Kind::Big { Vec::new() } else { expected(load)? };
    let (mut right, mut asked) = (Vec::new(), HashMap::new());
    asked.extend(probes(load).map(|key| (key, 0_u32)));
    kafka.read(output, PARTITIONS, |key, value| {
        let key = key_number(key)?;
        right.clear();
        match counts.get(usize::try_from(key)?) {
            Some(n) if engine.program == Program::KafkaStreams => right.extend_from_slice(&n.to_be_bytes()),
            Some(n) => right.extend_from_slice(n.to_string().as_bytes()),
            None => big_value(key, &mut right),
        }
        if value != Some(right.as_slice()) {
            return Err(format!("the restored table has another value of key-{key} than the load").into());
        }
        *asked.get_mut(&key).ok_or_else(|| format!("nobody asked for key-{key}"))? += 1;
        Ok(())
    })?;
    match asked.iter().find(|(_, times)| **times != 1) {
        Some((key, times)) => Err(format!("the restored table answered {times} times for key-{key}").into()),
        None => Ok(()),
    }
}
