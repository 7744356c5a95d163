//! Groups with timers and windows. Their event times are read from the values, so that they are the same in each run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stream_core::prelude::*;
use stream_core::testing::simulator::{CheckResult, Comparison, Simulation};
use stream_core::{Input, Table};

use crate::groups::record;

type Graph = Result<Arc<GroupGraph>, BuildError>;

/// The event time of `r17`: 10 ms after another's, and up to `behind` out of order.
fn time(id: &str, behind: i64) -> i64 {
    let number: i64 = id.trim_start_matches('r').parse().unwrap_or_default();
    1000 + number * 10 - number * 7919 % (behind + 1)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `key window count` of each final result, the counts by key and window.
fn finals(outcome: &stream_core::testing::simulator::Outcome) -> Result<BTreeMap<(String, String), Vec<i64>>, String> {
    let mut finals: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (key, text) in outcome.decoded("finals", &Text).map_err(|e| format!("{e:?}"))? {
        let (window, n) = text.rsplit_once(' ').ok_or("a final result without a count")?;
        let n = n.parse().map_err(|_| format!("{text} has no count"))?;
        finals.entry((key, window.to_owned())).or_default().push(n);
    }
    Ok(finals)
}

/// Exactly once the final results are the same; at least once no one is missing, and none is less than it has to be, unless
/// an instance that was taken for dead may have written over what was counted.
fn windows_hold(c: &Comparison<'_>, group: &str) -> CheckResult {
    if c.exactly_once() {
        c.same_output_in_order("finals")?;
        c.same_table(&format!("{group}-window-counts"))?;
        return c.same_table(&format!("{group}-time"));
    }
    if !c.tables_hold() {
        return Ok(());
    }
    let actual = finals(c.actual)?;
    for (of, wanted) in finals(c.expected)? {
        let Some(found) = actual.get(&of) else { return Err(format!("finals: that of {of:?} is lost")) };
        if found.iter().min() < wanted.iter().min() {
            return Err(format!("finals: {of:?} is {found:?}, less than {wanted:?}"));
        }
    }
    Ok(())
}

/// Counts by key and window; no record is late when it comes first.
pub(crate) fn windowed(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("windowed");
        let (finals, updates) = (g.output("finals", Text), g.output("updates", Text));
        let counts = g.window("counts", Windows::tumbling(ms(200)).grace(ms(100)), Int64);
        g.input("words", EventTime::by(Text, |id: &String| time(id, 90)), move |ctx, id| {
            // At least once, a record that is done again may be late by then: what it did is in its window already.
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            ctx.emit(updates, ctx.key(), &id)
        });
        g.on_close(counts, move |ctx, (window, n)| ctx.emit(finals, ctx.key(), format!("{window} {n}")));
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| {
        c.same_output_in_order("updates")?;
        windows_hold(c, "windowed")
    })
}

/// The same with less grace than records are out of order, so that some are late.
pub(crate) fn late(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("late");
        let finals = g.output("finals", Text);
        let counts = g.window("counts", Windows::tumbling(ms(100)).grace(ms(20)), Int64);
        g.input("words", EventTime::by(Text, |id: &String| time(id, 190)), move |ctx, _| {
            ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
            Ok(())
        });
        g.on_close(counts, move |ctx, (window, n)| ctx.emit(finals, ctx.key(), format!("{window} {n}")));
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| windows_hold(c, "late"))
}

/// Hopping windows beside a table of the group's own, by a callback that awaits.
pub(crate) fn hopping(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("hopping").table(Int64);
        let finals = g.output("finals", Text);
        let counts = g.window("counts", Windows::hopping(ms(300), ms(100)).grace(ms(100)), Int64);
        let input = Input::topic("words").concurrency(8);
        g.input_async(
            input,
            EventTime::by(Text, |id: &String| time(id, 90)),
            async move |ctx: &mut Ctx<'_, Table<i64>>, id| {
                let number: u64 = id.trim_start_matches('r').parse().unwrap_or_default();
                tokio::time::sleep(ms(number * 7919 % 40)).await;
                let n = ctx.value()?.unwrap_or(0) + 1;
                ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
                ctx.set(n)
            },
        );
        g.on_close(counts, move |ctx, (window, n)| ctx.emit(finals, ctx.key(), format!("{window} {n}")));
        g.build()
    };
    simulation.group(graph).input("words", Text, 120, record).check(|c| {
        if c.exactly_once() {
            c.same_table("hopping-table")?;
        }
        windows_hold(c, "hopping")
    })
}

/// Emits the last record of a key once no other came for a while: each moves the key's timer.
pub(crate) fn debounced(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("debounced");
        let out = g.output("lasts", Text);
        let quiet = g.timer("quiet", Text);
        g.input("words", EventTime::by(Text, |id: &String| time(id, 0)), move |ctx, id| {
            ctx.set_timer(quiet, ctx.timestamp() + 150, &id)
        });
        g.on_timer(quiet, move |ctx, id| ctx.emit(out, ctx.key(), &id));
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| {
        if c.exactly_once() {
            c.same_output_in_order("lasts")?;
            return c.same_table("debounced-time");
        }
        if !c.tables_hold() {
            return Ok(());
        }
        let lasts = |outcome: &stream_core::testing::simulator::Outcome| {
            let lasts = outcome.decoded("lasts", &Text).map_err(|e| format!("{e:?}"))?;
            Ok::<BTreeSet<_>, String>(lasts.into_iter().collect())
        };
        let actual = lasts(c.actual)?;
        match lasts(c.expected)?.difference(&actual).next() {
            Some(lost) => Err(format!("lasts: {lost:?} is lost")),
            None => Ok(()),
        }
    })
}

/// Each record has a timer of the wall clock of its own, which passes it on.
pub(crate) fn delayed(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("delayed").table(Json::<Vec<String>>::new());
        let out = g.output("late", Text);
        let send = g.wall_timer("send", Json::<Vec<String>>::new());
        g.input("words", Text, move |ctx, id| {
            let mut all = ctx.value()?.unwrap_or_default();
            all.push(id);
            ctx.set_timer(send, ctx.now_ms() + 30, &all)?;
            ctx.set(all)
        });
        g.on_timer(send, move |ctx, all| ctx.emit(out, ctx.key(), all.join(" ")));
        g.build()
    };
    simulation.group(graph).input("words", Text, 100, record).check(|c| {
        if !c.tables_hold() {
            // An instance that was taken for dead may have written over what was to be emitted.
            return Ok(());
        }
        // The last one has all, whenever it comes.
        let lasts = |outcome: &stream_core::testing::simulator::Outcome| {
            let late = outcome.decoded("late", &Text).map_err(|e| format!("{e:?}"))?;
            let late = late.into_iter().map(|(key, all)| (key, all.split(' ').map(str::to_owned).collect()));
            Ok::<BTreeMap<String, BTreeSet<String>>, String>(late.collect())
        };
        let actual = lasts(c.actual)?;
        for (key, wanted) in lasts(c.expected)? {
            let found = actual.get(&key).cloned().unwrap_or_default();
            if !found.is_superset(&wanted) {
                return Err(format!("late: {key} has emitted {found:?}, not {wanted:?}"));
            }
        }
        Ok(())
    })
}
