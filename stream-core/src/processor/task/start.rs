//! The start of a task: its stores are opened, its table and joins restored, and its positions compared.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::alignment::TaskAlignment;
use super::in_flight::InFlight;
use super::input::TaskInput;
use super::outbox::Outbox;
use super::place;
use super::pulse::Pulse;
use super::recording::{Place, Recording};
use super::replay::Replay;
use super::time::Time;
use super::{Checkpointing, Command, Inbox, Quiet, Task, TaskSpec};
use crate::clock::utc;
use crate::context::{Core, Stage};
use crate::log::{Assigned, ErrorClass, LogResult, TopicPartition};
use crate::processor::env::Env;
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::processor::positions::Looked;
use crate::processor::restore::{end_of, open_and_restore};
use crate::store::Store;
use crate::table::{Goal, TablePartition};
use crate::topology::{InputEdge, TableEdge, Tables};

impl Task {
    /// Opens and restores. `None` when the partition is to be given up before that is done.
    pub(super) async fn start(mut spec: TaskSpec) -> ProcessorResult<Option<Self>> {
        let env = Arc::clone(&spec.env);
        let graph = Arc::clone(&env.graph.topology);
        let (number, inputs, looked) = (spec.partition, std::mem::take(&mut spec.inputs), spec.looked.clone());
        let Inbox { mut commands, demands, knock } = spec.inbox;
        let Begun { restored: Restored { tables, joins }, inputs, places, meanings } = {
            let mut restoring = pin!(begin(&env, number, inputs, looked));
            loop {
                tokio::select! {
                    biased;
                    command = commands.recv() => match command {
                        // The first hand-over brings the positions, changed or not.
                        Some(Command::Recommit | Command::Record) => {}
                        Some(Command::Drain(done)) => {
                            // There is nothing to finish yet, so that this is an end in good order.
                            _ = done.send(());
                            return Ok(None);
                        }
                        Some(Command::Abort) | None => return Ok(None),
                    },
                    restored = &mut restoring => break restored?,
                }
            }
        };
        let (deferrals, deferred) = mpsc::unbounded_channel();
        let (stores, followers): (Vec<_>, Vec<_>) = joins.into_iter().unzip();
        let core = Core {
            graph,
            partition: spec.partition,
            tables: tables.map(RefCell::new),
            joins: stores,
            lookups: env.lookups.clone(),
            limits: env.limits.clone(),
            table_limits: env.table_limits.clone(),
            learned: RefCell::default(),
            pending_deletes: RefCell::default(),
            now: Cell::new(env.log.clock().now_ms()),
            max_ahead: max_ahead(&env),
            keyed: env.graph.has_keyed_state(),
            atomic: env.egress.transactions().is_some(),
            clock: env.log.clock(),
            deferrals,
            last_work_id: Cell::new(0),
        };
        let aligned = |edge: usize| env.alignment.is_some() && core.graph.inputs.get(edge).is_some_and(|e| !e.own);
        let recording = Recording::new(&env, &places, meanings);
        spec.positions.start(place::commits(&places));
        let inputs = inputs.into_iter().zip(places);
        let inputs: Vec<_> = inputs
            .map(|((edge, a), place)| TaskInput::new(edge, (aligned(edge), env.alignment.is_some()), place, a.fetch))
            .collect();
        let next_checkpoint = Box::pin(tokio::time::sleep_until(Instant::now() + env.options.checkpoint_interval));
        let time = Time::new(&core.graph, env.egress.transactions().is_some(), &core);
        let time = time.map_err(|e| ProcessorError::store(core.graph.name(), e))?;
        warn_of_time(&env, spec.partition, &time);
        Ok(Some(Self {
            id: spec.id,
            epoch: 0,
            core: Rc::new(core),
            alignment: TaskAlignment::new(env.alignment.clone(), inputs.len()),
            inputs,
            stage: Stage::default(),
            sources: Vec::new(),
            // The positions are committed at the assignment (semantics D9), here by the first transaction.
            moved: env.egress.transactions().is_some(),
            recommit: env.egress.transactions().is_some(),
            in_flight: InFlight::default(),
            blocked: None,
            time,
            futures: FuturesUnordered::new(),
            deferred,
            outbox: Outbox::default(),
            joins: followers,
            joined: false,
            positions: spec.positions,
            commands,
            demands,
            was_demand: false,
            pulse: Pulse::new(knock, env.options.commit_interval()),
            quiet: Quiet::default(),
            reports: spec.reports,
            visits: VecDeque::new(),
            visited: Vec::new(),
            ending: None,
            idle: None,
            idle_passed: false,
            checkpoint: Checkpointing::No,
            next_checkpoint,
            replay: Replay::default(),
            stall: None,
            waits: false,
            recording,
            env,
        }))
    }
}

