//! What the topics are filled with. Each load is a function of a record's number, so that its checks can work out again what
//! has to come out.

use std::time::{Duration, SystemTime};

use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::kafka::{Kafka, NO_DELIVERY_ERROR, Watched};
use crate::Outcome;
use crate::engine::{MOVES_TIME, MOVES_TIME_KEY};

/// Partitions of every input.
pub(crate) const PARTITIONS: i32 = 4;
/// Each n-th left record of the join has no right one.
pub(crate) const ALONE: u64 = 10;

/// The input of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Keys in turn, so that each gets the same number of records.
    Count,
    /// About as many records as keys, drawn at random: two thirds of a million keys in a million records.
    Wide,
    /// Few keys, drawn at random, a millisecond of event time apart.
    Window,
    /// Two topics. Of every left record one right record has the same key and comes a millisecond later, but for each
    /// tenth, which has none. Keys come again long after their windows have closed.
    Join,
    /// Each key once, in no order, with 100 bytes that can't be compressed to less than 60.
    Big,
}

/// A load: its kind and its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) kind: Kind,
    /// Records (of the join: left records).
    pub(crate) records: u64,
    /// Keys that there are; of those drawn at random, some are never drawn.
    pub(crate) keys: u64,
    /// The first record's time, in milliseconds; 0 for the time of writing.
    pub(crate) begin: i64,
}

/// A record of a load.
pub(crate) struct Row {
    /// Index of its topic.
    pub(crate) topic: usize,
    /// The number in its key.
    pub(crate) key: u64,
    /// Its time, in milliseconds; `None` for the time of writing.
    pub(crate) time: Option<i64>,
}

