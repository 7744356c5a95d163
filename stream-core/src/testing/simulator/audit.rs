//! Invariants at the end of a run: everything is done, everybody can stop, no committed offset ever went back, and
//! each store is a part of its changelog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::SimulationError;
use super::kept;
use super::outcome::{Contents, apply, ends, partitions, read};
use super::plan::Plan;
use super::world::Shared;
use crate::group::GroupGraph;
use crate::log::embedded::InMemory;
use crate::log::{Isolation, LogHandle, LogResult, OffsetSpec, RecordBatch, TopicPartition};
use crate::processor::{Guarantee, tagged_id};
use crate::store::{Direction, KeyRange, Layout, StoreBackend, StoreId};

/// Virtual time after which a run that is not done counts as stuck.
const WAIT_LIMIT: Duration = Duration::from_secs(900);
const STEP: Duration = Duration::from_millis(50);
/// How often partitions move whose offsets are forgotten.
const MOVE: Duration = Duration::from_secs(30);
/// Failures after the end of all faults that are their consequence at most.
pub(super) const FAILURES: usize = 30;

/// Waits until every group has done everything.
pub(super) async fn drained(world: &Shared) -> Result<(), SimulationError> {
    let (embedded, log, graphs, flushed, failures) = {
        let world = world.borrow();
        let (embedded, log) = (Arc::clone(&world.embedded), Arc::clone(&world.log));
        (embedded, log, world.graphs.clone(), world.flush(), world.report.failures + world.plan.failures)
    };
    flushed.await?;
    // What is due by the wall clock moves no offset, and waits for what is still on its way, and for the sessions of the dead.
    let by_the_clock = graphs.iter().any(|graph| graph.waits_for_the_clock());
    let calm = if by_the_clock { 400 * STEP } else { STEP };
    let mut waited = Duration::ZERO;
    let mut done = 0;
    // Once more after a while: a group may have been done before another wrote to its input.
    while done < 3 {
        world.borrow_mut().start_due();
        if world.borrow().report.failures > failures
            && let Some(error) = world.borrow().last_error.clone()
        {
            return Err(SimulationError::Failing(error));
        }
        match unfinished(&embedded, &log, &graphs).await? {
            None => done += 1,
            Some(stuck) if waited >= WAIT_LIMIT => return Err(stuck),
            Some(stuck) => {
                done = 0;
                commit_again(&embedded, &stuck, waited);
            }
        }
        let step = if done > 0 { calm } else { STEP };
        sleep(step).await;
        waited += step;
    }
    Ok(())
}

/// A forgotten offset of an idle partition is committed again at the partition's next assignment, else within half an hour: so
/// partitions move now and then while one is missing.
fn commit_again(embedded: &InMemory, stuck: &SimulationError, waited: Duration) {
    let SimulationError::Stuck { group, partition, .. } = stuck else { return };
    if !embedded.committed(group).contains_key(partition) && waited.as_millis().is_multiple_of(MOVE.as_millis()) {
        embedded.faults().rebalance(group);
    }
}

/// The first partition whose committed offset is not its end, or that is not settled.
async fn unfinished(
    embedded: &InMemory,
    log: &LogHandle,
    graphs: &[Arc<GroupGraph>],
) -> LogResult<Option<SimulationError>> {
    for graph in graphs {
        let committed = embedded.committed(graph.name());
        let group: Arc<str> = graph.name().into();
        let stuck = |partition: TopicPartition, done: i64, end: Option<i64>| {
            let end = end.map_or("an open transaction".to_owned(), |end| end.to_string());
            Ok(Some(SimulationError::Stuck { group: group.to_string(), partition, done, end }))
        };
        for topic in graph.input_topics() {
            let of = partitions(log, topic).await?;
            let id = log.topic_id(Arc::clone(topic)).await?;
            for (partition, end) in of.clone().into_iter().zip(ends(log, &of).await?) {
                let found = committed.get(&partition);
                let done = found.map_or(0, |at| at.offset);
                // A position in a topic that was recreated since.
                let old = found.and_then(|at| tagged_id(&at.metadata)).is_some_and(|of| Some(of) != id.as_deref());
                let behind = match end {
                    None => true,
                    Some(_) if old => true,
                    // Behind the last record there may be markers of transactions.
                    Some(end) => done > end || (done < end && has_records(log, &partition, done).await?),
                };
                if behind {
                    return stuck(partition, done, end);
                }
            }
        }
        for topic in graph.written() {
            let of = partitions(log, topic).await?;
            for (partition, end) in of.clone().into_iter().zip(ends(log, &of).await?) {
                if end.is_none() {
                    return stuck(partition, 0, end);
                }
            }
        }
    }
    Ok(None)
}

/// Whether a partition has committed records from an offset on.
async fn has_records(log: &LogHandle, partition: &TopicPartition, from: i64) -> LogResult<bool> {
    let first = log.offsets(vec![(partition.clone(), OffsetSpec::Earliest)], Isolation::ReadCommitted).await?;
    let from = first.into_iter().chain([from]).max().unwrap_or(from);
    Ok(!read(log, partition.clone(), from).await?.is_empty())
}

