//! Groups whose callbacks fail when something is due: it is tried again, or put aside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stream_core::prelude::*;
use stream_core::testing::simulator::{CheckResult, Comparison, Fault, Outcome, Simulation};

use crate::groups::record;

type Graph = Result<Arc<GroupGraph>, BuildError>;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The event time of `r17`: 10 ms after another's, and up to 90 ms out of order.
fn time(id: &str) -> i64 {
    let number: i64 = id.trim_start_matches('r').parse().unwrap_or_default();
    1000 + number * 10 - number * 7919 % 91
}

/// A timer, a window and a session for each record, all of which say which records they are of.
fn graph(policy: ErrorPolicy) -> Graph {
    let mut g = Group::define("due");
    let out = g.output("told", Text);
    let window = g.window("w", Windows::tumbling(ms(200)).grace(ms(100)), Text);
    let session = g.session("s", Sessions::gap(ms(60)).grace(ms(100)), Text);
    let timer = g.timer("t", Text);
    g.input("words", EventTime::by(Text, |id: &String| time(id)), move |ctx, id| {
        let add = |all: Option<String>, sign: &str| format!("{} {sign}{id}", all.unwrap_or_default());
        ctx.aggregate(window, |all| add(all, "w"))?;
        ctx.aggregate_session(session, |all| add(all, "s"), |a, b| a + &b)?;
        // A key's timer is moved by its next record: what it carries grows.
        if ctx.timer(timer)?.is_none() { ctx.set_timer(timer, ctx.timestamp() + 150, format!("t{id}")) } else { Ok(()) }
    });
    g.on_close(window, move |ctx, (_, all)| ctx.emit(out, ctx.key(), &all));
    g.on_close(session, move |ctx, (_, all)| ctx.emit(out, ctx.key(), &all));
    g.on_timer(timer, move |ctx, all| ctx.emit(out, ctx.key(), &all));
    g.on_due_error(window, policy.clone()).on_due_error(session, policy.clone()).on_due_error(timer, policy);
    g.build()
}

fn troubled(simulation: Simulation, policy: ErrorPolicy) -> Simulation {
    let faults = crate::faults().without(Fault::Callback).with(Fault::DueCallback);
    let graph = move || graph(policy.clone());
    simulation.faults(faults).group(graph).input("words", Text, 150, record)
}

/// How often each word is in these topics.
fn words(outcome: &Outcome, topics: &[&str]) -> Result<BTreeMap<String, usize>, String> {
    let mut seen = BTreeMap::new();
    for topic in topics {
        for (_, text) in outcome.decoded(topic, &Text).map_err(|e| format!("{e:?}"))? {
            for word in text.split_whitespace() {
                *seen.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(seen)
}

/// Each word that is emitted without faults is emitted or put aside: with exactly-once delivery, once; of timers only those of the run itself,
/// for which of a key's records sets the timer depends on when the last one fired.
fn nothing_lost(c: &Comparison<'_>) -> CheckResult {
    let (wanted, found) = (words(c.expected, &["told"])?, words(c.actual, &["told", "dead"])?);
    if c.exactly_once() {
        return if wanted == found { Ok(()) } else { Err(format!("emitted or put aside: {found:?}, not {wanted:?}")) };
    }
    if !c.tables_hold() {
        return Ok(());
    }
    match wanted.keys().find(|word| !word.starts_with('t') && !found.contains_key(*word)) {
        Some(lost) => Err(format!("{lost} is lost")),
        None => Ok(()),
    }
}

/// What fails twice when it is due goes to the dead letters.
pub(crate) fn due_letters(simulation: Simulation) -> Simulation {
    troubled(simulation, ErrorPolicy::dead_letter("dead").retry(1, ms(20))).check(nothing_lost)
}

/// What fails when it is due is tried again until it goes well: what is emitted is the same.
pub(crate) fn due_retries(simulation: Simulation) -> Simulation {
    troubled(simulation, ErrorPolicy::fail().retry(10, ms(20))).check(|c| {
        if c.exactly_once() {
            c.same_output_in_order("told")?;
            return c.same_table("due-time");
        }
        if !c.tables_hold() {
            return Ok(());
        }
        let (wanted, found) = (words(c.expected, &["told"])?, words(c.actual, &["told"])?);
        match wanted.keys().find(|word| !word.starts_with('t') && !found.contains_key(*word)) {
            Some(lost) => Err(format!("{lost} is lost")),
            None => Ok(()),
        }
    })
}
