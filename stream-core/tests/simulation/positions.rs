//! Groups whose inputs are deleted or recreated, or whose positions are set back, with what must be left of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::Input;
use stream_core::codec::Int64;
use stream_core::log::{Cleanup, TopicConfig};
use stream_core::prelude::*;
use stream_core::processor::{OnLostPosition, OnPositionMismatch, ProcessorError};
use stream_core::testing::simulator::{CheckResult, Comparison, Fault, Simulation};

use crate::groups::{counter, last_word, record};

type Graph = Result<Arc<GroupGraph>, BuildError>;

const RECORDS: u64 = 150;

/// Counts, with this fault in addition. Where a position is lost, it goes on at the first record; offsets that were set back
/// count.
fn counting(simulation: Simulation, name: &'static str, fault: Fault) -> Simulation {
    let processor = |processor: Processor| {
        let every = Duration::from_secs(5);
        let processor = processor.on_lost_position(OnLostPosition::Earliest).topic_check_interval(every);
        processor.on_position_mismatch(OnPositionMismatch::Committed)
    };
    let faults = crate::faults().with(fault).without(Fault::ForgottenOffsets);
    let simulation = simulation.faults(faults).group(move || counter(name)).processor(processor);
    simulation.input("words", Text, RECORDS, record).check(move |c| {
        let done = done(c)?;
        if c.exactly_once() {
            counts_hold(c, name)?;
        }
        done.into_iter().try_for_each(|(id, n)| fate_holds(c, &id, n))
    })
}

/// How often each record was processed.
fn done(c: &Comparison<'_>) -> Result<BTreeMap<String, usize>, String> {
    let mut done: BTreeMap<String, usize> = (0..RECORDS).map(|n| (format!("r{n}"), 0)).collect();
    for (_, text) in c.actual.decoded("counts", &Text).map_err(|e| format!("{e:?}"))? {
        let id = last_word(&text);
        *done.get_mut(&id).ok_or_else(|| format!("{id} comes from nowhere"))? += 1;
    }
    Ok(done)
}

fn fate_holds(c: &Comparison<'_>, id: &str, n: usize) -> CheckResult {
    let fate = c.actual.fate("words", id.as_bytes());
    let wanted = 1 + fate.again;
    if n < wanted && !fate.may_be_missing {
        return Err(format!("{id} is done {n} times, not {wanted}"));
    }
    if n > wanted && c.exactly_once() && !fate.may_repeat {
        return Err(format!("{id} is done {n} times, more than {wanted}"));
    }
    Ok(())
}

/// What is done is counted, and nothing else.
fn counts_hold(c: &Comparison<'_>, name: &str) -> CheckResult {
    let mut counts = BTreeMap::<String, i64>::new();
    for (key, _) in c.actual.decoded("counts", &Text).map_err(|e| format!("{e:?}"))? {
        *counts.entry(key).or_default() += 1;
    }
    let table = c.actual.table(name, &Int64).map_err(|e| format!("{e:?}"))?;
    if table == counts { Ok(()) } else { Err(format!("the table has {table:?}, the output {counts:?}")) }
}

/// Retention deletes what was not processed yet.
pub(crate) fn expired(simulation: Simulation) -> Simulation {
    counting(simulation, "expired", Fault::Retention)
}

/// The input is deleted and recreated.
pub(crate) fn recreated(simulation: Simulation) -> Simulation {
    counting(simulation, "recreated", Fault::Recreation)
}

/// A tool sets the group's offsets back: they count, and not the positions in its state.
pub(crate) fn reset(simulation: Simulation) -> Simulation {
    counting(simulation, "reset", Fault::Reset)
}

/// A topic that refuses what the library itself writes, always: every instance says so and ends, in place of trying for ever.
pub(crate) fn never_taken(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("never").table(Int64);
        g.input(Input::topic("words").on_error(ErrorPolicy::skip()), Text, move |ctx, _| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)
        });
        g.build()
    };
    let tiny = TopicConfig::new().cleanup(Cleanup::Compact).max_message_bytes(100);
    // That one sets the topic's limit.
    let faults = crate::faults().without(Fault::SmallBatches);
    let simulation =
        simulation.faults(faults).group(graph).topic("never-positions", tiny).input("words", Text, 20, record);
    simulation.must_fail(|error| match error {
        ProcessorError::OwnRecord { topic, .. } if topic.starts_with("never-positions") => Ok(()),
        other => Err(format!("it fails with: {other}")),
    })
}