/// Stops everybody in good order.
pub(super) async fn stopped(world: &Shared) -> Result<(), SimulationError> {
    for node in &mut world.borrow_mut().nodes {
        node.start_at = None;
        if let Some(running) = &mut node.running {
            running.stopping = true;
            running.handle.stop();
        }
    }
    let mut waited = Duration::ZERO;
    loop {
        if let Some(node) = world.borrow().nodes.iter().find(|n| n.running.is_some()) {
            if waited >= WAIT_LIMIT {
                return Err(SimulationError::Unstoppable { instance: node.name.clone() });
            }
        } else {
            return Ok(());
        }
        sleep(STEP).await;
        waited += STEP;
    }
}

/// Checks that no committed offset ever went back: an instance that has committed more has done more.
pub(super) fn commits(world: &Shared) -> Result<(), SimulationError> {
    let world = world.borrow();
    for graph in &world.graphs {
        if let Some((partition, from, to)) = world.embedded.set_back(graph.name()) {
            return Err(SimulationError::SetBack { group: graph.name().to_owned(), partition, from, to });
        }
    }
    Ok(())
}

/// Checks every store against its changelog: what it has, and the changelog behind its checkpoint over it, must be what
/// the whole changelog says.
pub(super) async fn stores(world: &Shared) -> Result<(), SimulationError> {
    let (log, nodes, graphs) = {
        let world = world.borrow();
        if world.zombies_wrote() && world.plan.guarantee == Guarantee::AtLeastOnce {
            // A zombie's write may come between those of its successor, who does not see it (semantics D2).
            return Ok(());
        }
        let nodes: Vec<_> = world.nodes.iter().map(|n| (n.group, n.name.clone(), n.stores.clone())).collect();
        (Arc::clone(&world.log), nodes, world.graphs.clone())
    };
    let mut truth: BTreeMap<TopicPartition, Contents> = BTreeMap::new();
    for topic in Plan::tables(&graphs) {
        for partition in partitions(&log, &topic).await? {
            let mut contents = Contents::new();
            apply(&mut contents, &read(&log, partition.clone(), 0).await?);
            if let Some(layout) = kept::layout(&graphs, &topic) {
                kept::derive(&mut contents, layout);
            }
            truth.insert(partition, contents);
        }
    }
    for (group, instance, stores) in nodes {
        let Some(graph) = graphs.get(group) else { continue };
        for edge in graph.tables.iter().chain(&graph.joins).chain(&graph.lookups) {
            for partition in partitions(&log, &edge.topic).await? {
                let (Some(expected), id) =
                    (truth.get(&partition), StoreId::new(Arc::clone(&edge.topic), partition.partition))
                else {
                    continue;
                };
                if !stores.list()?.contains(&id) {
                    continue;
                }
                let store = stores.open(&id, edge.codec.name())?;
                let Some(checkpoint) = store.checkpointed()? else { continue };
                let mut contents: Contents =
                    store.range(KeyRange::ALL, Direction::Forward).collect::<Result<_, _>>()?;
                let tail = read(&log, partition.clone(), checkpoint.offset).await?;
                let Some(layout) = edge.layout else {
                    apply(&mut contents, &tail);
                    differs(&instance, &partition, expected, &contents)?;
                    continue;
                };
                apply_derived(&mut contents, &tail, layout);
                // What is closed may be gone, in the changelog as well.
                let bound = kept::bound(expected, layout);
                let [expected, contents] =
                    [expected, &contents].map(|contents| kept::live(contents, layout, bound.as_deref()));
                differs(&instance, &partition, &expected, &contents)?;
            }
        }
    }
    Ok(())
}

/// Applies records to the content of a store with derived entries, as a restore does.
fn apply_derived(contents: &mut Contents, tail: &RecordBatch, layout: Layout) {
    apply(contents, tail);
    let mut key = Vec::new();
    for record in tail.iter() {
        let Some(of) = record.key.filter(|of| layout.derived(of, &mut key)) else { continue };
        match contents.get(of) {
            Some(value) => _ = contents.insert(key.clone(), layout.value(value).to_vec()),
            None => _ = contents.remove(&key),
        }
    }
}

fn differs(
    instance: &str,
    partition: &TopicPartition,
    expected: &Contents,
    contents: &Contents,
) -> Result<(), SimulationError> {
    let differs = expected.keys().chain(contents.keys()).find(|k| expected.get(*k) != contents.get(*k));
    let Some(key) = differs else { return Ok(()) };
    let shown = |contents: &Contents| {
        contents.get(key).map_or("nothing".to_owned(), |v| String::from_utf8_lossy(v).into_owned())
    };
    Err(SimulationError::Store {
        instance: instance.to_owned(),
        partition: partition.clone(),
        key: String::from_utf8_lossy(key).into_owned(),
        found: shown(contents),
        expected: shown(expected),
    })
}
