//! The edges of a group: plain data. The callbacks behind them are those of [`GroupGraph`](crate::group::GroupGraph), in the
//! same order.

use std::fmt;
use std::sync::Arc;

use super::codec::AnyCodec;
use super::names::{lead_topic, positions_topic};
use super::policy::{ErrorPolicy, Input, NullValue};
use super::tables::{TableId, Tables};
use crate::store::Layout;
use crate::window::keys::By;
use crate::window::{Batches, JoinWindows, Sessions, Which, Windows};

/// A group as it was defined, without its callbacks.
pub struct Topology {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) inputs: Vec<InputEdge>,
    pub(crate) outputs: Vec<OutputEdge>,
    pub(crate) tables: Tables<TableEdge>,
    pub(crate) timers: Vec<TimerEdge>,
    pub(crate) windows: Vec<WindowEdge>,
    /// Sessions and batches.
    pub(crate) due_entries: Vec<DueEntryEdge>,
    pub(crate) stream_joins: Vec<StreamJoinEdge>,
    pub(crate) joins: Vec<TableEdge>,
    pub(crate) lookups: Vec<TableEdge>,
    pub(crate) visitors: Vec<VisitorEdge>,
}

pub(crate) struct InputEdge {
    pub(crate) input: Input,
    /// The topic is one that the group itself fills ([`Passage`]). It has no retention, and what is processed of it is
    /// deleted.
    pub(crate) own: bool,
    /// Its records are only sent on under other keys.
    pub(crate) re_keys: bool,
    pub(crate) codec: Arc<dyn AnyCodec>,
    pub(crate) calls: Calls,
}

impl InputEdge {
    /// Whether its records without a value are left out.
    pub(crate) fn skips_nulls(&self) -> bool {
        match self.input.null_value {
            Some(rule) => rule == NullValue::Skip,
            None => !self.codec.takes_nulls(),
        }
    }
}

/// How the callback of an input is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// For each record; it does not await.
    Sync,
    /// For each record; it awaits.
    Async,
    /// For some records at a time; it awaits.
    Batch,
}

pub(crate) struct OutputEdge {
    pub(crate) topic: Arc<str>,
    /// What it is of the group's own, where the group itself reads it, by an input that is `own`.
    pub(crate) own: Option<Passage>,
    pub(crate) codec: Arc<dyn AnyCodec>,
}

/// What a topic carries by which a group sends records to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// What callbacks send: a loop.
    Loop,
    /// Records of an input, or of another such topic, as they came but for their keys.
    Rekey,
    /// The same for a side of a join.
    Side,
}

impl Passage {
    /// Its kind, and what writes to it, for messages.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Loop => ("loop", "loopback()"),
            Self::Rekey => ("rekey topic", "rekey()"),
            Self::Side => ("repartition topic", "key_by()"),
        }
    }
}

pub(crate) struct TableEdge {
    pub(crate) topic: Arc<str>,
    pub(crate) codec: Arc<dyn AnyCodec>,
    /// The layout of one that has derived entries and a bound: what a join of two topics keeps.
    pub(crate) layout: Option<Layout>,
}

pub(crate) struct TimerEdge {
    pub(crate) name: Arc<str>,
    pub(crate) by: By,
    pub(crate) codec: Arc<dyn AnyCodec>,
    /// The policy for errors of its callback.
    pub(crate) policy: ErrorPolicy,
}

pub(crate) struct WindowEdge {
    pub(crate) name: Arc<str>,
    pub(crate) windows: Windows,
    pub(crate) table: TableId,
    /// The policy for errors of its callback.
    pub(crate) policy: ErrorPolicy,
}

pub(crate) struct StreamJoinEdge {
    pub(crate) name: Arc<str>,
    pub(crate) windows: JoinWindows,
    /// `inner`, `left` or `outer`, for the description.
    pub(crate) kind: &'static str,
    /// A record of the left, of the right side without a match is emitted when it is closed.
    pub(crate) nulls: (bool, bool),
    pub(crate) table: TableId,
    /// A side of it is re-keyed.
    pub(crate) re_keys: bool,
    /// The policy for errors of these calls.
    pub(crate) policy: ErrorPolicy,
}

/// A kind of entries that stay open for a key until they are due.
pub(crate) struct DueEntryEdge {
    pub(crate) name: Arc<str>,
    pub(crate) kind: EntryKind,
    pub(crate) table: TableId,
    /// The policy for errors of its callback.
    pub(crate) policy: ErrorPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Session(Sessions),
    Batch(Batches),
}

impl EntryKind {
    /// The settings that its entries depend on: all of them decide the times of their markers.
    pub(crate) fn meaning(self) -> String {
        match self {
            Self::Session(Sessions { gap, grace }) => {
                format!("sessions with a gap of {gap} ms and a grace of {grace} ms")
            }
            Self::Batch(Batches { gap, max_age, .. }) => {
                let ms = |time: Option<i64>| time.map_or("none".to_owned(), |ms| format!("{ms} ms"));
                format!("batches with a gap of {} and a greatest age of {}", ms(gap), ms(max_age))
            }
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Batch(_) => "batch",
        }
    }

    pub(crate) fn fault(self) -> Option<&'static str> {
        match self {
            Self::Session(sessions) => sessions.fault(),
            Self::Batch(batches) => batches.fault(),
        }
    }
}

