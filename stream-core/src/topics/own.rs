//! Settings of the group's own topics, whatever the cluster's defaults are (semantics D13), and the faults of topics that
//! exist.
//!
//! Results depend on three things: that a record keeps its time, that nothing is deleted which is still needed, and, for a
//! table, that its last values stay. A topic that breaks one of them is refused, with the command that mends it. Other
//! properties cost time or refuse a record where somebody sees it, so they are warned of only. A topic that exists is never
//! altered: the client resets every property that an alteration does not name.

use crate::log::{Cleanup, TimestampType, TopicConfig, TopicInfo, TopicSpec};

/// Kafka's default of `max.message.bytes`.
pub(super) const MAX_MESSAGE_BYTES: i64 = 1_048_588;

/// The bytes that the library adds to a record that it passes on: a dead letter's headers, a key of a join's.
const ROOM: i64 = 64 << 10;

/// Brokers keep a record's codec: they need not compress it again.
const AS_PRODUCED: &str = "producer";

/// The use of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The last value of each key: the group's table, or the library's own state.
    Table,
    /// What a join keeps: as a table's, and the records below what is kept are deleted.
    Kept,
    /// The positions that the group's state contains: written at each commit and read at each start.
    Positions,
    /// Records that the group sends to itself: its loop, a join's repartition topic.
    Passage,
    /// Nothing but its partitions.
    Lead,
    /// Records that were put aside, kept for so many milliseconds (-1: for ever).
    DeadLetters(i64),
}

impl Use {
    /// Its kind, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Table => "table topic",
            Self::Kept => "join topic",
            Self::Positions => "topic of positions",
            Self::Passage => "loop or repartition topic",
            Self::Lead => "lead topic",
            Self::DeadLetters(_) => "dead-letter topic",
        }
    }

    /// The settings that such a topic is made with. `whole` is set where it holds records of inputs as they came.
    pub(super) fn settings(self, whole: Option<i64>) -> TopicConfig {
        let (cleanup, retention_ms) = match self {
            Self::Table | Self::Positions => (Cleanup::Compact, -1),
            Self::Kept => (Cleanup::CompactDelete, -1),
            Self::Passage | Self::Lead => (Cleanup::Delete, -1),
            Self::DeadLetters(keep) => (Cleanup::Delete, keep),
        };
        // What is not the newest position must go soon, markers of transactions included.
        let soon = self == Self::Positions;
        let other = [("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.1")].into_iter().filter(|_| soon);
        TopicConfig {
            cleanup: Some(cleanup),
            delete_retention_ms: soon.then_some(60_000),
            other: other.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            retention_ms: Some(retention_ms),
            retention_bytes: Some(-1),
            max_message_bytes: whole,
            timestamp_type: Some(TimestampType::CreateTime),
            timestamp_before_max_ms: Some(i64::MAX),
            timestamp_after_max_ms: Some(i64::MAX),
            compression_type: Some(AS_PRODUCED.to_owned()),
            ..TopicConfig::default()
        }
    }
}

