//! Positions: which offset belongs to which topic and to which state (semantics D11).
//!
//! A position is kept in two places. The **committed offset** carries the topic's id as its metadata. The **state** of a
//! group (its table and the library's own tables) carries, for each input partition, the offset up to which it contains
//! the input's records: a record of `<group>-time` where the group has that topic, else of `<group>-positions`, a compacted
//! topic for them. A task compares both with the topic once, when it starts ([`decide`]).
//!
//! # What is written, and when
//! - With exactly-once, the transaction that commits an offset contains the state's position, equal to it. So the two are
//!   never different, unless somebody else wrote an offset.
//! - With at-least-once, three steps follow each other: a record's effects are acknowledged, then the state's position is
//!   written and acknowledged, then the offset is committed. So the state contains at least what its position says, and
//!   after a crash the committed offset may be behind the state's position, never ahead of it.
//! - The first position of an input is written before the first effect of its records (with at-least-once it is
//!   acknowledged before the first record is processed). So state without any position was written by a version of this
//!   library that kept none.
//! - One position is written for each input partition that has moved since the last commit.
//!
//! # What a task makes of them
//! | committed offset | state's position | start |
//! |---|---|---|
//! | of the topic, or without an id | none | the committed offset |
//! | of the topic, or without an id | the same offset | the committed offset |
//! | of the topic, or without an id | another offset, at-least-once | the committed offset, with a warning |
//! | of the topic, or without an id | another offset, exactly-once | [`OnPositionMismatch`](super::OnPositionMismatch) |
//! | of the topic, or without an id | of another topic | as another offset; it is never gone on with ([`OnLostPosition`](super::OnLostPosition)) |
//! | of another topic | of the topic | the state's position, with a warning |
//! | of another topic | none, or of another topic | [`OnLostPosition`](super::OnLostPosition) |
//! | none | of the topic | the state's position, with a warning |
//! | none | of another topic | [`OnLostPosition`](super::OnLostPosition) |
//! | none | none, in a state that has no position at all | [`OnLostPosition`](super::OnLostPosition) |
//! | none | none, and there is no state yet, or the input is new to it | the group's offset reset |
//!
//! A start outside of the topic's records is [`OnLostPosition`](super::OnLostPosition) again. "Exactly-once" means that a
//! transaction wrote the state's position, too: one from before a change of the guarantee is judged as at-least-once.
//!
//! # Formats
//! They are formats in topics and must never change without another version.
//! - Metadata of a committed offset: `stream-core/1`, then ` topic=` and the topic's id where the brokers have ids. An
//!   offset without it comes from a tool, or from a version of this library that wrote none.
//! - A state's position: key `4` and the input's topic; value `1` (the version), `1` if it was written by a transaction else
//!   `0`, the offset in eight bytes, and the metadata.
//! - What a state means: key `5` and what it is; value `1` and a text. It is compared, never parsed. Its version is that of the
//!   entries of what it describes, too: windows, sessions, batches, joins, timers, tables.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::options::{OnLostPosition, OnPositionMismatch};
use crate::group::GroupGraph;
use crate::log::{ErrorClass, Isolation, LogHandle, LogResult, OffsetSpec, TopicPartition};
use crate::topology::TableId;

/// The text that the metadata of our committed offsets begins with.
const TAG: &str = "stream-core/1";
const ID: &str = " topic=";
const VERSION: u8 = 1;
/// The first byte of the keys of positions.
pub(super) const POSITION: u8 = 4;
/// The first byte of the keys of meanings.
pub(super) const MEANING: u8 = 5;

/// The metadata of an offset in a topic of this id.
pub(super) fn tag(id: Option<&str>) -> Arc<str> {
    match id {
        Some(id) => format!("{TAG}{ID}{id}").into(),
        None => TAG.into(),
    }
}

/// The topic's id in the metadata of a committed offset.
pub(crate) fn tagged_id(metadata: &str) -> Option<&str> {
    metadata.strip_prefix(TAG)?.strip_prefix(ID)
}

/// Whether this library wrote the metadata, in a version that this one knows.
fn is_ours(metadata: &str) -> bool {
    metadata == TAG || tagged_id(metadata).is_some()
}

/// The key of a state's position of an input.
pub(super) fn position_key(topic: &str) -> Vec<u8> {
    [&[POSITION], topic.as_bytes()].concat()
}

/// The key of the meaning of a part of the state.
pub(super) fn meaning_key(of: &str) -> Vec<u8> {
    [&[MEANING], of.as_bytes()].concat()
}

pub(super) fn meaning_value(text: &str) -> Vec<u8> {
    [&[VERSION], text.as_bytes()].concat()
}

/// A position as the state has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) offset: i64,
    /// A transaction wrote it, together with the committed offset.
    pub(super) exact: bool,
    pub(super) metadata: Arc<str>,
}

impl Recorded {
    pub(super) fn write(&self) -> Vec<u8> {
        let head = [VERSION, u8::from(self.exact)];
        [&head, &self.offset.to_be_bytes()[..], self.metadata.as_bytes()].concat()
    }

