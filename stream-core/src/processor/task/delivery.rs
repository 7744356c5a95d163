//! From released effects to acknowledged ones, and what follows a delivery that failed.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::Task;
use super::outbox::{InFlightBatch, OWN};
use super::release::write_table;
use super::replay::Failed;
use crate::group::CallbackError;
use crate::log::{Delivery, ErrorClass, LogError, ProduceBatch, TopicPartition};
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::processor::options::OWN_REFUSALS;
use crate::processor::transactions::How;
use crate::topology::TableId;

impl Task {
    /// Hands over what is released, and the positions that it brings.
    pub(super) fn flush(&mut self) {
        self.write_time();
        self.write_closed();
        let recorded = self.write_positions();
        let (batch, sources) = self.outbox.fresh();
        let batch = Arc::new(std::mem::replace(&mut self.stage.out, batch));
        let sources = std::mem::replace(&mut self.sources, sources);
        let positions = self.inputs.iter().map(|i| i.released).collect();
        let graph = &self.core.graph;
        let lows = self.alignment.flush(|topic| graph.own_topics().any(|own| **own == *topic), &batch);
        let named = || self.inputs.iter().map(|i| i.commit(i.released)).collect();
        // Behind a batch that waits to be sent alone, any other could be sent before it (see `gate`).
        let alone = self.replay.search.is_on(&self.inputs) || self.outbox.ends_alone();
        let batch_bytes = self.env.batches.bytes();
        let how = How { alone, to_own_topics: !lows.is_empty() };
        let delivery = self.env.egress.send(self.id, self.epoch, Arc::clone(&batch), how, named);
        self.replay.search.flushed();
        let visited = std::mem::take(&mut self.visited);
        let (time, due) = (self.time.mark(), std::mem::take(&mut self.time.makers));
        let handed = InFlightBatch {
            batch,
            positions,
            sources,
            due,
            alone,
            batch_bytes,
            visited,
            recorded,
            time,
            lows,
            delivery,
        };
        self.outbox.push(handed);
        self.report_alignment();
        self.moved = false;
        self.pulse.flushed();
    }