impl Load {
    pub(crate) fn new(kind: Kind, scale: f64) -> Self {
        let (records, keys) = match kind {
            Kind::Count => (5_000_000, 100_000),
            Kind::Wide => (1_000_000, 1_100_000),
            Kind::Window => (2_000_000, 1_000),
            Kind::Join => (1_000_000, 200_000),
            Kind::Big => (10_000_000, 10_000_000),
        };
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let scaled = |n: u64| ((n as f64 * scale) as u64).max(20_000);
        // Few keys are what makes the window's load, and a join's key must not come again while it is kept.
        let (records, keys) = match kind {
            Kind::Count => (scaled(records), scaled(keys).min(scaled(records) / 4)),
            Kind::Window => (scaled(records), keys),
            Kind::Join | Kind::Wide | Kind::Big => (scaled(records), scaled(keys)),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Three hours ago: nothing is in the future, and nothing is so old that a topic's retention would take it.
        let begin = (i64::try_from(now.as_millis()).unwrap_or_default() / 60_000 - 180) * 60_000;
        Self { kind, records: records / 1_000 * 1_000, keys, begin }
    }

    /// The name of its first topic, and of its second.
    pub(crate) fn topics(&self) -> Vec<String> {
        match self.kind {
            Kind::Count => vec!["load-count".into()],
            Kind::Wide => vec!["load-wide".into()],
            Kind::Window => vec!["load-window".into()],
            Kind::Join => vec!["load-left".into(), "load-right".into()],
            Kind::Big => vec!["load-big".into()],
        }
    }

    /// Record number `n`; of the join, the left one.
    pub(crate) fn row(&self, n: u64) -> Row {
        let time = || Some(self.begin + i64::try_from(n).unwrap_or_default());
        match self.kind {
            Kind::Count => Row { topic: 0, key: n % self.keys, time: None },
            Kind::Wide => Row { topic: 0, key: mix(n) % self.keys, time: None },
            Kind::Window => Row { topic: 0, key: mix(n) % self.keys, time: time() },
            Kind::Join => Row { topic: 0, key: n % self.keys, time: time() },
            // A number without a common divisor with the number of keys gives each key once.
            Kind::Big => Row { topic: 0, key: n.wrapping_mul(6_700_417) % self.keys, time: None },
        }
    }

    /// Appends the value of record number `n`.
    pub(crate) fn value(&self, n: u64, out: &mut Vec<u8>) {
        if self.kind == Kind::Big {
            big_value(self.row(n).key, out);
        } else {
            out.extend_from_slice(n.to_string().as_bytes());
        }
    }

    /// Records in all its topics.
    pub(crate) fn total(&self) -> u64 {
        match self.kind {
            Kind::Join => 2 * self.records - self.records / ALONE,
            _ => self.records,
        }
    }

    /// Bytes of the keys and values of [`Kind::Big`].
    pub(crate) fn live_bytes(&self) -> u64 {
        let digits = |key: u64| u64::from(key.checked_ilog10().unwrap_or(0) + 1);
        (0..self.keys).map(|key| 100 + 4 + digits(key)).sum()
    }

    /// The time of the records that close what is open.
    fn end(&self) -> i64 {
        self.begin + i64::try_from(self.records).unwrap_or_default() + 60_000
    }

    /// Makes the topics and fills them. The ends of each topic's partitions before the records that close what is open.
    pub(crate) fn write(&self, kafka: &Kafka) -> Outcome<Vec<Vec<i64>>> {
        let topics = self.topics();
        for topic in &topics {
            kafka.create_topic(topic, PARTITIONS)?;
        }
        let producer = kafka.producer(50)?;
        let (mut key, mut value) = (String::new(), Vec::new());
        for n in 0..self.records {
            let row = self.row(n);
            key.clear();
            std::fmt::Write::write_fmt(&mut key, format_args!("key-{}", row.key))?;
            value.clear();
            self.value(n, &mut value);
            send(&producer, topics.get(row.topic).ok_or("no topic")?, None, &key, &value, row.time)?;
            if let (Kind::Join, Some(right)) = (self.kind, topics.get(1))
                && !n.is_multiple_of(ALONE)
            {
                send(&producer, right, None, &key, &value, row.time.map(|t| t + 1))?;
            }
        }
        delivered(&producer)?;
        let ends = topics.iter().map(|topic| kafka.ends(topic, PARTITIONS)).collect::<Outcome<_>>()?;
        if matches!(self.kind, Kind::Window | Kind::Join) {
            self.move_time(kafka)?;
        }
        Ok(ends)
    }

    /// Writes a record of a far later time to each partition, which closes what is open.
    pub(crate) fn move_time(&self, kafka: &Kafka) -> Outcome<()> {
        let (producer, topics) = (kafka.producer(0)?, self.topics());
        let topic = topics.first().ok_or("no topic")?;
        for p in 0..PARTITIONS {
            let value = MOVES_TIME.to_string();
            send(&producer, topic, Some(p), MOVES_TIME_KEY, value.as_bytes(), Some(self.end()))?;
        }
        delivered(&producer)
    }
}

/// Writes a record, and waits while the producer is full.
pub(crate) fn send(
    producer: &ThreadedProducer<Watched>,
    topic: &str,
    partition: Option<i32>,
    key: &str,
    value: &[u8],
    time: Option<i64>,
) -> Outcome<()> {
    let mut record = BaseRecord::to(topic).key(key).payload(value);
    record.partition = partition;
    record.timestamp = time;
    while let Err((error, back)) = producer.send(record) {
        if error.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(1));
        record = back;
    }
    Ok(())
}

/// Waits until everything is written.
pub(crate) fn delivered(producer: &ThreadedProducer<Watched>) -> Outcome<()> {
    producer.flush(Duration::from_secs(120))?;
    match producer.context().failed() {
        NO_DELIVERY_ERROR => Ok(()),
        n => Err(format!("{n} records could not be written").into()),
    }
}

/// The 100 bytes of a key of [`Kind::Big`].
pub(crate) fn big_value(key: u64, out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    let from = out.len();
    for part in 0..10 {
        let mut bits = mix(key * 16 + part);
        for _ in 0..10 {
            out.push(LETTERS.get(usize::try_from(bits % 64).unwrap_or_default()).copied().unwrap_or_default());
            bits /= 64;
        }
    }
    debug_assert_eq!(out.len() - from, 100);
}

/// A number that looks drawn at random (splitmix64).
pub(crate) fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
