//! The faults that are set: which records they meet, and what becomes of those.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::log::{Commits, LogError, LogResult, NewRecord};

pub(super) type RuleId = u64;
pub(super) type Matches = Box<dyn FnMut(&Outgoing<'_>) -> bool + Send>;

/// A record on its way to the log, as a predicate sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition that it goes to.
    pub partition: i32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// The producer's transactional id.
    pub transactional_id: Option<&'a str>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(record: &NewRecord<'a>, partition: i32, transactional_id: Option<&'a str>) -> Self {
        Self { topic: record.topic, partition, key: record.key, value: record.value, transactional_id }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Fail(LogError),
    FailAfterWrite(LogError),
    Delay(Duration),
    HoldAck,
    Refuse,
}

/// The network between a producer and its brokers. By default it takes no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// How long a batch waits for more records of its partition: `linger.ms`. Where packing decides what is refused, it
    /// is 5 ms at least.
    pub linger: Duration,
    /// The time from a broker's verdict on a batch to the producer's knowing it. Later batches may be on their way
    /// meanwhile, five in all.
    pub round_trip: Duration,
    /// The throughput of each producer's link, in bytes a second.
    pub bytes_per_second: Option<u64>,
    /// The brokers' quota for each producer (`producer_byte_rate`): after a batch, the next one waits until the rate is
    /// kept.
    pub quota: Option<u64>,
}

pub(super) struct Rule {
    pub(super) matches: Matches,
    pub(super) action: Action,
    pub(super) left: Option<usize>,
    pub(super) hits: usize,
}

/// The faults at present.
pub(super) struct Rules {
    pub(super) available: bool,
    /// Guards that hold transactions between their offsets and their end.
    pub(super) commit_holds: usize,
    /// Errors of the next transaction commits, and whether the commit takes effect all the same.
    pub(super) commit_errors: VecDeque<(LogError, bool)>,
    /// Errors of the next commits of offsets by members, and whether the commit takes effect all the same.
    pub(super) offset_errors: VecDeque<(LogError, bool)>,
    /// The most bytes of the text of a committed offset.
    pub(super) offset_metadata_bytes: usize,
    /// Whether the groups' coordinators answer.
    pub(super) coordinating: bool,
    /// Topics whose fetches bring nothing, with the number of guards.
    pub(super) fetch_holds: BTreeMap<String, usize>,
    /// Topics with too few replicas in sync, with the number of guards.
    pub(super) short: BTreeMap<String, usize>,
    pub(super) network: Network,
    /// Guards that keep the settings of topics secret.
    pub(super) secrets: usize,
    /// Topics that look-ups do not find.
    pub(super) hidden: BTreeSet<String>,
    pub(super) deliveries: BTreeMap<RuleId, Rule>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            available: true,
            commit_holds: 0,
            commit_errors: VecDeque::new(),
            offset_errors: VecDeque::new(),
            offset_metadata_bytes: 4_096,
            coordinating: true,
            fetch_holds: BTreeMap::new(),
            short: BTreeMap::new(),
            network: Network::default(),
            secrets: 0,
            hidden: BTreeSet::new(),
            deliveries: BTreeMap::new(),
        }
    }
}

impl Rules {
    /// Whether the text of each offset is short enough.
    pub(super) fn take_metadata(&self, what: &str, offsets: &Commits) -> LogResult<()> {
        let most = self.offset_metadata_bytes;
        match offsets.iter().map(|(_, offset)| offset.metadata.len()).find(|bytes| *bytes > most) {
            None => Ok(()),
            Some(bytes) => Err(LogError::Config {
                what: what.to_owned(),
                reason: format!(
                    "the metadata of an offset has {bytes} bytes, the most is {most}: raise the brokers' \
                     offset.metadata.max.bytes"
                ),
            }),
        }
    }

    /// Whether records are written and acknowledged at once.
    pub(super) fn is_quiet(&self) -> bool {
        self.available && self.deliveries.is_empty() && self.short.is_empty() && self.network == Network::default()
    }

    /// Whether a topic has too few replicas in sync to be written to.
    pub(super) fn is_short(&self, topic: &str) -> bool {
        self.short.contains_key(topic)
    }

    /// Whether groups are coordinated.
    pub(super) fn coordinated(&self) -> bool {
        self.available && self.coordinating
    }

    /// Whether a topic can be read.
    pub(super) fn readable(&self, topic: &str) -> bool {
        self.available && !self.fetch_holds.contains_key(topic)
    }

    /// Whether look-ups show the settings of topics.
    pub(super) fn configs_shown(&self) -> bool {
        self.secrets == 0
    }

    /// The fault that meets a record, if any.
    pub(super) fn meet(&mut self, record: &Outgoing<'_>) -> Option<(RuleId, Action)> {
        for (id, rule) in &mut self.deliveries {
            if rule.left != Some(0) && (rule.matches)(record) {
                rule.left = rule.left.map(|n| n - 1);
                rule.hits += 1;
                return Some((*id, rule.action.clone()));
            }
        }
        None
    }
}
