//! The groups that are simulated, each with what must be left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::Int64;
use stream_core::prelude::*;
use stream_core::testing::simulator::{CheckResult, Comparison, Outcome, Random, Simulation};
use stream_core::{Input, Table};

pub(crate) type Graph = Result<Arc<GroupGraph>, BuildError>;

/// Every group, by name.
pub(crate) const ALL: [(&str, fn(Simulation) -> Simulation); 35] = [
    ("count", count),
    ("absolute", absolute),
    ("looped", looped),
    ("named_loops", super::rekeys::named_loops),
    ("rekeyed", super::rekeys::rekeyed),
    ("chain", chain),
    ("awaiting", awaiting),
    ("two_inputs", two_inputs),
    ("deferred", deferred),
    ("joining", joining),
    ("sink", sink),
    ("chained_counts", chained_counts),
    ("dead_letters", super::failing::dead_letters),
    ("taken_back", super::failing::taken_back),
    ("windowed", super::timed::windowed),
    ("late", super::timed::late),
    ("due_letters", super::due::due_letters),
    ("due_retries", super::due::due_retries),
    ("hopping", super::timed::hopping),
    ("debounced", super::timed::debounced),
    ("delayed", super::timed::delayed),
    ("joined_inner", super::joined::inner),
    ("joined_re_keyed", super::joined::re_keyed),
    ("joined_left", super::joined::left),
    ("joined_nulls", super::joined::nulls),
    ("sessions", super::open::sessions),
    ("late_sessions", super::open::late_sessions),
    ("batches", super::open::batches),
    ("table_join", super::open::table_join),
    ("blamed", super::refused::blamed),
    ("crowded", super::refused::crowded),
    ("expired", super::positions::expired),
    ("recreated", super::positions::recreated),
    ("reset", super::positions::reset),
    ("never_taken", super::positions::never_taken),
];

/// A record's number, under one of a few keys.
pub(crate) fn record(random: &mut Random, n: u64) -> (String, String) {
    // Some keys are much more frequent than others.
    let keys = if random.chance(500) { 3 } else { 40 };
    (format!("key-{}", random.below(keys)), format!("r{n}"))
}

/// Each record has an output at least once (exactly once: once), whatever else it says: the value ends in its number.
pub(crate) fn one_output_each(c: &Comparison<'_>, topic: &str, name: impl Fn(&str) -> String) -> CheckResult {
    let numbers = |outcome: &Outcome| -> Result<BTreeMap<String, usize>, String> {
        let mut numbers = BTreeMap::new();
        for (_, text) in outcome.decoded(topic, &Text).map_err(|e| format!("{e:?}"))? {
            *numbers.entry(name(&text)).or_default() += 1;
        }
        Ok(numbers)
    };
    let (expected, actual) = (numbers(c.expected)?, numbers(c.actual)?);
    for number in expected.keys() {
        match actual.get(number) {
            None => return Err(format!("{topic}: the output of {number} is lost")),
            Some(n) if *n > 1 && c.exactly_once() => {
                return Err(format!("{topic}: the output of {number} is there {n} times"));
            }
            Some(_) => {}
        }
    }
    match actual.keys().find(|number| !expected.contains_key(*number)) {
        Some(number) => Err(format!("{topic}: the output of {number} comes from nowhere")),
        None => Ok(()),
    }
}

pub(crate) fn last_word(text: &str) -> String {
    text.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Exactly once a count is right; at least once it is not too small.
pub(crate) fn counted(c: &Comparison<'_>, group: &str) -> CheckResult {
    if c.exactly_once() {
        return c.same_table(&format!("{group}-table"));
    }
    if !c.tables_hold() {
        return Ok(());
    }
    let actual = c.actual.table(group, &Int64).map_err(|e| format!("{e:?}"))?;
    for (key, n) in c.expected.table(group, &Int64).map_err(|e| format!("{e:?}"))? {
        let found = actual.get(&key).copied().unwrap_or_default();
        if found < n {
            return Err(format!("table of {group}: {key} has {found}, less than {n}"));
        }
    }
    Ok(())
}

/// Counts, and emits each count.
pub(crate) fn counter(name: &str) -> Graph {
    let mut g = Group::define(name).table(Int64);
    let out = g.output("counts", Text);
    g.input("words", Text, move |ctx, id| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.emit(out, ctx.key(), format!("{n} {id}"))?;
        ctx.set(n)
    });
    g.build()
}

fn count(simulation: Simulation) -> Simulation {
    simulation.group(|| counter("count")).input("words", Text, 150, record).check(|c| counted_and_emitted(c, "count"))
}