/// Faults in the settings of a topic that exists.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Properties on which results depend: what is wrong, and what is to be set.
    pub(super) refused: Vec<(String, &'static str, String)>,
    /// Properties that are better changed.
    pub(super) doubtful: Vec<(String, &'static str, String)>,
}

impl Faults {
    /// Compares a topic with the settings of its use. A setting that the broker does not show, or does not know, is no
    /// fault.
    pub(super) fn of(info: &TopicInfo, of: Use, whole: Option<i64>) -> Self {
        let mut faults = Self::default();
        let is = &info.config;
        let should = of.settings(whole);
        if of == Use::Lead {
            return faults;
        }
        if of == Use::Kept && is.cleanup == Some(Cleanup::Compact) {
            let what = "cleanup.policy=compact, so what is closed stays in it for ever".to_owned();
            faults.note(false, what, "cleanup.policy", Cleanup::CompactDelete.as_str());
        }
        let only_grows = |is: &Cleanup| of == Use::Kept && *is == Cleanup::Compact;
        let cleanup = is.cleanup.filter(|is| !only_grows(is)).filter(|is| Some(*is) != should.cleanup);
        if let (Some(is), Some(should)) = (cleanup, should.cleanup) {
            let so = match of {
                Use::Table | Use::Positions => "its values would expire",
                Use::Kept => "it would keep all values of its bound",
                _ => "records of one key would replace each other",
            };
            faults.refuse(format!("cleanup.policy={}, so {so}", is.as_str()), "cleanup.policy", should.as_str());
        }
        let stays = matches!(of, Use::Passage | Use::Kept);
        let shorter = |is: i64, should: i64| is != -1 && (should == -1 || is < should);
        if !matches!(of, Use::Table | Use::Positions) && !is.cleanup.as_ref().is_some_and(only_grows) {
            let kept = [
                ("retention.ms", is.retention_ms, should.retention_ms),
                ("retention.bytes", is.retention_bytes, should.retention_bytes),
            ];
            for (name, is, should) in kept {
                let (Some(is), Some(should)) = (is, should) else { continue };
                if shorter(is, should) {
                    let what = match of {
                        Use::Passage => "records that are not processed yet would be deleted",
                        Use::Kept => "records that may still find a match would be deleted",
                        _ => "dead letters would be deleted early",
                    };
                    faults.note(stays, format!("{name}={is}, so {what}"), name, should);
                }
            }
        }
        if matches!(of, Use::DeadLetters(_)) {
            faults.sizes(is.max_message_bytes, whole);
            return faults;
        }
        if is.timestamp_type == Some(TimestampType::LogAppendTime) {
            let what = "message.timestamp.type=LogAppendTime, so records would lose their event times".to_owned();
            faults.refuse(what, "message.timestamp.type", "CreateTime");
        }
        let limits = [
            ("message.timestamp.before.max.ms", is.timestamp_before_max_ms, "old"),
            ("message.timestamp.after.max.ms", is.timestamp_after_max_ms, "future"),
        ];
        for (name, is, which) in limits {
            if let Some(is) = is.filter(|is| *is != i64::MAX) {
                let what = format!("{name}={is}, so records of {which} event times would be refused");
                faults.note(false, what, name, i64::MAX);
            }
        }
        if let Some(is) = is.compression_type.as_deref().filter(|is| *is != AS_PRODUCED) {
            let what = format!("compression.type={is}, so the broker compresses each batch again");
            faults.note(false, what, "compression.type", AS_PRODUCED);
        }
        faults.sizes(is.max_message_bytes, whole);
        faults
    }

    fn sizes(&mut self, is: Option<i64>, whole: Option<i64>) {
        if let (Some(is), Some(should)) = (is, whole)
            && is < should - ROOM
        {
            let what = format!("max.message.bytes={is}, so a large record of an input may not fit");
            self.note(false, what, "max.message.bytes", should);
        }
    }

    fn refuse(&mut self, what: String, name: &'static str, should: impl ToString) {
        self.note(true, what, name, should);
    }

    fn note(&mut self, refuse: bool, what: String, name: &'static str, should: impl ToString) {
        let list = if refuse { &mut self.refused } else { &mut self.doubtful };
        list.push((what, name, should.to_string()));
    }
}

/// The faults of a topic in words, and the command that mends all of them.
pub(super) fn describe(
    kind: &str,
    topic: &str,
    brokers: &str,
    faults: &[(String, &'static str, String)],
) -> (String, String) {
    let what = faults.iter().map(|(what, ..)| what.as_str()).collect::<Vec<_>>().join("; ");
    let set = faults.iter().map(|(_, name, should)| format!("{name}={should}")).collect::<Vec<_>>().join(",");
    (format!("{kind} {topic} has {what}"), alter(topic, brokers, &set))
}

/// The command that sets properties of a topic.
pub(super) fn alter(topic: &str, brokers: &str, set: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} --add-config {set}"
    )
}

/// Properties without which a topic is made where a broker refuses them, in the order in which they are given up: those
/// that only some brokers know, then those that matter least.
const GIVEN_UP: [&[&str]; 3] = [
    &["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"],
    &["message.timestamp.difference.max.ms", "compression.type", "max.message.bytes"],
    &["message.timestamp.type", "retention.bytes"],
];

/// Takes the next properties from topics that a broker refuses to make; `None` if there is nothing left to take.
pub(super) fn give_up(specs: &mut [TopicSpec], round: usize) -> Option<&'static [&'static str]> {
    let names = GIVEN_UP.get(round)?;
    for spec in specs {
        let config = &mut spec.config;
        match round {
            0 => {
                if config.timestamp_before_max_ms.take().is_some() {
                    // Before Kafka 3.6, brokers had this one in place of the two.
                    let (name, most) = ("message.timestamp.difference.max.ms".to_owned(), i64::MAX.to_string());
                    config.other.push((name, most));
                }
                config.timestamp_after_max_ms = None;
            }
            1 => {
                config.other.retain(|(name, _)| !names.contains(&name.as_str()));
                (config.compression_type, config.max_message_bytes) = (None, None);
            }
            _ => (config.timestamp_type, config.retention_bytes) = (None, None),
        }
    }
    Some(names)
}

/// The `max.message.bytes` of a topic that holds records of these inputs as they came.
pub(super) fn whole<'t>(inputs: impl Iterator<Item = &'t TopicInfo>) -> i64 {
    let most = inputs.filter_map(|info| info.config.max_message_bytes).max();
    most.unwrap_or(0).max(MAX_MESSAGE_BYTES).saturating_add(ROOM).min(i64::from(i32::MAX))
}
