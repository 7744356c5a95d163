//! A task's positions: where it starts, and what it writes of them to the group's state (see
//! [`positions`](crate::processor::positions)).
//!
//! With exactly-once the transactions write the positions; a task only takes them into the store of `<group>-time`.
//! With at-least-once the task writes them when its instance is about to commit, for what is acknowledged by then, and
//! what it wrote may be committed once that is acknowledged.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::outbox::{InFlightBatch, OWN};
use super::recording::Place;
use super::release::write_table;
use super::{Report, Task};
use crate::log::{Assigned, Commits, Isolation, LogError, NewRecord, OffsetAndMetadata, OffsetSpec, TopicPartition};
use crate::processor::Guarantee;
use crate::processor::env::Env;
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::processor::options::{OnLostPosition, OnPositionMismatch};
use crate::processor::positions::{
    self, Facts, Kept, Looked, Lost, MEANING, POSITION, Problem, Recorded, decide, find, meaning_key, meaning_value,
    position_key, tag,
};
use crate::processor::restore::read_all;
use crate::store::{Direction, KeyRange, Store};
use crate::table::TablePartition;
use crate::topology::{TableId, Tables};
use crate::window::keys::TIMER;

/// How often, and how long between, a partition whose end is below a position is looked at again: a broker that has just
/// become the leader may lag.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Task {
    /// Where it starts.
    pub(super) fn starts(&self) -> Commits {
        self.inputs.iter().map(|i| i.commit(i.released)).collect()
    }

    /// Adds what is due of the state's positions to what is handed over next. Gives the positions of all inputs if they are
    /// written with it.
    pub(super) fn write_positions(&mut self) -> Option<Vec<i64>> {
        let alone = self.stage.out.is_empty();
        // A batch that looks for a record that can't be written must be of that record only.
        if !alone && self.replay.search.is_on(&self.inputs) {
            return None;
        }
        if !self.recording.meant {
            self.recording.meant = true;
            for (key, value) in self.recording.meanings.clone() {
                self.push_entry(&key, &value);
            }
        }
        let positions = std::mem::take(&mut self.recording.due).then(|| {
            let positions: Vec<i64> = self.inputs.iter().map(|i| i.acknowledged).collect();
            for (index, offset) in positions.iter().copied().enumerate() {
                let Some(input) = self.inputs.get_mut(index).filter(|i| i.recorded != Some(offset)) else { continue };
                input.recorded = Some(offset);
                let metadata = Arc::clone(&input.metadata);
                let key = position_key(input.topic());
                self.push_entry(&key, &Recorded { offset, exact: false, metadata }.write());
            }
            positions
        });
        if alone && !self.stage.out.is_empty() {
            self.sources.push((0, OWN, -1));
        }
        positions
    }

    fn push_entry(&mut self, key: &[u8], value: &[u8]) {
        let (core, now) = (Rc::clone(&self.core), self.core.clock.now_ms());
        if core.tables.time().is_some() {
            return write_table(&core, &mut self.stage, TableId::TIME, key, Some(value), now);
        }
        let Some(topic) = core.graph.positions() else { return };
        let (partition, timestamp) = (Some(core.partition), Some(now));
        let new = NewRecord { topic: &topic, partition, timestamp, key: Some(key), value: Some(value) };
        self.stage.out.push(new, std::iter::empty());
    }

    /// A batch is acknowledged: what follows for what may be committed.
    pub(super) fn recorded(&mut self, done: &mut InFlightBatch) {
        if self.recording.meant {
            // Batches are acknowledged in order, and the first one has them.
            self.recording.meanings.clear();
        }
        if !self.recording.on {
            self.positions.publish(self.inputs.iter().map(|i| i.acknowledged));
            return self.take_into_store();
        }
        let Some(positions) = done.recorded.take() else {
            return self.positions.set_ahead(true);
        };
        let ahead = self.inputs.iter().zip(&positions).any(|(input, at)| input.acknowledged != *at);
        self.positions.publish(positions.into_iter());
        self.positions.set_ahead(ahead);
        self.recording.opening = false;
        // An instance that has ended commits nothing.
        _ = self.reports.send((self.id, Report::Recorded));
    }

    /// With exactly-once: the transaction has written the positions to `<group>-time`, whose store has them, too.
    fn take_into_store(&mut self) {
        let core = Rc::clone(&self.core);
        let Some(time) = core.tables.time() else { return };
        let mut time = time.borrow_mut();
        for input in self.inputs.iter_mut().filter(|i| i.recorded != Some(i.acknowledged)) {
            input.recorded = Some(input.acknowledged);
            let metadata = Arc::clone(&input.metadata);
            let value = Recorded { offset: input.acknowledged, exact: true, metadata }.write();
            let key = position_key(input.topic());
            time.apply_acknowledged(&key, Some(&value));
        }
    }

    /// At the end the positions are written once more, when everything else is done.
    pub(super) fn record_at_the_end(&mut self) {
        if self.recording.on
            && self.ending.is_some()
            && !self.moved
            && self.stage.out.is_empty()
            && self.in_flight.is_empty()
            && self.outbox.is_empty()
        {
            self.recording.due |= self.inputs.iter().any(|i| i.recorded != Some(i.acknowledged));
        }
    }
}