/// Nothing here depends on how often a record is processed. Some values are deleted.
fn absolute(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("absolute").table(Text);
        let out = g.output("copies", Text);
        g.input("words", Text, move |ctx, id| {
            ctx.emit(out, ctx.key(), &id)?;
            if id.ends_with('7') { ctx.delete() } else { ctx.set(id) }
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| {
        c.same_output_in_order("copies")?;
        c.same()
    })
}

/// Each record is counted, and its count emitted in `counts`.
fn counted_and_emitted(c: &Comparison<'_>, group: &str) -> CheckResult {
    one_output_each(c, "counts", last_word)?;
    if c.exactly_once() {
        c.same_output_in_order("counts")?;
    }
    counted(c, group)
}

/// Counts by the last digit, through the group's loop, where each record keeps its time.
fn looped(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("looped").table(Int64);
        let out = g.output("digits", Text);
        let again = g.loopback(Text);
        g.input("words", Text, move |ctx, id| {
            let digit = id.chars().last().unwrap_or('x').to_string();
            ctx.loopback(again, &digit, &id)
        });
        g.on_loop(again, move |ctx, id| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), format!("{n} {} {id}", ctx.timestamp()))?;
            ctx.set(n)
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 100, record).check(|c| {
        one_output_each(c, "digits", last_word)?;
        let times = |outcome: &Outcome| -> Result<BTreeMap<String, String>, String> {
            let all = outcome.decoded("digits", &Text).map_err(|e| format!("{e:?}"))?;
            let timed = |text: &str| text.split(' ').nth(1).unwrap_or_default().to_owned();
            Ok(all.into_iter().map(|(_, text)| (last_word(&text), timed(&text))).collect())
        };
        if times(c.expected)? != times(c.actual)? {
            return Err("digits: records have come through the loop with other times than they had".to_owned());
        }
        counted(c, "looped")
    })
}

/// The same by a second group.
fn chain(simulation: Simulation) -> Simulation {
    let first = || -> Graph {
        let mut g = Group::define("by-digit");
        let out = g.output("rekeyed", Text);
        g.input("words", Text, move |ctx, id| {
            let digit = id.chars().last().unwrap_or('x').to_string();
            ctx.emit(out, &digit, &id)
        });
        g.build()
    };
    let second = || -> Graph {
        let mut g = Group::define("digits").table(Int64);
        let out = g.output("digits", Text);
        g.input("rekeyed", Text, move |ctx, id| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), format!("{n} {id}"))?;
            ctx.set(n)
        });
        g.build()
    };
    simulation.instances(2).group(first).group(second).input("words", Text, 100, record).check(|c| {
        one_output_each(c, "rekeyed", last_word)?;
        one_output_each(c, "digits", last_word)?;
        counted(c, "digits")
    })
}

/// Counts, and a second group keeps the last count of each key: with exactly-once, what is left is the same in order.
fn chained_counts(simulation: Simulation) -> Simulation {
    let first = || -> Graph {
        let mut g = Group::define("count").table(Int64);
        let out = g.output("counts", Int64);
        g.input("words", Text, move |ctx, _| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), n)?;
            ctx.set(n)
        });
        g.build()
    };
    let second = || -> Graph {
        let mut g = Group::define("last").table(Int64);
        let out = g.output("steps", Text);
        g.input("counts", Int64, move |ctx, n| {
            let before = ctx.value()?.unwrap_or(0);
            ctx.emit(out, ctx.key(), format!("{before}-{n}"))?;
            ctx.set(n.max(before))
        });
        g.build()
    };
    simulation.instances(2).group(first).group(second).input("words", Text, 100, record).check(|c| {
        if c.exactly_once() {
            c.same_output_in_order("counts")?;
            c.same_output_in_order("steps")?;
        }
        counted(c, "count")?;
        counted(c, "last")
    })
}

/// Counts with a callback that awaits, many at once.
fn awaiting(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("awaiting").table(Int64);
        let out = g.output("counts", Text);
        g.input_async(Input::topic("words").concurrency(8), Text, async move |ctx: &mut Ctx<'_, Table<i64>>, id| {
            let number: u64 = id.trim_start_matches('r').parse().unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(number * 7919 % 60)).await;
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), format!("{n} {id}"))?;
            if number.is_multiple_of(3) {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            ctx.set(n)
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| counted_and_emitted(c, "awaiting"))
}