    /// `None` for a version that this one does not know.
    fn read(value: &[u8]) -> Option<Self> {
        let ([VERSION, exact], rest) = value.split_first_chunk::<2>()? else { return None };
        let (offset, metadata) = rest.split_first_chunk::<8>()?;
        let metadata = std::str::from_utf8(metadata).ok()?.into();
        Some(Self { offset: i64::from_be_bytes(*offset), exact: *exact == 1, metadata })
    }
}

/// The positions and meanings that a state records.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) positions: BTreeMap<String, Recorded>,
    pub(super) meanings: BTreeMap<String, String>,
}

impl Kept {
    /// Takes an entry in.
    ///
    /// # Errors
    /// An entry that can't be read, in words.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let newer = |what: &str| format!("{what} was written by a later version of stream-core: start that one");
        match key.split_first() {
            Some((&POSITION, topic)) => {
                let topic = String::from_utf8_lossy(topic).into_owned();
                let position = Recorded::read(value).ok_or_else(|| newer(&format!("the position of {topic}")))?;
                self.positions.insert(topic, position);
            }
            Some((&MEANING, of)) => {
                let of = String::from_utf8_lossy(of).into_owned();
                let text = value.strip_prefix(&[VERSION]).and_then(|text| std::str::from_utf8(text).ok());
                let text = text.ok_or_else(|| newer(&format!("the description of {of}")))?;
                self.meanings.insert(of, text.to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The facts about a position when a task starts.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The committed offset and its metadata.
    pub(super) committed: Option<(i64, &'a str)>,
    /// The state's.
    pub(super) state: Option<&'a Recorded>,
    /// The processor runs with exactly-once.
    pub(super) exactly_once: bool,
    /// The group has state, and no position at all in it.
    pub(super) unplaced: bool,
    /// The topic's id, where there are ids.
    pub(super) id: Option<&'a str>,
    /// Where the group begins without an offset.
    pub(super) reset: i64,
    /// The first offset of the partition, and the one behind its last.
    pub(super) range: (i64, i64),
}

/// Where a task starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) at: i64,
    /// A warning for the operator, if there is one.
    pub(super) warning: Option<String>,
}

/// Why a task can't start where it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Lost(Lost),
    /// The committed offset, whether this library wrote it, and the state's position.
    Mismatch {
        committed: i64,
        ours: bool,
        state: i64,
    },
}

/// How a position was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is one of another topic of the same name.
    OtherTopic { at: i64, old: String, new: String },
    /// The topic does not have it.
    OutOfRange { at: i64, start: i64, end: i64 },
    /// There is no offset, and the state does not say what it contains.
    Unplaced,
}

impl Lost {
    /// The records that were lost, and their partition, in words.
    pub(super) fn of(&self, partition: &TopicPartition) -> String {
        match self {
            Self::OutOfRange { .. } => format!("{partition} {self}"),
            _ => format!("{partition}: {self}"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherTopic { at, old, new } => {
                write!(f, "position {at} belongs to topic id {old}; the topic was deleted and recreated as {new}")
            }
            Self::OutOfRange { at, start, end } => write!(f, "has no offset {at} (its records are {start}..{end})"),
            Self::Unplaced => {
                f.write_str("the group has no committed offset, and its state does not say which records it contains")
            }
        }
    }
}

/// Where a task starts, by the table at the top.
pub(super) fn decide(facts: &Facts<'_>, differ: OnPositionMismatch) -> Result<Start, Problem> {
    let other = |metadata: &str| match (tagged_id(metadata), facts.id) {
        (Some(old), Some(new)) if old != new => Some((old.to_owned(), new.to_owned())),
        _ => None,
    };
    let lost = |at, (old, new)| Err(Problem::Lost(Lost::OtherTopic { at, old, new }));
    let state = facts.state.filter(|s| other(&s.metadata).is_none());
    let committed = facts.committed.map(|(at, metadata)| (at, metadata, other(metadata)));
    let found = match (committed, state, facts.state) {
        (Some((at, _, Some(_))), Some(state), _) => {
            let there = state.offset;
            let warning = format!(
                "the committed offset {at} belongs to a topic that was deleted: the state's position {there} counts"
            );
            Start { at: there, warning: Some(warning) }
        }
        (Some((at, _, Some(ids))), None, _) => return lost(at, ids),
        (Some((at, metadata, None)), _, Some(kept)) if kept.offset != at || state.is_none() => {
            let exact = facts.exactly_once && kept.exact;
            if let (true, OnPositionMismatch::State, Some(ids)) = (exact, differ, other(&kept.metadata)) {
                return lost(kept.offset, ids);
            }
            differing(at, is_ours(metadata), kept.offset, exact.then_some(differ))?
        }
        (Some((at, ..)), ..) => Start { at, warning: None },
        (None, Some(state), _) => Start {
            at: state.offset,
            warning: Some(format!("the committed offset is missing: the state's position {} counts", state.offset)),
        },
        (None, None, Some(kept)) => {
            let ids = other(&kept.metadata).unwrap_or_default();
            return lost(kept.offset, ids);
        }
        (None, None, None) if facts.unplaced => return Err(Problem::Lost(Lost::Unplaced)),
        (None, None, None) => Start { at: facts.reset, warning: None },
    };
    let (start, end) = facts.range;
    if found.at < start || found.at > end {
        return Err(Problem::Lost(Lost::OutOfRange { at: found.at, start, end }));
    }
    Ok(found)
}

/// There is a committed offset, and the state's position is another one.
/// Only `exact` ones can't be different by a crash.
fn differing(at: i64, ours: bool, there: i64, exact: Option<OnPositionMismatch>) -> Result<Start, Problem> {
    let Some(differ) = exact else {
        // What a crash between the state's position and the commit leaves behind, and nothing else.
        let expected = ours && there > at;
        let warning = format!("the committed offset is {at}, the state contains records below {there}: {at} counts");
        return Ok(Start { at, warning: (!expected).then_some(warning) });
    };
    match differ {
        OnPositionMismatch::Fail => Err(Problem::Mismatch { committed: at, ours, state: there }),
        OnPositionMismatch::Committed => Ok(Start {
            at,
            warning: Some(format!("the committed offset {at} counts, not the state's position {there}, by option")),
        }),
        OnPositionMismatch::State => Ok(Start {
            at: there,
            warning: Some(format!("the state's position {there} counts, not the committed offset {at}, by option")),
        }),
    }
}

/// Where a task starts whose position is lost; `None` if that fails it.
pub(super) fn find(lost: &Lost, range: (i64, i64), policy: OnLostPosition) -> Option<Start> {
    let at = match policy {
        OnLostPosition::Fail => return None,
        OnLostPosition::Earliest => range.0,
        OnLostPosition::Latest => range.1,
    };
    Some(Start { at, warning: Some(format!("{lost}: the group goes on at {at}, by option")) })
}

/// The log's answers about the partitions of an assignment.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) ids: BTreeMap<Arc<str>, Option<Arc<str>>>,
    pub(super) ranges: BTreeMap<TopicPartition, (i64, i64)>,
}

/// Looks up the ids of topics and the bounds of partitions; a log that is away is waited for.
pub(super) async fn look_up(log: LogHandle, of: Vec<TopicPartition>) -> LogResult<Arc<Looked>> {
    let mut rest = Duration::from_millis(100);
    loop {
        match look(&log, &of).await {
            Err(error) if error.class() == ErrorClass::Retriable => {
                tracing::warn!(?error, ?rest, "the topics of an assignment can't be looked up now: waiting");
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(Duration::from_secs(5));
            }
            looked => return looked.map(Arc::new),
        }
    }
}

async fn look(log: &LogHandle, of: &[TopicPartition]) -> LogResult<Looked> {
    let mut looked = Looked::default();
    for partition in of {
        looked.ids.insert(Arc::clone(&partition.topic), None);
    }
    let names: Vec<_> = looked.ids.keys().cloned().collect();
    let ids = futures::future::join_all(names.iter().map(|name| log.topic_id(Arc::clone(name)))).await;
    for (name, id) in names.into_iter().zip(ids) {
        looked.ids.insert(name, id?);
    }
    let both = of.iter().flat_map(|p| [(p.clone(), OffsetSpec::Earliest), (p.clone(), OffsetSpec::Latest)]);
    let bounds = log.offsets(both.collect(), Isolation::ReadUncommitted).await?;
    for (partition, bounds) in of.iter().zip(bounds.chunks_exact(2)) {
        if let [start, end] = bounds {
            looked.ranges.insert(partition.clone(), (*start, *end));
        }
    }
    Ok(looked)
}

/// The meanings of the parts of a group's state, by the name under which each is kept. Two releases whose texts differ
/// can't read each other's entries.
pub(super) fn meanings(graph: &GroupGraph) -> BTreeMap<String, String> {
    let mut of: BTreeMap<String, String> = BTreeMap::new();
    for edge in graph.tables.with_ids().filter(|(table, _)| *table != TableId::TIME).map(|(_, edge)| edge) {
        of.insert(edge.topic.to_string(), format!("codec {}", edge.codec.name()));
    }
    let mut add = |table: TableId, text: String| {
        if let Some(edge) = graph.tables.get(table)
            && let Some(meaning) = of.get_mut(&*edge.topic)
        {
            *meaning = format!("{text}, {meaning}");
        }
    };
    for edge in &graph.windows {
        // The grace only says when a window closes, which is computed each time.
        add(edge.table, format!("windows of {} ms each {} ms", edge.windows.size, edge.windows.advance));
    }
    for edge in &graph.stream_joins {
        let (before, after) = (edge.windows.before, edge.windows.after);
        add(edge.table, format!("a {} join from {before} ms before to {after} ms after", edge.kind));
    }
    for edge in &graph.due_entries {
        add(edge.table, edge.kind.meaning());
    }
    for timer in &graph.timers {
        let text = format!("{:?}, codec {}", timer.by, timer.codec.name());
        of.insert(format!("{}/{}", graph.name(), timer.name), text);
    }
    of
}

#[cfg(test)]
mod tests;