/// Reads the topic of positions, in a group without `<group>-time`.
pub(super) async fn read_positions(env: &Env, number: i32) -> ProcessorResult<Option<Arc<dyn Store>>> {
    match env.graph.positions().filter(|_| env.graph.tables.time().is_none()) {
        Some(topic) => read_all(env, &TopicPartition::new(topic, number)).await.map(Some),
        None => Ok(None),
    }
}

/// The state's own record: in the restored store of `<group>-time`, else as read from the topic of positions.
pub(super) fn kept(
    env: &Env,
    number: i32,
    time: Option<&TablePartition>,
    read: Option<&dyn Store>,
) -> ProcessorResult<Kept> {
    let group = env.graph.name();
    let mut kept = Kept::default();
    let Some(topic) = env.graph.positions() else { return Ok(kept) };
    let mut wrong = Ok(());
    let mut take = |key: &[u8], value: &[u8]| match kept.take(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(problem) => {
            wrong = Err(problem);
            ControlFlow::Break(())
        }
    };
    if let Some(time) = time {
        let scanned = time.scan(&[POSITION], Some(&[MEANING + 1]), take);
        scanned.map_err(|e| ProcessorError::store(group, e))?;
    } else if let Some(store) = read {
        for pair in store.range(KeyRange::ALL, Direction::Forward) {
            let (key, value) = pair.map_err(|e| ProcessorError::store(group, e))?;
            if take(&key, &value).is_break() {
                break;
            }
        }
    }
    wrong.map_err(|problem| ProcessorError::Topic {
        group: group.to_owned(),
        problem: format!("{topic}[{number}]: {problem}"),
        remedy: "or delete the group's topics and state directory, and let it begin again".to_owned(),
    })?;
    Ok(kept)
}

/// Compares what the state means with the group's definition. Gives what is to be written of it.
pub(super) fn compare_meanings(
    env: &Env,
    kept: &Kept,
    tables: &Tables<TablePartition>,
) -> ProcessorResult<Vec<(Vec<u8>, Vec<u8>)>> {
    let graph = &env.graph;
    let mut missing = Vec::new();
    for (of, new) in positions::meanings(graph) {
        let old = kept.meanings.get(&of);
        if old == Some(&new) {
            continue;
        }
        let timer = graph.timers.iter().find(|t| of == timer_name(graph.name(), &t.name));
        let empty = if let Some(timer) = timer {
            let prefix = [&[TIMER], timer.name.as_bytes(), &[0]].concat();
            tables.time().map_or(Ok(true), |time| is_empty(time, &prefix))
        } else {
            let found = graph.tables.iter().zip(tables.iter()).find(|(edge, _)| *edge.topic == *of);
            found.map_or(Ok(true), |(_, table)| is_empty(table, b""))
        };
        if let Some(old) = old
            && !empty.map_err(|e| ProcessorError::store(graph.name(), e))?
        {
            let (group, old) = (graph.name().to_owned(), old.clone());
            let remedy =
                "what it holds can't be read that way: run the old definition until it is empty, or give the new \
                          one another name"
                    .to_owned();
            return Err(ProcessorError::Meaning { group, what: of, old, new, remedy });
        }
        missing.push((meaning_key(&of), meaning_value(&new)));
    }
    Ok(missing)
}

/// The name under which a timer's meaning is kept.
fn timer_name(group: &str, timer: &str) -> String {
    format!("{group}/{timer}")
}

fn is_empty(table: &TablePartition, prefix: &[u8]) -> Result<bool, crate::store::StoreError> {
    let end = crate::store::prefix_end(prefix);
    let mut empty = true;
    // The table is as it was restored: nothing is buffered.
    for pair in table.store().range(
        KeyRange {
            from: std::ops::Bound::Included(prefix),
            to: end.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
        },
        Direction::Forward,
    ) {
        let (key, _) = pair?;
        if table.is_bound(&key) {
            continue;
        }
        if !matches!(key.first(), Some(&(POSITION | MEANING))) || !prefix.is_empty() {
            empty = false;
            break;
        }
    }
    Ok(empty)
}

