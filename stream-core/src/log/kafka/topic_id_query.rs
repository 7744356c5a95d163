//! The look-up of a topic's id.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;

use super::connection::Connection;
use super::context::lock;
use super::error::code;
use super::query::again;
use super::topic_ids::TopicIds;
use crate::log::LogResult;

impl Connection {
    fn topic_ids(&self) -> LogResult<Arc<TopicIds>> {
        let mut place = lock(&self.ids);
        if let Some(ids) = place.upgrade() {
            return Ok(ids);
        }
        let ids = Arc::new(TopicIds::start(&self.options, Arc::clone(&self.error_context.health))?);
        *place = Arc::downgrade(&ids);
        Ok(ids)
    }

    /// The id of a topic, if it has one and exists.
    pub(super) fn topic_id(&self, topic: &str) -> LogResult<Option<Arc<str>>> {
        use RDKafkaErrorCode as C;
        let client = self.topic_ids()?;
        match again(self.until(), |time| client.look_up(topic, time)) {
            Ok(()) => Ok(client.of(topic)),
            Err(e) if matches!(code(&e), Some(C::UnknownTopicOrPartition | C::UnknownTopic)) => Ok(None),
            Err(e) => Err(self.error_context.error(&format!("looking up topic {topic}"), &e)),
        }
    }
}