    pub(super) async fn delivered(&mut self, mut batch: InFlightBatch, delivery: Delivery) -> ProcessorResult<()> {
        if !delivery.failed.is_empty() {
            self.note_failure(&batch, &delivery);
        } else if self.replay.waiting.is_none() {
            self.acknowledge(&mut batch, &delivery);
        }
        if let Some(Failed { error, .. }) = &self.replay.waiting {
            // What a transaction that was aborted has written is never seen.
            if self.env.egress.transactions().is_none() {
                self.replay.suspects.append(&mut self.written_keys(&batch.batch, &delivery));
            }
            for visited in batch.visited.drain(..) {
                _ = visited.done.send(Err(visit_failed(self.core.graph.name(), error)));
            }
        }
        self.outbox.recycle(batch);
        self.report_alignment();
        if self.outbox.is_empty()
            && let Some(failed) = self.replay.waiting.take()
        {
            self.rollback(failed).await?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, done: &mut InFlightBatch, delivery: &Delivery) {
        self.recommit = false;
        self.acknowledge_tables(&done.batch, delivery);
        if !self.replay.suspects.is_empty() {
            // What took them back, or came behind that.
            for key in self.written_keys(&done.batch, delivery) {
                self.replay.suspects.remove(&key);
            }
        }
        let mut forward = false;
        for (input, position) in self.inputs.iter_mut().zip(&done.positions) {
            forward |= input.acknowledged < *position;
            input.acknowledged = *position;
        }
        if forward && !done.batch.is_empty() {
            self.replay.failures = 0;
        }
        if !done.batch.is_empty() {
            self.waits_no_more();
        }
        if done.has_own() {
            self.replay.own_refused = 0;
        }
        let inputs = &self.inputs;
        self.replay.poison.retain(|p| inputs.get(p.input).is_some_and(|i| i.acknowledged <= p.offset));
        self.replay.poison_due.retain(|p| !done.due.iter().any(|(table, key)| *table == p.table && *key == p.key));
        if self.replay.search.has_goal() {
            self.replay.search.acknowledged(done.searched(), done.fires(), &self.inputs);
        }
        let (mark, closed) = (done.time.as_deref_mut(), self.time.closed.written);
        if mark.is_some_and(|mark| !self.time.acknowledge(mark)) && !self.time.atomic {
            // Stream time is still to be written for what was acknowledged now. While a culprit is looked for, nothing goes
            // with it.
            self.moved = true;
            self.replay.search.close();
        }
        self.moved |= self.time.to_close().is_some();
        self.cut(closed);
        self.recorded(done);
        self.delete_fired();
        for visited in done.visited.drain(..) {
            _ = visited.done.send(Ok(visited.count));
        }
    }

    /// Has the changelogs of joins cut, if they are closed further than before.
    fn cut(&mut self, before: i64) {
        let (closed, seen) = (self.time.closed.written, self.time.seen);
        if closed == before {
            return;
        }
        let core = Rc::clone(&self.core);
        for (table, offset) in self.time.cuts.bound(&core, closed, seen) {
            if let Some(edge) = core.graph.tables.get(table) {
                self.positions.cut(TopicPartition::new(Arc::clone(&edge.topic), core.partition), offset);
            }
        }
    }

    /// The keys of a batch's table writes that a changelog has, or may have.
    fn written_keys(&self, batch: &ProduceBatch, delivery: &Delivery) -> BTreeSet<(TableId, Box<[u8]>)> {
        let tables = self.core.graph.tables_of(batch.topics());
        let refusal = |e: &LogError| e.blames_record() || matches!(e, LogError::Neighbour { .. });
        let refused: BTreeSet<usize> = delivery.failed.iter().filter(|f| refusal(&f.error)).map(|f| f.index).collect();
        let writes = (0..batch.len()).filter(|index| !refused.contains(index)).filter_map(|index| {
            let table = (*tables.get(batch.topic_of(index)?)?)?;
            let (record, _) = batch.get(index)?;
            Some((table, record.key?.into()))
        });
        writes.collect()
    }

    fn acknowledge_tables(&self, batch: &ProduceBatch, delivery: &Delivery) {
        let graph = &self.core.graph;
        // By the batch's index of their topics: found and borrowed once a batch, not once a record.
        let ids = graph.tables_of(batch.topics()).into_iter();
        let mut tables: Vec<_> = ids.map(|id| Some((id?, self.core.tables.get(id?)?.borrow_mut()))).collect();
        if tables.iter().all(Option::is_none) {
            return;
        }
        for index in 0..batch.len() {
            let table = batch.topic_of(index).and_then(|topic| tables.get_mut(topic));
            let Some((id, table)) = table.and_then(Option::as_mut) else { continue };
            let Some((record, _)) = batch.get(index) else { continue };
            let Some(key) = record.key else { continue };
            table.acknowledge(key, record.value);
            // Others than the group table are nobody's but the library's.
            let listeners = if *id == TableId::GROUP { self.env.graph.callbacks.updates.as_slice() } else { &[] };
            for listener in listeners {
                // A listener's panic is its own: the table goes on.
                let call = || listener(self.core.partition, key, record.value);
                if catch_unwind(AssertUnwindSafe(call)).is_err() {
                    let (group, partition) = (graph.name(), self.core.partition);
                    tracing::error!(group, partition, "a listener of the table's updates panicked");
                }
            }
        }
        for (table, last) in tables.iter_mut().zip(&delivery.last_offsets) {
            if let (Some((_, table)), Some(last)) = (table, last) {
                table.advance(last + 1);
            }
        }
    }

    /// Forgets everything that is not acknowledged and reads it again.
    async fn rollback(&mut self, failed: Failed) -> ProcessorResult<()> {
        let group = Arc::clone(&self.core.graph.name);
        let partition = self.core.partition;
        let error = &failed.error;
        if error.class() == ErrorClass::Fatal && !error.blames_record() {
            let failure = ProcessorError::log(&group, format!("write for partition {partition}"), error.clone());
            self.replay.dead = error.ends_producer() || std::mem::replace(&mut self.replay.fatal, true);
            if self.replay.dead {
                return Err(failure);
            }
            self.fail(failure);
        }
        tracing::warn!(group = &*group, partition, ?error, "a write failed: going back to what is acknowledged");
        // What was handed over before is void; what comes now counts again.
        self.epoch += 1;
        self.futures.clear();
        self.in_flight.clear();
        while self.deferred.try_recv().is_ok() {}
        self.stage.reset();
        self.stage.out.clear();
        self.sources.clear();
        for table in self.core.tables.iter() {
            table.borrow_mut().rollback();
        }
        self.time.rollback(&self.core);
        self.recording.rollback();
        // Positions that are acknowledged may wait for the stream time behind them.
        self.moved = self.recommit || self.time.to_write().is_some();
        self.alignment.rollback();
        self.is_busy();
        for visit in self.visits.drain(..) {
            visit.fail(visit_failed(&group, error));
        }
        for visited in self.visited.drain(..) {
            _ = visited.done.send(Err(visit_failed(&group, error)));
        }
        let ending = self.ending.is_some();
        if failed.own_culprit().is_some() {
            self.replay.own_refused += 1;
            self.replay.rest_for(error, ending);
        } else if !error.blames_record() {
            if !matches!(error, LogError::Neighbour { .. }) {
                self.replay.failures = self.replay.failures.saturating_add(1);
                if error.is_passing() || self.replay.failures > 2 {
                    self.waits_for(error);
                }
            }
            self.replay.rest_for(error, ending);
        }
        if let Some((input, offset, key, error)) = self.replay.hopeless.take() {
            let (group, topic) =
                (group.to_string(), self.inputs.get(input).map_or_else(String::new, |i| i.topic().to_string()));
            let error = CallbackError::from(error).within("what its error policy wrote can't be delivered either");
            self.fail(ProcessorError::Record { group, topic, partition, offset, key, error });
        }
        if self.replay.own_refused > OWN_REFUSALS
            && let Some((topic, error)) = failed.own_culprit()
        {
            // With each attempt it would be the same.
            self.replay.dead = true;
            let (group, topic) = (group.to_string(), format!("{topic}[{partition}]"));
            return Err(ProcessorError::OwnRecord { group, topic, error: error.clone() });
        }
        self.look_for_culprit(failed).await?;
        self.rewind().await?;
        self.rewrite_suspects()
    }

    /// Has the inputs go on behind what is acknowledged. At the end nothing more is read.
    async fn rewind(&mut self) -> ProcessorResult<()> {
        let mut failure = None;
        for input in &mut self.inputs {
            input.forget();
            if self.ending.is_some() {
                continue;
            }
            match input.seek().await {
                Ok(()) => {}
                // The partition is another's by now, and so are its table and its changelog.
                Err(error @ LogError::NotMember { .. }) => {
                    return Err(ProcessorError::log(self.core.graph.name(), "go back", error));
                }
                Err(error) => failure = failure.or(Some((input.partition.clone(), error))),
            }
        }
        if let Some((partition, error)) = failure {
            // What was written is taken back all the same.
            self.fail(ProcessorError::log(self.core.graph.name(), format!("go back on {partition}"), error));
        }
        Ok(())
    }

    /// Writes the acknowledged values again of keys whose changelog may have a later one: what was taken back here must
    /// not come back by a restore, for the record that wrote it may end otherwise this time, or elsewhere. These writes may
    /// fail as well, and be refused together with others: each key stays suspect until its changelog has one of them.
    fn rewrite_suspects(&mut self) -> ProcessorResult<()> {
        let (core, now) = (Rc::clone(&self.core), self.core.clock.now_ms());
        for (id, key) in &self.replay.suspects {
            let Some(table) = core.tables.get(*id) else { continue };
            let value = table.borrow().with_value(key, |value| value.map(<[u8]>::to_vec));
            let value = value.map_err(|e| ProcessorError::store(core.graph.name(), e))?;
            write_table(&core, &mut self.stage, *id, key, value.as_deref(), now);
            self.moved = true;
        }
        self.made_by(OWN, 0);
        Ok(())
    }
}

fn visit_failed(group: &str, error: &LogError) -> ProcessorError {
    ProcessorError::log(group, "visit: a write failed, so call it again", error.clone())
}