pub(crate) struct VisitorEdge {
    pub(crate) name: Arc<str>,
}

impl StreamJoinEdge {
    /// Whether records of a side are emitted when they are closed without a match.
    pub(crate) fn emits_nulls(&self, side: Which) -> bool {
        match side {
            Which::Left => self.nulls.0,
            Which::Right => self.nulls.1,
        }
    }
}

impl Topology {
    /// The group's name: its consumer group, and the prefix of its topics.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The table of each of these topics; `None` for a topic of something else.
    pub(crate) fn tables_of(&self, topics: &[Arc<str>]) -> Vec<Option<TableId>> {
        let of = |topic: &Arc<str>| self.tables.with_ids().find(|(_, table)| table.topic == *topic).map(|(id, _)| id);
        topics.iter().map(of).collect()
    }

    /// The topic that the group subscribes to so that its inputs are co-partitioned: its table, else, when it joins or
    /// has other state, `<group>-co_partition_topic`; `None` for a group without state.
    pub(crate) fn co_partition_topic(&self) -> Option<Arc<str>> {
        match &self.tables.group {
            Some(table) => Some(Arc::clone(&table.topic)),
            None if self.joins.is_empty() && self.tables.own().is_empty() => None,
            None => Some(lead_topic(&self.name)),
        }
    }

    /// The topic of the positions that the group's state contains; `None` for a group without state.
    pub(crate) fn positions(&self) -> Option<Arc<str>> {
        match (self.tables.time(), &self.tables.group) {
            (Some(time), _) => Some(Arc::clone(&time.topic)),
            (None, Some(_)) => Some(positions_topic(&self.name)),
            (None, None) => None,
        }
    }

    /// Every codec with the topic that it is used for.
    pub(crate) fn codecs(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<dyn AnyCodec>)> {
        let tables = self.tables.iter().chain(&self.joins).chain(&self.lookups);
        (self.inputs.iter().map(|e| (&e.input.topic, &e.codec)))
            .chain(self.outputs.iter().map(|e| (&e.topic, &e.codec)))
            .chain(self.tables.time().into_iter().flat_map(|e| self.timers.iter().map(|t| (&e.topic, &t.codec))))
            .chain(tables.map(|e| (&e.topic, &e.codec)))
    }

    /// The topics that are consumed.
    pub(crate) fn input_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.inputs.iter().map(|e| &e.input.topic)
    }

    /// Every topic that is written to.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Arc<str>> {
        let outputs = self.outputs.iter().map(|e| &e.topic);
        outputs.chain(self.tables.iter().map(|e| &e.topic)).chain(self.dead_letters())
    }

    /// The topics by which the group sends records to itself, in the order of their definition.
    pub(crate) fn passages(&self) -> impl Iterator<Item = (&Arc<str>, Passage)> {
        self.outputs.iter().filter_map(|e| Some((&e.topic, e.own?)))
    }

    /// The same without what they carry.
    pub(crate) fn own_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.passages().map(|(topic, _)| topic)
    }

    /// Whether a table keeps records of inputs as they came: a join's buffer or a side of it.
    pub(crate) fn keeps_inputs(&self, table: TableId) -> bool {
        let others = [TableId::GROUP, TableId::TIME].into_iter().chain(self.windows.iter().map(|e| e.table));
        !others.chain(self.due_entries.iter().map(|e| e.table)).any(|other| other == table)
    }

    /// Whether records of inputs go through this topic as they came, under other keys.
    pub(crate) fn is_repartition(&self, topic: &str) -> bool {
        self.passages().any(|(own, of)| **own == *topic && of != Passage::Loop)
    }

    /// Whether something of it falls due by the wall clock.
    #[cfg(feature = "testing")]
    pub(crate) fn waits_for_the_clock(&self) -> bool {
        self.timers.iter().any(|timer| timer.by == By::WallClock)
            || self.due_entries.iter().any(|entry| matches!(entry.kind, EntryKind::Batch(_)))
    }

    /// The topics of the tables that it writes.
    #[cfg(feature = "testing")]
    pub(crate) fn table_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tables.iter().map(|e| &e.topic)
    }

    /// Topics that hold dead letters.
    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = &Arc<str>> {
        let due = self.due_policies().filter_map(|(_, policy)| policy.dead_letter_topic());
        self.inputs.iter().flat_map(|e| e.input.dead_letters()).chain(due)
    }

    /// The policies of what falls due, each with a name for messages.
    pub(crate) fn due_policies(&self) -> impl Iterator<Item = (String, &ErrorPolicy)> {
        let timers = self.timers.iter().map(|e| ("timer", &e.name, &e.policy));
        let windows = self.windows.iter().map(|e| ("window", &e.name, &e.policy));
        let entries = self.due_entries.iter().map(|e| (e.kind.what(), &e.name, &e.policy));
        let joins = self.stream_joins.iter().map(|e| ("join", &e.name, &e.policy));
        let all = timers.chain(windows).chain(entries).chain(joins);
        all.map(|(what, name, policy)| (format!("{what} {name:?}"), policy))
    }

    /// Whether a callback can read or write state by the key of its record.
    pub(crate) fn has_keyed_state(&self) -> bool {
        self.tables.group.is_some()
            || !self.joins.is_empty()
            || !self.windows.is_empty()
            || !self.due_entries.is_empty()
            || !self.timers.is_empty()
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}
