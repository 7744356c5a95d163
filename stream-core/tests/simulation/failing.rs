//! Groups whose records fail and are put aside, with what must be left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stream_core::Input;
use stream_core::codec::Int64;
use stream_core::prelude::*;
use stream_core::testing::simulator::{Fault, Faults, Simulation};

use crate::groups::{last_word, record};

type Graph = Result<Arc<GroupGraph>, BuildError>;

/// What fails twice goes to the dead letters: each record comes out on one way or the other, and only what came out by
/// the first is counted.
pub(crate) fn dead_letters(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("lettered").table(Int64);
        let out = g.output("counts", Text);
        let policy = ErrorPolicy::dead_letter("dead").retry(1, Duration::from_millis(20));
        g.input(Input::topic("words").on_error(policy), Text, move |ctx, id| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), format!("{n} {id}"))?;
            ctx.set(n)
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| {
        let ids = |topic| -> Result<Vec<(String, String)>, String> {
            let records = c.actual.decoded(topic, &Text).map_err(|e| format!("{e:?}"))?;
            Ok(records.into_iter().map(|(key, text)| (key, last_word(&text))).collect())
        };
        let (counted, dead) = (ids("counts")?, ids("dead")?);
        let mut seen = BTreeMap::<String, usize>::new();
        for (_, id) in counted.iter().chain(&dead) {
            *seen.entry(id.clone()).or_default() += 1;
        }
        for number in 0..150 {
            match seen.get(&format!("r{number}")) {
                None => return Err(format!("r{number} is lost")),
                Some(n) if *n > 1 && c.exactly_once() => return Err(format!("r{number} is there {n} times")),
                Some(_) => {}
            }
        }
        if c.exactly_once() {
            let mut counts = BTreeMap::<String, i64>::new();
            for (key, _) in counted {
                *counts.entry(key).or_default() += 1;
            }
            let table = c.actual.table("lettered", &Int64).map_err(|e| format!("{e:?}"))?;
            if table != counts {
                return Err(format!("the table has {table:?}, the output {counts:?}"));
            }
        }
        Ok(())
    })
}

/// A write whose record goes back, because something else of it was refused, and fails for good the next time: as long
/// as nobody dies in between, and nobody gives up what is under way, nothing is left of it.
pub(crate) fn taken_back(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("taken").table(Text);
        let out = g.output("copies", Text);
        g.input(Input::topic("words").on_error(ErrorPolicy::dead_letter("dead")), Text, move |ctx, id| {
            ctx.emit(out, ctx.key(), &id)?;
            ctx.set(id)
        });
        g.build()
    };
    let kinds = [Fault::Delivery, Fault::Callback, Fault::Rebalance, Fault::Membership, Fault::Latency];
    let faults = kinds.into_iter().fold(Faults::none(), Faults::with);
    let patient = |p: Processor| p.drain_timeout(Duration::from_secs(60));
    simulation.faults(faults).processor(patient).group(graph).input("words", Text, 150, record).check(|c| {
        let copies = c.actual.decoded("copies", &Text).map_err(|e| format!("{e:?}"))?;
        let copies: BTreeSet<String> = copies.into_iter().map(|(_, id)| id).collect();
        let table = c.actual.table("taken", &Text).map_err(|e| format!("{e:?}"))?;
        match table.iter().find(|(_, id)| !copies.contains(*id)) {
            Some((key, id)) => Err(format!("the table has {id} for {key}, which never came out")),
            None => Ok(()),
        }
    })
}
