//! Dead letters: records that are put aside as they came, with headers that say why, and where they came from
//! (semantics D14).
//!
//! A dead letter is evidence, so it lives by the time at which it was put aside, not by its record's: a topic's retention
//! would delete the dead letter of an old record at once. And it has one set of these headers, however often it was fed
//! back and put aside again: the origin is the first one, the reason and the group are those of the last time.

use std::sync::Arc;

use crate::context::Stage;
use crate::group::{CallbackError, dead_letter as named};
use crate::log::{NewRecord, RecordRef};

/// Bytes of a reason that go into a header: a message that quotes a whole value must not make the dead letter too large.
const REASON_BYTES: usize = 8 << 10;

/// The record that is put aside, and why.
pub(super) struct DeadLetter<'a> {
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) record: RecordRef<'a>,
    pub(super) error: &'a CallbackError,
    /// The wall clock, in milliseconds since the epoch.
    pub(super) now: i64,
}

impl DeadLetter<'_> {
    /// Stages it for its topic.
    pub(super) fn stage(&self, stage: &mut Stage, to: &Arc<str>) {
        self.stage_with(stage, to, &[]);
    }

    /// Stages it for its topic, with more headers.
    pub(super) fn stage_with(&self, stage: &mut Stage, to: &Arc<str>, more: &[(&str, &[u8])]) {
        let record = self.record;
        let message = format!("{:?}", self.error);
        let reason = start_of(&message, REASON_BYTES);
        let origin = Origin::of(&record).unwrap_or_else(|| Origin {
            topic: self.topic.as_bytes().to_vec(),
            partition: self.partition.to_string().into_bytes(),
            offset: record.offset.to_string().into_bytes(),
            timestamp: record.timestamp.to_string().into_bytes(),
            count: 0,
        });
        let count = origin.count.saturating_add(1).to_string();
        let ours: [(&str, &[u8]); 12] = [
            (named::REASON, reason.as_bytes()),
            (named::GROUP, self.group.as_bytes()),
            (named::TOPIC, &origin.topic),
            (named::PARTITION, &origin.partition),
            (named::OFFSET, &origin.offset),
            (named::TIMESTAMP, &origin.timestamp),
            (named::COUNT, count.as_bytes()),
            (named::STREAMS_EXCEPTION, self.error.failure().name().as_bytes()),
            (named::STREAMS_MESSAGE, reason.as_bytes()),
            (named::STREAMS_TOPIC, &origin.topic),
            (named::STREAMS_PARTITION, &origin.partition),
            (named::STREAMS_OFFSET, &origin.offset),
        ];
        let kept = record.headers.iter().filter(|(name, _)| !named::ALL.contains(name));
        let headers = kept.chain(ours.iter().chain(more).map(|(name, value)| (*name, Some(*value))));
        let new =
            NewRecord { topic: to, partition: None, timestamp: Some(self.now), key: record.key, value: record.value };
        stage.out.push(new, headers);
    }
}

/// Where a record came from when it was put aside for the first time.
struct Origin {
    topic: Vec<u8>,
    partition: Vec<u8>,
    offset: Vec<u8>,
    timestamp: Vec<u8>,
    /// How often it was put aside so far.
    count: u64,
}

impl Origin {
    /// The origin that a record's headers name, if it was put aside before: by a group of this library, or by Kafka Streams.
    fn of(record: &RecordRef<'_>) -> Option<Self> {
        let headers = record.headers;
        // Releases that knew no count added a set of headers each time: the first set is the first origin.
        let first = |name: &str| headers.iter().find(|(n, _)| *n == name).and_then(|(_, value)| value);
        let either = |ours: &str, streams: &str| first(ours).or_else(|| first(streams)).map(<[u8]>::to_vec);
        let topic = either(named::TOPIC, named::STREAMS_TOPIC)?;
        let counted = headers.get(named::COUNT).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
        let sets = || headers.iter().filter(|(name, _)| *name == named::TOPIC).count().max(1);
        Some(Self {
            topic,
            partition: either(named::PARTITION, named::STREAMS_PARTITION)?,
            offset: either(named::OFFSET, named::STREAMS_OFFSET)?,
            // Kafka Streams keeps the record's time.
            timestamp: first(named::TIMESTAMP)
                .map_or_else(|| record.timestamp.to_string().into_bytes(), <[u8]>::to_vec),
            count: counted.unwrap_or_else(|| sets() as u64),
        })
    }
}

/// The start of a text, of so many bytes at most.
fn start_of(text: &str, most: usize) -> &str {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= most).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}
