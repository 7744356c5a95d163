//! Groups of which a broker takes not every record, or not every batch, with what must be left of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::Input;
use stream_core::context::Emit;
use stream_core::log::TopicConfig;
use stream_core::prelude::*;
use stream_core::testing::simulator::{CheckResult, Comparison, Fault, Faults, Simulation};

use crate::groups::{last_word, record};

type Graph = Result<Arc<GroupGraph>, BuildError>;

const HOUR: i64 = 3_600_000;
const RECORDS: u64 = 150;

/// All but for those that have other records put aside.
fn faults() -> Faults {
    [Fault::Refusal, Fault::SmallBatches, Fault::Callback].into_iter().fold(crate::faults(), Faults::without)
}

/// How often each record came out.
fn times(c: &Comparison<'_>, topic: &str) -> Result<BTreeMap<String, usize>, String> {
    let mut times = BTreeMap::new();
    for (_, text) in c.actual.decoded(topic, &Text).map_err(|e| format!("{e:?}"))? {
        *times.entry(last_word(&text)).or_default() += 1;
    }
    Ok(times)
}

fn all_there(c: &Comparison<'_>, topic: &str, wanted: impl Fn(&str) -> bool) -> CheckResult {
    let found = times(c, topic)?;
    for id in (0..RECORDS).map(|n| format!("r{n}")) {
        match found.get(&id) {
            None if wanted(&id) => return Err(format!("{topic}: {id} is lost")),
            Some(_) if !wanted(&id) => return Err(format!("{topic}: {id} does not belong there")),
            Some(n) if *n > 1 && c.exactly_once() => return Err(format!("{topic}: {id} is there {n} times")),
            _ => {}
        }
    }
    Ok(())
}

/// Some records have a time that no broker takes, and go to the dead letters: these and no others, though they share
/// batches with others. All tasks write to one partition.
pub(crate) fn blamed(simulation: Simulation) -> Simulation {
    let bad = |id: &str| id.ends_with('3');
    let graph = move || -> Graph {
        let mut g = Group::define("blamed").table(Text);
        let out = g.output("copies", Text);
        g.input(Input::topic("words").on_error(ErrorPolicy::dead_letter("dead")), Text, move |ctx, id| {
            let time = ctx.timestamp() + if bad(&id) { 2 * HOUR } else { 0 };
            ctx.emit_with(out, "shared", &id, Emit::new().timestamp(time))?;
            ctx.set(id)
        });
        g.build()
    };
    let faults = faults();
    simulation.faults(faults).instances(1).group(graph).input("words", Text, RECORDS, record).check(move |c| {
        all_there(c, "dead", bad)?;
        all_there(c, "copies", |id| !bad(id))
    })
}

/// Each record fits into its topic, and no two of them do: none is skipped.
pub(crate) fn crowded(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("crowded").table(Text);
        let out = g.output("copies", Text);
        g.input(Input::topic("words").on_error(ErrorPolicy::skip()), Text, move |ctx, id| {
            ctx.emit(out, "shared", format!("{:0>300} {id}", 0))?;
            ctx.set(id)
        });
        g.build()
    };
    let faults = faults();
    let small = TopicConfig::new().max_message_bytes(500);
    let simulation = simulation.faults(faults).instances(1).topic("copies", small);
    simulation.group(graph).input("words", Text, RECORDS, record).check(|c| all_there(c, "copies", |_| true))
}
