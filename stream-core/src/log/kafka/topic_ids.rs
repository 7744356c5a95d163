//! The ids of topics, by which one that was recreated is distinguished from the one before it.
//!
//! librdkafka learns of them with each look at a topic, but the library does not hand them out: a debug line that
//! librdkafka writes does. It comes when the id of a topic that a client knows has changed, the first one included, before
//! the look-up is answered. Brokers before Kafka 2.8 have no ids: then nothing is known here, and no line comes.
//!
//! A client of this kind lives only as long as somebody asks: its lines are read by nobody else, and would pile up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use super::client_health::BrokersLost;
use super::config;
use super::context::{Ctx, Health, lock};
use super::options::KafkaOptions;
use crate::log::LogResult;

/// A client that asks for ids.
pub(super) struct TopicIds {
    consumer: BaseConsumer<IdsCtx>,
    /// Events are taken by one thread at a time: once they are, all lines are read.
    serving: Mutex<()>,
}

struct IdsCtx {
    base: Ctx,
    ids: Mutex<BTreeMap<String, Arc<str>>>,
    /// Counts what was served.
    served: AtomicU64,
}

impl ClientContext for IdsCtx {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.served.fetch_add(1, Ordering::AcqRel);
        match changed_id(line) {
            Some((topic, id)) => drop(lock(&self.ids).insert(topic.to_owned(), id.into())),
            None => self.base.log(level, facility, line),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.fetch_add(1, Ordering::AcqRel);
        self.base.error(error, reason);
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for IdsCtx {}

/// The topic and its new id, of a line that reports one.
fn changed_id(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("Topic ")?;
    let (topic, ids) = rest.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((topic, id))
}

impl TopicIds {
    pub(super) fn start(options: &KafkaOptions, health: Arc<Health>) -> LogResult<Self> {
        let base = Ctx::new("topic ids".into(), health, &BrokersLost::default());
        let ctx = IdsCtx { base, ids: Mutex::default(), served: AtomicU64::new(0) };
        let consumer = BaseConsumer::from_config_and_context(&config::topic_ids(options), ctx);
        Ok(Self { consumer: consumer.map_err(|e| config::refused(&e))?, serving: Mutex::default() })
    }

    /// Looks a topic up, so that its id is known if it has one.
    pub(super) fn look_up(&self, topic: &str, time: Duration) -> Result<(), KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), time);
        self.serve();
        match metadata?.topics().first().and_then(rdkafka::metadata::MetadataTopic::error) {
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
            None => Ok(()),
        }
    }

    /// The id of a topic that was looked up.
    pub(super) fn of(&self, topic: &str) -> Option<Arc<str>> {
        lock(&self.consumer.context().ids).get(topic).cloned()
    }

    fn serve(&self) {
        let _alone = lock(&self.serving);
        let served = || self.consumer.context().served.load(Ordering::Acquire);
        loop {
            let before = served();
            // One event at a time. Errors went to the context.
            if self.consumer.poll(Duration::ZERO).is_none() && served() == before {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read() {
        let line = "[thrd:main]: Topic a-table changed id from AAAAAAAAAAAAAAAAAAAAAA to RTp1o0qSTX+M5zMGoHjwOw";
        assert_eq!(changed_id(line), Some(("a-table", "RTp1o0qSTX+M5zMGoHjwOw")));
        assert_eq!(changed_id("[thrd:main]: Topic a-table partition count changed from 0 to 1"), None);
    }
}