/// Finds where each input of a task starts.
pub(super) async fn places(
    env: &Env,
    kept: &Kept,
    looked: &Looked,
    inputs: &[(usize, Assigned)],
    has_state: bool,
) -> ProcessorResult<Vec<Place>> {
    let group = env.graph.name();
    let unplaced = has_state && kept.positions.is_empty();
    let exactly_once = env.options.guarantee == Guarantee::ExactlyOnce;
    let mut places = Vec::new();
    for (_, assigned) in inputs {
        let partition = &assigned.partition;
        let id = looked.ids.get(&partition.topic).cloned().flatten();
        if id.is_none() && !env.no_ids.swap(true, Ordering::Relaxed) {
            tracing::warn!(group, topic = %partition.topic, "the brokers have no topic ids: a topic that is deleted and recreated is not noticed");
        }
        let state = kept.positions.get(&*partition.topic);
        let mut range = looked.ranges.get(partition).copied().unwrap_or((0, i64::MAX));
        let mut looks = 0;
        let start = loop {
            let facts = Facts {
                committed: assigned.committed.then_some((assigned.start, &*assigned.metadata)),
                state,
                exactly_once,
                unplaced,
                id: id.as_deref(),
                reset: assigned.start,
                range,
            };
            match decide(&facts, env.options.on_position_mismatch) {
                Ok(start) => break start,
                Err(Problem::Lost(Lost::OutOfRange { at, end, .. })) if at > end && looks < LOOKS => {
                    looks += 1;
                    tokio::time::sleep(LOOK_AGAIN).await;
                    range = bounds(env, partition).await?;
                }
                Err(Problem::Lost(lost)) => match find(&lost, range, env.options.on_lost_position) {
                    Some(start) => break start,
                    None => return Err(lost_position(env, partition, &lost, false)),
                },
                Err(Problem::Mismatch { committed, ours, state }) => {
                    return Err(mismatch(env, partition, committed, ours, state));
                }
            }
        };
        if let Some(warning) = &start.warning {
            tracing::warn!(group, %partition, "{warning}");
        }
        let metadata = tag(id.as_deref());
        let recorded = Recorded { offset: start.at, exact: false, metadata: Arc::clone(&metadata) };
        let recorded = !exactly_once && state == Some(&recorded);
        places.push(Place { partition: partition.clone(), start: start.at, metadata, recorded });
    }
    Ok(places)
}

async fn bounds(env: &Env, partition: &TopicPartition) -> ProcessorResult<(i64, i64)> {
    let both = vec![(partition.clone(), OffsetSpec::Earliest), (partition.clone(), OffsetSpec::Latest)];
    let found = env.log.offsets(both, Isolation::ReadUncommitted).await;
    match found.map_err(|e| ProcessorError::log(env.graph.name(), format!("look {partition} up"), e))?.as_slice() {
        [start, end] => Ok((*start, *end)),
        _ => Ok((0, i64::MAX)),
    }
}

/// The error of a position that is lost, with the way on.
pub(in crate::processor) fn lost_position(
    env: &Env,
    partition: &TopicPartition,
    lost: &Lost,
    running: bool,
) -> ProcessorError {
    let group = env.graph.name();
    ProcessorError::Position {
        group: group.to_owned(),
        partition: partition.to_string(),
        problem: lost.of(partition),
        remedy: format!(
            "say where to go on by Processor::on_lost_position(Earliest or Latest), or set the offset while the group is \
             stopped: kafka-consumer-groups.sh --group {group} --topic {}:{} --reset-offsets --to-earliest --execute",
            partition.topic, partition.partition
        ),
        by_option: running && env.options.on_lost_position != OnLostPosition::Fail,
    }
}

fn mismatch(env: &Env, partition: &TopicPartition, committed: i64, ours: bool, state: i64) -> ProcessorError {
    let by = if ours { "" } else { " (set by a tool, or by an earlier version)" };
    debug_assert_eq!(env.options.on_position_mismatch, OnPositionMismatch::Fail);
    ProcessorError::Position {
        group: env.graph.name().to_owned(),
        partition: partition.to_string(),
        problem: format!(
            "{partition}: the committed offset is {committed}{by}, but the group's state contains the records below {state}"
        ),
        remedy: "say which of them counts by Processor::on_position_mismatch(Committed or State)".to_owned(),
        by_option: false,
    }
}

/// The error of an input that the log no longer has where the task reads.
pub(super) fn read_error(env: &Env, partition: &TopicPartition, error: LogError) -> ProcessorError {
    match error {
        LogError::OffsetOutOfRange { offset: at, start, end, .. } => {
            lost_position(env, partition, &Lost::OutOfRange { at, start, end }, true)
        }
        error => ProcessorError::log(env.graph.name(), format!("read {partition}"), error),
    }
}

/// The commits of places.
pub(super) fn commits(places: &[Place]) -> Commits {
    places.iter().map(|p| (p.partition.clone(), OffsetAndMetadata::new(p.start, Arc::clone(&p.metadata)))).collect()
}

/// Whether the state has anything but its positions and meanings.
pub(super) fn has_state(env: &Env, tables: &Tables<TablePartition>) -> ProcessorResult<bool> {
    for table in tables.iter() {
        if !is_empty(table, b"").map_err(|e| ProcessorError::store(env.graph.name(), e))? {
            return Ok(true);
        }
    }
    Ok(false)
}
