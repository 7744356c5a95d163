//! The culprit of a refusal: what the broker says, then what is known of the topic, then the search.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Task;
use super::outbox::{InFlightBatch, Maker};
use super::replay::{Failed, Large, Poison, PoisonDue};
use super::search::Trace;
use crate::log::{Delivery, ErrorClass, LogError};
use crate::processor::batch_limits::Refused;
use crate::processor::error::{ProcessorError, ProcessorResult};

impl Task {
    /// Notes what a failed delivery says.
    pub(super) fn note_failure(&mut self, batch: &InFlightBatch, delivery: &Delivery) {
        // Of equals, the first.
        let Some(worst) = delivery.failed.iter().rev().max_by_key(|f| gravity(&f.error)) else { return };
        let mut failed = match self.replay.waiting.take() {
            Some(failed) if gravity(&failed.error) >= gravity(&worst.error) => failed,
            Some(failed) => Failed { error: worst.error.clone(), ..failed },
            None => Failed {
                error: worst.error.clone(),
                own: BTreeMap::new(),
                others: BTreeSet::new(),
                large: Vec::new(),
                trace: Trace::default(),
            },
        };
        let alone = batch.alone && batch.makers() <= 1;
        for record in delivery.failed.iter().filter(|f| f.error.blames_record()) {
            let (index, error) = (record.index, &record.error);
            let Some(topic) = batch.topic(index) else { continue };
            let maker = batch.maker(index);
            let certain = match error {
                // Found by the client, of this very record.
                LogError::UnknownPartition { .. } => true,
                // librdkafka passes the broker's marks on where there are at least two (rdkafka.c, `record_errors_cnt`): the
                // neighbours are cleared then. One mark comes as the error of the whole batch.
                LogError::Refused { .. } => alone,
                _ => alone && self.was_alone_in_its_batch(batch, index),
            };
            if maker != Maker::Own {
                failed.others.insert(Arc::clone(topic));
            }
            match maker {
                Maker::Own => _ = failed.own.entry(Arc::clone(topic)).or_insert_with(|| error.clone()),
                // It fails with the visit, and is not written again.
                Maker::Visit => {}
                _ if certain => self.blame(batch, index, maker, error),
                _ => {}
            }
            if certain {
                continue;
            }
            match error {
                LogError::Refused { .. } => failed.trace.suspect(maker),
                _ => failed.large.push(Large {
                    topic: Arc::clone(topic),
                    maker,
                    size: batch.size(index),
                    batch_bytes: batch.batch_bytes,
                }),
            }
        }
        failed.trace.makers = failed.trace.makers.max(batch.makers());
        failed.trace.fires += batch.fires();
        failed.trace.until.clone_from(&batch.positions);
        self.replay.waiting = Some(failed);
    }

    /// Whether a record that was refused for its size shared its batch with no other.
    fn was_alone_in_its_batch(&self, batch: &InFlightBatch, index: usize) -> bool {
        let limit = batch.topic(index).and_then(|topic| self.env.batches.of(topic));
        // Batches of several records that are no larger than the topic takes are not refused.
        let packed = batch.batch_bytes > limit.unwrap_or_else(|| batch.size(index));
        !packed || batch.is_only(index)
    }

    /// A record can't be delivered: its policy applies on the next replay, or has applied already.
    fn blame(&mut self, batch: &InFlightBatch, index: usize, maker: Maker, error: &LogError) {
        let key = || {
            let key = batch.batch.get(index).and_then(|(record, _)| record.key).unwrap_or(b"none");
            String::from_utf8_lossy(key).into_owned()
        };
        match maker {
            Maker::Record(input, offset) => {
                let known = self.replay.poison.iter().find(|p| (p.input, p.offset) == (input, offset));
                match known.map(|poison| poison.epoch) {
                    None => {
                        let (error, epoch) = (error.clone(), self.epoch);
                        self.replay.poison.push(Poison { input, offset, error, epoch });
                    }
                    // One of several that it wrote, all of them refused.
                    Some(epoch) if epoch == self.epoch => {}
                    Some(_) => self.replay.hopeless = Some((input, offset, key(), error.clone())),
                }
            }
            Maker::Timed(index) => {
                let Some((table, due)) = batch.due.get(index) else { return };
                let known = self.replay.poison_due.iter().find(|p| p.table == *table && p.key == *due);
                match known.map(|poison| poison.epoch) {
                    None => {
                        let (table, key, error, epoch) = (*table, due.clone(), error.clone(), self.epoch);
                        self.replay.poison_due.push(PoisonDue { table, key, error, epoch });
                    }
                    Some(epoch) if epoch == self.epoch => {}
                    Some(_) => self.replay.hopeless = Some((usize::MAX, -1, key(), error.clone())),
                }
            }
            Maker::Visit | Maker::Own => {}
        }
    }

    /// Goes on with smaller batches where that is what was wrong, or begins to search.
    pub(super) async fn look_for_culprit(&mut self, failed: Failed) -> ProcessorResult<()> {
        let Failed { large, mut trace, .. } = failed;
        let mut topics: BTreeMap<Arc<str>, Refused> = BTreeMap::new();
        for record in &large {
            let refused = topics.entry(Arc::clone(&record.topic)).or_default();
            refused.largest = record.size.max(refused.largest);
            refused.bytes += record.size;
        }
        for (topic, refused) in topics {
            let env = &self.env;
            let learned = env.batches.learn(&env.log, &env.egress, &topic, refused).await;
            learned.map_err(|e| ProcessorError::log(env.graph.name(), "send smaller batches", e))?;
            if let Some(limit) = env.batches.of(&topic) {
                self.core.learned.borrow_mut().insert(topic, limit);
            }
        }
        for Large { topic, maker, size, batch_bytes } in large {
            let fits = match self.env.batches.of(&topic) {
                // It was packed with others that it does not fit beside.
                Some(limit) => size <= limit && batch_bytes > limit,
                None => batch_bytes > self.env.batches.bytes(),
            };
            if !fits {
                trace.suspect(maker);
            }
        }
        self.replay.search.restart();
        self.replay.search.begin(trace);
        Ok(())
    }
}

/// Which of several errors says most about what is to be done.
fn gravity(error: &LogError) -> u8 {
    match error {
        LogError::Neighbour { .. } => 0,
        error if error.blames_record() => 3,
        error if error.class() == ErrorClass::Fatal => 2,
        _ => 1,
    }
}

impl Trace {
    fn suspect(&mut self, maker: Maker) {
        match maker {
            Maker::Record(input, offset) => _ = self.suspects.insert((input, offset)),
            Maker::Timed(_) => self.unnamed = true,
            Maker::Visit | Maker::Own => {}
        }
    }
}
