//! The producer of an instance: its options, its transactional id, and whether another instance has the same one.

use std::time::Duration;

use tokio::time::Instant;

use super::Processor;
use super::error::{ProcessorError, ProcessorResult};
use super::options::Guarantee;
use crate::log::{LogError, ProducerOptions};
use crate::store::StoreBackend;
use crate::topics::TopicFacts;

/// The time within which a second fencing is no accident.
const SECOND_FENCING: Duration = Duration::from_secs(60);

/// When another producer of the same transactional id last took over, with no partition lost: an instance that was away
/// for so long that it lost its partitions is no sign of a second one.
#[derive(Debug, Default)]
pub(super) struct Fencings {
    last: Option<Instant>,
}

impl Fencings {
    /// Notes one. Whether it is the second within a short time, so that another instance has the same transactional id.
    pub(super) fn is_second(&mut self) -> bool {
        let before = self.last.replace(Instant::now());
        before.is_some_and(|before| before.elapsed() < SECOND_FENCING)
    }
}

impl Processor {
    /// The options of the instance's producer, and how long its transactions may stay open.
    pub(super) fn producer_options(
        &self,
        facts: &TopicFacts,
        stores: &dyn StoreBackend,
        queue_bytes: Option<usize>,
    ) -> ProcessorResult<(ProducerOptions, Duration)> {
        let (graph, options, group) = (&self.graph, &self.options, self.graph.name());
        let mut producer = ProducerOptions {
            partitioner: options.partitioner,
            delivery_timeout: Some(options.session_timeout * 2 / 3),
            max_batch_bytes: self.batches.begin(graph.written().map(|t| facts.limit(t)).min().unwrap_or(usize::MAX)),
            queue_bytes,
            ..ProducerOptions::default()
        };
        let mut transaction_timeout = Duration::MAX;
        if options.guarantee == Guarantee::ExactlyOnce {
            producer.transactional_id = Some(self.transactional_id(stores)?.0.into());
            transaction_timeout = options.transaction_timeout().ok_or_else(|| {
                let reason = format!(
                    "{:?} is too long for exactly-once: its transactions may stay open for 15 min at most, which is three \
                     intervals",
                    options.commit_interval()
                );
                ProcessorError::log(group, "make a producer", LogError::Config { what: "commit_interval".to_owned(), reason })
            })?;
            producer.transaction_timeout = Some(transaction_timeout);
        }
        Ok((producer, transaction_timeout))
    }

    /// The name of this instance among the producers of its group, and where it comes from.
    fn transactional_id(&self, stores: &dyn StoreBackend) -> ProcessorResult<(String, String)> {
        let group = self.graph.name();
        let (instance, from) = if let Some(id) = &self.options.instance_id {
            (id.to_string(), "the option instance_id".to_owned())
        } else {
            let id = stores.instance_id().map_err(|e| ProcessorError::store(group, e))?;
            (id, stores.instance_id_place())
        };
        Ok((format!("{group}-{instance}"), from))
    }

    pub(super) fn same_id(&self) -> ProcessorError {
        let group = self.graph.name().to_owned();
        let named = self.stores.as_ref().map(|stores| self.transactional_id(&**stores));
        let (id, from) = match named {
            Some(Ok(named)) => named,
            Some(Err(error)) => return error,
            None => (group.clone(), "its stores".to_owned()),
        };
        let remedy = if self.options.instance_id.is_some() {
            "give each instance an instance_id of its own".to_owned()
        } else {
            "give each instance a state directory of its own: in the copy, delete the file ~instance-id".to_owned()
        };
        ProcessorError::SameId { group, id, from, remedy }
    }
}
