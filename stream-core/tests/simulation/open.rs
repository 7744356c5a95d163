//! Groups with sessions, with batches of processing time, and with a join of two tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stream_core::group::TableSide;
use stream_core::prelude::*;
use stream_core::testing::simulator::{CheckResult, Comparison, Outcome, Simulation};

use crate::groups::record;

type Graph = Result<Arc<GroupGraph>, BuildError>;

const RECORDS: i64 = 150;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// As that of windows; the last records are so much later that they close everything before them.
fn time(id: &str, behind: i64) -> i64 {
    let number: i64 = id.trim_start_matches('r').parse().unwrap_or_default();
    let flush = if number >= RECORDS - 30 { 100_000 } else { 0 };
    1000 + flush + number * 10 - number * 7919 % (behind + 1)
}

/// What each key's results say, word by word, in order.
fn words(outcome: &Outcome, topic: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, text) in outcome.decoded(topic, &Text).map_err(|e| format!("{e:?}"))? {
        all.entry(key).or_default().extend(text.split(' ').map(str::to_owned));
    }
    Ok(all)
}

/// Whatever the results are, nothing that is in one is lost, unless an instance that was taken for dead may have written over
/// what was gathered.
fn nothing_lost(c: &Comparison<'_>, topic: &str) -> CheckResult {
    if !c.tables_hold() {
        return Ok(());
    }
    let actual = words(c.actual, topic)?;
    for (key, wanted) in words(c.expected, topic)? {
        let found: BTreeSet<_> = actual.get(&key).into_iter().flatten().collect();
        if let Some(lost) = wanted.iter().find(|word| !found.contains(word)) {
            return Err(format!("{topic}: {lost} of {key} is lost"));
        }
    }
    Ok(())
}

fn sessions_of(simulation: Simulation, name: &'static str, sessions: Sessions, behind: i64) -> Simulation {
    let graph = move || -> Graph {
        let mut g = Group::define(name);
        let (changes, finals) = (g.output("changes", Text), g.output("finals", Text));
        let visits = g.session("visits", sessions, Text);
        g.input("words", EventTime::by(Text, move |id: &String| time(id, behind)), move |ctx, id| {
            let fold = |all: Option<String>| all.map_or_else(|| id.clone(), |all| format!("{all} {id}"));
            for change in ctx.aggregate_session(visits, fold, |a, b| format!("{a} {b}"))? {
                let change = match change {
                    SessionChange::Retracted(session) => format!("{session} retracted"),
                    SessionChange::Updated(session, all) => format!("{session} {all}"),
                };
                ctx.emit(changes, ctx.key(), &change)?;
            }
            Ok(())
        });
        g.on_close(visits, move |ctx, (_, all)| ctx.emit(finals, ctx.key(), &all));
        g.build()
    };
    simulation.group(graph).input("words", Text, RECORDS.unsigned_abs(), record).check(move |c| {
        if c.exactly_once() {
            c.same_output_in_order("changes")?;
            c.same_output_in_order("finals")?;
            c.same_table(&format!("{name}-session-visits"))?;
            return c.same_table(&format!("{name}-time"));
        }
        nothing_lost(c, "finals")
    })
}

/// Sessions that grow and merge; no record is late when it comes first.
pub(crate) fn sessions(simulation: Simulation) -> Simulation {
    sessions_of(simulation, "sessions", Sessions::gap(ms(60)).grace(ms(100)), 90)
}

/// The same with less grace than records are out of order, so that some are late, and a session may begin where another
/// closed.
pub(crate) fn late_sessions(simulation: Simulation) -> Simulation {
    sessions_of(simulation, "late-sessions", Sessions::gap(ms(40)), 190)
}

/// So many records at a time, or those before a pause.
pub(crate) fn batches(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("batches");
        let out = g.output("together", Text);
        let some = g.batch("some", Batches::of(4).gap(ms(30)).max_age(ms(150)), Text);
        g.input("words", Text, move |ctx, id| ctx.collect(some, id));
        g.on_close(some, move |ctx, all| {
            if all.is_empty() || all.len() > 4 {
                return Err(CallbackError::msg(format!("a batch of {}", all.len())));
            }
            ctx.emit(out, ctx.key(), all.join(" "))
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 150, record).check(|c| {
        nothing_lost(c, "together")?;
        // Where one batch ends and the next begins depends on the wall clock.
        if c.exactly_once() && words(c.expected, "together")? != words(c.actual, "together")? {
            return Err(format!("together: {:?} has something doubled or out of order", words(c.actual, "together")?));
        }
        Ok(())
    })
}

/// The outer join of two tables, of which another group deletes some values.
pub(crate) fn table_join(simulation: Simulation) -> Simulation {
    let sides = || -> Graph {
        let mut g = Group::define("sides");
        for (from, to) in [("lefts", "left"), ("rights", "right")] {
            let to = g.output(to, Text);
            g.input(from, Text, move |ctx, id| {
                if id.ends_with(['3', '7']) { ctx.emit_tombstone(to, ctx.key()) } else { ctx.emit(to, ctx.key(), &id) }
            });
        }
        g.build()
    };
    let joined = || -> Graph {
        let mut g = Group::define("both").table(Text);
        let none = |side: Option<&String>| side.cloned().unwrap_or_else(|| "none".to_owned());
        g.table_join("ab", TableSide::topic("left", Text), TableSide::topic("right", Text))
            .outer(move |l, r| format!("{} {}", none(l), none(r)));
        g.build()
    };
    let simulation = simulation.instances(2).group(sides).group(joined);
    simulation.input("lefts", Text, 80, record).input("rights", Text, 80, record).check(|c| {
        for table in ["both-table", "both-ab-left", "both-ab-right"] {
            c.same_table(table)?;
        }
        Ok(())
    })
}