type Joined = (Arc<dyn Store>, crate::table::Follower);

/// The state that a task needs before its first record.
struct Restored {
    tables: Tables<TablePartition>,
    joins: Vec<Joined>,
}

/// The state that a task begins with.
struct Begun {
    restored: Restored,
    inputs: Vec<(usize, Assigned)>,
    places: Vec<Place>,
    /// The meanings of the state that are still to be written.
    meanings: Vec<(Vec<u8>, Vec<u8>)>,
}

async fn begin(
    env: &Env,
    number: i32,
    mut inputs: Vec<(usize, Assigned)>,
    looked: Shared<BoxFuture<'static, LogResult<Arc<Looked>>>>,
) -> ProcessorResult<Begun> {
    let looked = looked.await.map_err(|e| ProcessorError::log(env.graph.name(), "look the inputs up", e))?;
    // Together: a reader that waits for one partition's records is asked for the other's only then.
    let (restored, positions) = futures::join!(
        patiently(async || restore_all(env, number).await),
        patiently(async || place::read_positions(env, number).await),
    );
    let (restored, positions) = (restored?, positions?);
    let tables = &restored.tables;
    let kept = place::kept(env, number, tables.time(), positions.as_deref())?;
    let meanings = place::compare_meanings(env, &kept, tables)?;
    let has_state = place::has_state(env, tables)?;
    let places = patiently(async || place::places(env, &kept, &looked, &inputs, has_state).await).await?;
    for ((_, assigned), place) in inputs.iter_mut().zip(&places).filter(|((_, a), place)| a.start != place.start) {
        let sought = assigned.fetch.seek(place.start).await;
        sought.map_err(|e| ProcessorError::log(env.graph.name(), format!("begin {}", assigned.partition), e))?;
    }
    Ok(Begun { restored, inputs, places, meanings })
}

/// A log that is away for a while is waited for: a restart would have to begin the restore again.
async fn patiently<T>(mut step: impl AsyncFnMut() -> ProcessorResult<T>) -> ProcessorResult<T> {
    let mut rest = Duration::from_millis(100);
    loop {
        match step().await {
            Err(ProcessorError::Log { group, doing, error }) if error.class() == ErrorClass::Retriable => {
                tracing::warn!(group, doing, ?error, ?rest, "a restore is tried again");
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(Duration::from_secs(5));
            }
            restored => return restored,
        }
    }
}

/// Stream time from before there was a limit, or of a clock that was wrong.
fn warn_of_time(env: &Env, partition: i32, time: &Time) {
    let (now, limit) = (env.log.clock().now_ms(), env.options.max_ahead);
    if time.on && limit < i64::MAX && time.seen > now.saturating_add(limit) {
        let (stream_time, clock) = (utc(time.seen), utc(now));
        tracing::warn!(
            group = env.graph.name(),
            partition,
            stream_time,
            clock,
            "the stream time that was restored lies ahead of this host's clock: until then every record is late"
        );
    }
}

/// How far ahead of the clock event times of each input may be. The group's own topics have times that were checked.
fn max_ahead(env: &Env) -> Vec<i64> {
    let of = |edge: &InputEdge| {
        if edge.own { i64::MAX } else { edge.input.max_ahead.unwrap_or(env.options.max_ahead) }
    };
    env.graph.inputs.iter().map(of).collect()
}

async fn restore_all(env: &Env, number: i32) -> ProcessorResult<Restored> {
    let mut tables = Tables::default();
    if let Some(edge) = &env.graph.tables.group {
        let (store, next) = restore_table(env, edge, number).await?;
        tables.group = Some(TablePartition::new(store, next));
    }
    for edge in env.graph.tables.own() {
        let (store, next) = restore_table(env, edge, number).await?;
        tables.add_own(match edge.layout {
            None => TablePartition::ordered(store, next),
            Some(layout) => {
                TablePartition::deriving(store, layout, next).map_err(|e| ProcessorError::store(env.graph.name(), e))?
            }
        });
    }
    let mut joins = Vec::new();
    for edge in &env.graph.joins {
        let partition = TopicPartition::new(Arc::clone(&edge.topic), number);
        joins.push(open_and_restore(env, &partition, edge, Goal::End).await?);
    }
    Ok(Restored { tables, joins })
}

async fn restore_table(env: &Env, edge: &TableEdge, number: i32) -> ProcessorResult<(Arc<dyn Store>, i64)> {
    let partition = TopicPartition::new(Arc::clone(&edge.topic), number);
    // Semantics D3: the committed offsets of the inputs were fetched at the assignment; now the changelog's end, then its
    // committed records up to that end.
    let goal = Goal::Offset(end_of(env, &partition).await?);
    let (store, follower) = open_and_restore(env, &partition, edge, goal).await?;
    Ok((store, follower.position()))
}