/// Two inputs that write to one table: a count for each side.
fn two_inputs(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("two").table(Json::<(i64, i64)>::new());
        let left_out = g.output("lefts", Text);
        let right_out = g.output("rights", Text);
        g.input("left", Text, move |ctx, id| {
            let (l, r) = ctx.value()?.unwrap_or_default();
            ctx.emit(left_out, ctx.key(), format!("{} {id}", l + 1))?;
            ctx.set((l + 1, r))
        });
        g.input("right", Text, move |ctx, id| {
            let (l, r) = ctx.value()?.unwrap_or_default();
            ctx.emit(right_out, ctx.key(), format!("{} {id}", r + 1))?;
            ctx.set((l, r + 1))
        });
        g.build()
    };
    simulation.group(graph).input("left", Text, 80, record).input("right", Text, 80, record).check(|c| {
        one_output_each(c, "lefts", last_word)?;
        one_output_each(c, "rights", last_word)?;
        if c.exactly_once() {
            c.same_output_in_order("lefts")?;
            c.same_output_in_order("rights")?;
            c.same_table("two-table")?;
        } else if c.tables_hold() {
            let codec = Json::<(i64, i64)>::new();
            let actual = c.actual.table("two", &codec).map_err(|e| format!("{e:?}"))?;
            for (key, (l, r)) in c.expected.table("two", &codec).map_err(|e| format!("{e:?}"))? {
                let (al, ar) = actual.get(&key).copied().unwrap_or_default();
                if al < l || ar < r {
                    return Err(format!("two-table: {key} has {al} and {ar}, less than {l} and {r}"));
                }
            }
        }
        Ok(())
    })
}

/// Records that are finished some time after their callback.
fn deferred(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("deferred").table(Int64);
        let out = g.output("counts", Text);
        g.input(Input::topic("words").concurrency(5), Text, move |ctx, id| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), format!("{n} {id}"))?;
            ctx.set(n)?;
            let number: u64 = id.trim_start_matches('r').parse().unwrap_or_default();
            if !number.is_multiple_of(4) {
                let work = ctx.defer();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(number * 7919 % 40)).await;
                    work.done();
                });
            }
            Ok(())
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| counted_and_emitted(c, "deferred"))
}

/// A group that joins and looks up another's table: what it finds is some value that was there once, or none.
fn joining(simulation: Simulation) -> Simulation {
    let prices = || -> Graph {
        let mut g = Group::define("prices").table(Text);
        g.input("offers", Text, move |ctx, id| ctx.set(id));
        g.build()
    };
    let others = || -> Graph {
        let mut g = Group::define("others");
        let out = g.output("priced-too", Text);
        let lookup = g.lookup("prices-table", Text);
        g.input("orders", Text, move |ctx, id| {
            let price = ctx.lookup(lookup, ctx.key())?.unwrap_or_else(|| "none".to_owned());
            ctx.emit(out, ctx.key(), format!("{price} {id}"))
        });
        g.build()
    };
    let joins = || -> Graph {
        let mut g = Group::define("orders");
        let out = g.output("priced", Text);
        let join = g.join("prices-table", Text);
        g.input("orders", Text, move |ctx, id| {
            let price = ctx.join(join)?.unwrap_or_else(|| "none".to_owned());
            ctx.emit(out, ctx.key(), format!("{price} {id}"))
        });
        g.build()
    };
    simulation
        .instances(2)
        .group(prices)
        .group(joins)
        .group(others)
        .input("offers", Text, 50, record)
        .input("orders", Text, 80, record)
        .check(|c| {
            c.same_table("prices-table")?;
            for topic in ["priced", "priced-too"] {
                one_output_each(c, topic, last_word)?;
                let known: BTreeSet<String> = (0..50).map(|n| format!("r{n}")).chain(["none".to_owned()]).collect();
                for (_, text) in c.actual.decoded(topic, &Text).map_err(|e| format!("{e:?}"))? {
                    let price = text.split(' ').next().unwrap_or_default();
                    if !known.contains(price) {
                        return Err(format!("{topic}: {text} has a price that was never there"));
                    }
                }
            }
            Ok(())
        })
}

/// A sink that takes batches, without a table.
fn sink(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("sink");
        let out = g.output("sunk", Text);
        g.input_batch(Input::topic("words").batch(7), Text, async move |ctx: &mut Ctx<'_, NoTable>, records| {
            tokio::time::sleep(Duration::from_millis(records.len() as u64)).await;
            for record in records {
                ctx.emit(out, record.key.as_deref(), &record.value)?;
            }
            Ok(())
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| c.same_output_in_order("sunk"))
}
